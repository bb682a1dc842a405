"""Where the tasks run: threads of this process, a local Dask cluster, or a running one.

All three look the same to the caller: an executor of the standard library's kind.
"""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sarstack import __version__
from sarstack.despecklers.source import MethodSource
from sarstack.errors import ClusterError, MethodError
from sarstack.readers.block_cache import CACHE

LOCAL = "local"
# Threads that keep a GPU busy at least: some read and write while others have it.
GPU_THREADS = 4
CONNECT_S = 30


@dataclass(frozen=True)
class Workers:
    """A place to run tasks.

    Attributes
    ----------
    executor : Executor
        ``submit(function, *arguments)`` returns a future; functions and arguments
        must be picklable and small.
    n_workers : int
        Tasks that run at the same time.
    dashboard : str
        Link to the Dask dashboard, empty without one.
    client : distributed.Client or None
        None for threads.
    """

    executor: Executor
    n_workers: int
    dashboard: str = ""
    client: Any = None

    def processes(self) -> dict[str, int]:
        """Return the worker processes there are now and their threads; of threads, one: ""."""
        if self.client is None:
            return {"": self.n_workers}
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        return {address: worker["nthreads"] for address, worker in known.items()}

    def check_paths(self, paths: Sequence[str], source: MethodSource | None = None) -> None:
        """Make sure that every worker has this sarstack and sees these paths.

        Parameters
        ----------
        paths : sequence of str
            Files and folders the tasks will read and write; URLs are not looked at.
        source : MethodSource, optional
            Of a method from outside the package, which every worker must be able to import.

        Raises
        ------
        ClusterError
            Before any work, with the workers concerned.
        """
        if self.client is None:
            return
        wanted = [path for path in paths if "://" not in path and not path.startswith("/vsi")]
        problems = self.client.run(_find_problems, wanted, __version__, source)
        wrong = [f"{worker}: {text}" for worker, text in problems.items() if text]
        if wrong:
            raise ClusterError(
                f"{len(wrong)} of {len(problems)} workers cannot do the work",
                expected=f"sarstack {__version__} and a shared file system on every worker",
                where=wrong,
                do="start the workers in the same environment, with the folders mounted alike",
            )


def _find_problems(paths: list[str], version: str, source: MethodSource | None) -> str:
    """Run on a worker: say what it lacks, in a word."""
    if version != __version__:
        return f"has sarstack {__version__}"
    if source is not None:
        try:
            source.load_class()
        except (ImportError, MethodError) as failure:
            return f"cannot load {source.label}: {failure}".splitlines()[0]
    unseen = [path for path in paths if not Path(path).exists()]
    return f"does not see {unseen[0]}" if unseen else ""


@contextmanager
def open_workers(cluster: str | None = None, n_workers: int | None = None) -> Iterator[Workers]:
    """Open the workers that a run asks for, and close what was opened.

    Parameters
    ----------
    cluster : str, optional
        None: threads of this process. ``"local"``: a Dask cluster of processes sized for
        this machine (one worker per GPU, else per core). Otherwise the address of a
        running scheduler (``tcp://host:port``) or the path of its scheduler file; it is
        used, never closed.
    n_workers : int, optional
        Workers of a local cluster or threads of this process (default: all cores).

    Yields
    ------
    Workers

    Raises
    ------
    ClusterError
        If a running cluster cannot be reached within 30 s or has no workers.
    """
    if cluster is None:
        with _threads(n_workers or n_cores()) as workers:
            yield workers
    else:
        with _dask_client(cluster, n_workers) as client:
            executor = client.get_executor(pure=False, retries=2)
            workers = Workers(executor, 0, client.dashboard_link or "", client)
            yield replace(workers, n_workers=sum(workers.processes().values()))


def n_cores() -> int:
    """Return the cores this process may use (respects affinity and containers)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _threads(n_threads: int) -> Iterator[Workers]:
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="sarstack")
    try:
        yield Workers(executor, n_threads)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        CACHE.clear()  # what a run has read is of no use to what this process does next


@contextmanager
def _dask_client(cluster: str, n_workers: int | None) -> Iterator[Any]:
    import dask
    from distributed import Client

    # Losing a worker condemns a task only after many deaths: on pre-emptible nodes the
    # innocent tasks of a dying worker are blamed as well.
    settings = {"distributed.scheduler.allowed-failures": 10}
    for name in ("distributed", "distributed.worker", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with dask.config.set(settings):
        if cluster == LOCAL:
            with _local_cluster(n_workers) as local, Client(local) as client:
                yield client
        else:
            with _connect(cluster) as client:
                yield client


@contextmanager
def _local_cluster(n_workers: int | None) -> Iterator[Any]:
    """Start one worker process per GPU, or per core."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus()
    # Each process sees its own card as the first one, set before it can import torch.
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}] * n_cores()
    count = n_workers or len(environments)
    # What a worker has to say comes home with its task; when it is closed, it complains that
    # the scheduler is gone.
    quiet = {
        "nthreads": threads_per_worker(), "silence_logs": logging.CRITICAL, "preload": __name__,
    }  # fmt: skip
    workers = {
        i: {"cls": Nanny, "options": quiet | {"env": environments[i % len(environments)]}}
        for i in range(count)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster:
        yield cluster


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C to the process that started the cluster; Dask calls this in each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def threads_per_worker() -> int:
    """Return the threads of a process of a local cluster: one, or all that serve its GPU."""
    gpus = visible_gpus()
    return max(GPU_THREADS, n_cores() // len(gpus)) if gpus else 1


def visible_gpus() -> list[str]:
    """List the CUDA devices that this process may use, without starting CUDA.

    The driver's device files are looked at rather than torch asked: the parent of GPU
    workers must not open a CUDA context of its own.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [device for device in listed.split(",") if device.strip()]
    return sorted(p.name.removeprefix("nvidia") for p in Path("/dev").glob("nvidia[0-9]*"))


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    from distributed import Client

    is_file = "://" not in address and Path(address).suffix == ".json"
    if is_file and not Path(address).is_file():
        # The client would wait for it without end.
        raise ClusterError(
            f"cluster = {address!r}: there is no such scheduler file",
            do=f"start the scheduler with `dask scheduler --scheduler-file {address}`",
        )
    arguments = {"scheduler_file": address} if is_file else {"address": address}
    try:
        client = Client(**arguments, timeout=CONNECT_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError) as failure:
        raise ClusterError(
            f"cluster = {address!r} cannot be used: {failure or f'no worker within {CONNECT_S} s'}",
            expected="a running Dask scheduler with at least one worker",
            do="start it with `dask scheduler` and `dask worker tcp://host:port`, "
            "or use --cluster alone for a local one",
        ) from failure
    with client:
        yield client
