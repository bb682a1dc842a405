"""Sums and means over the valid pixels of a moving window.

Nodata or the edge of the scene makes the window smaller; NaN is never averaged or filled. Sums
have a fixed order and are not running sums: the result of a pixel depends on the bits of its
window only. So tiles agree exactly with the whole image, and a bright ship leaves no rounding
errors on the dark sea beside it.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import row_strips

Real = TypeVar("Real", np.float32, np.float64)

STRIP_PX = 2**16
"""Pixels of a strip: the strip and its intermediate arrays fit into the cache."""


def box_sum(values: NDArray[Real], window_px: int) -> NDArray[Real]:
    """Sum a square window around each pixel, clipped at the edge.

    Parameters
    ----------
    values : ndarray, shape (y, x), float32 or float64
        Finite; nodata set to zero.
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), dtype of `values`
    """
    padded = np.pad(values, window_px // 2)
    total = np.empty_like(values)
    for rows in row_strips(values.shape, STRIP_PX):
        strip = padded[rows.start : rows.stop + window_px - 1]
        total[rows] = _slide(_slide(strip, window_px).T, window_px).T
    return total


def _slide(values: NDArray[Real], width: int) -> NDArray[Real]:
    """Sum `width` neighbours in each column; shape (y - width + 1, x).

    Sums of 2, 4, 8, ... neighbours are made from two sums of half as many. The sum of `width` is
    put together from these, as its binary digits say.
    """
    n_sums = len(values) - width + 1
    total, start, size = None, 0, 1
    while True:
        if width & size:
            part = values[start : start + n_sums]
            total = part if total is None else total + part
            start += size
        if 2 * size > width:
            assert total is not None
            return total
        values = values[:-size] + values[size:]
        size *= 2


def box_count(valid: NDArray[np.bool_], window_px: int) -> NDArray[np.float32]:
    """Count the valid pixels in the clipped window around each pixel.

    Parameters
    ----------
    valid : ndarray, shape (y, x), bool
        Pixels to count.
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), float32
        Whole numbers, from 0 to ``window_px ** 2``.
    """
    if not valid.all():
        return box_sum(valid.astype(np.float32), window_px)
    half = window_px // 2
    rows, columns = (
        np.minimum(np.arange(n), half) + np.minimum(np.arange(n)[::-1], half) + 1
        for n in valid.shape
    )
    return np.multiply.outer(rows, columns).astype(np.float32)


def box_mean(values: NDArray[Real], valid: NDArray[np.bool_], window_px: int) -> NDArray[Real]:
    """Average the valid pixels in the clipped window around each pixel.

    Parameters
    ----------
    values : ndarray, shape (y, x), float32 or float64
        Values where `valid` is false are not used (NaN is allowed there).
    valid : ndarray, shape (y, x), bool
        Pixels to average.
    window_px : int
        Odd width of the window.

    Returns
    -------
    ndarray, shape (y, x), dtype of `values`
        NaN if the window has no valid pixel. A pixel that is not valid gets the mean of its
        valid neighbours.
    """
    filled = values if valid.all() else np.where(valid, values, values.dtype.type(0))
    total = box_sum(filled, window_px)
    with np.errstate(invalid="ignore"):
        return np.divide(total, box_count(valid, window_px), out=total)


def box_moments(
    intensity: NDArray[np.float32], window_px: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the valid pixels in the clipped window around each pixel.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Any unit, NaN = nodata.
    window_px : int
        Odd width of the window.

    Returns
    -------
    mean, variance : ndarray, shape (y, x), float64
        The variance has ddof=1. It is 0 if only one pixel of the window is valid. Both are NaN if
        none is.
    """
    valid = np.isfinite(intensity)
    # float64, because the variance is a small difference of large sums.
    filled = np.where(valid, intensity, 0).astype(np.float64)
    count = box_count(valid, window_px)
    with np.errstate(invalid="ignore"):
        mean = box_sum(filled, window_px) / count
        variance = box_sum(np.square(filled, out=filled), window_px) / count
        variance -= mean**2
        variance *= count / np.maximum(count - 1, 1)
    return mean, variance


def box_variation(
    intensity: NDArray[np.float32], window_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return mean and squared coefficient of variation of the window around each pixel.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    window_px : int
        Odd width of the window.

    Returns
    -------
    mean : ndarray, shape (y, x), float32
        Mean of the valid pixels; NaN if there is none.
    variation : ndarray, shape (y, x), float64
        Variance / mean^2, between 0 and ``window_px ** 2``, the largest value that positive
        pixels can have. Never NaN.
    """
    mean, variance = box_moments(intensity, window_px)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance /= mean**2
    np.nan_to_num(variance, copy=False, nan=0.0, posinf=float(window_px**2))
    return mean.astype(np.float32), np.clip(variance, 0, window_px**2, out=variance)
