"""The fork server of the command line: it imports the libraries of workers once, and early.

A process of Python can have one (`multiprocessing`). Here it is used if the process has chosen it
(``multiprocessing.set_start_method("forkserver")``), as the command line does. A notebook does not:
workers would have the environment variables and the code of the time when the server started.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, resource_tracker
from typing import TypeVar

from sarstack.cluster.layout import visible_gpus

METHOD = "forkserver"
MODULES = "SARSTACK_PRELOAD"
# As Dask sets them for its workers; libraries read them when they are imported.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Result = TypeVar("Result")


def can_fork() -> bool:
    """Return whether workers are forked; not with GPUs, whose libraries are not made for it."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen == METHOD and not visible_gpus()


def start_fork_server(*modules: str) -> None:
    """Start the fork server, unless it runs; it imports libraries while this process goes on.

    Parameters
    ----------
    *modules : str
        What workers need beside Dask and GDAL. They can also import it themselves, each of them.
    """
    multiprocessing.set_forkserver_preload([f"{__package__}.preload"])
    resource_tracker.ensure_running()  # the fork server needs it; it changes the mask of signals
    own, before = ONE_THREAD | {MODULES: " ".join(modules)}, os.environ.copy()
    os.environ.update(own)
    # Until it ignores Ctrl-C, which this process handles.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for name in own:
            os.environ.pop(name)
        os.environ.update(before)


def call_in_fork(function: Callable[[], Result]) -> Result:
    """Call a function in a process that has the libraries of workers, and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context(METHOD)) as one:
        return one.submit(function).result()
