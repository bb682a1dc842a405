"""Pages of memory: what a process frees it will want again for the next tile."""

import ctypes
import os
import platform
from functools import cache

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> None:
    """Keep freed arrays in this process: fresh pages took a quarter of a network's time.

    Pages of 2 MiB where Linux has them, and with glibc no return of less than 256 MiB.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it once, when it allocates
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, n_bytes in ((M_TRIM_THRESHOLD, 2**28), (M_MMAP_THRESHOLD, 2**25)):
            libc.mallopt(option, n_bytes)
