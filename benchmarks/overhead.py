"""What a task costs besides its work: empty tasks through the executor that runs tiles."""

import pickle
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import TASKS, Cost, Stage
from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import LOCAL, open_workers
from sarstack.output.pieces import Pieces
from sarstack.speckle.statistics import SceneStatistics
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.settings import DespeckleConfig

N_TASKS = 1000


def empty_tasks(method: str, stack: Path, n_workers: int) -> Stage:
    """Make a stage of tasks with the arguments of a tile that do nothing with them.

    The time of starting the cluster is not in it.
    """
    arguments = tile_arguments(method, stack)
    name = f"{N_TASKS} empty tasks of {len(pickle.dumps(arguments))} bytes"
    return Stage(name, run_empty_tasks(arguments, n_workers), {TASKS: N_TASKS})


def tile_arguments(method: str, stack: Path) -> tuple[Any, ...]:
    """Return what a tile of a stack is sent to a worker with."""
    plan = plan_despeckle(DespeckleConfig.make(stack=str(stack), method=method))
    pieces = Pieces(plan.output / "vv" / "0", plan.stack.grid.shape, plan.config.tile_px)
    known = SceneStatistics(4.4, (0.1, 0.1), 1.0)
    return plan.despeckler, plan.images[0].raster, known, next(pieces.tiles()), pieces


def do_nothing(*arguments: Any) -> int:
    """Stand in for the work of a tile."""
    return len(arguments)


def run_empty_tasks(arguments: tuple[Any, ...], n_workers: int) -> Callable[[], Cost]:
    """Make a function that sends the tasks to a local cluster of its own."""

    def run() -> Cost:
        with open_workers(LOCAL, n_workers) as workers:
            for n_tasks in (workers.n_workers, N_TASKS):  # the first imports what it needs
                started, cpu_started = time.perf_counter(), time.process_time()
                jobs = (Task(do_nothing, arguments, number) for number in range(n_tasks))
                deque(run_tasks(workers, jobs), maxlen=0)
            return Cost(time.perf_counter() - started, time.process_time() - cpu_started)

    return run
