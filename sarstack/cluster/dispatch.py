"""Which task goes to which worker, and when: a bounded number of them in flight.

Tasks that read the same pixels come in groups, and a worker does a group from one end to the
other as long as there are enough of them: it has the blocks that its next tile needs.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sarstack.cluster.workers import Workers

# Tasks waiting on each worker beside the one it computes, so that none runs dry.
QUEUE_PER_WORKER = 3
# A cluster that grows is noticed this late, at no cost worth counting.
LOOK_AGAIN_S = 5.0


@dataclass(frozen=True)
class Task:
    """One call to make on a worker, and whatever the caller needs to recognise it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    key: Any


@dataclass(eq=False)
class _Lane:
    """One worker process, the group it is at, and its tasks in flight."""

    place: dict[str, Any]
    n_threads: int = 0
    group: Iterator[Task] = field(default_factory=lambda: iter(()))
    n_running: int = 0


def run_tasks(
    workers: Workers, tasks: Iterable[Task], *, queue: int = QUEUE_PER_WORKER
) -> Iterator[tuple[Task, Any]]:
    """Run tasks that any worker may take; see :func:`run_groups`.

    Parameters
    ----------
    workers : Workers
        Where to run them.
    tasks : iterable of Task
        Taken one by one as earlier ones end, so it may be a generator that decides
        late, for instance to leave out the rest of an image that has failed.
    queue : int
        Tasks per worker that are submitted ahead.

    Yields
    ------
    task : Task
    outcome : object or Exception
        What the function returned, or the exception it raised.
    """
    anywhere = {"": _Lane({}, workers.n_workers)}
    yield from _run(workers, lambda: anywhere, iter([iter(tasks)]), queue)


def run_groups(
    workers: Workers, groups: Iterable[Iterator[Task]], *, queue: int = QUEUE_PER_WORKER
) -> Iterator[tuple[Task, Any]]:
    """Run groups of tasks, each on one worker; whoever has nothing left joins another's group.

    Parameters
    ----------
    workers : Workers
        Where to run them. Threads of one process are one worker: what one has read, all have.
    groups : iterable of iterators of Task
        Taken one by one, as late as their tasks.
    queue : int
        Tasks per thread of a worker that are submitted ahead.

    Yields
    ------
    task : Task
    outcome : object or Exception

    Notes
    -----
    When the caller stops early (Ctrl-C), tasks not yet started are cancelled; running ones
    end by themselves. Where a task goes is a wish: what a lost worker had goes to others, be it
    half done, and Dask lets idle workers take from busy ones.
    """
    lanes: dict[str, _Lane] = {}
    looked = -LOOK_AGAIN_S

    def look() -> dict[str, _Lane]:
        nonlocal looked
        if time.monotonic() - looked > LOOK_AGAIN_S:
            # Where all are gone, the scheduler keeps a task until somebody comes.
            now, looked = workers.processes() or {"": 1}, time.monotonic()
            for name in lanes.keys() | now.keys():
                lane = lanes.setdefault(name, _Lane(_wish(name)))
                lane.n_threads = now.get(name, 0)
        return lanes

    yield from _run(workers, look, iter(groups), queue)


def _wish(name: str) -> dict[str, Any]:
    return {"workers": [name], "allow_other_workers": True} if name else {}


def _run(
    workers: Workers,
    look: Callable[[], dict[str, _Lane]],
    groups: Iterator[Iterator[Task]],
    queue: int,
) -> Iterator[tuple[Task, Any]]:
    running: dict[Future[Any], tuple[Task, _Lane]] = {}
    try:
        while True:
            lanes = list(look().values())
            if lost := _take_back(running):
                groups = chain([iter(lost)], groups)
            for lane in lanes:
                while lane.n_running < queue * lane.n_threads:
                    task = _next_task(lane, lanes, groups)
                    if task is None:
                        break
                    future = workers.executor.submit(task.function, *task.arguments, **lane.place)
                    running[future] = task, lane
                    lane.n_running += 1
            if not running:
                return
            done, _ = wait(running, LOOK_AGAIN_S, FIRST_COMPLETED)
            for future in done:
                failure = future.exception()
                if failure is not None and not isinstance(failure, Exception):
                    raise failure
                task, lane = running.pop(future)
                lane.n_running -= 1
                yield task, failure or future.result()
    finally:
        for future in running:
            future.cancel()


def _take_back(running: dict[Future[Any], tuple[Task, _Lane]]) -> list[Task]:
    """Take the tasks of lost workers out of what is running.

    Dask gives them to other workers, but if there was none just then it forgets them: it waits
    for the one that was wished for (distributed 2026.8).
    """
    taken = []
    for future, (task, lane) in [*running.items()]:
        if lane.place and not lane.n_threads and future.cancel():
            del running[future]
            lane.n_running -= 1
            taken.append(task)
    return taken


def _next_task(lane: _Lane, lanes: list[_Lane], groups: Iterator[Iterator[Task]]) -> Task | None:
    """Take a task of the group that a worker is at, else of a new group, else of another's."""
    for task in lane.group:
        return task
    for group in groups:
        for task in group:
            lane.group = group
            return task
    for other in lanes:
        for task in other.group:
            lane.group = other.group
            return task
    return None
