"""Dispatch: a bounded number of tasks in flight, and groups that stay on one worker."""

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


def tell_process(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die_once(marker: str) -> int:
    """End the worker process that does this first, as a machine that is taken away would."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_tasks_are_taken_one_by_one_and_failures_are_outcomes() -> None:
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


def test_stopping_early_cancels_what_has_not_started() -> None:
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
def test_groups_are_done_whole_one_after_the_other_in_threads(n_threads: int) -> None:
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
def test_a_group_stays_on_its_worker_and_who_has_none_joins_another() -> None:
    lengths = {"short": 6, "long": 18}

    def group(name: str) -> Iterator[Task]:
        return (Task(tell_process, (0.05,), (name, x)) for x in range(lengths[name]))

    with open_workers("local", 2) as workers:
        assert list(workers.processes().values()) == [1, 1]
        for _ in run_tasks(workers, [Task(tell_process, (0.3,), 0)] * 4):
            pass  # both have started
        where = defaultdict(list)
        for task, outcome in run_groups(workers, map(group, lengths)):
            where[task.key[0]].append(outcome)
    assert {name: len(found) for name, found in where.items()} == lengths
    assert len({*where["short"]}) == 1
    assert {*where["long"][:5]}.isdisjoint(where["short"])
    assert {*where["short"]} < {*where["long"]}, "helped in the end"


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_a_lost_worker_had_is_done_by_others(
    n_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "REFRESH_S", 0.0)

    def group(name: int) -> Iterator[Task]:
        for x in range(12):
            yield Task(tell_process, (0.02,), (name, x))
            if x == 5:
                yield Task(die_once, (str(tmp_path / "died"),), (name, "dies"))

    with open_workers("local", n_workers) as workers:
        found = {task.key: outcome for task, outcome in run_groups(workers, map(group, range(3)))}
    assert len(found) == 3 * 13
    assert all(isinstance(outcome, int) for outcome in found.values())
    assert len({*found.values()}) >= 2, "of one worker, the one that was started in its place"
