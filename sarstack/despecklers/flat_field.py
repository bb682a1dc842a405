"""Keep the mean of stationary speckle: measure the bias of a filter on a simulated flat field."""

from collections.abc import Callable, Hashable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.laws import window_cv2
from sarstack.speckle.moving_window import box_moments
from sarstack.speckle.statistics import SceneStatistics

SIDE_PX = 768
MOST_LOOKS = 16.0
LEVEL_WINDOW_PX = 7


def rounded(statistics: SceneStatistics) -> tuple[float, tuple[float, float]]:
    """Return looks and correlation, rounded so that few different flat fields are simulated."""
    rows, columns = statistics.correlation
    return round(statistics.looks, 1), (round(rows, 2), round(columns, 2))


@lru_cache(maxsize=4)
def flat_speckle(
    looks: float, correlation: tuple[float, float], side_px: int = SIDE_PX
) -> tuple[NDArray[np.float32], SceneStatistics]:
    """Simulate stationary speckle with a fixed seed.

    Parameters
    ----------
    looks : float
        Equivalent number of looks; at least 1 look is simulated.
    correlation : tuple of float
        Lag-1 correlation along y and x.
    side_px : int
        Height and width.

    Returns
    -------
    speckle : ndarray, shape (side_px, side_px), float32
        Linear power with mean 1. Read-only, because it is shared.
    statistics : SceneStatistics
        Looks and correlation as given, and the 98th percentile of the field.
    """
    from sarstack.speckle.landscapes import Reflectivity
    from sarstack.speckle.sensor import MARGIN_PX, MAX_CORRELATION, SpeckleSimulator

    simulated = min(correlation[0], MAX_CORRELATION), min(correlation[1], MAX_CORRELATION)
    side = side_px + 2 * MARGIN_PX
    flat = Reflectivity(np.ones((side, side), np.float32), np.zeros((side, side), np.complex64))
    simulator = SpeckleSimulator(max(looks, 1.0), simulated)
    speckle, _ = simulator.observe_inside(flat, np.random.default_rng(2009))
    speckle.flags.writeable = False
    bright = float(np.quantile(speckle, 0.98, method="lower"))
    return speckle, SceneStatistics(looks, correlation, bright)


def speckle_level(
    intensity: NDArray[np.float32], statistics: SceneStatistics
) -> NDArray[np.float32]:
    """Return how much of the expected speckle a 7x7 window has, between 0 and 1.

    It is the squared coefficient of variation in the window divided by that of speckle, at most 1.
    It is 0 in an area without speckle: constant, or filtered before.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    statistics : SceneStatistics
        Looks and correlation of the speckle.

    Returns
    -------
    ndarray, shape (y, x), float32
        NaN if the window has no valid pixel.
    """
    mean, variance = box_moments(intensity, LEVEL_WINDOW_PX)
    expected = mean**2
    expected *= window_cv2(statistics.looks, statistics.correlation, LEVEL_WINDOW_PX)
    # A variance within the rounding errors of its computation counts as zero.
    variance[variance < 1e-12 * mean**2] = 0
    with np.errstate(invalid="ignore"):
        return np.divide(
            variance, np.maximum(variance, expected), out=variance, where=variance > 0
        ).astype(np.float32)


def correct_bias(
    filtered: NDArray[np.float32],
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    gain: float,
) -> NDArray[np.float32]:
    """Multiply a filtered image by a gain where there is speckle.

    Parameters
    ----------
    filtered, intensity : ndarray, shape (y, x), float32
        Result and input of the filter, linear power.
    statistics : SceneStatistics
        Looks and correlation of the speckle.
    gain : float
        Factor where the level of speckle is 1, from :func:`gain_of_filter`. Where it is 0 the
        factor is 1.

    Returns
    -------
    ndarray, shape (y, x), float32
    """
    level = speckle_level(intensity, statistics)
    level *= np.float32(gain - 1)
    level += 1
    level *= filtered
    return level


@lru_cache(maxsize=256)
def gain_of_filter(
    apply: Callable[..., NDArray[np.float32]],
    looks: float,
    correlation: tuple[float, float],
    *parameters: Hashable,
    side_px: int = SIDE_PX,
) -> float:
    """Return the gain for :func:`correct_bias` with which a filter keeps the mean of speckle.

    Parameters
    ----------
    apply : callable
        The filter without correction, called with image, statistics and `parameters`.
    looks : float
        Equivalent number of looks. With more than 16 looks the bias is proportional to 1 / looks.
    correlation : tuple of float
        Lag-1 correlation along y and x.
    *parameters
        Parameters of the filter.
    side_px : int
        Side of the flat field.

    Returns
    -------
    float
        Rounded to four decimals, so that it is the same on every machine.
    """
    simulated = min(looks, MOST_LOOKS)
    speckle, statistics = flat_speckle(simulated, correlation, side_px)
    filtered = apply(speckle, statistics, *parameters).astype(np.float64)
    missing = speckle.sum(dtype=np.float64) - filtered.sum()
    excess = missing / np.sum(filtered * speckle_level(speckle, statistics))
    return round(1 + float(excess) * simulated / looks, 4)
