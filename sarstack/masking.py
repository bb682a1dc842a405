"""Sums and means over the valid pixels of a moving window.

NaN is never averaged, filled or guessed: a hole or the edge of the scene makes the
window smaller. Sums are taken term by term in one fixed order, not as running sums: a
pixel's result depends on the bits of its own window only, so tiles agree exactly with the
whole image and a bright ship cannot leave rounding errors on the dark sea beside it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d


def valid_and_filled(
    intensity: NDArray[np.floating],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Split an image into what is known and numbers that can be summed.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), floating
        Any scale; NaN (and infinities, should there be any) count as nodata.

    Returns
    -------
    valid : ndarray, shape (y, x), bool
    filled : ndarray, shape (y, x), float64
        The values, zero where not valid.
    """
    valid = np.isfinite(intensity)
    return valid, np.where(valid, intensity, 0).astype(np.float64)


def box_sum(values: NDArray[np.float64], window_px: int) -> NDArray[np.float64]:
    """Sum a square window around each pixel, clipped at the edge.

    Parameters
    ----------
    values : ndarray, shape (y, x), float64
        Finite everywhere: nodata already set to zero.
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), float64
    """
    ones = np.ones(window_px)
    along_y = correlate1d(values, ones, axis=0, mode="constant")
    return np.asarray(correlate1d(along_y, ones, axis=1, mode="constant"), dtype=np.float64)


def box_count(valid: NDArray[np.bool_], window_px: int) -> NDArray[np.float64]:
    """Count the valid pixels in the clipped window around each pixel.

    Parameters
    ----------
    valid : ndarray, shape (y, x), bool
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), float64
        Whole numbers, from 0 to ``window_px ** 2``.
    """
    return box_sum(valid.astype(np.float64), window_px)


def box_mean(
    values: NDArray[np.floating], valid: NDArray[np.bool_], window_px: int
) -> NDArray[np.float64]:
    """Average the valid pixels in the clipped window around each pixel.

    Parameters
    ----------
    values : ndarray, shape (y, x), floating
        Any scale. What stands where `valid` is false (NaN, anything) is not looked at.
    valid : ndarray, shape (y, x), bool
        Pixels that count.
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), float64
        NaN where the window holds no valid pixel; otherwise a number, also on pixels
        that are themselves not valid.
    """
    total = box_sum(np.where(valid, values, 0).astype(np.float64), window_px)
    count = box_count(valid, window_px)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
