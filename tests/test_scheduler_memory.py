"""What scheduler and client remember of finished tasks does not depend on the number of tasks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401 (its settings)
import pytest

from sarstack.cluster.dispatch import QUEUE_PER_WORKER, Task, run_tasks
from sarstack.cluster.scheduler import PRELOAD, SHORT_LOGS
from sarstack.cluster.workers import Workers, open_workers

[LOG_LENGTH] = SHORT_LOGS.values()
N_WORKERS = 2


def measure(x: int) -> int:
    return x


def finish(x: int) -> int:
    return x


def count_in_scheduler(dask_scheduler: Any) -> dict[str, int]:
    """Count what a scheduler holds."""
    spans = dask_scheduler.extensions["spans"].spans.values()
    groups = [own.groups for own in (*spans, *dask_scheduler.computations)]
    notes = [(span.metadata or {}).get("collections", ()) for span in spans]
    connections = [*dask_scheduler.stream_comms.values(), *dask_scheduler.client_comms.values()]
    return {
        "tasks": len(dask_scheduler.tasks),
        "task groups": len(dask_scheduler.task_groups) + sum(map(len, groups)),
        "prefixes of names": len(dask_scheduler.task_prefixes),
        "notes of tasks": sum(map(len, notes)),
        "most messages of a connection": max(len(c.recent_message_log) for c in connections),
    }


def count_after(workers: Workers, n_tasks: int) -> dict[str, int]:
    """Run tasks, and count what scheduler and client hold when all are forgotten."""
    tasks = (Task((measure, finish)[x % 2], (x,), x) for x in range(n_tasks))
    client, results = workers.client, []
    for _, outcome in run_tasks(workers, tasks):
        results.append(outcome)
        # Those in flight, and some whose end is on its way.
        assert len(client.futures) < 20 * QUEUE_PER_WORKER * N_WORKERS
    assert sorted(results) == [*range(n_tasks)]
    deadline = time.monotonic() + 20
    # The scheduler hears a moment later that nobody wants the last results.
    while (found := client.run_on_scheduler(count_in_scheduler))["tasks"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    messages = len(client.scheduler_comm.recent_message_log)
    return found | {"futures": len(client.futures), "messages of the client": messages}


@contextmanager
def running_cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler and workers by the commands of Dask; yield the scheduler file."""
    file = folder / "scheduler.json"
    program = [sys.executable, "-m", "dask"]
    scheduler = [*program, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    started = [subprocess.Popen([*scheduler, "--preload", PRELOAD, "--scheduler-file", str(file)])]
    try:
        worker = [*program, "worker", "--scheduler-file", str(file), "--no-nanny", "--no-dashboard"]
        started += [subprocess.Popen([*worker, "--nthreads", "1", "--local-directory", str(folder)])
                    for _ in range(N_WORKERS)]  # fmt: skip
        while not (file.exists() and file.stat().st_size) and started[0].poll() is None:
            time.sleep(0.05)
        yield str(file)
    finally:
        for process in started[::-1]:
            process.terminate()
            process.wait()


@pytest.mark.parametrize(
    "is_local",
    [
        pytest.param(True, id="local"),
        pytest.param(False, id="commands of Dask", marks=pytest.mark.slow),
    ],
)
def test_what_is_remembered_does_not_depend_on_the_number_of_tasks(
    tmp_path: Path, *, is_local: bool
) -> None:
    before = dask.config.get(*SHORT_LOGS)
    with ExitStack() as stack:
        cluster = "local" if is_local else stack.enter_context(running_cluster(tmp_path))
        workers = stack.enter_context(open_workers(cluster, N_WORKERS if is_local else None))
        few, many = count_after(workers, 40), count_after(workers, 200)
    for found in (few, many):
        assert found.pop("most messages of a connection") <= LOG_LENGTH
        assert found.pop("messages of the client") <= LOG_LENGTH
    assert few == many
    assert many == {
        "tasks": 0, "task groups": 0, "prefixes of names": 2, "notes of tasks": 0, "futures": 0,
    }  # fmt: skip
    assert dask.config.get(*SHORT_LOGS) == before, "settings of this process are as before"
