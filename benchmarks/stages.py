"""Stages of sarstack, each compared with a peak rate or with another stage.

A table whose stages differ in one parameter only (workers, tile size) is in ``sweeps``.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import peaks
from benchmarks.simulated_stacks import simulate_image, write_stack, write_uncompressed
from benchmarks.timing import BYTES, FLOP, PX, Cost, Reference, Stage, run_command, time_in_threads
from sarstack.cluster.layout import n_cores
from sarstack.despecklers import Despeckler, despeckler_names, make_despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import ModelCardError
from sarstack.networks.card import KNOWN_VARIANTS
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.model_file import read_card, shipped_model
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape, Window
from sarstack.workflows.settings import FinetuneConfig

STARTUP_PX = 256
"""Side of the scene on which the start of a command is measured."""

FINETUNE_PX, FINETUNE_DATES = 512, 4
FINETUNE_LEARNING_RATE = "1e-12"
"""So small that no weight changes: `finetune` then does all its steps, and does not
measure the bias at the end."""

FINETUNE_PASSES = 4
"""Operations of a step of `finetune` over those of one forward pass of the clean branch: a
forward pass of the frozen network, a forward pass, and a backward pass, which counts twice."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements.

    Attributes
    ----------
    folder : Path
        Parent of stacks and results.
    scene_px : int
        Side of the largest scene.
    n_dates : int
        Largest number of dates.
    n_workers : int
        Largest number of workers or threads.
    n_steps : int
        Steps of `finetune`.
    method : str
        Method of the sweeps over workers, tiles and scenes.
    """

    folder: Path
    scene_px: int = 4096
    n_dates: int = 24
    n_workers: int = 2
    n_steps: int = 50
    method: str = "despecknet"

    def block(self, max_px: int = 1024) -> NDArray[np.float32]:
        """Simulate one part of a scene: intensity (linear power), shape (y, x), with NaN."""
        side = min(self.scene_px, max_px)
        return next(simulate_image(Shape(side, side), 0))[1]


def operations_per_px(variant: str) -> float:
    """Count the operations per pixel of the clean branch of a shipped network.

    A multiply-accumulate is two operations. Only convolutions count, and halos do not.
    """
    import torch
    from torch import nn

    from sarstack.networks.variants import build_network

    card = read_card(shipped_model(variant))
    network = build_network(variant, **card.architecture).eval()
    counts = []

    def count(layer: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        counts.append(2.0 * layer.weight[0].numel() * out.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.ones(1, 1, STARTUP_PX, STARTUP_PX), noise=False)
    return sum(counts) / STARTUP_PX**2


def count_work(method: str, n_px: float) -> dict[str, float]:
    """Return the work of despeckling by unit: pixels, bytes of the image, network operations."""
    network = {FLOP: n_px * operations_per_px(method)} if method in KNOWN_VARIANTS else {}
    return {PX: n_px, BYTES: 4.0 * n_px, **network}


def inner_precision(variant: str) -> str:
    """Return the precision of the inner layers of a shipped network on this machine."""
    is_log = read_card(shipped_model(variant)).domain == "log"
    return choose_precision(choose_device()) if is_log else "float32"


def despeckle_task(
    despeckler: Despeckler, block: NDArray[np.float32]
) -> Callable[[int], NDArray[np.float32]]:
    """Make a function that computes what tasks compute for one date: summary and result."""
    scene = Shape(*block.shape)
    whole = Window(0, scene.y, 0, scene.x)
    statistics = measure_scene(block[np.newaxis])[0]
    place = (block, whole, whole, scene, despeckler, statistics)

    def work(_: int) -> NDArray[np.float32]:
        summary = None
        if despeckler.n_summary:
            summary = 3 * contribute_window(*place).astype(np.float32)  # of three equal dates
        return despeckle_window(*place, summary)

    return work


def command_stage(
    name: str,
    job: str,
    stack: Path,
    *options: str,
    work: dict[str, float] | None = None,
    references: Sequence[Reference] = (),
    startup: str = "",
) -> Stage:
    """Make a stage that runs a command of sarstack and writes into a new temporary folder."""

    def run() -> Cost:
        with tempfile.TemporaryDirectory(dir=stack.parent, prefix=f"{job}-") as folder:
            output = str(Path(folder, "result.safetensors" if job == "finetune" else "result"))
            return run_command(job, str(stack), "-o", output, *options)

    return Stage(name, run, work or {}, references, startup)


def write_archive(sizes: Sizes, n_dates: int, n_small: int = 1) -> tuple[Path, Path, int]:
    """Write a stack, and one of small images for the startup; count the pixels of the first."""
    side = max(sizes.scene_px // 2, STARTUP_PX)
    stack = write_stack(sizes.folder, side, n_dates)
    return stack, write_stack(sizes.folder, STARTUP_PX, n_small), n_dates * side**2


def peak_stages(sizes: Sizes) -> list[Stage]:
    """Return all peak rates, with one thread and with all."""
    block = sizes.block()
    stack = write_stack(sizes.folder, len(block), 2)
    file = sorted(stack.iterdir())[0]

    def with_threads(n: int) -> list[Stage]:
        operations = [
            stage
            for precision in peaks.list_precisions()
            for stage in (
                peaks.matrix_product_stage(precision, n),
                *(peaks.convolution_stage(precision, *s, n) for s in peaks.CONVOLUTIONS),
            )
        ]
        return [
            *operations,
            peaks.memory_copy_stage(n),
            peaks.file_read_stage(file, n),
            peaks.pixel_read_stage(stack, n, len(block) // 2),
            peaks.zstd_stage(block, n),
        ]

    one_thread = stages = with_threads(1)
    if sizes.n_workers > 1:
        for one, many in zip(one_thread, with_threads(sizes.n_workers), strict=True):
            (unit,) = many.work
            stages = [*stages, replace(many, references=[Reference(one.name, unit)])]
    return stages


def method_stages(sizes: Sizes) -> list[Stage]:
    """Return every method, array to array, on one thread.

    Networks are compared with a convolution, other methods with a memory copy.
    """
    # At most half of the scene: despecknet-paper alone needs 1.1e6 operations per pixel.
    block, copy = sizes.block(min(1024, sizes.scene_px // 2)), peaks.memory_copy_stage()
    stages = [*map(peaks.fastest_convolution, peaks.list_precisions()), copy]
    for name in despeckler_names():
        try:
            despeckler = make_despeckler(name)
        except ModelCardError:  # its weights are not installed
            continue
        work, reference = count_work(name, block.size), Reference(copy.name, BYTES)
        if FLOP in work:
            reference = Reference(peaks.fastest_convolution(inner_precision(name)).name, FLOP)
        run = time_in_threads(despeckle_task(despeckler, block))
        stages.append(Stage(name, run, work, [reference]))
    return stages


def label_stages(sizes: Sizes) -> list[Stage]:
    """Return labels of all dates, compared with reading the same files with as many threads.

    With COGs, and with uncompressed files. The latter are in the page cache, so reading them
    is a copy in memory.
    """
    n_dates, side, n = sizes.n_dates, sizes.scene_px, sizes.n_workers
    n_px = float(n_dates * side**2)
    small, cogs = (write_stack(sizes.folder, px, n_dates) for px in (STARTUP_PX, side))
    options = ("--workers", str(n))
    start = command_stage("start of build-labels", "build-labels", small, *options)
    stages = [start]
    for suffix, stack in (("", cogs), (", uncompressed", write_uncompressed(cogs))):
        reading = peaks.pixel_read_stage(stack, n, suffix=suffix)
        labels = command_stage(
            f"labels of {n_dates} dates{suffix}", "build-labels", stack, *options,
            work={PX: n_px, BYTES: 4 * n_px}, references=[Reference(reading.name, BYTES)],
            startup=start.name,
        )  # fmt: skip
        stages += [reading, labels]
    return stages


def despeckle_stages(sizes: Sizes) -> list[Stage]:
    """Return commands from COG to COG, with threads, on four dates.

    Networks are compared with a convolution, and all with compression: boxcar computes
    almost nothing.
    """
    n = sizes.n_workers
    stack, small, n_px = write_archive(sizes, 4)
    convolution = peaks.fastest_convolution(choose_precision(choose_device()), n)
    zstd = peaks.zstd_stage(sizes.block(), n)
    stages = [convolution, zstd]
    for method in ("boxcar", "despecknet-lite", "despecknet"):
        options = ("--method", method, "--workers", str(n))
        start = command_stage(f"start of {method}", "despeckle", small, *options)
        work = count_work(method, n_px)
        references = [Reference(zstd.name, BYTES)]
        if FLOP in work:
            references = [Reference(convolution.name, FLOP), *references]
        if method == "despecknet-lite":
            references.append(Reference("despecknet from COG to COG", PX))
        stages.append(start)
        stages.append(
            command_stage(
                f"{method} from COG to COG", "despeckle", stack, *options,
                work=work, references=references, startup=start.name,
            )
        )  # fmt: skip
    return stages


def finetune_stages(sizes: Sizes) -> list[Stage]:
    """Return `finetune` with one step and with all steps, per pixel of the batches."""
    convolution = peaks.fastest_convolution(choose_precision(choose_device()), n_cores())
    stack = write_stack(sizes.folder, min(FINETUNE_PX, sizes.scene_px), FINETUNE_DATES)
    fields = FinetuneConfig.model_fields
    batch_px = float(fields["batch_size"].default * fields["patch_px"].default ** 2)
    n_px = batch_px * (sizes.n_steps - 1)  # without the first step, which is in the startup
    flop = FINETUNE_PASSES * n_px * operations_per_px("despecknet")
    options = ("--learning-rate", FINETUNE_LEARNING_RATE)
    start = command_stage("finetune, 1 step", "finetune", stack, "--steps", "1", *options)
    all_steps = command_stage(
        f"finetune, {sizes.n_steps} steps", "finetune", stack,
        "--steps", str(sizes.n_steps), *options, work={PX: n_px, FLOP: flop},
        references=[Reference(convolution.name, FLOP)], startup=start.name,
    )  # fmt: skip
    return [convolution, start, all_steps]
