"""Settings and measurements of a process that runs tasks: memory, threads, GDAL's cache."""

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

from sarstack.cluster.layout import n_cores
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import SarstackError
from sarstack.networks.memory_pages import keep_freed_memory

# For writing. Blocks that are read again are kept by `sarstack.readers.block_cache`.
GDAL_CACHE_BYTES = 16 * 2**20


@contextmanager
def worker_settings(despeckler: Despeckler | None = None) -> Iterator[None]:
    """Limit the GDAL cache of a task, and its arithmetic to one thread.

    Tiles run in parallel, so threads inside a tile would compete with other tiles.
    """
    import rasterio

    keep_freed_memory()  # the default settings of Dask workers return every page
    if despeckler is not None:
        despeckler.warm_up()
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    try:
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, GDAL_NUM_THREADS=1):
            yield
    except SarstackError as failure:
        # Exceptions of GDAL cannot be pickled. With one as its cause, Dask would return the text of
        # this error only.
        failure.__cause__ = failure.__context__ = None
        raise


def arithmetic_slots(*, on_gpu: bool) -> AbstractContextManager[object]:
    """Return what limits how many tiles this process computes at a time, for a ``with`` statement.

    If there are more threads than cores, the other threads read and write meanwhile. So no core
    waits for the disk. Threads with a GPU prepare their tiles at the same time; on the GPU
    :func:`sarstack.networks.cuda.open_lane` limits their number.
    """
    return nullcontext() if on_gpu else _core_slots()


@cache
def _core_slots() -> threading.Semaphore:
    return threading.Semaphore(n_cores())


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage gives a worker at least the size of the process that started it.
        words = status.read_text(encoding="ascii").split()
        return int(words[words.index("VmHWM:") + 1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
