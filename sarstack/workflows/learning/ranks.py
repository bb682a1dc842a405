"""One training on the workers of a Dask cluster, with torch.distributed.

Each worker is one rank (process) of a process group. Gradients are exchanged directly between the
workers (gloo on CPUs, nccl on GPUs). Dask starts the ranks, passes on their progress, and
detects lost workers.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from sarstack.cluster.process import worker_settings
from sarstack.cluster.workers import n_cores
from sarstack.errors import ClusterError, SarstackError
from sarstack.networks.inference import choose_device
from sarstack.training.distributed import ProcessGroup

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT_S = 60
"""Longest wait of a rank for the others. A killed worker is detected at once; one whose machine or
network fails, after this time."""

GRACE_S = 20
"""After a failure, the other ranks end at their next sum; one that does not is lost, too."""

POLL_S = 0.5
Message = dict[str, Any]
Report = Callable[[Message], None]
_open_stores: dict[int, Any] = {}


@dataclass(frozen=True)
class RankSettings:
    """What a worker needs to join the process group.

    Attributes
    ----------
    rank, n_ranks : int
        Number of this rank, from 0, and number of ranks.
    host, port : str, int
        Address of the store in the process of rank 0, through which the ranks connect.
    own_host : str
        Address of this worker, as known to Dask.
    ranks_on_host : int
        Number of ranks on this machine, which share its cores.
    device : str
        ``cpu`` or ``cuda``, the same for all ranks.
    topic : str
        Topic of the Dask events with which rank 0 reports progress.
    """

    rank: int
    n_ranks: int
    host: str
    port: int
    own_host: str
    ranks_on_host: int
    device: str
    topic: str


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch compute with `n` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_ranks(
    client: Any,
    max_ranks: int,
    function: Callable[..., Any],
    report: Report,
    arguments: tuple[Any, ...],
) -> Any:
    """Run a function on many workers at the same time, as the ranks of one process group.

    Parameters
    ----------
    client : distributed.Client
    max_ranks : int
        Largest number of ranks; further workers are not used.
    function : callable
        Called as ``function(group, device, report, *arguments)`` on each worker.
    report : callable
        Called in this process with the messages that rank 0 reports.
    arguments : tuple
        Picklable and small.

    Returns
    -------
    object
        Result of `function` on rank 0.

    Raises
    ------
    ClusterError
        If a worker is lost, or the ranks cannot reach each other. All other ranks end, too.
    """
    known = client.scheduler_info(n_workers=-1)["workers"]
    order = sorted(known, key=lambda address: (_host(address), str(known[address]["name"])))
    addresses = order[:max_ranks]
    topic = f"sarstack-{uuid4().hex}"
    futures = {
        client.submit(
            _run_rank, settings, function, arguments, key=f"{topic}-{settings.rank}",
            workers=[address], allow_other_workers=False, pure=False, retries=0,
        ): address
        for address, settings in _assign_ranks(client, addresses, topic).items()
    }  # fmt: skip
    client.subscribe_topic(topic, lambda event: report(event[1]))
    try:
        with client.as_current():
            return _wait_for_result(client, futures)
    except CancelledError:
        raise ClusterError("the scheduler of the cluster is gone") from None
    finally:
        client.cancel(list(futures), force=True)
        client.unsubscribe_topic(topic)


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _assign_ranks(client: Any, addresses: list[str], topic: str) -> dict[str, RankSettings]:
    """Open the store on the first worker, and return the settings of each worker's rank."""
    hosts = [_host(address) for address in addresses]
    devices = client.run(choose_device, workers=addresses)
    device = "cuda" if set(devices.values()) == {"cuda"} else "cpu"
    port = client.run(_open_store, hosts[0], workers=addresses[:1])[addresses[0]]
    n_ranks = len(addresses)
    return {
        address: RankSettings(rank, n_ranks, hosts[0], port, host, hosts.count(host), device, topic)
        for rank, (address, host) in enumerate(zip(addresses, hosts, strict=True))
    }


def _wait_for_result(client: Any, futures: dict[Any, str]) -> Any:
    """Return the result of rank 0. If a rank fails, wait for the others, then raise."""
    outcomes: dict[Any, Any] = {}
    waiting, lost, deadline = set(futures), set[str](), math.inf
    while waiting and time.monotonic() < deadline:
        outcomes |= {job: job.exception() or job.result() for job in _wait_shortly(waiting)}
        # Dask would wait forever for the task of a lost worker: it may run nowhere else.
        lost |= set(futures.values()) - set(client.scheduler_info(n_workers=-1)["workers"])
        waiting = {job for job in waiting - set(outcomes) if futures[job] not in lost}
        if lost or any(isinstance(outcome, Exception) for outcome in outcomes.values()):
            deadline = min(deadline, time.monotonic() + GRACE_S)
    first = outcomes.get(next(iter(futures)), ClusterError("rank 0 has not ended"))
    if not isinstance(first, Exception):
        return first
    lost |= {futures[job] for job in waiting}
    if lost:
        gone = ", ".join(sorted(lost))
        raise ClusterError(f"{len(lost)} of {len(futures)} workers were lost: {gone}")
    # If one rank fails, the others fail with a ClusterError: prefer the error that came first.
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    raise min(failures, key=lambda failure: isinstance(failure, ClusterError))


def _wait_shortly(futures: set[Any]) -> set[Any]:
    """Return the futures that are done, after at most `POLL_S`."""
    from distributed import wait

    try:
        return set(wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return set()


def _open_store(host: str) -> int:
    """Open the store of the process group on the worker of rank 0, and return its port."""
    store = _connect_store(host)
    _open_stores.clear()  # left over from a rank that never started
    _open_stores[store.port] = store
    return int(store.port)


def _connect_store(host: str, port: int = 0) -> Any:
    """Connect to the store at `port`; 0: open one on a free port of this machine."""
    from torch import distributed

    return distributed.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=not port, wait_for_workers=False, timeout=_timeout()
    )


def _timeout() -> timedelta:
    return timedelta(seconds=TIMEOUT_S)


def _run_rank(
    settings: RankSettings, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Join the process group on a worker and run the function; return an error of ours."""
    from distributed import get_worker

    worker = get_worker()

    def report(message: Message) -> None:
        if settings.rank == 0:
            worker.log_event(settings.topic, message)

    n_threads = max(1, n_cores() // settings.ranks_on_host)
    try:
        with worker_settings(), torch_threads(n_threads), _join_group(settings) as group:
            return function(group, settings.device, report, *arguments)
    except SarstackError as failure:
        # If raised, its traceback would also be written to the log of the worker.
        return failure.with_traceback(None)


@contextmanager
def _join_group(settings: RankSettings) -> Iterator[ProcessGroup]:
    """Connect to the other ranks, and disconnect at the end, also after an error.

    The default group of `torch.distributed` is a global of the process: after a failed attempt,
    it could not be made again. So each training has a group of its own.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    try:
        # The only reference: connections close when the object is deleted, not before.
        connections = [_connect_ranks(settings)]
    except RuntimeError as failure:
        raise _lost_contact(settings, failure) from None

    def all_reduce(flat: "Tensor") -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise ClusterError("the training was cancelled")
        try:
            on_device = flat.to(settings.device)
            connections[0].allreduce([on_device]).wait()
            flat.copy_(on_device)
        except RuntimeError as failure:
            raise _lost_contact(settings, failure) from None

    try:
        yield ProcessGroup(settings.rank, settings.n_ranks, all_reduce)
    finally:
        connections.clear()


def _connect_ranks(settings: RankSettings) -> Any:
    """Connect to all other ranks, over the network by which Dask knows this worker."""
    from torch import distributed

    rank_0 = settings.rank == 0
    store = (
        _open_stores.pop(settings.port) if rank_0 else _connect_store(settings.host, settings.port)
    )
    backend: Any = distributed.ProcessGroupGloo
    if settings.device == "cuda":
        backend = distributed.ProcessGroupNCCL
        options = backend.Options()
    else:
        options = backend._Options()
        options._devices = [backend.create_device(hostname=settings.own_host)]
    options._timeout = _timeout()
    return backend(store, settings.rank, settings.n_ranks, options)


def _lost_contact(settings: RankSettings, failure: RuntimeError) -> ClusterError:
    reason = str(failure).splitlines()[0]
    return ClusterError(
        f"rank {settings.rank} of {settings.n_ranks} has lost contact with the others: {reason}"
    )
