"""Memory pages of a process: keep freed memory for the arrays of the next tile."""

import ctypes
import os
import platform
from functools import cache

# Options of mallopt, from malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory of freed arrays instead of returning it to the system.

    Otherwise each tile gets new pages from the system, which took a quarter of the time of a
    network. After this call, glibc
    returns only free memory above 256 MiB, and torch uses pages of 2 MiB where Linux has them.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, n_bytes in ((M_TRIM_THRESHOLD, 2**28), (M_MMAP_THRESHOLD, 2**25)):
            libc.mallopt(option, n_bytes)
