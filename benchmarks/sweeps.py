"""Tables in which one parameter varies: workers, tile size, scene size, number of dates."""

import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.simulated_stacks import write_stack
from benchmarks.stages import (
    STARTUP_PX,
    Sizes,
    command_stage,
    count_work,
    despeckle_task,
    write_archive,
)
from benchmarks.timing import (
    PX,
    PX_PER_WORKER,
    TASKS,
    Cost,
    Reference,
    Stage,
    time_in_threads,
)
from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.layout import LOCAL
from sarstack.cluster.workers import open_workers
from sarstack.despecklers import make_despeckler
from sarstack.output.pieces import Pieces
from sarstack.speckle.statistics import SceneStatistics
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.settings import DespeckleConfig

N_EMPTY_TASKS = 1000


def worker_stages(sizes: Sizes) -> list[Stage]:
    """Return 1 to N worker processes of a local Dask cluster.

    The rate in px/worker over that of one worker is the parallel efficiency. There are several
    images, as in an archive: one is finished while the next is computed. Two stages show the
    limits. Empty tasks: the time of the scheduler for a tile. The method from array to array
    in as many threads: the rate that the cores reach, which share memory and clock.
    """
    # More small images than workers, so that every worker starts and loads the network.
    stack, small, n_px = write_archive(sizes, 4 * sizes.n_workers, 4 * sizes.n_workers)
    # At least four tiles for each worker, or all wait for the last one.
    tile_px = next((t for t in (1024, 512) if n_px // t**2 >= 4 * sizes.n_workers), 256)
    options = ("--method", sizes.method, "--cluster", "local", "--tile-px", str(tile_px))
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n < sizes.n_workers]
    stages = [empty_task_stage(sizes.method, small, sizes.n_workers)]
    block = sizes.block()
    task = despeckle_task(make_despeckler(sizes.method), block)
    for n in [*counts, sizes.n_workers]:
        name, all_options = f"{n} worker{'s' if n > 1 else ''}", (*options, "--workers", str(n))
        arrays = _array_stage(task, block.size, n)
        references = [Reference(arrays.name, PX)]
        if n > 1:
            one = [Reference("1 worker", PX_PER_WORKER), Reference("1 worker", PX)]
            references = [*one, *references]
        # One startup for each number of workers: workers that start share the cores.
        start = command_stage(f"start of {name}", "despeckle", small, *all_options)
        work = count_work(sizes.method, n_px) | {PX_PER_WORKER: n_px / n}
        workers = command_stage(name, "despeckle", stack, *all_options, work=work,
                                references=references, startup=start.name)  # fmt: skip
        stages += [arrays, start, workers]
    return stages


def _array_stage(task: Callable[[int], object], n_px: int, n_threads: int) -> Stage:
    """Make a stage in which each thread despeckles the same block."""
    one = "array to array, 1 thread"
    name = f"array to array, {n_threads} threads" if n_threads > 1 else one
    references = [Reference(one, PX)] if n_threads > 1 else []
    run = time_in_threads(task, n_threads)
    return Stage(name, run, {PX: float(n_threads * n_px)}, references)


def empty_task_stage(method: str, stack: Path, n_workers: int) -> Stage:
    """Make a stage of tasks on a local cluster that get the arguments of a tile and do nothing.

    The start of the cluster is not measured.
    """
    arguments = tile_arguments(method, stack)

    def run() -> Cost:
        with open_workers(LOCAL, n_workers) as workers:
            # A few tasks first, not measured, so that the workers import what they need.
            for n_tasks in (workers.n_workers, N_EMPTY_TASKS):
                started, cpu_started = time.perf_counter(), time.process_time()
                tasks = (Task(do_nothing, arguments, number) for number in range(n_tasks))
                deque(run_tasks(workers, tasks), maxlen=0)
            return Cost(time.perf_counter() - started, time.process_time() - cpu_started)

    name = f"{N_EMPTY_TASKS} empty tasks of {len(pickle.dumps(arguments))} bytes"
    return Stage(name, run, {TASKS: N_EMPTY_TASKS})


def tile_arguments(method: str, stack: Path) -> tuple[Any, ...]:
    """Return the arguments that a task gets for the first tile of a stack."""
    plan = plan_despeckle(DespeckleConfig.make(stack=str(stack), method=method))
    pieces = Pieces(plan.output / "vv" / "0", plan.stack.grid.shape, plan.config.tile_px)
    statistics = SceneStatistics(4.4, (0.1, 0.1), 1.0)
    return plan.despeckler, plan.images[0].raster, statistics, next(pieces.tiles()), pieces


def do_nothing(*arguments: Any) -> int:
    """Take the arguments of a task, compute nothing."""
    return len(arguments)


def tile_stages(sizes: Sizes) -> list[Stage]:
    """Return tile sizes of 256 to 2048 px, with threads."""
    side = sizes.scene_px
    tiles_px = [tile_px for tile_px in (256, 512, 1024, 2048) if tile_px <= max(side, 256)]
    return _one_date_stages(sizes, "tile", [(f"tile {px} px", side, px) for px in tiles_px])


def scene_stages(sizes: Sizes) -> list[Stage]:
    """Return scenes of 1024 px to the largest: time per pixel and memory should be constant."""
    smallest = min(1024, sizes.scene_px // 4)
    sides = [smallest * 2**i for i in range(10) if smallest * 2**i <= sizes.scene_px]
    points = [(f"scene {side} px", side, 1024) for side in sides]
    return _one_date_stages(sizes, "scene", points)


def _one_date_stages(
    sizes: Sizes, parameter: str, points: Sequence[tuple[str, int, int]]
) -> list[Stage]:
    """Despeckle one date for each (name, side of the scene, tile size); compare with the first."""
    options = ("--method", sizes.method, "--workers", str(sizes.n_workers))
    small = write_stack(sizes.folder, STARTUP_PX, 1)
    start = command_stage(f"start, for every {parameter}", "despeckle", small, *options)
    stages = [start]
    for name, side, tile_px in points:
        stack = write_stack(sizes.folder, side, 1)
        config = DespeckleConfig.make(stack=str(stack), method=sizes.method, tile_px=tile_px,
                                      workers=sizes.n_workers)  # fmt: skip
        references = [Reference(points[0][0], PX)] if len(stages) > 1 else []
        stage = command_stage(name, "despeckle", stack, *options, "--tile-px", str(tile_px),
                              work=count_work(sizes.method, side**2), references=references,
                              startup=start.name)  # fmt: skip
        stages.append(replace(stage, planned_bytes=plan_despeckle(config).memory_bytes))
    return stages


def date_stages(sizes: Sizes) -> list[Stage]:
    """Return labels and a multi-temporal method for few to all dates: memory should be constant."""
    side = min(sizes.scene_px // 2, 2048)
    counts = [n for n in (3, 6, 12, 24, 48, 96) if n < sizes.n_dates] + [sizes.n_dates]
    stages: list[Stage] = []
    jobs = {"labels": ("build-labels",), "quegan-yu": ("despeckle", "--method", "quegan-yu")}
    for name, (job, *options) in jobs.items():
        options += ["--workers", str(sizes.n_workers)]
        small = write_stack(sizes.folder, STARTUP_PX, counts[0])
        start = command_stage(f"start of {name}", job, small, *options)
        stages.append(start)
        for n in counts:
            stack = write_stack(sizes.folder, side, n)
            references = [Reference(f"{name}, {counts[0]} dates", PX)] if n > counts[0] else []
            stages.append(
                command_stage(
                    f"{name}, {n} dates", job, stack, *options, work={PX: float(n * side**2)},
                    references=references, startup=start.name,
                )
            )  # fmt: skip
    return stages
