"""Bright points of single-look images, which are no speckle: where they are."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from sarstack.speckle.moving_window import box_mean

POINT_FACTOR = 50.0
"""A pixel so many times brighter than the local median is no speckle: probability 1e-15."""

LEVEL_WINDOW_PX = 21
_BESIDE_PX = 5
# The median of single-look speckle of mean 1 is ln 2; the mean of its logarithm is -0.5772.
_MEDIAN_OF_LOG_MEAN = np.log(2) * np.exp(np.euler_gamma)

POINTS_HALO_PX, FADE_PX = LEVEL_WINDOW_PX // 2, 2 * (_BESIDE_PX // 2) + 2


def find_points(power: NDArray[np.float32], factor: float = POINT_FACTOR) -> NDArray[np.bool_]:
    """Find pixels that are too bright for speckle of a single look.

    Parameters
    ----------
    power : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    factor : float, optional
        Least multiple of the local median, which is measured as the mean of the logarithm in
        21 x 21 pixels: a few points do not change that.

    Returns
    -------
    ndarray, shape (y, x), bool
        False where nodata. Depends on ten pixels on each side.
    """
    valid = np.isfinite(power) & (power > 0)
    logs = np.log(np.where(valid, power, 1)).astype(np.float32)
    level = box_mean(logs, valid, LEVEL_WINDOW_PX)
    with np.errstate(invalid="ignore"):
        return np.asarray(valid & (logs - level > np.log(factor * _MEDIAN_OF_LOG_MEAN)))


def find_areas(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the marked pixels that lie in a square of 3 x 3 marked ones.

    Parameters
    ----------
    missing : ndarray, shape (y, x), bool
        What is outside of the array counts as marked.

    Returns
    -------
    ndarray, shape (y, x), bool
        Depends on two pixels on each side.
    """
    outside = np.pad(missing, 1, constant_values=True)
    whole = minimum_filter(outside, 3, mode="constant", cval=True)
    return np.asarray(maximum_filter(whole, 3, mode="constant", cval=True)[1:-1, 1:-1] & missing)


def fade_around(where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return weights that are 1 on marked pixels, and fade to 0 five pixels beside them.

    Parameters
    ----------
    where : ndarray, shape (y, x), bool
        What is outside of the array counts as marked.

    Returns
    -------
    ndarray, shape (y, x), float32
        Depends on four pixels on each side.
    """
    near = maximum_filter(where, _BESIDE_PX, mode="constant", cval=True).astype(np.float32)
    near = np.pad(near, _BESIDE_PX // 2, constant_values=1)
    inside = slice(_BESIDE_PX // 2, -(_BESIDE_PX // 2))
    every = np.ones(near.shape, bool)
    return box_mean(near, every, _BESIDE_PX)[inside, inside]
