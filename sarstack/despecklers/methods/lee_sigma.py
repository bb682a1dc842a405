"""Improved Lee sigma filter: average neighbours within the range of speckle around the pixel."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from sarstack.checks import check_between
from sarstack.despecklers.flat_field import flat_speckle, rounded
from sarstack.despecklers.methods.lee import local_mmse
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.laws import pair_correlation, window_cv2
from sarstack.speckle.moving_window import STRIP_PX, box_count
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import row_strips

PRIOR_PX = 3
FLAT_FIELD_PX = 384
MIN_BRIGHT_OF_9 = 6
# With more looks, the range is so narrow and symmetric that its bias is below 0.4 %.
_UNBIASED_LOOKS = 30


class SigmaRange(NamedTuple):
    """A range of the values of speckle with mean 1.

    It contains a given fraction of the values, and the mean of the values in it is 1, too.

    Attributes
    ----------
    low, high : float
        Limits of the range, I1 and I2 of the paper.
    cv2 : float
        Squared coefficient of variation of the values in the range (eta' squared in the paper).
    """

    low: float
    high: float
    cv2: float


class LeeSigma(MovingWindowMethod):
    """Lee 2009, improved sigma filter: mean of neighbours in the range of speckle; keeps points.

    For each pixel: (1) estimate an a-priori mean by the Lee filter (MMSE) in 3x3. (2) Select the
    pixels of the window within ``[I1, I2]`` times this mean. The range contains the fraction
    `sigma` of the values of gamma speckle, and the mean of these values is 1. (3) Apply the Lee
    filter to the selected pixels, with the variance of speckle in the range. Clusters of pixels
    brighter than the 98th percentile of the scene are point targets and keep their values.

    Parameters
    ----------
    window_px : int
        Odd width of the window.
    sigma : float
        Fraction of the speckle values in the range, between 0.3 and 0.99.

    Notes
    -----
    Deviations from the paper. The range alone does not keep the mean: this would need the true
    mean in step 2. The a-priori mean has an error, which for correlated speckle is correlated with
    the pixels of the window. With it, the output would be up to 6 % too low (single look). So the
    a-priori mean is multiplied by a factor from simulated speckle, see :func:`prior_gain`. The
    variance of speckle in a window is ``(1 - rbar)``
    of the full variance; rbar is the mean correlation of the pairs of its pixels. Point targets
    are detected in the input, so they do not depend on the order of pixels.

    Nodata: not selected; the window is clipped at the edge of the scene.
    Mean: kept within 1 % on stationary speckle. Memory: about twelve arrays of the size of a tile.

    References
    ----------
    J.-S. Lee, J.-H. Wen, T. L. Ainsworth, K.-S. Chen, A. J. Chen, "Improved sigma filter for
    speckle filtering of SAR imagery", IEEE TGRS 47(1), 2009: the range of Table I, solved for any
    number of looks; detection of point targets; MMSE step.
    """

    name: ClassVar[str] = "lee-sigma"
    has_thresholds: ClassVar[bool] = True

    def __init__(self, window_px: int = 9, sigma: float = 0.9) -> None:
        super().__init__(window_px)
        check_between(0.3, 0.99, sigma=sigma)
        self.sigma = float(sigma)
        # A point target depends on the 3x3 window of its neighbour: 2 pixels away.
        self.halo = max(self.halo, 2)

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        gain = prior_gain(*rounded(statistics), self.window_px, self.sigma)
        return _filter(intensity, statistics, self.window_px, self.sigma, gain)


def sigma_range(looks: float, fraction: float) -> SigmaRange:
    """Solve for the range of gamma speckle that contains a fraction of the values, with mean 1.

    F_k is the distribution function of a gamma variable of shape k and scale 1/L. The fraction is
    ``F_L(I2) - F_L(I1)``. The mean is 1 if ``F_{L+1}(I2) - F_{L+1}(I1)`` equals the fraction. The
    second moment is ``(L+1)/L * (F_{L+2}(I2) - F_{L+2}(I1)) / fraction``.

    Parameters
    ----------
    looks : float
        Equivalent number of looks, any positive number.
    fraction : float
        Fraction of the speckle values in the range, 0 to 1.

    Returns
    -------
    SigmaRange
    """
    from scipy.optimize import brentq  # takes a tenth of the start of every command

    def high_of(low: float) -> float:
        return float(gammaincinv(looks, gammainc(looks, looks * low) + fraction) / looks)

    def fraction_inside(order: int, low: float) -> float:
        shape = looks + order
        return float(gammainc(shape, looks * high_of(low)) - gammainc(shape, looks * low))

    def excess(low: float) -> float:
        return fraction_inside(1, low) - fraction

    largest_low = gammaincinv(looks, 1 - fraction) / looks * (1 - 1e-9)
    low = float(brentq(excess, 0.0, largest_low, xtol=1e-10))
    second_moment = (looks + 1) / looks * fraction_inside(2, low) / fraction
    return SigmaRange(low, high_of(low), second_moment - 1)


@lru_cache(maxsize=256)
def prior_gain(
    looks: float, correlation: tuple[float, float], window_px: int, sigma: float
) -> float:
    """Return the factor on the a-priori mean with which the filter keeps the mean.

    It is found by filtering a simulated flat field with a fixed seed. It is rounded to three
    decimals, so that it is the same on every machine, and cached. It is 1 where no factor from 0.9
    to 2 keeps the mean.
    """
    from scipy.optimize import brentq

    if looks >= _UNBIASED_LOOKS:
        return 1.0
    speckle, statistics = flat_speckle(looks, correlation, FLAT_FIELD_PX)

    def relative_bias(gain: float) -> float:
        filtered = _filter(speckle, statistics, window_px, sigma, gain)
        return float(filtered.mean(dtype=np.float64) / speckle.mean(dtype=np.float64) - 1)

    lowest, highest = 0.9, 2.0
    if relative_bias(lowest) > 0 or relative_bias(highest) < 0:
        return 1.0  # brentq needs a change of sign between both ends
    return round(float(brentq(relative_bias, lowest, highest, xtol=1e-3)), 3)


def point_targets(intensity: NDArray[np.float32], bright: float) -> NDArray[np.bool_]:
    """Detect point targets: bright pixels in a 3x3 window with at least six bright pixels.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    bright : float
        Intensity above which a pixel is bright, one value for the scene.

    Returns
    -------
    ndarray, shape (y, x), bool
        True at a bright pixel if it, or a neighbour of it, is bright and the centre of such a
        window.
    """
    above = intensity > bright
    seeds = above & (box_count(above, 3) >= MIN_BRIGHT_OF_9)
    return np.asarray(above & (box_count(seeds, 3) > 0))


def _filter(
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    window_px: int,
    sigma: float,
    gain: float,
) -> NDArray[np.float32]:
    looks, correlation = statistics.looks, statistics.correlation
    low, high, speckle_cv2 = _cached_range(looks, sigma)
    mean, weight = local_mmse(intensity, PRIOR_PX, window_cv2(looks, correlation, PRIOR_PX))
    prior = gain * (mean + weight * (intensity - mean))
    count, mean, variance = _moments_in_range(intensity, low * prior, high * prior, window_px)
    speckle_cv2 *= 1 - pair_correlation(correlation, window_px)
    speckle_variance = np.float32(speckle_cv2) * mean**2
    signal = np.maximum(variance - speckle_variance, 0) / np.float32(1 + speckle_cv2)
    weight = np.divide(signal, variance, out=np.zeros_like(signal), where=signal > 0)
    smooth = mean + weight * (intensity - mean)
    keep = (count == 0) | point_targets(intensity, statistics.bright)
    return np.where(keep, intensity, smooth)


@lru_cache(maxsize=256)
def _cached_range(looks: float, fraction: float) -> SigmaRange:
    return sigma_range(looks, fraction)


def _moments_in_range(
    intensity: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    window_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return count, mean and variance (ddof=1) of each window's pixels within the range."""
    # Nodata and the margin around the image get a value that is below every range.
    excluded = np.finfo(np.float32).min
    filled = np.where(np.isfinite(intensity), intensity, excluded)
    padded = np.pad(filled, window_px // 2, constant_values=excluded)
    count, mean, variance = np.empty((3, *intensity.shape), np.float32)
    for rows in row_strips(intensity.shape, STRIP_PX):
        margin = padded[rows.start : rows.stop + window_px - 1]
        n, total, squares = _sums_in_range(margin, low[rows], high[rows], window_px)
        count[rows] = n
        mean[rows] = total / np.maximum(n, 1)
        variance[rows] = np.maximum(squares / np.maximum(n, 1) - mean[rows] ** 2, 0)
        variance[rows] *= n / np.maximum(n - 1, 1)
    return count, mean, variance


def _sums_in_range(
    padded: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    window_px: int,
) -> NDArray[np.float32]:
    """Return count, sum and sum of squares of each window, shape (3, y, x).

    `padded` is larger than `low` and `high` by half a window on each side.
    """
    height, width = low.shape
    sums = np.zeros((3, height, width), np.float32)
    inside, below = np.empty((2, height, width), bool)
    chosen = np.empty((3, height, width), np.float32)
    for y, x in np.ndindex(window_px, window_px):
        values = padded[y : y + height, x : x + width]
        np.greater_equal(values, low, out=inside)
        inside &= np.less_equal(values, high, out=below)
        np.copyto(chosen[0], inside)
        np.multiply(values, chosen[0], out=chosen[1])
        np.multiply(chosen[1], chosen[1], out=chosen[2])
        sums += chosen
    return sums
