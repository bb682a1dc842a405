"""Submit tasks to workers: a bounded number at a time, related tasks to the same worker.

Tasks that read the same blocks of a file form a group. A worker computes a group from its first
task to its last, because it keeps the decoded blocks that its next task needs.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sarstack.cluster.workers import Workers

# Submitted tasks per thread, running ones included: a worker never waits for its next task.
QUEUE_PER_WORKER = 3
# Interval at which new and lost workers are noticed.
REFRESH_S = 5.0


@dataclass(frozen=True)
class Task:
    """One call to make on a worker.

    Attributes
    ----------
    function : callable
        Picklable.
    arguments : tuple
        Picklable and small.
    key : object
        Anything by which the caller recognises the task; it stays in this process.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    key: Any


@dataclass(eq=False)
class _Worker:
    """A worker process, its current group, and the number of its submitted tasks."""

    preference: dict[str, Any]  # arguments of submit that prefer this worker
    n_threads: int = 0
    group: Iterator[Task] = field(default_factory=lambda: iter(()))
    n_submitted: int = 0


def run_tasks(
    workers: Workers, tasks: Iterable[Task], *, queue: int = QUEUE_PER_WORKER
) -> Iterator[tuple[Task, Any]]:
    """Run tasks on any worker.

    Parameters
    ----------
    workers : Workers
        Where to run them.
    tasks : iterable of Task
        The next task is taken when an earlier one ends. So a generator can decide late, for
        example leave out the other tiles of an image that has failed.
    queue : int
        Number of submitted tasks per worker.

    Yields
    ------
    task : Task
    outcome : object or Exception
        What the function returned, or the exception that it raised.
    """
    any_worker = {"": _Worker({}, workers.n_workers)}
    yield from _run(workers, lambda: any_worker, iter([iter(tasks)]), queue)


def run_groups(
    workers: Workers, groups: Iterable[Iterator[Task]], *, queue: int = QUEUE_PER_WORKER
) -> Iterator[tuple[Task, Any]]:
    """Run groups of tasks, each group on one worker; an idle worker helps with another's group.

    Parameters
    ----------
    workers : Workers
        Where to run them. The threads of one process count as one worker: they share decoded
        blocks.
    groups : iterable of iterators of Task
        A group is taken when a worker needs it, a task when it is submitted.
    queue : int
        Number of submitted tasks per thread of a worker.

    Yields
    ------
    task : Task
    outcome : object or Exception

    Notes
    -----
    When the caller stops early (Ctrl-C), tasks that have not started are cancelled; running ones
    end by themselves. The worker is a preference, not a requirement: tasks of a lost worker go to
    other workers, and Dask lets idle workers take tasks of busy ones.
    """
    known: dict[str, _Worker] = {}
    refreshed_s = -REFRESH_S

    def current_workers() -> dict[str, _Worker]:
        nonlocal refreshed_s
        if time.monotonic() - refreshed_s > REFRESH_S:
            # Without any worker, tasks go to the scheduler, which keeps them until one comes.
            now, refreshed_s = workers.processes() or {"": 1}, time.monotonic()
            for address in known.keys() | now.keys():
                worker = known.setdefault(address, _Worker(_prefer(address)))
                worker.n_threads = now.get(address, 0)
        return known

    yield from _run(workers, current_workers, iter(groups), queue)


def _prefer(address: str) -> dict[str, Any]:
    return {"workers": [address], "allow_other_workers": True} if address else {}


def _run(
    workers: Workers,
    current_workers: Callable[[], dict[str, _Worker]],
    groups: Iterator[Iterator[Task]],
    queue: int,
) -> Iterator[tuple[Task, Any]]:
    submitted: dict[Future[Any], tuple[Task, _Worker]] = {}
    try:
        while True:
            known = list(current_workers().values())
            if lost := _recall_lost_tasks(submitted):
                groups = chain([iter(lost)], groups)
            for worker in known:
                while worker.n_submitted < queue * worker.n_threads:
                    task = _next_task(worker, known, groups)
                    if task is None:
                        break
                    future = workers.executor.submit(
                        task.function, *task.arguments, **worker.preference
                    )
                    submitted[future] = task, worker
                    worker.n_submitted += 1
            if not submitted:
                return
            done, _ = wait(submitted, REFRESH_S, FIRST_COMPLETED)
            for future in done:
                failure = future.exception()
                if failure is not None and not isinstance(failure, Exception):
                    raise failure
                task, worker = submitted.pop(future)
                worker.n_submitted -= 1
                yield task, failure or future.result()
    finally:
        for future in submitted:
            future.cancel()


def _recall_lost_tasks(submitted: dict[Future[Any], tuple[Task, _Worker]]) -> list[Task]:
    """Remove the tasks of lost workers from the submitted ones, and return them.

    Dask gives them to other workers. But if there is no worker at that moment, it waits for the
    preferred one for ever (distributed 2026.8).
    """
    recalled = []
    for future, (task, worker) in [*submitted.items()]:
        if worker.preference and not worker.n_threads and future.cancel():
            del submitted[future]
            worker.n_submitted -= 1
            recalled.append(task)
    return recalled


def _next_task(
    worker: _Worker, known: list[_Worker], groups: Iterator[Iterator[Task]]
) -> Task | None:
    """Take a task of the worker's group, else of a new group, else of another worker's group."""
    for task in worker.group:
        return task
    for group in groups:
        for task in group:
            worker.group = group
            return task
    for other in known:
        for task in other.group:
            worker.group = other.group
            return task
    return None
