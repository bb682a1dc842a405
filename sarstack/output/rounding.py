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
    from numcodecs.bitround import BitRound

    if keep_bits >= ALL_BITS:
        return image
    rounded = np.asarray(BitRound(keep_bits).encode(image)).view(np.float32).reshape(image.shape)
    # In NaN and the largest numbers, the carry can go beyond the exponent.
    return np.where(np.isfinite(image) & np.isfinite(rounded), rounded, image)
