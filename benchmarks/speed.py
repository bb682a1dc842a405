"""The job behind ``sarstack bench speed``: this machine's peaks, and stages as shares of them."""

import logging
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import stages as kinds
from benchmarks import sweeps
from benchmarks.peers import PUBLISHED_INFERENCE, PUBLISHED_TUNING, find_sar2sar
from benchmarks.report import (
    MEANING,
    SpeedTable,
    draw_shares,
    render_text,
    write_tables,
)
from benchmarks.stages import Setting
from benchmarks.timing import PX, Beside, Row, Stage, in_threads, measure
from sarstack import __version__
from sarstack.cluster.workers import n_cores
from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.memory_pages import keep_freed_memory
from sarstack.workflows.folder import check_space, make_folder
from sarstack.workflows.progress import now_utc

LOGGER = logging.getLogger("sarstack")

ARRAY_ROUNDS = 3
"""Fewest rounds of what runs in this process: it takes no time to speak of."""


@dataclass(frozen=True)
class Kind:
    """A table of the benchmark.

    Attributes
    ----------
    title : str
        For people.
    build : callable
        Makes its stages, and the stacks they need.
    in_process : bool
        Whether it runs here, rather than as commands in processes of their own.
    published : sequence of Row
        Figures of others that stand below.
    """

    title: str
    build: Callable[[Setting], list[Stage]]
    in_process: bool = False
    published: Sequence[Row] = ()


def time_peers(setting: Setting) -> list[Stage]:
    """SAR2SAR and our networks, array to array on one thread; nothing if it is not installed."""
    program = find_sar2sar()
    if program is None:
        return []
    block = setting.block(512)
    work = {PX: float(block.size)}
    stages = [Stage("SAR2SAR", in_threads(lambda _: program(block)), work)]
    for name in ("despecknet", "despecknet-lite"):
        ours = in_threads(kinds.despeckle_once(make_despeckler(name), block))
        stages.append(Stage(name, ours, work, [Beside("SAR2SAR", PX)]))
    return stages


NOT_INSTALLED = Row("SAR2SAR", note="not installed (pip install deepdespeckling)")

KINDS = {
    "peaks": Kind("Peaks of this machine", kinds.peaks_of_machine, in_process=True),
    "methods": Kind("Methods, array to array, one thread", kinds.every_method, in_process=True,
                    published=(PUBLISHED_INFERENCE,)),
    "peers": Kind("Programs of others, array to array, one thread", time_peers, in_process=True),
    "labels": Kind("Labels beside reading", kinds.labels),
    "despeckle": Kind("From COG to COG", kinds.despeckle),
    "finetune": Kind("Tuning, per pixel seen", kinds.finetune, published=(PUBLISHED_TUNING,)),
    "workers": Kind("Workers of a local Dask cluster", sweeps.workers),
    "tiles": Kind("Size of the tile", sweeps.tiles),
    "scenes": Kind("Size of the scene", sweeps.scenes),
    "dates": Kind("Number of dates", sweeps.dates),
}  # fmt: skip


def bench_speed(
    output: Path,
    *,
    stages: Sequence[str] = (),
    quick: bool = False,
    scene_px: int | None = None,
    n_dates: int | None = None,
    n_workers: int | None = None,
    n_rounds: int | None = None,
    method: str = "despecknet",
    tell: Callable[[str], object] = LOGGER.info,
) -> list[SpeedTable]:
    """Measure the peaks of this machine, and each stage of sarstack beside its peak.

    Parameters
    ----------
    output : Path
        Folder of ``speed.txt``, ``speed.json`` and ``speed.png``; the stacks that are made
        for the measurements lie in it until the end.
    stages : sequence of str
        Names in :data:`KINDS`; all by default.
    quick : bool
        Smaller scenes, fewer dates, commands once: about a minute on two cores.
    scene_px, n_dates, n_workers, n_rounds : int, optional
        Default 4096, 24, all cores and 3 rounds; quick: 1024, 4, 2 and 1.
    method : str
        Of the sweeps over workers, tiles and scenes.
    tell : callable
        Called with the text of each table when it is ready.

    Returns
    -------
    list of SpeedTable

    Raises
    ------
    UsageError, NotEnoughSpaceError
        Before any work, if a stage is not known or the disk too full.
    """
    keep_freed_memory()  # as a run does, before torch allocates
    chosen = {name: find_kind(name) for name in stages or KINDS}
    make_despeckler(method)
    make_folder(output)
    smaller = {"scene_px": 1024, "n_dates": 4, "n_workers": min(2, n_cores()), "n_steps": 5}
    sizes = smaller if quick else {"n_workers": n_cores()}
    given = {"scene_px": scene_px, "n_dates": n_dates, "n_workers": n_workers}
    sizes |= {name: value for name, value in given.items() if value is not None}
    n_rounds = n_rounds or (1 if quick else 3)
    tables = []
    with tempfile.TemporaryDirectory(dir=output, prefix=".stacks-") as folder:
        setting = Setting(Path(folder), method=method, **sizes)
        # Its COGs, its tiles and their COG before and after the check, and smaller scenes.
        check_space(output, 40 * setting.scene_px**2)
        about = describe_run(setting, n_rounds)
        for name, kind in chosen.items():
            table = time_kind(name, kind, setting, n_rounds)
            tables.append(table)
            tell(render_text(table) + "\n")
            # Each time: who waits for hours should not lose all by an interruption.
            report(output, tables, about)
    tell(MEANING)
    return tables


def find_kind(name: str) -> Kind:
    """Return a table of the benchmark by name.

    Raises
    ------
    UsageError
        If there is none of this name.
    """
    if name not in KINDS:
        raise UsageError(
            f"stage {name!r} is not known", expected=f"one of {', '.join(KINDS)}",
            do="choose one of these names, or leave --stage out for all",
        )  # fmt: skip
    return KINDS[name]


def time_kind(name: str, kind: Kind, setting: Setting, n_rounds: int) -> SpeedTable:
    """Measure one table."""
    LOGGER.info("measuring: %s", kind.title)
    rounds = max(n_rounds, ARRAY_ROUNDS) if kind.in_process else n_rounds
    rows = measure(kind.build(setting), rounds)
    if name == "peers" and not rows:
        rows = [NOT_INSTALLED]
    return SpeedTable(name, kind.title, [*rows, *kind.published])


def describe_run(setting: Setting, n_rounds: int) -> dict[str, Any]:
    """Say where, when and on what was measured."""
    import rasterio
    import torch

    load = os.getloadavg()[0]
    if load > 0.5 * n_cores():
        LOGGER.warning("the machine is busy (load %.1f): only shares mean something", load)
    device = choose_device()
    settings = {key: value for key, value in vars(setting).items() if key != "folder"}
    return {
        "sarstack": __version__,
        "started": now_utc(),
        "processor": _processor(),
        "cores": n_cores(),
        "load_at_start": load,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "precision": choose_precision(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gdal": rasterio.__gdal_version__,
        "settings": settings | {"n_rounds": n_rounds},
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def report(output: Path, tables: Sequence[SpeedTable], about: dict[str, Any]) -> None:
    """Write text, JSON and picture."""
    head = "\n".join(f"{key}: {value}" for key, value in about.items())
    text = "\n\n".join([head, *(render_text(table) for table in tables), MEANING])
    (output / "speed.txt").write_text(text + "\n", encoding="utf-8")
    write_tables(output / "speed.json", tables, about)
    draw_shares(tables, output / "speed.png")
