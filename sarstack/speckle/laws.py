"""Laws of fully developed speckle: gamma intensities, log-gamma logarithms, correlation.

Speckle multiplies intensity by a gamma variate of mean 1 and variance ``1 / looks``. In
geocoded products neighbouring pixels share speckle; its correlation falls off nearly as a
Gaussian, ``rho(dy, dx) = ry ** dy**2 * rx ** dx**2``: ry and rx, its values at lag 1, describe it.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import polygamma, psi

from sarstack.checks import check_between, check_looks, check_positive_int


def log_speckle_mean(looks: ArrayLike) -> NDArray[np.float64]:
    """Return E[ln n] = psi(L) - ln L of gamma speckle: the bias of the mean of logarithms."""
    value = np.asarray(looks, dtype=np.float64)
    return np.asarray(psi(value) - np.log(value))


def log_speckle_variance(looks: ArrayLike) -> NDArray[np.float64]:
    """Return Var[ln n] = psi1(L) of gamma speckle (Fisher-Tippett law)."""
    return np.asarray(polygamma(1, np.asarray(looks, dtype=np.float64)))


def looks_from_log_variance(variance: ArrayLike) -> NDArray[np.float64]:
    """Solve psi1(L) = variance for the number of looks.

    Parameters
    ----------
    variance : array_like
        Variance of ln y, natural logarithm. Zero, negative or NaN gives NaN.

    Returns
    -------
    ndarray, same shape, float64
    """
    target = np.asarray(variance, dtype=np.float64)
    target = np.where(target > 0, target, np.nan)
    # psi1(L) lies between 1/L + 1/(2 L^2) and 1/L + 1/L^2. 1/psi1 is close to a straight line in
    # L, so Newton's method for it converges in four steps from any start.
    looks = (1 + np.sqrt(1 + 2 * target)) / (2 * target)
    for _ in range(4):
        value, slope = polygamma(1, looks), polygamma(2, looks)
        looks = looks + (1 / target - 1 / value) * -(value**2) / slope
    return looks


def moment_looks(sample: ArrayLike) -> float:
    """Estimate looks as mean^2 / variance (ddof=1) of a homogeneous sample, NaN ignored."""
    values = _finite(sample)
    if values.size < 2:
        return float("nan")
    return float(values.mean() ** 2 / values.var(ddof=1)) if np.ptp(values) > 0 else float("inf")


def log_moment_looks(sample: ArrayLike) -> float:
    """Estimate looks from the variance of ln y; values that are not positive are left out."""
    values = _finite(sample)
    values = values[values > 0]
    if values.size < 2:
        return float("nan")
    return float(looks_from_log_variance(np.log(values).var(ddof=1)))


def likelihood_looks(sample: ArrayLike) -> float:
    """Estimate looks by maximum likelihood: ln L - psi(L) = ln mean(y) - mean(ln y).

    The estimator of lowest variance under the gamma model. Values that are not positive
    are left out; fewer than two values give NaN, a constant sample infinity.
    """
    values = _finite(sample)
    values = values[values > 0]
    if values.size < 2:
        return float("nan")
    excess = np.log(values.mean()) - np.log(values).mean()
    if excess <= 1e-12:
        return float("inf")
    looks = (3 - excess + np.sqrt((excess - 3) ** 2 + 24 * excess)) / (12 * excess)
    for _ in range(5):
        step = (np.log(looks) - psi(looks) - excess) / (1 / looks - polygamma(1, looks))
        looks = looks - step
    return float(looks)


def stable_threshold(looks: float, n_dates: int, quantile: float = 0.99) -> NDArray[np.float64]:
    """Return the quantile of the squared coefficient of variation of pure speckle over dates.

    Parameters
    ----------
    looks : float
        Equivalent number of looks.
    n_dates : int
        Largest number of valid dates.
    quantile : float
        Fraction of the pixels of pure speckle below the threshold.

    Returns
    -------
    ndarray, shape (n_dates + 1,), float64
        Entry n is for n valid dates (variance with ddof=1 over the squared mean); NaN for
        n < 2. From a simulation with a fixed seed: the same on every machine.
    """
    check_looks(looks=looks)
    check_positive_int(n_dates=n_dates)
    check_between(0, 1, quantile=quantile)
    random = np.random.default_rng(20210714)
    threshold = np.full(n_dates + 1, np.nan)
    total, squares = np.zeros((2, 40_000))
    for n in range(1, n_dates + 1):
        speckle = random.gamma(looks, 1 / looks, total.size)
        total += speckle
        squares += speckle**2
        if n > 1:
            variance = (squares - total**2 / n) / (n - 1)
            threshold[n] = np.quantile(variance / (total / n) ** 2, quantile)
    return threshold


def correlated_area(correlation: tuple[float, float], window_px: int) -> float:
    """Return how many pixels of a square window carry as much information as one independent pixel.

    For each pixel of the window, sum its correlations with all pixels of the window; this is the
    mean of these sums. 1 for white speckle, at most ``window_px ** 2``. A boxcar multiplies the
    looks by ``window_px ** 2 / correlated_area``.
    """
    lag = np.arange(-window_px + 1, window_px)
    sides = [
        float(np.sum((1 - np.abs(lag) / window_px) * np.clip(rho, 0, 0.99) ** (lag**2)))
        for rho in correlation
    ]
    return sides[0] * sides[1]


def pair_correlation(correlation: tuple[float, float], window_px: int) -> float:
    """Return the mean correlation of two different pixels of a square window.

    The variance measured in such a window is one minus this number times the true variance.
    """
    return (correlated_area(correlation, window_px) - 1) / (window_px**2 - 1)


def window_cv2(looks: float, correlation: tuple[float, float], window_px: int) -> float:
    """Return the squared coefficient of variation of speckle that is measured in a square window.

    It is ``(1 - rbar) / looks``; rbar is :func:`pair_correlation`.
    """
    return (1 - pair_correlation(correlation, window_px)) / looks


def mask_correlation(correlation: tuple[float, float], mask: NDArray[np.bool_]) -> float:
    """Return the mean correlation of two different pixels of a set of at least two pixels.

    Parameters
    ----------
    correlation : tuple of float
        Lag-1 correlation along y and x.
    mask : ndarray, shape (y, x), bool
        The pixels of the set.

    Returns
    -------
    float
    """
    places = np.argwhere(mask)
    squares = (places[:, None] - places[None]) ** 2
    pairs = np.prod(np.clip(correlation, 0, 0.99) ** squares.astype(float), axis=-1)
    n = len(places)
    return float((pairs.sum() - n) / (n * (n - 1)))


def _finite(sample: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(sample, dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def log_variance_spread(looks: float, correlation: tuple[float, float], window_px: int) -> float:
    """Return the relative standard deviation of the variance of ln y in a window of speckle.

    Parameters
    ----------
    looks : float
        Equivalent number of looks.
    correlation : tuple of float
        Lag-1 correlation of intensity speckle, y and x.
    window_px : int
        Width of the window.

    Returns
    -------
    float
        Standard deviation of the sample variance of ln y divided by its mean (delta method: from
        the kurtosis of the log-gamma law and the correlated area of squared correlations).
    """
    first, third = float(polygamma(1, looks)), float(polygamma(3, looks))
    squared = (correlation[0] ** 2, correlation[1] ** 2)
    n_independent = window_px**2 / correlated_area(squared, window_px)
    return float(np.sqrt((2 + third / first**2) / n_independent))


def looks_of_mean(n_px: float, bandwidth_share: float, window: float = 1.0) -> float:
    """Return the equivalent looks of a mean over single-look pixels along one axis.

    Parameters
    ----------
    n_px : float
        Number of pixels, at least 1; a fraction counts a pixel that is used in part.
    bandwidth_share : float
        Processed bandwidth divided by the sampling frequency, above 0, at most 1.
    window : float, optional
        Coefficient of the Hamming window on the spectrum, 0.5 to 1; 1 is no window.

    Returns
    -------
    float
        At most `n_px`, because neighbouring pixels are correlated.

    Notes
    -----
    The correlation of intensity at lag k is the squared correlation r(k) of the complex pixels,
    the Fourier transform of the squared window. The mean over a width of n pixels has
    n**2 / sum((n - abs(k)) * r(k)**2) looks, the sum over all abs(k) < n.
    """
    frequency = np.linspace(-0.5, 0.5, 4001)
    power = (window + (1 - window) * np.cos(2 * np.pi * frequency)) ** 2
    lags = np.arange(math.ceil(n_px))
    waves = np.exp(2j * np.pi * np.outer(lags, frequency * bandwidth_share))
    correlation = np.abs(waves @ (power / power.sum())) ** 2
    terms = (n_px - lags) * correlation
    return float(n_px**2 / (terms[0] + 2 * terms[1:].sum()))
