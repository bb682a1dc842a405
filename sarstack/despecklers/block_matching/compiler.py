"""Compile functions with numba; keep the machine code in a folder that can be written."""

from collections.abc import Callable
from typing import Any

import numba

BLOCK_PX = 8
STEP_PX = 3


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, compiled at its first call.

    The machine code is kept beside the package, or in the user's cache folder, or in
    ``NUMBA_CACHE_DIR``. If none of them can be written, each process compiles anew. Additions keep
    their order (no fast math), so tiles give the same bits; the interpreter is not locked, so
    threads run in parallel.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write
        return numba.njit(**options)(function)
