"""Dispatch: a bounded number of submitted tasks, and groups of tasks that stay on one worker."""

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from sarstack.cluster import dispatch
from sarstack.cluster.dispatch import Task, run_groups, run_tasks
from sarstack.cluster.workers import open_workers


def square(x: int) -> int:
    return x * x


def sleep_and_return_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die_once(marker: str) -> int:
    """Kill the worker process at the first call, like a machine that is lost; later do nothing."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_tasks_are_taken_when_needed_and_exceptions_are_returned_as_outcomes() -> None:
    taken = []

    def fail_at_three(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return square(x)

    def tasks():
        for x in range(50):
            taken.append(x)
            yield Task(fail_at_three, (x,), x)

    found = {}
    with open_workers(None, 2) as workers:
        for task, outcome in run_tasks(workers, tasks(), queue=2):
            found[task.key] = outcome
            assert len(taken) - len(found) <= 4 + 1, "no more than the queue is ahead"
    assert isinstance(found.pop(3), ValueError)
    assert found == {x: x * x for x in range(50) if x != 3}


def test_stopping_early_cancels_tasks_that_have_not_started() -> None:
    started, gate = [], threading.Event()

    def slow(x: int) -> None:
        started.append(x)
        gate.wait(0.2)

    with open_workers(None, 1) as workers:
        outcomes = run_tasks(workers, (Task(slow, (x,), x) for x in range(20)), queue=5)
        next(outcomes)
        outcomes.close()
    n = len(started)
    assert n < 5
    time.sleep(0.3)
    assert len(started) == n


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_take_the_tasks_of_one_group_before_those_of_the_next(n_threads: int) -> None:
    taken: list[tuple[int, int]] = []

    def group(name: int) -> Iterator[Task]:
        for x in range(7 * (name % 3)):  # some have nothing to do
            taken.append((name, x))
            yield Task(square, (x,), (name, x))

    with open_workers(None, n_threads) as workers:
        done = dict.fromkeys(
            task.key for task, outcome in run_groups(workers, map(group, range(6)))
            if outcome == task.key[1] ** 2
        )  # fmt: skip
    assert taken == [(name, x) for name in range(6) for x in range(7 * (name % 3))]
    assert sorted(done) == taken


@pytest.mark.slow
def test_a_group_stays_on_one_worker_and_an_idle_worker_helps_another() -> None:
    lengths = {"short": 6, "long": 18}

    def group(name: str) -> Iterator[Task]:
        return (Task(sleep_and_return_pid, (0.05,), (name, x)) for x in range(lengths[name]))

    with open_workers("local", 2) as workers:
        assert list(workers.processes().values()) == [1, 1]
        for _ in run_tasks(workers, [Task(sleep_and_return_pid, (0.3,), 0)] * 4):
            pass  # both have started
        where = defaultdict(list)
        for task, outcome in run_groups(workers, map(group, lengths)):
            where[task.key[0]].append(outcome)
    assert {name: len(found) for name, found in where.items()} == lengths
    assert len({*where["short"]}) == 1
    assert {*where["long"][:5]}.isdisjoint(where["short"])
    assert {*where["short"]} < {*where["long"]}, (
        "the worker of the short group helps with the long one at the end"
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_tasks_of_a_lost_worker_are_computed_by_other_workers(
    n_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "REFRESH_S", 0.0)

    def group(name: int) -> Iterator[Task]:
        for x in range(12):
            yield Task(sleep_and_return_pid, (0.02,), (name, x))
            if x == 5:
                yield Task(die_once, (str(tmp_path / "died"),), (name, "dies"))

    with open_workers("local", n_workers) as workers:
        found = {task.key: outcome for task, outcome in run_groups(workers, map(group, range(3)))}
    assert len(found) == 3 * 13
    assert all(isinstance(outcome, int) for outcome in found.values())
    assert len({*found.values()}) >= 2, "with one worker, a second process was started in its place"


@pytest.mark.slow
def test_workers_may_come_and_go_during_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(dispatch, "REFRESH_S", 0.1)
    names, n_tiles = range(8), 25

    def group(name: int) -> Iterator[Task]:
        return (Task(sleep_and_return_pid, (0.05,), (name, x)) for x in range(n_tiles))

    found: dict[tuple[int, int], int] = {}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        open_workers(cluster.scheduler_address) as workers,
    ):
        pids: list[int] = []
        for task, outcome in run_groups(workers, map(group, names)):
            assert task.key not in found, "no outcome comes twice"
            found[task.key] = outcome
            pids = [*dict.fromkeys([*pids, outcome])]
            if len(found) == 5:
                cluster.scale(3)  # two come
            if len(pids) == 3 and len(found) < 100:
                os.kill(pids.pop(0), signal.SIGKILL)  # one is lost; another process replaces it
            if len(found) == 140:
                cluster.scale(1)  # two go
    assert sorted(found) == [(name, x) for name in names for x in range(n_tiles)]
    assert all(isinstance(outcome, int) for outcome in found.values())
    assert len({*found.values()}) >= 3
