"""Settings and measurements of a process that runs tasks: memory, threads, GDAL's cache."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sarstack.cluster.workers import n_cores
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import SarstackError
from sarstack.networks.memory_pages import keep_freed_memory

# `sarstack.readers.block_cache` keeps blocks to read again; this is for what is written.
GDAL_CACHE_BYTES = 16 * 2**20


# While one tile is on its way to or from a GPU, it computes another.
GPU_SLOTS = 2


@contextmanager
def worker_settings(despeckler: Despeckler | None = None) -> Iterator[None]:
    """Bound what one task may use: GDAL's cache, and one thread for its arithmetic.

    Parallelism is over tiles; more threads inside a tile would only fight with it.
    """
    import rasterio

    keep_freed_memory()  # Dask starts its workers so that they return every page at once
    if despeckler is not None:
        despeckler.warm_up()
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    try:
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, GDAL_NUM_THREADS=1):
            yield
    except SarstackError as failure:
        # GDAL's own exceptions cannot be pickled: with one as its cause, the error would
        # come home from a worker as nothing but a text.
        failure.__cause__ = failure.__context__ = None
        raise


@cache
def arithmetic_slots(*, on_gpu: bool) -> threading.Semaphore:
    """Return what bounds the tiles that are computed at once in this process.

    With more threads than slots, the others read and write meanwhile: a GPU does not wait
    for the disk, nor do cores if they are given more threads than there are of them.
    """
    return threading.Semaphore(GPU_SLOTS if on_gpu else n_cores())


def peak_memory_bytes() -> int:
    """Return the largest resident size this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: there a worker has at least the size of the process that started it.
        words = status.read_text(encoding="ascii").split()
        return int(words[words.index("VmHWM:") + 1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
