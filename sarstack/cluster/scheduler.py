"""Let a scheduler of Dask forget finished tasks: its memory must not grow with their number.

Local clusters load this; others by ``dask scheduler --preload sarstack.cluster.scheduler``.
"""

from collections import deque
from typing import Any

PRELOAD = __name__

# For debugging of Dask, the last messages of each connection are kept: by default 1,000, each with
# the arguments of a task (4 kB). With 40 workers these were 170 MB.
SHORT_LOGS = {"distributed.admin.low-level-log-length": 20}


def dask_setup(scheduler: Any) -> None:
    """Prepare a scheduler. Called by Dask when it starts.

    Notes
    -----
    Without this, each task leaves 0.2 kB of statistics for ever, and each group of tasks (two a
    scene or fewer) 1 kB (distributed 2026.8, dask/distributed#7977). The dashboard shows the same,
    but for the choice of a span in the page of fine performance metrics.
    """
    import dask
    from distributed.spans import SpansSchedulerExtension

    class NoSpans(SpansSchedulerExtension):  # type: ignore[misc]
        """Keeps no statistics of tasks."""

        def observe_tasks(self, *_: object, **__: object) -> dict[str, Any]:
            return {}

        def heartbeat(self, *_: object) -> None:
            """Ignore what a worker measured."""

    dask.config.set(SHORT_LOGS)  # read when a worker or a client connects
    scheduler.extensions["spans"] = NoSpans(scheduler)
    scheduler.computations = deque(maxlen=0)
