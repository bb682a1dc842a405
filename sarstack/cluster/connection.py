"""Connect to a running Dask scheduler, and notice if it is lost."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sarstack.errors import ClusterError, SarstackError

CONNECT_S = 30
CLOSE_S = 2
"""A client that has lost its scheduler would wait for it much longer when it closes."""


class _HideClosedConnections(logging.Filter):
    """Drop log records of closed connections: the error of the run says that it was lost."""

    def filter(self, record: logging.LogRecord) -> bool:
        from distributed.comm import CommClosedError

        return not (record.exc_info and isinstance(record.exc_info[1], CommClosedError))


_HIDE_CLOSED_CONNECTIONS = _HideClosedConnections()


@contextmanager
def connect(cluster: str) -> Iterator[Any]:
    """Connect to a scheduler; the connection is closed at the end, the cluster is not.

    Parameters
    ----------
    cluster : str
        Address (``tcp://host:port``), or path of a scheduler file.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClusterError
        If there is no scheduler within 30 s, or it has no worker, or it is lost later.
    """
    from distributed import Client

    address = _find_address(cluster)
    # Tornado and asyncio print a traceback if a callback of Dask meets a closed connection.
    for name in ("tornado.application", "asyncio"):
        logging.getLogger(name).addFilter(_HIDE_CLOSED_CONNECTIONS)
    client = None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError, ImportError) as failure:
        if client is not None:
            _close(client)
        raise ClusterError(
            f"cluster = {cluster!r} cannot be used: {failure or f'no worker within {CONNECT_S} s'}",
            expected="a running Dask scheduler with at least one worker",
            do="start it with `dask scheduler` and `dask worker tcp://host:port`, "
            "or use --cluster alone for a local one",
        ) from failure
    try:
        yield client
    except Exception as failure:
        if not _is_lost(client, failure):
            raise
        raise ClusterError(
            f"the connection to the scheduler {address} was lost",
            expected="a scheduler that answers until the end of the work",
            where=f"cluster = {cluster!r}",
            do="look whether it still runs, and run the same command again: finished parts are "
            "not computed again",
        ) from failure
    finally:
        _close(client)


def _find_address(cluster: str) -> str:
    """Return the address of a scheduler, also from its file.

    Raises
    ------
    ClusterError
        If it is no address and no file. Dask would wait for a file for ever, and a minute after
        an address without port.
    """
    from distributed.comm import get_address_host_port

    if "://" not in cluster and Path(cluster).suffix == ".json":
        return _read_scheduler_file(cluster)
    try:
        get_address_host_port(cluster)
    except ValueError as failure:
        raise ClusterError(
            f"cluster = {cluster!r} is no address of a scheduler: {failure}",
            expected="local, tcp://host:port, or the scheduler file (.json) of a Dask cluster",
            do="start a scheduler with `dask scheduler`, which prints its address, "
            "or use --cluster alone for a local cluster",
        ) from failure
    return cluster


def _read_scheduler_file(path: str) -> str:
    try:
        return str(json.loads(Path(path).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as failure:
        exists = Path(path).exists()
        reason = "has no address of a scheduler" if exists else "does not exist"
        raise ClusterError(
            f"cluster = {path!r}: the scheduler file {reason}",
            do=f"start the scheduler with `dask scheduler --scheduler-file {path}`",
        ) from failure


def _is_lost(client: Any, failure: Exception) -> bool:
    """Return whether a failure comes from the connection to the scheduler.

    If the scheduler is lost, Dask cancels all tasks of the client.
    """
    from distributed.comm import CommClosedError

    if isinstance(failure, SarstackError):
        return False
    return isinstance(failure, CancelledError | CommClosedError) or client.status != "running"


def _close(client: Any) -> None:
    """Close a client, at once if its scheduler does not answer."""
    if client.status == "running":
        client.close()
        return
    # Dask would log that it could not connect again.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with suppress(TimeoutError, OSError, AssertionError):
        client.close(timeout=CLOSE_S)
    client.status = "closed"  # or Dask waits for a minute when Python ends
