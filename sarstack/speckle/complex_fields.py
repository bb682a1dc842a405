"""Complex fields of single-look images: their power, and the mark of nodata."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import row_strips

NODATA = complex(np.nan, np.nan)
"""Nodata in a complex field: NaN in both parts."""


def to_power(block: NDArray[Any]) -> NDArray[np.float32]:
    """Return the linear power of a block.

    Parameters
    ----------
    block : ndarray, any shape, complex or floating
        Complex numbers, NaN in a part = nodata; or linear power, NaN = nodata.

    Returns
    -------
    ndarray, shape of `block`, float32
        ``real**2 + imag**2`` computed in float64, NaN = nodata. Floating numbers are returned
        as they are.
    """
    if not np.iscomplexobj(block):
        return block
    power = np.empty(block.shape, np.float32)
    flat = block.reshape(-1, block.shape[-1]), power.reshape(-1, block.shape[-1])
    for rows in row_strips(flat[0].shape):
        numbers = flat[0][rows].astype(np.complex128)
        with np.errstate(over="ignore"):
            flat[1][rows] = numbers.real**2 + numbers.imag**2
    return power


def mark_nodata(block: NDArray[Any], where: NDArray[np.bool_]) -> None:
    """Set a part of a block to nodata, in place; complex or floating."""
    block[where] = NODATA if np.iscomplexobj(block) else np.nan
