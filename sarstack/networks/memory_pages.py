"""Memory pages of a process: keep freed memory for the next tile, or return it to the system."""

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


def return_freed_memory() -> None:
    """Return the free memory of this process to the system, once.

    glibc keeps what lies between objects that stay. Of a long series whose blocks of 1 MB were
    decoded by 8 threads, this was 0.1 to 0.2 MB an image. No effect with other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
