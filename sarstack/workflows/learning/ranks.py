"""One training on all workers of a Dask cluster: a rank on each, with torch.distributed.

Gradients travel between the workers (gloo on CPUs, nccl on GPUs), never through Dask, which
only starts the ranks, carries what they tell, and notices when a worker is gone.
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
from sarstack.training.distributed import Ranks

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT_S = 60
"""So long ranks wait for each other: a worker that is killed is noticed at once, one whose
machine or network is gone after this time."""

GRACE_S = 20
"""After a failure the other ranks notice at their next sum; who does not is lost, too."""

POLL_S = 0.5
Message = dict[str, Any]
Tell = Callable[[Message], None]
_stores: dict[int, Any] = {}


@dataclass(frozen=True)
class Seat:
    """What a worker must know to become a rank.

    Attributes
    ----------
    rank, n : int
        Number of this rank, and of all.
    host, port : str, int
        Where the ranks meet: a store in the process of rank 0.
    own_host : str
        This worker's address as Dask knows it.
    neighbours : int
        Ranks on this worker's machine, which share its cores.
    device : str
    topic : str
        Of the Dask events by which rank 0 tells how it goes.
    """

    rank: int
    n: int
    host: str
    port: int
    own_host: str
    neighbours: int
    device: str
    topic: str


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Compute with `n` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_ranks(
    client: Any, at_most: int, work: Callable[..., Any], tell: Tell, arguments: tuple[Any, ...]
) -> Any:
    """Run one function on many workers at once, as the ranks of one training.

    Parameters
    ----------
    client : distributed.Client
    at_most : int
        Ranks; workers beyond that number are left free.
    work : callable
        Called as ``work(ranks, device, tell, *arguments)`` on each worker.
    tell : callable
        Called here with what rank 0 tells.
    arguments : tuple
        Picklable and small.

    Returns
    -------
    object
        What `work` returned on rank 0.

    Raises
    ------
    ClusterError
        If a worker is lost, or the ranks cannot reach each other; the other ranks end too.
    """
    known = client.scheduler_info(n_workers=-1)["workers"]
    order = sorted(known, key=lambda address: (_host(address), str(known[address]["name"])))
    addresses = order[:at_most]
    topic = f"sarstack-{uuid4().hex}"
    jobs = {
        client.submit(
            _run_rank, seat, work, arguments, key=f"{topic}-{seat.rank}", workers=[address],
            allow_other_workers=False, pure=False, retries=0,
        ): address
        for address, seat in _plan_seats(client, addresses, topic).items()
    }  # fmt: skip
    client.subscribe_topic(topic, lambda event: tell(event[1]))
    try:
        with client.as_current():
            return _await(client, jobs)
    except CancelledError:
        raise ClusterError("the scheduler of the cluster is gone") from None
    finally:
        client.cancel(list(jobs), force=True)
        client.unsubscribe_topic(topic)


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _plan_seats(client: Any, addresses: list[str], topic: str) -> dict[str, Seat]:
    hosts = [_host(address) for address in addresses]
    devices = client.run(choose_device, workers=addresses)
    device = "cuda" if set(devices.values()) == {"cuda"} else "cpu"
    port = client.run(_open_store, hosts[0], workers=addresses[:1])[addresses[0]]
    return {
        address: Seat(rank, len(addresses), hosts[0], port, host, hosts.count(host), device, topic)
        for rank, (address, host) in enumerate(zip(addresses, hosts, strict=True))
    }


def _await(client: Any, jobs: dict[Any, str]) -> Any:
    """Return what rank 0 returns; when a rank fails, see the others end, then tell why."""
    outcomes: dict[Any, Any] = {}
    waiting, lost, deadline = set(jobs), set[str](), math.inf
    while waiting and time.monotonic() < deadline:
        outcomes |= {job: job.exception() or job.result() for job in _wait_a_little(waiting)}
        # The job of a lost worker waits for that worker for ever.
        lost |= set(jobs.values()) - set(client.scheduler_info(n_workers=-1)["workers"])
        waiting = {job for job in waiting - set(outcomes) if jobs[job] not in lost}
        if lost or any(isinstance(outcome, Exception) for outcome in outcomes.values()):
            deadline = min(deadline, time.monotonic() + GRACE_S)
    first = outcomes.get(next(iter(jobs)), ClusterError("rank 0 has not ended"))
    if not isinstance(first, Exception):
        return first
    lost |= {jobs[job] for job in waiting}
    if lost:
        gone = ", ".join(sorted(lost))
        raise ClusterError(f"{len(lost)} of {len(jobs)} workers were lost: {gone}")
    # A rank that fails takes its peers with it: theirs is only the echo.
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    raise min(failures, key=lambda failure: isinstance(failure, ClusterError))


def _wait_a_little(jobs: set[Any]) -> set[Any]:
    from distributed import wait

    try:
        return set(wait(jobs, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return set()


def _open_store(host: str) -> int:
    """Run on the worker of rank 0: open the store where ranks meet, and return its port."""
    store = _store(host)
    _stores.clear()  # one whose rank never began
    _stores[store.port] = store
    return int(store.port)


def _store(host: str, port: int = 0) -> Any:
    """Open a store on a free port of this machine, or reach the one at `port`."""
    from torch import distributed

    return distributed.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=not port, wait_for_workers=False, timeout=_timeout()
    )


def _timeout() -> timedelta:
    return timedelta(seconds=TIMEOUT_S)


def _run_rank(seat: Seat, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Run on a worker: join the others, do the work, leave; return the error of a user."""
    from distributed import get_worker

    worker = get_worker()

    def tell(message: Message) -> None:
        if seat.rank == 0:
            worker.log_event(seat.topic, message)

    n_threads = max(1, n_cores() // seat.neighbours)
    try:
        with worker_settings(), torch_threads(n_threads), _join(seat) as ranks:
            return work(ranks, seat.device, tell, *arguments)
    except SarstackError as failure:
        # Raised, it would also fill the worker's log with a traceback.
        return failure.with_traceback(None)


@contextmanager
def _join(seat: Seat) -> Iterator[Ranks]:
    """Meet the other ranks, and leave them at the end, however it comes.

    The group is one of its own, not the one of `torch.distributed`: that is a global of the
    process, which an attempt that failed would spoil for the next.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    try:
        # Held here alone: its connections close when it is forgotten, not before.
        held = [_open_group(seat)]
    except RuntimeError as failure:
        raise _lost_contact(seat, failure) from None

    def all_reduce(flat: "Tensor") -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise ClusterError("the training was cancelled")
        try:
            moved = flat.to(seat.device)
            held[0].allreduce([moved]).wait()
            flat.copy_(moved)
        except RuntimeError as failure:
            raise _lost_contact(seat, failure) from None

    try:
        yield Ranks(seat.rank, seat.n, all_reduce)
    finally:
        held.clear()


def _open_group(seat: Seat) -> Any:
    """Connect to all other ranks, over the network by which Dask knows this worker."""
    from torch import distributed

    store = _store(seat.host, seat.port) if seat.rank else _stores.pop(seat.port)
    backend: Any = distributed.ProcessGroupGloo
    if seat.device == "cuda":
        backend = distributed.ProcessGroupNCCL
        options = backend.Options()
    else:
        options = backend._Options()
        options._devices = [backend.create_device(hostname=seat.own_host)]
    options._timeout = _timeout()
    return backend(store, seat.rank, seat.n, options)


def _lost_contact(seat: Seat, failure: RuntimeError) -> ClusterError:
    reason = str(failure).splitlines()[0]
    return ClusterError(f"rank {seat.rank} of {seat.n} has lost contact with the others: {reason}")
