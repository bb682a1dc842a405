"""Resample a complex image to its bandwidth: fewer pixels, whose speckle is white.

Positions are fixed to the origin of the image, and the kernel is short: tiles agree with the whole.
"""

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.complex_fields import NODATA
from sarstack.tiles import Shape, Window

KERNEL_REACH_PX = 12
_KAISER_BETA = 5.0


def resampled_length(length: int, bandwidth: float) -> int:
    """Return the number of pixels after resampling, at least 1."""
    return max(int(length * bandwidth + 1e-9), 1)


def resampled_positions(first: int, end: int, bandwidth: float) -> NDArray[np.float64]:
    """Return where the centres of pixels of the result lie, in pixels of the input."""
    return np.asarray((np.arange(first, end) + 0.5) / bandwidth - 0.5)


def input_rows(first: int, end: int, bandwidth: float, length: int) -> tuple[int, int]:
    """Return the rows (or columns) of the input that a range of the result depends on."""
    reach = KERNEL_REACH_PX + 1
    if bandwidth >= 1:
        return first, end
    low = int(np.floor((first + 0.5) / bandwidth - 0.5)) - reach
    high = int(np.floor((end - 0.5) / bandwidth - 0.5)) + reach + 1
    return max(low, 0), min(high, length)


def resample_axis(
    field: NDArray[np.complex64], first: int, place: tuple[int, int], bandwidth: float
) -> NDArray[np.complex64]:
    """Resample along axis 0 by a windowed sinc.

    Parameters
    ----------
    field : ndarray, shape (y, x), complex64
        Spectrum around zero, no wider than `bandwidth`. NaN in both parts = nodata.
    first : int
        Row of the image of its first row.
    place : tuple of int
        First row of the result to compute, and the row after the last one.
    bandwidth : float
        Rows of the result for each row of the input; 1: the input rows.

    Returns
    -------
    ndarray, shape (rows, x), complex64
        NaN where the nearest input row has no data. Rows without data count as zero, and the power
        is corrected for the part of the kernel that they take. The mean power of a flat spectrum
        of this width is kept exactly.
    """
    if bandwidth >= 1:
        return field[place[0] - first : place[1] - first]
    position = resampled_positions(*place, bandwidth)
    start = np.floor(position).astype(int)
    valid = np.isfinite(field)
    filled = np.where(valid, field, np.complex64(0))
    total = np.zeros((len(position), field.shape[1]), np.complex64)
    energy = np.zeros(total.shape, np.float32)
    lags = np.arange(1 - KERNEL_REACH_PX, KERNEL_REACH_PX + 1)
    weights = _kernel((position - start)[:, np.newaxis] - lags)
    covariance = np.sinc(bandwidth * np.subtract.outer(lags, lags))
    weights /= np.sqrt(np.einsum("rk,kl,rl->r", weights, covariance, weights))[:, np.newaxis]
    whole = (weights**2).sum(axis=1)
    for lag, weight in zip(lags, weights.T, strict=True):
        source = start + lag - first
        exists = (source >= 0) & (source < len(field))
        own = np.where(exists, weight, 0).astype(np.float32)[:, np.newaxis]
        source = np.clip(source, 0, len(field) - 1)
        total += own * filled[source]
        energy += own**2 * valid[source]
    with np.errstate(invalid="ignore", divide="ignore"):
        total *= np.sqrt(whole[:, np.newaxis].astype(np.float32) / energy)
    nearest = np.clip(np.floor(position + 0.5).astype(int) - first, 0, len(field) - 1)
    total[~valid[nearest]] = NODATA
    return total


def resample_window(
    field: NDArray[np.complex64], outer: Window, window: Window, bandwidths: tuple[float, float]
) -> NDArray[np.complex64]:
    """Resample along both axes.

    Parameters
    ----------
    field : ndarray, shape of `outer`, complex64
        See :func:`resample_axis`.
    outer : Window
        Place of `field` in the image.
    window : Window
        Pixels of the result to compute.
    bandwidths : tuple of float
        Along y and x.

    Returns
    -------
    ndarray, shape of `window`, complex64
    """
    rows = resample_axis(field, outer.y0, (window.y0, window.y1), bandwidths[0])
    return resample_axis(rows.T, outer.x0, (window.x0, window.x1), bandwidths[1]).T


def source_window(window: Window, scene: Shape, bandwidths: tuple[float, float]) -> Window:
    """Return the input pixels that a window of the result depends on."""
    y0, y1 = input_rows(window.y0, window.y1, bandwidths[0], scene.y)
    x0, x1 = input_rows(window.x0, window.x1, bandwidths[1], scene.x)
    return Window(y0, y1, x0, x1)


def _kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sinc under a Kaiser window of `KERNEL_REACH_PX` pixels on each side."""
    inside = np.clip(1 - (distance / KERNEL_REACH_PX) ** 2, 0, 1)
    return np.sinc(distance) * np.i0(_KAISER_BETA * np.sqrt(inside)) / np.i0(_KAISER_BETA)
