"""The spectrum of a complex single-look image along each axis, measured from its pixels.

The sensor's transfer function shapes the spectrum: a band that is narrower than the sampling rate,
weighted by a window, and around the Doppler centroid in azimuth. The texture of the ground does not
change the autocovariance of complex pixels at lags other than zero relative to lag zero, so the
mean over many windows shows the transfer function.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.point_targets import find_points

MAX_LAG = 64
BINS = 256
_MIN_PIXELS = 2000
# A window counts by its power, because darker ones have more noise, but no window by more than this
# multiple of the median window.
_MOST_OF_MEDIAN = 10.0


@dataclass(frozen=True, eq=False)
class AxisSpectrum:
    """The mean power spectrum along one axis.

    Attributes
    ----------
    centre : float
        Centre of the band in cycles per pixel, -0.5 to 0.5.
    power : ndarray, shape (BINS,), float64
        Power around the centre, symmetric, in the order of ``numpy.fft.fftfreq``; mean 1.
    """

    centre: float
    power: NDArray[np.float64]


def measure_response(windows: Iterable[NDArray[np.complex64]]) -> list[AxisSpectrum]:
    """Measure the spectrum of an image along its rows and columns.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Parts of one image, NaN in both parts = nodata. Bright points are left out.

    Returns
    -------
    list of AxisSpectrum
        Along y, and along x.

    Raises
    ------
    UsageError
        If fewer than 2,000 pixels can be used, or none has data.

    Notes
    -----
    The autocovariance up to 64 pixels is the mean over pairs of valid pixels, with a Hann window
    over the lags (the method of Blackman and Tukey). So holes and bright points do not disturb it.
    """
    sums, weights, has_data = [], [], False
    for window in windows:
        power = to_power(window)
        valid = np.isfinite(power)
        has_data |= bool(valid.any())
        valid &= ~find_points(power)
        n_px = int(np.count_nonzero(valid))
        if n_px:
            field = np.where(valid, window, 0).astype(np.complex128)
            mean = float(power[valid].mean(dtype=np.float64))
            scaled = field / np.sqrt(mean)
            sums.append([_sum_pairs(a, v) for a, v in ((scaled, valid), (scaled.T, valid.T))])
            weights.append((n_px, mean))
    if not has_data:
        raise UsageError(
            "the image has no valid pixel: all are zero or not finite",
            expected="complex numbers with speckle",
            do="leave out this image",
        )
    if sum(n_px for n_px, _ in weights) < _MIN_PIXELS:
        raise UsageError(
            "the spectrum of the image cannot be measured",
            expected=f"{_MIN_PIXELS} pixels of complex numbers or more that are no bright points",
            do="give a larger part of the image",
        )
    return [_make_spectrum([own[axis] for own in sums], weights) for axis in (0, 1)]


def measure_centre(windows: Iterable[NDArray[np.complex64]]) -> tuple[float, float]:
    """Measure the middle of the spectrum along y and x, in cycles per pixel.

    Zero if there are too few pixels; parameters are those of :func:`measure_response`.
    """
    try:
        along_y, along_x = measure_response(windows)
    except UsageError:
        return 0.0, 0.0
    return along_y.centre, along_x.centre


def make_ramp(centre: float, start: int, n_px: int) -> NDArray[np.complex64]:
    """Return the phase ramp along one axis whose spectrum lies at `centre`, shape (n_px,)."""
    phase = 2 * np.pi * np.mod(centre * (start + np.arange(n_px)), 1)
    return np.exp(1j * phase).astype(np.complex64)


def _sum_pairs(
    field: NDArray[np.complex128], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Sum the products of pixels along axis 0 at each lag, and count the pairs."""
    length = 2 * MAX_LAG + len(field)
    n_lags = min(MAX_LAG + 1, len(field))
    products, counts = (
        np.fft.ifft((np.abs(np.fft.fft(a, length, axis=0)) ** 2).sum(axis=1))
        for a in (field, valid)
    )
    padded = np.zeros(MAX_LAG + 1, complex), np.zeros(MAX_LAG + 1)
    padded[0][:n_lags] = products[:n_lags]
    padded[1][:n_lags] = counts[:n_lags].real.round()
    return padded


def _make_spectrum(
    sums: Sequence[tuple[NDArray[np.complex128], NDArray[np.float64]]],
    weights: Sequence[tuple[int, float]],
) -> AxisSpectrum:
    powers = np.array([mean for _, mean in weights])
    weight = np.minimum(powers, _MOST_OF_MEDIAN * np.median(powers))
    products = sum(w * p for w, (p, _) in zip(weight, sums, strict=True))
    counts = sum(w * n for w, (_, n) in zip(weight, sums, strict=True))
    covariance = np.where(counts > 0, products / np.where(counts > 0, counts, 1), 0)
    covariance = covariance / covariance[0].real
    centre = float(np.angle(covariance[1]) / (2 * np.pi))
    lags = np.arange(MAX_LAG + 1)
    n_lags = int(np.count_nonzero(counts))
    taper = np.where(lags < n_lags, 0.5 + 0.5 * np.cos(np.pi * lags / n_lags), 0)
    symmetric = (covariance * np.exp(-2j * np.pi * centre * lags)).real * taper
    full = np.zeros(BINS)
    full[: MAX_LAG + 1], full[-MAX_LAG:] = symmetric, symmetric[:0:-1]
    power = np.maximum(np.fft.fft(full).real, 0)
    return AxisSpectrum(centre, power / power.mean())
