"""Round pixels to fewer bits: the last bits of a despeckled pixel mean nothing.

A float32 number has 23 bits of mantissa, of which the last do not compress. With 12 of them the
error is at most 0.0005 dB, and files are half as large.
"""

import numpy as np
from numpy.typing import NDArray

ALL_BITS = 23
"""Bits of the mantissa of float32."""
FEWEST_BITS, DEFAULT_BITS = 7, 12
"""Fewest: an error of at most 0.017 dB."""
_PART_PX = 2**16


def round_mantissa(image: NDArray[np.float32], keep_bits: int) -> NDArray[np.float32]:
    """Round each number to the nearest one with `keep_bits` bits of mantissa; ties to even.

    Parameters
    ----------
    image : ndarray, float32
        Of any shape.
    keep_bits : int
        1 to 23; with 23 nothing changes.

    Returns
    -------
    ndarray, shape of `image`, float32
        The relative error is at most ``2 ** -(keep_bits + 1)``. NaN and infinity stay, and no
        number becomes infinite.
    """
    if keep_bits >= ALL_BITS:
        return image
    numbers = np.ascontiguousarray(image).reshape(-1)
    rounded = np.empty_like(numbers)
    # In parts that fit into the cache: a quarter of the time of numcodecs' BitRound and a mask.
    for start in range(0, numbers.size, _PART_PX):
        part = slice(start, start + _PART_PX)
        _round_bits(numbers[part].view(np.uint32), ALL_BITS - keep_bits, rounded[part].view("u4"))
        # In NaN and the largest numbers, the carry can go beyond the exponent.
        unusual = ~np.isfinite(rounded[part]) | ~np.isfinite(numbers[part])
        np.copyto(rounded[part], numbers[part], where=unusual)
    return rounded.reshape(image.shape)


def _round_bits(bits: NDArray[np.uint32], n_dropped: int, rounded: NDArray[np.uint32]) -> None:
    """Write bits whose last `n_dropped` are zero: of the nearest number, of two as near the even.

    Half of the last kept bit is added, less one if this bit is zero; the rest is cut off.
    """
    np.right_shift(bits, n_dropped, out=rounded)
    rounded &= np.uint32(1)
    rounded += np.uint32(2 ** (n_dropped - 1) - 1)
    rounded += bits
    rounded &= np.uint32(2**32 - 2**n_dropped)
