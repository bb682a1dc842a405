"""What is measured: every stage of sarstack beside the peak or the stage it is to be read by."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import peaks
from benchmarks.simulated_stacks import decompress_stack, draw_parts, write_stack
from benchmarks.timing import (
    BYTES,
    FLOP,
    PX,
    Beside,
    Cost,
    Stage,
    in_threads,
    run_command,
)
from sarstack.cluster.workers import n_cores
from sarstack.despecklers import Despeckler, despeckler_names, make_despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import ModelCardError
from sarstack.networks.card import KNOWN_VARIANTS
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.model_file import read_card, shipped_model
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape, Window
from sarstack.workflows.settings import FinetuneConfig

SMALL_PX = 256
"""Side of the scene on which the start of a command is measured."""

FINETUNE_PX, FINETUNE_DATES = 512, 4
LEARNING_RATE_OF_NOTHING = "1e-12"
"""Tuning that changes no weight does all its steps and ends without a closing calibration."""

TUNING = 4
"""Times the clean branch's operations: tuning between dates computes it frozen, forwards and
backwards, the last being two."""


@dataclass(frozen=True)
class Setting:
    """How large the measurements are.

    Attributes
    ----------
    folder : Path
        For stacks and results.
    scene_px : int
        Side of the scene.
    n_dates : int
        Dates of the labels, and largest number of dates.
    n_workers : int
    n_steps : int
        Of tuning.
    method : str
        Network or method of the sweeps over workers, tiles and scenes.
    """

    folder: Path
    scene_px: int = 4096
    n_dates: int = 24
    n_workers: int = 2
    n_steps: int = 50
    method: str = "despecknet"

    def block(self, at_most: int = 1024) -> NDArray[np.float32]:
        """Draw the first part of the scene, shape (y, x), float32, linear power."""
        side = min(self.scene_px, at_most)
        return next(draw_parts(Shape(side, side), 0))[1]


def operations_per_px(variant: str) -> float:
    """Count the operations of the clean branch of a shipped network, per pixel.

    A multiply-accumulate is two operations; only convolutions count, and what is computed
    again in halos does not.
    """
    import torch
    from torch import nn

    from sarstack.networks.despecknet import build_network

    card = read_card(shipped_model(variant))
    network = build_network(variant, **card.architecture).eval()
    found = []

    def count(layer: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        found.append(2.0 * layer.weight[0].numel() * out.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.ones(1, 1, SMALL_PX, SMALL_PX), noise=False)
    return sum(found) / SMALL_PX**2


def work_of(method: str, n_px: float) -> dict[str, float]:
    """Say what despeckling takes: pixels, bytes of the image, and operations of a network."""
    network = {FLOP: n_px * operations_per_px(method)} if method in KNOWN_VARIANTS else {}
    return {PX: n_px, BYTES: 4.0 * n_px, **network}


def peaks_of_machine(setting: Setting) -> list[Stage]:
    """Matrix products, convolutions, copies, reading and compressing, on one and all threads."""
    block = setting.block()
    stack = write_stack(setting.folder, len(block), 2)
    file = sorted(stack.iterdir())[0]

    def with_threads(n: int) -> list[Stage]:
        of_network = [
            stage
            for precision in peaks.precisions()
            for stage in (
                peaks.matrix_product(precision, n),
                *(peaks.convolution(precision, *s, n) for s in peaks.CONVOLUTIONS),
            )
        ]
        return [*of_network, peaks.memory_copy(n), peaks.read_bytes(file, n),
                peaks.read_pixels(stack, n, len(block) // 2), peaks.deflate(block, n)]  # fmt: skip

    stages = one = with_threads(1)
    if setting.n_workers > 1:
        for alone, stage in zip(one, with_threads(setting.n_workers), strict=True):
            (unit,) = stage.work
            stages = [*stages, replace(stage, beside=[Beside(alone.name, unit)])]
    return stages


def every_method(setting: Setting) -> list[Stage]:
    """Every method on one thread, from array to array: a share of convolution, or of a copy."""
    # Half a scene at most: the published network alone takes 1.1e6 operations per pixel.
    block, copy = setting.block(min(1024, setting.scene_px // 2)), peaks.memory_copy()
    stages = [*map(peaks.fastest_convolution, peaks.precisions()), copy]
    for name in despeckler_names():
        try:
            despeckler = make_despeckler(name)
        except ModelCardError:  # its weights are not installed
            continue
        work, peak = work_of(name, block.size), Beside(copy.name, BYTES)
        if FLOP in work:
            peak = Beside(peaks.fastest_convolution(precision_of(name)).name, FLOP)
        stages.append(Stage(name, in_threads(despeckle_once(despeckler, block)), work, [peak]))
    return stages


def precision_of(variant: str) -> str:
    """Return what the inner layers of a shipped network compute in on this machine."""
    log = read_card(shipped_model(variant)).domain == "log"
    return choose_precision(choose_device()) if log else "float32"


def despeckle_once(
    despeckler: Despeckler, block: NDArray[np.float32]
) -> Callable[[int], NDArray[np.float32]]:
    """Make a function that does for a date what tasks do: its share of the summary, its pixels."""
    scene = Shape(*block.shape)
    whole = Window(0, scene.y, 0, scene.x)
    statistics = measure_scene(block[np.newaxis])[0]
    place = (block, whole, whole, scene, despeckler, statistics)

    def work(_: int) -> NDArray[np.float32]:
        summary = None
        if despeckler.n_summary:
            summary = 3 * contribute_window(*place).astype(np.float32)
        return despeckle_window(*place, summary)

    return work


def labels(setting: Setting) -> list[Stage]:
    """Labels of all dates beside merely reading the same files with as many threads.

    Of COGs, and of files that are not compressed: those lie in memory already, and to read
    them is to copy them.
    """
    n_dates, side, n = setting.n_dates, setting.scene_px, setting.n_workers
    n_px = float(n_dates * side**2)
    small, cogs = (write_stack(setting.folder, px, n_dates) for px in (SMALL_PX, side))
    options = ("--workers", str(n))
    start = command("start of build-labels", "build-labels", small, *options)
    stages = [start]
    for what, stack in (("", cogs), (", not compressed", decompress_stack(cogs))):
        reading = peaks.read_pixels(stack, n, what=what)
        found = command(f"labels of {n_dates} dates{what}", "build-labels", stack, *options,
                        work={PX: n_px, BYTES: 4 * n_px}, beside=[Beside(reading.name, BYTES)],
                        less=start.name)  # fmt: skip
        stages += [reading, found]
    return stages


def command(
    name: str,
    job: str,
    stack: Path,
    *options: str,
    work: dict[str, float] | None = None,
    beside: Sequence[Beside] = (),
    less: str = "",
) -> Stage:
    """Make a stage of a sarstack command that writes its results into a fresh folder."""

    def run() -> Cost:
        with tempfile.TemporaryDirectory(dir=stack.parent, prefix=f"{job}-") as folder:
            output = str(Path(folder, "result.safetensors" if job == "finetune" else "result"))
            return run_command(job, str(stack), "-o", output, *options)

    return Stage(name, run, work or {}, beside, less)


def write_archive(setting: Setting, n_dates: int, n_small: int = 1) -> tuple[Path, Path, int]:
    """Write dates, and small ones; return both stacks, and the pixels of the first."""
    side = max(setting.scene_px // 2, SMALL_PX)
    sizes = (side, n_dates), (SMALL_PX, n_small)
    stack, small = (write_stack(setting.folder, *size) for size in sizes)
    return stack, small, n_dates * side**2


def despeckle(setting: Setting) -> list[Stage]:
    """From COGs to COGs with threads, several dates: networks, and a method that costs nothing."""
    n = setting.n_workers
    stack, small, n_px = write_archive(setting, 4)
    convolution = peaks.fastest_convolution(choose_precision(choose_device()), n)
    writing = peaks.deflate(setting.block(), n)
    stages = [convolution, writing]
    for method in ("boxcar", "despecknet-lite", "despecknet"):
        options = ("--method", method, "--workers", str(n))
        start = command(f"start of {method}", "despeckle", small, *options)
        work = work_of(method, n_px)
        beside = [Beside(writing.name, BYTES)]
        if FLOP in work:
            beside = [Beside(convolution.name, FLOP), *beside]
        if method == "despecknet-lite":
            beside.append(Beside("despecknet from COG to COG", PX))
        stages.append(start)
        stages.append(command(f"{method} from COG to COG", "despeckle", stack, *options, work=work,
                              beside=beside, less=start.name))  # fmt: skip
    return stages


def finetune(setting: Setting) -> list[Stage]:
    """Tuning between dates, per pixel seen; weights stay, so that no step ends it early."""
    convolution = peaks.fastest_convolution(choose_precision(choose_device()), n_cores())
    stack = write_stack(setting.folder, min(FINETUNE_PX, setting.scene_px), FINETUNE_DATES)
    fields = FinetuneConfig.model_fields
    n_px = float(fields["batch_size"].default * fields["patch_px"].default ** 2)

    def tuning(name: str, n_steps: int, less: str = "") -> Stage:
        counted = n_px * (n_steps - 1)
        work = {PX: counted, FLOP: TUNING * counted * operations_per_px("despecknet")}
        beside = [Beside(convolution.name, FLOP)] if less else []
        return command(name, "finetune", stack, "--steps", str(n_steps),
                       "--learning-rate", LEARNING_RATE_OF_NOTHING,
                       work=work if less else {}, beside=beside, less=less)  # fmt: skip

    first = tuning("finetune, 1 step", 1)
    return [convolution, first, tuning(f"finetune, {setting.n_steps} steps", setting.n_steps,
                                       first.name)]  # fmt: skip
