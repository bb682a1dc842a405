"""One thing grows, all else stays: workers, tiles, scenes, dates."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.overhead import empty_tasks
from benchmarks.simulated_stacks import write_stack
from benchmarks.stages import (
    SMALL_PX,
    Setting,
    command,
    despeckle_once,
    work_of,
    write_archive,
)
from benchmarks.timing import PX, Beside, Stage, in_threads
from sarstack.despecklers import make_despeckler
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.settings import DespeckleConfig


def workers(setting: Setting) -> list[Stage]:
    """One to N processes of a local Dask cluster; px/worker beside one worker is efficiency.

    Several images, as archives have: one is finished while the next is computed. The empty
    tasks are what the scheduler takes for a tile. The method alone, from array to array in as
    many threads, is what the cores can do: they share memory and clock.
    """
    # More small images than workers: each of these has to start, and to load the network.
    stack, small, n_px = write_archive(setting, 4 * setting.n_workers, 4 * setting.n_workers)
    # Four tiles for each worker, or the last one keeps all others waiting.
    tile_px = next((t for t in (1024, 512) if n_px // t**2 >= 4 * setting.n_workers), 256)
    options = ("--method", setting.method, "--cluster", "local", "--tile-px", str(tile_px))
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n < setting.n_workers]
    stages = [empty_tasks(setting.method, small, setting.n_workers)]
    block = setting.block()
    once = despeckle_once(make_despeckler(setting.method), block)
    for n in [*counts, setting.n_workers]:
        name, many = f"{n} worker{'s' if n > 1 else ''}", (*options, "--workers", str(n))
        work = work_of(setting.method, n_px) | {"px/worker": n_px / n}
        arithmetic = in_each_thread(once, block.size, n)
        beside = [Beside(arithmetic.name, PX)]
        if n > 1:
            beside = [Beside("1 worker", "px/worker"), Beside("1 worker", PX), *beside]
        # Workers that start share the cores with each other: more of them take longer.
        start = command(f"start of {name}", "despeckle", small, *many)
        stages += [arithmetic, start]
        stages.append(command(name, "despeckle", stack, *many, work=work, beside=beside,
                              less=start.name))  # fmt: skip
    return stages


def in_each_thread(work: Callable[[int], object], n_px: int, n: int) -> Stage:
    """Make a stage of `n` threads which all do the same at once."""
    first, name = "array to array, 1 thread", f"array to array, {n} threads"
    beside = [Beside(first, PX)] if n > 1 else []
    return Stage(name if n > 1 else first, in_threads(work, n), {PX: float(n * n_px)}, beside)


def tiles(setting: Setting) -> list[Stage]:
    """Tile sizes, with threads: time and memory."""
    side = setting.scene_px
    sizes = [tile_px for tile_px in (256, 512, 1024, 2048) if tile_px <= max(side, 256)]
    return _sweep(setting, "tile", [(f"tile {size} px", side, size) for size in sizes])


def scenes(setting: Setting) -> list[Stage]:
    """Scenes of 1k to the largest: cost per pixel and memory should not depend on their size."""
    least = min(1024, setting.scene_px // 4)
    sides = [least * 2**i for i in range(10) if least * 2**i <= setting.scene_px]
    return _sweep(setting, "scene", [(f"scene {side} px", side, 1024) for side in sides])


def _sweep(setting: Setting, what: str, points: Sequence[tuple[str, int, int]]) -> list[Stage]:
    """Despeckle one date at points of name, side and tile size; all beside the first."""
    options = ("--method", setting.method, "--workers", str(setting.n_workers))
    small = write_stack(setting.folder, SMALL_PX, 1)
    start = command(f"start, for every {what}", "despeckle", small, *options)
    stages = [start]
    for name, side, tile_px in points:
        stack = write_stack(setting.folder, side, 1)
        config = DespeckleConfig.make(stack=str(stack), method=setting.method, tile_px=tile_px,
                                      workers=setting.n_workers)  # fmt: skip
        beside = [Beside(points[0][0], PX)] if len(stages) > 1 else []
        stage = command(name, "despeckle", stack, *options, "--tile-px", str(tile_px),
                        work=work_of(setting.method, side**2), beside=beside,
                        less=start.name)  # fmt: skip
        stages.append(replace(stage, planned_bytes=plan_despeckle(config).memory_bytes))
    return stages


def dates(setting: Setting) -> list[Stage]:
    """From few to all dates, labels and a multi-temporal method: memory should not depend on it."""
    side = min(setting.scene_px // 2, 2048)
    counts = [n for n in (3, 6, 12, 24, 48, 96) if n < setting.n_dates] + [setting.n_dates]
    stages: list[Stage] = []
    jobs = {"labels": ("build-labels",), "quegan-yu": ("despeckle", "--method", "quegan-yu")}
    for name, (job, *options) in jobs.items():
        options += ["--workers", str(setting.n_workers)]
        small = write_stack(setting.folder, SMALL_PX, counts[0])
        start = command(f"start of {name}", job, small, *options)
        stages.append(start)
        for n in counts:
            stack = write_stack(setting.folder, side, n)
            beside = [Beside(f"{name}, {counts[0]} dates", PX)] if n > counts[0] else []
            stages.append(command(f"{name}, {n} dates", job, stack, *options,
                                  work={PX: float(n * side**2)}, beside=beside,
                                  less=start.name))  # fmt: skip
    return stages
