"""The store through which the ranks of a training exchange their addresses: Dask's scheduler.

The store of torch (``TCPStore``) listens on a further port of rank 0, and asks the domain name
server for the name of each host that connects. Where the hosts have no such server, each answer
takes 10 to 30 s, and the ranks give up. The connections to the scheduler exist already.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]

DEFAULT_TIMEOUT_S = 60
# So often a waiting rank looks whether the training was cancelled.
POLL_S = 1


class RankStore(Store):
    """Keys and values that all ranks of one training share, as variables of Dask.

    Parameters
    ----------
    client : distributed.Client
        The client of this worker.
    name : str
        Name of the training; a prefix of the names of the variables.
    check_running : callable
        Called while waiting. It raises an error if the training was cancelled.
    """

    def __init__(self, client: Any, name: str, check_running: Callable[[], None]) -> None:
        super().__init__()
        self._client, self._name, self._check_running = client, name, check_running
        self._own: set[str] = set()

    def _variable(self, key: str) -> Any:
        from distributed import Variable

        return Variable(f"{self._name}-{key}", client=self._client)

    def set(self, key: str, value: Any) -> None:
        """Set a value."""
        self._own.add(key)
        self._variable(key).set(bytes(value))

    def get(self, key: str) -> bytes:
        """Return a value, as soon as it is set."""
        return self._wait_for(key, time.monotonic() + DEFAULT_TIMEOUT_S)

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Wait until all values are set; RuntimeError if one is not in time."""
        seconds = DEFAULT_TIMEOUT_S if timeout is None else timeout.total_seconds()
        deadline = time.monotonic() + seconds
        for key in keys:
            self._wait_for(key, deadline)

    def check(self, keys: Sequence[str]) -> bool:
        """Return whether all values are set."""
        try:
            for key in keys:
                self._variable(key).get(timeout=0)
        except TimeoutError:
            return False
        return True

    def _wait_for(self, key: str, deadline: float) -> bytes:
        while True:
            self._check_running()
            try:
                return bytes(self._variable(key).get(timeout=POLL_S))
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise RuntimeError("another worker has not answered in time") from None

    def delete_own(self) -> None:
        """Delete the values that this rank has set."""
        for key in self._own:
            self._variable(key).delete()
        self._own.clear()
