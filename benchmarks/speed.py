"""Measure the peak rates of this machine, and every stage of sarstack as a share of its peak.

Run it from the root of a checkout: ``python -m benchmarks.speed``.
"""

import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import stages, sweeps
from benchmarks.peers import NOT_INSTALLED, PUBLISHED_INFERENCE, PUBLISHED_TUNING, peer_stages
from benchmarks.report import LEGEND, SpeedTable, draw_shares, render_text, write_tables
from benchmarks.stages import Sizes
from benchmarks.timing import Row, Stage, measure
from sarstack import __version__
from sarstack.cli.commands import main
from sarstack.cluster.layout import n_cores
from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.memory_pages import keep_freed_memory
from sarstack.workflows.folder import check_space, make_folder
from sarstack.workflows.progress import now_utc

LOGGER = logging.getLogger("sarstack")

MIN_ARRAY_ROUNDS = 3
"""Minimum number of rounds of tables that run in this process; they take little time."""


@dataclass(frozen=True)
class Experiment:
    """How to measure one table.

    Attributes
    ----------
    title : str
        Heading of the table.
    stages : callable
        Returns the stages, and writes the stacks that they need.
    in_process : bool
        True: array to array in this process. False: commands in processes of their own.
    published : sequence of Row
        Figures of other authors, added below the results.
    """

    title: str
    stages: Callable[[Sizes], list[Stage]]
    in_process: bool = False
    published: Sequence[Row] = ()


EXPERIMENTS = {
    "peaks": Experiment("Peak rates of this machine", stages.peak_stages, in_process=True),
    "methods": Experiment("Methods, array to array, one thread", stages.method_stages,
                          in_process=True, published=(PUBLISHED_INFERENCE,)),
    "peers": Experiment("Programs of other authors, array to array, one thread", peer_stages,
                        in_process=True),
    "labels": Experiment("Labels, compared with reading", stages.label_stages),
    "despeckle": Experiment("From COG to COG", stages.despeckle_stages),
    "finetune": Experiment("Tuning, per pixel of the batches", stages.finetune_stages,
                           published=(PUBLISHED_TUNING,)),
    "workers": Experiment("Workers of a local Dask cluster", sweeps.worker_stages),
    "tiles": Experiment("Tile size", sweeps.tile_stages),
    "scenes": Experiment("Scene size", sweeps.scene_stages),
    "dates": Experiment("Number of dates", sweeps.date_stages),
}  # fmt: skip
"""Tables by their name for ``--stage``."""


@click.command(epilog="\b\nExample:\n  python -m benchmarks.speed -o speed/ --quick")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("speed"), show_default=True,
              help="Folder for speed.txt, speed.json and speed.png.")  # fmt: skip
@click.option("--stage", "names", multiple=True, metavar="NAME",
              help=f"{', '.join(EXPERIMENTS)}; may be repeated. Default: all.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Small scenes, one round; takes some minutes.")
@click.option("--scene-px", type=click.IntRange(min=64),
              help="Side of the largest scene; default 4096, quick 1024.")  # fmt: skip
@click.option("--dates", "n_dates", type=click.IntRange(min=2),
              help="Largest number of dates; default 24, quick 4.")  # fmt: skip
@click.option("--workers", "n_workers", type=click.IntRange(min=1),
              help="Largest number of workers; default all cores, quick 2.")  # fmt: skip
@click.option("--rounds", "n_rounds", type=click.IntRange(min=1),
              help="Number of rounds; default 3, quick 1.")  # fmt: skip
@click.option("--method", default="despecknet", show_default=True, metavar="NAME",
              help="Method of the tables workers, tiles and scenes.")  # fmt: skip
def measure_speed(**options: Any) -> None:
    """Measure the peak rates of this machine, and every stage as a share of its peak.

    The stages of a table run in turn and are compared round by round. Commands run in
    processes of their own, on simulated stacks. Let nothing else run on the machine meanwhile.
    """
    bench_speed(show=click.echo, **options)


def bench_speed(
    output: Path,
    *,
    names: Sequence[str] = (),
    quick: bool = False,
    scene_px: int | None = None,
    n_dates: int | None = None,
    n_workers: int | None = None,
    n_rounds: int | None = None,
    method: str = "despecknet",
    show: Callable[[str], object] = LOGGER.info,
) -> list[SpeedTable]:
    """Measure the tables of the speed benchmark and write them.

    Parameters
    ----------
    output : Path
        Folder for ``speed.txt``, ``speed.json`` and ``speed.png``, and for the simulated
        stacks, which are removed at the end.
    names : sequence of str
        Names of :data:`EXPERIMENTS`; default all.
    quick : bool
        Smaller scenes, fewer dates, one round: up to five minutes on two cores.
    scene_px, n_dates, n_workers, n_rounds : int, optional
        Default 4096, 24, all cores and 3; quick: 1024, 4, 2 and 1.
    method : str
        Method of the tables workers, tiles and scenes.
    show : callable
        Called with the text of each table when it is ready.

    Returns
    -------
    list of SpeedTable

    Raises
    ------
    UsageError, NotEnoughSpaceError
        Before any work, if a name is unknown or the disk is too full.
    """
    keep_freed_memory()  # as a run does; it must precede the first allocation of torch
    chosen = {name: find_experiment(name) for name in names or EXPERIMENTS}
    make_despeckler(method)
    make_folder(output)
    smaller = {"scene_px": 1024, "n_dates": 4, "n_workers": min(2, n_cores()), "n_steps": 5}
    values = smaller if quick else {"n_workers": n_cores()}
    given = {"scene_px": scene_px, "n_dates": n_dates, "n_workers": n_workers}
    values |= {name: value for name, value in given.items() if value is not None}
    n_rounds = n_rounds or (1 if quick else 3)
    tables = []
    with tempfile.TemporaryDirectory(dir=output, prefix=".stacks-") as folder:
        sizes = Sizes(Path(folder), method=method, **values)
        # Bytes per pixel of the largest scene: its COGs, the pieces and the unfinished and
        # finished COG of a result, and the smaller scenes.
        check_space(output, 40 * sizes.scene_px**2)
        machine = describe_machine(sizes, n_rounds)
        for name, experiment in chosen.items():
            table = measure_table(name, experiment, sizes, n_rounds)
            tables.append(table)
            show(render_text(table) + "\n")
            # After each table: all of them take hours, and an interruption should lose little.
            write_report(output, tables, machine)
    show(LEGEND)
    return tables


def find_experiment(name: str) -> Experiment:
    """Return the experiment of this name.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    if name not in EXPERIMENTS:
        raise UsageError(
            f"stage {name!r} is not known", expected=f"one of {', '.join(EXPERIMENTS)}",
            where="--stage", do="choose one of these names, or leave --stage out for all",
        )  # fmt: skip
    return EXPERIMENTS[name]


def measure_table(name: str, experiment: Experiment, sizes: Sizes, n_rounds: int) -> SpeedTable:
    """Run the stages of an experiment and return its table, with the published figures."""
    LOGGER.info("measuring: %s", experiment.title)
    rounds = max(n_rounds, MIN_ARRAY_ROUNDS) if experiment.in_process else n_rounds
    rows = measure(experiment.stages(sizes), rounds)
    if name == "peers" and not rows:
        rows = [NOT_INSTALLED]
    return SpeedTable(name, experiment.title, [*rows, *experiment.published])


def describe_machine(sizes: Sizes, n_rounds: int) -> dict[str, Any]:
    """Return time, hardware, versions and sizes of the measurement.

    Logs a warning if the machine is busy.
    """
    import rasterio
    import torch

    load = os.getloadavg()[0]
    if load > 0.5 * n_cores():
        LOGGER.warning("the machine is busy (load %.1f): compare ratios only, not times", load)
    device = choose_device()
    settings = {key: value for key, value in vars(sizes).items() if key != "folder"}
    return {
        "sarstack": __version__,
        "started": now_utc(),
        "processor": _processor_name(),
        "cores": n_cores(),
        "load_at_start": load,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "precision": choose_precision(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gdal": rasterio.__gdal_version__,
        "settings": settings | {"n_rounds": n_rounds},
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def write_report(output: Path, tables: Sequence[SpeedTable], machine: dict[str, Any]) -> None:
    """Write ``speed.txt``, ``speed.json`` and ``speed.png``."""
    head = "\n".join(f"{key}: {value}" for key, value in machine.items())
    text = "\n\n".join([head, *(render_text(table) for table in tables), LEGEND])
    (output / "speed.txt").write_text(text + "\n", encoding="utf-8")
    write_tables(output / "speed.json", tables, machine)
    draw_shares(tables, output / "speed.png")


if __name__ == "__main__":
    # Log, errors and exit codes are those of the command line.
    main(["bench", "speed", *sys.argv[1:]])
