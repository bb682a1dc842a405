"""One training on the workers of a Dask cluster, with torch.distributed.

Each worker is one rank (process) of a process group. Gradients are exchanged directly between the
workers (gloo on CPUs, nccl on GPUs). Dask starts the ranks, passes on their progress, and
detects lost workers.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from sarstack.cluster.layout import n_cores
from sarstack.cluster.process import worker_settings
from sarstack.errors import ClusterError, SarstackError
from sarstack.networks.inference import choose_device
from sarstack.training.distributed import ProcessGroup

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT_S = 60
"""Longest wait of a rank for the others. A killed worker is detected at once; one whose machine or
network fails, after this time."""

JOIN_S = 600
"""Longest wait until all ranks have begun. A worker may import torch from a slow network disk, or
first end another task."""

GRACE_S = 20
"""After a failure, the other ranks end at their next sum; one that does not is not waited for."""

POLL_S = 0.5
Message = dict[str, Any]
Report = Callable[[Message], None]


@dataclass(frozen=True)
class RankSettings:
    """What a worker needs to join the process group.

    Attributes
    ----------
    rank, n_ranks : int
        Number of this rank, from 0, and number of ranks.
    ranks_on_host : int
        Number of ranks on this machine, which share its cores.
    topic : str
        Topic of the Dask events with which rank 0 reports progress; also the name of the training.
    """

    rank: int
    n_ranks: int
    ranks_on_host: int
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
    addresses = sorted(client.nthreads(), key=lambda address: (_host(address), address))[:max_ranks]
    topic = f"sarstack-{uuid4().hex}"
    futures = {
        client.submit(
            _run_rank, settings, function, arguments, key=f"{topic}-{settings.rank}",
            workers=[address], allow_other_workers=False, pure=False, retries=0,
        ): address
        for address, settings in _assign_ranks(addresses, topic).items()
    }  # fmt: skip
    client.subscribe_topic(topic, lambda event: report(event[1]))
    try:
        with client.as_current():
            return _wait_for_result(client, futures)
    finally:
        if client.status == "running":
            client.cancel(list(futures), force=True)
            client.unsubscribe_topic(topic)


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _assign_ranks(addresses: list[str], topic: str) -> dict[str, RankSettings]:
    """Return the settings of each worker's rank."""
    hosts = [_host(address) for address in addresses]
    return {
        address: RankSettings(rank, len(addresses), hosts.count(host), topic)
        for rank, (address, host) in enumerate(zip(addresses, hosts, strict=True))
    }


def _wait_for_result(client: Any, futures: dict[Any, str]) -> Any:
    """Return the result of rank 0. If a rank fails, wait for the others, then raise."""
    outcomes: dict[Any, Any] = {}
    waiting, lost, deadline = set(futures), set[str](), math.inf
    while waiting and time.monotonic() < deadline:
        outcomes |= {job: job.exception() or job.result() for job in _wait_shortly(waiting)}
        # Dask would wait forever for the task of a lost worker: it may run nowhere else.
        lost |= set(futures.values()) - set(client.nthreads())
        waiting = {job for job in waiting - set(outcomes) if futures[job] not in lost}
        if lost or any(isinstance(outcome, Exception) for outcome in outcomes.values()):
            deadline = min(deadline, time.monotonic() + GRACE_S)
    first = outcomes.get(next(iter(futures)), ClusterError("rank 0 has not ended"))
    if not isinstance(first, Exception):
        return first
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    # If one rank fails, the others fail with a ClusterError: prefer the error that came first.
    if lost and all(isinstance(failure, ClusterError) for failure in failures):
        gone = ", ".join(sorted(lost))
        raise ClusterError(f"{len(lost)} of {len(futures)} workers were lost: {gone}")
    raise min([*failures, first], key=lambda failure: isinstance(failure, ClusterError))


def _wait_shortly(futures: set[Any]) -> set[Any]:
    """Return the futures that are done, after at most `POLL_S`."""
    from distributed import wait

    try:
        return set(wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return set()


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
        with worker_settings(), torch_threads(n_threads), _join_group(settings) as (group, device):
            return function(group, device, report, *arguments)
    except SarstackError as failure:
        # If raised, its traceback would also be written to the log of the worker.
        return failure.with_traceback(None)


@contextmanager
def _join_group(settings: RankSettings) -> Iterator[tuple[ProcessGroup, str]]:
    """Connect to the other ranks, and disconnect at the end, also after an error.

    The default group of `torch.distributed` is a global of the process: after a failed attempt,
    it could not be made again. So each training has a group of its own.

    Yields
    ------
    group : ProcessGroup
    device : {"cpu", "cuda"}
        The same for all ranks.
    """
    from distributed import get_client, get_worker

    from sarstack.workflows.learning.rank_store import RankStore

    worker = get_worker()
    key = worker.get_current_task()

    def check_running() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise ClusterError("the training was cancelled")

    store = RankStore(get_client(), settings.topic, check_running)
    try:
        device = _agree_on_device(settings, store)
        # The only reference: connections close when the object is deleted, not before.
        connections = [_connect_ranks(settings, store, device, _find_own_address(worker))]
    except RuntimeError as failure:
        raise _lost_contact(settings, failure) from None

    def all_reduce(flat: "Tensor") -> None:
        check_running()
        try:
            on_device = flat.to(device)
            connections[0].allreduce([on_device]).wait()
            flat.copy_(on_device)
        except RuntimeError as failure:
            raise _lost_contact(settings, failure) from None

    try:
        yield ProcessGroup(settings.rank, settings.n_ranks, all_reduce), device
    finally:
        connections.clear()
        store.delete_own()


def _agree_on_device(settings: RankSettings, store: Any) -> str:
    """Wait until all ranks have begun, and return the device that all of them have.

    A rank imports torch before it answers. After that the ranks connect within seconds.
    """
    store.set(f"device-{settings.rank}", choose_device().encode())
    names = [f"device-{rank}" for rank in range(settings.n_ranks)]
    store.wait(names, timedelta(seconds=JOIN_S))
    return "cuda" if {store.get(name) for name in names} == {b"cuda"} else "cpu"


def _find_own_address(worker: Any) -> str:
    """Return the address at which the other workers reach this one, as a number.

    It is the one on which Dask listens; if Dask listens on all, the one from which the scheduler
    is reached. Not a host name: many hosts know their own name as 127.0.0.1.
    """
    from distributed.utils import get_ip, get_ipv6

    listens_on = _host(worker.listener.listen_address)
    if listens_on not in ("", "0.0.0.0", "::"):
        return listens_on
    scheduler = _host(worker.scheduler.address)
    return str(get_ipv6(scheduler) if ":" in scheduler else get_ip(scheduler))


def _connect_ranks(settings: RankSettings, store: Any, device: str, own_address: str) -> Any:
    """Connect to all other ranks, over the network by which Dask knows this worker."""
    from torch import distributed

    backend: Any = distributed.ProcessGroupGloo
    if device == "cuda":
        backend = distributed.ProcessGroupNCCL
        options = backend.Options()
        store = _open_torch_store(settings, store, own_address)
    else:
        options = backend._Options()
        options._devices = [backend.create_device(hostname=own_address)]
    options._timeout = timedelta(seconds=TIMEOUT_S)
    return backend(store, settings.rank, settings.n_ranks, options)


def _open_torch_store(settings: RankSettings, store: Any, own_address: str) -> Any:
    """Open the store of torch in rank 0, and connect to it from the other ranks.

    NCCL has threads that use the store at any time. One that is written in Python would make them
    wait for the interpreter.
    """
    from torch import distributed

    tcp_store: Any = distributed.TCPStore  # type: ignore[attr-defined]
    timeout = timedelta(seconds=JOIN_S)
    if settings.rank == 0:
        own = tcp_store(own_address, 0, is_master=True, wait_for_workers=False, timeout=timeout)
        store.set("torch-store", f"{own_address} {own.port}".encode())
        return own
    address, port = store.get("torch-store").decode().split()
    return tcp_store(address, int(port), wait_for_workers=False, timeout=timeout)


def _lost_contact(settings: RankSettings, failure: RuntimeError) -> ClusterError:
    reason = str(failure).splitlines()[0]
    return ClusterError(
        f"rank {settings.rank} of {settings.n_ranks} has lost contact with the others: {reason}"
    )
