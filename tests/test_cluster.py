"""Workers: threads, local processes, a running scheduler."""

import os

import psutil
import pytest

from sarstack.cluster import workers as cluster
from sarstack.cluster.dispatch import QUEUE_PER_WORKER, Task, run_tasks
from sarstack.cluster.workers import open_workers


def square(x: int) -> int:
    return x * x


def tell_environment() -> tuple[int, str]:
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "none")


@pytest.mark.slow
def test_one_process_per_gpu_sees_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with open_workers("local") as workers:
        assert workers.n_workers == 2 * cluster.threads_per_worker() >= 2 * cluster.GPU_THREADS
        assert workers.dashboard.startswith("http")
        jobs = [Task(tell_environment, (), x) for x in range(20)]
        found = {outcome for _, outcome in run_tasks(workers, jobs)}
    assert {card for _, card in found} <= {"2", "5"}
    assert os.getpid() not in {pid for pid, _ in found}


@pytest.mark.slow
def test_the_scheduler_forgets_every_task() -> None:
    """Nothing grows with the number of tiles: what was computed leaves the scheduler."""
    resident, known = [], []
    with open_workers("local", 1) as workers:
        scheduler = workers.client.cluster.scheduler
        jobs = (Task(square, (x,), x) for x in range(5000))
        for done, (task, outcome) in enumerate(run_tasks(workers, jobs)):
            assert outcome == task.key**2
            known.append(len(scheduler.tasks))
            if done in (500, 4999):
                resident.append(psutil.Process().memory_info().rss)
    # Those in flight, and some whose end is on its way to it.
    assert max(known) < 20 * QUEUE_PER_WORKER
    # Logs of bounded length fill up at first: 10 kB a task would be 45 MB.
    assert resident[1] - resident[0] < 30e6


def test_cores_respect_the_affinity_of_the_process() -> None:
    assert cluster.n_cores() == len(os.sched_getaffinity(0))
