"""Open the workers of a run: threads of this process, a local Dask cluster, or a running one.

All three have the same interface: an executor as in `concurrent.futures`.
"""

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sarstack.cluster.connection import connect
from sarstack.cluster.fork_server import METHOD, can_fork, start_fork_server
from sarstack.cluster.layout import LOCAL, Layout, find_machine, n_cores, plan_layout
from sarstack.cluster.scheduler import PRELOAD, SHORT_LOGS
from sarstack.errors import UsageError
from sarstack.readers.block_cache import CACHE

# Each process of a local cluster takes some hundred MB, and a second of a core to start.
MAX_PROCESSES_PER_CORE = 4


@dataclass(frozen=True)
class Workers:
    """Threads or processes that run tasks.

    Attributes
    ----------
    executor : Executor
        ``submit(function, *arguments)`` returns a future; functions and arguments
        must be picklable and small.
    n_workers : int
        Number of tasks that run at the same time.
    dashboard : str
        Link to the Dask dashboard, empty without one.
    client : distributed.Client or None
        The Dask client; None for threads.
    """

    executor: Executor
    n_workers: int
    dashboard: str = ""
    client: Any = None

    def processes(self) -> dict[str, int]:
        """Return the current worker processes and their numbers of threads; ``""`` for threads."""
        if self.client is None:
            return {"": self.n_workers}
        # Not `scheduler_info`: a thread of the client replaces its result every two seconds by
        # one without workers (distributed 2026.8), and all workers seem to be lost.
        threads: dict[str, int] = self.client.nthreads()
        return threads


@contextmanager
def open_workers(
    cluster: str | None = None, n_workers: int | None = None, *, on_gpu: bool = True
) -> Iterator[Workers]:
    """Open workers for a run, and close what was opened.

    Parameters
    ----------
    cluster : str, optional
        None: threads of this process. ``"local"``: a Dask cluster of processes sized for
        this machine (see :func:`sarstack.cluster.layout.plan_layout`). Otherwise the address of
        a running scheduler (``tcp://host:port``) or the path of its scheduler file; that cluster
        is never closed.
    n_workers : int, optional
        Number of workers of a local cluster or threads of this process. Default: all cores.
    on_gpu : bool
        Whether the tasks use a GPU if there is one; False: one process a core.

    Yields
    ------
    Workers

    Raises
    ------
    ClusterError
        If a running cluster does not answer within 30 s or has no workers, or its scheduler is
        lost later.
    UsageError
        If a local cluster would have more than four processes for each core.
    """
    if cluster is None:
        with _threads(n_workers or n_cores()) as workers:
            yield workers
    else:
        with _dask_client(cluster, n_workers, on_gpu=on_gpu) as client:
            executor = client.get_executor(pure=False, retries=2)
            workers = Workers(executor, 0, client.dashboard_link or "", client)
            yield replace(workers, n_workers=sum(workers.processes().values()))


@contextmanager
def _threads(n_threads: int) -> Iterator[Workers]:
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="sarstack")
    try:
        yield Workers(executor, n_threads)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        CACHE.clear()  # the next run reads other blocks


@contextmanager
def _dask_client(cluster: str, n_workers: int | None, *, on_gpu: bool) -> Iterator[Any]:
    import dask
    import distributed.utils
    from distributed import Client

    # Dask blames all tasks of a lost worker. On pre-emptible nodes workers are lost often, so a
    # task fails only after many losses.
    settings: dict[str, Any] = {"distributed.scheduler.allowed-failures": 10, **SHORT_LOGS}
    if cluster == LOCAL and can_fork():
        start_fork_server()
        settings["distributed.worker.multiprocessing-method"] = METHOD
        # Or Dask would import all its optional libraries, for a server that it starts itself.
        distributed.utils._forkserver_preload_set = True
    for name in ("distributed", "distributed.worker", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with dask.config.set(settings):
        if cluster == LOCAL:
            layout = plan_layout(n_workers, find_machine(on_gpu=on_gpu), in_processes=True)
            with _local_cluster(layout) as local, Client(local) as client:
                yield client
        else:
            with connect(cluster) as client:
                yield client


@contextmanager
def _local_cluster(layout: Layout) -> Iterator[Any]:
    """Start the worker processes of a layout on this machine."""
    from distributed import Nanny, Scheduler, SpecCluster

    count = layout.n_processes
    most = max(MAX_PROCESSES_PER_CORE * layout.n_cores, len(layout.gpus))
    if count > most:
        raise UsageError(
            f"workers = {count}, for a local cluster on a machine with {layout.n_cores} cores",
            expected=f"at most {most} processes here; one for each core is fastest",
            do="leave out --workers, or name the scheduler of a larger cluster with --cluster",
        )
    # Each process sees its own card as the first one, set before it can import torch.
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in layout.gpus] or [{}]
    # Problems of a worker arrive with its task. Its log would only show that the scheduler is
    # closed at the end.
    quiet = {
        "nthreads": layout.n_threads, "silence_logs": logging.CRITICAL, "preload": __name__,
    }  # fmt: skip
    workers = {
        i: {"cls": Nanny, "options": quiet | {"env": environments[i % len(environments)]}}
        for i in range(count)
    }
    options = {"dashboard_address": ":0", "host": "127.0.0.1", "preload": PRELOAD}
    scheduler = {"cls": Scheduler, "options": options}
    with SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster:
        yield cluster


def dask_setup(_worker: Any) -> None:
    """Ignore Ctrl-C, which the process that started the cluster handles. Called by Dask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
