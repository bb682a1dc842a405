"""The real and the imaginary part of a single look complex image, and its spectral centre.

Of a fully developed speckle field ``z = a + j b`` with a symmetric spectrum around frequency 0, a
and b are independent of each other, given the reflectivity: at a pixel and between pixels. If the
spectrum is centred elsewhere, a is correlated with b of the neighbouring pixels.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.statistics import SceneStatistics

PART_LOOKS = 0.5
"""Looks of ``2 a**2``: the square of a Gaussian number has the variance of half a look."""

SMALLEST_CORRELATION = 0.03
"""A smaller lag-1 correlation of complex numbers is that of a white field, which has no centre."""

Complex = NDArray[np.complex64]


def split_parts(field: Complex) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``2 a**2`` and ``2 b**2``, whose expectation is that of ``a**2 + b**2``.

    Parameters
    ----------
    field : ndarray, shape (y, x), complex64
        Single look complex numbers ``a + j b``; not finite = nodata.

    Returns
    -------
    tuple of ndarray, shape (y, x), float32
        Linear power of half a look, NaN = nodata.
    """
    missing = ~np.isfinite(field)
    parts = []
    for part in (field.real, field.imag):
        power = np.square(part, dtype=np.float32)
        power *= 2
        power[missing] = np.nan  # a number may be nodata in one part only
        parts.append(power)
    return parts[0], parts[1]


def describe_part(statistics: SceneStatistics) -> SceneStatistics:
    """Return the statistics of one part of a single look image with these statistics.

    The parts of a single look have half a look, whatever number was measured: texture makes an
    estimate too low. The correlation of the part is that of the intensity. It counts as known
    unless nothing could be measured.
    """
    source = "nominal" if statistics.looks_source == "nominal" else "given"
    return replace(statistics, looks=PART_LOOKS, looks_source=source)


def find_spectral_centre(windows: Iterable[Complex]) -> tuple[float, float]:
    """Estimate where the spectrum of an image is centred, from sample windows.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Not finite = nodata.

    Returns
    -------
    tuple of float
        Frequency along y and x in cycles per pixel, -0.5 to 0.5; 0 along an axis on which the
        image is white.

    Notes
    -----
    Phase of the lag-1 correlation, which is the mean frequency of the power spectrum (S. N. Madsen,
    "Estimating the Doppler centroid of SAR data", IEEE TAES 25(2), 1989). All windows have the same
    weight, so that strong scatterers do not decide alone.
    """
    centre = np.angle(_lag_one_correlation(windows)) / (2 * np.pi)
    return float(centre[0]), float(centre[1])


def find_asymmetry(windows: Iterable[Complex]) -> float:
    """Return how much a part is correlated with the other part of the neighbouring pixels.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Not finite = nodata.

    Returns
    -------
    float
        Correlation of ``a**2`` with ``b**2`` at lag 1, the larger one of y and x: 0 for a spectrum
        that is symmetric around frequency 0.
    """
    return float(np.max(_lag_one_correlation(windows).imag ** 2))


def _lag_one_correlation(windows: Iterable[Complex]) -> NDArray[np.complex128]:
    """Return the lag-1 correlation of complex numbers along y and x, the mean over windows."""
    total, n_windows = np.zeros(2, np.complex128), 0
    for window in windows:
        field = np.where(np.isfinite(window), window, 0).astype(np.complex128)
        power = np.vdot(field, field).real
        if power > 0 and np.isfinite(power):
            total += [np.vdot(field[:-1], field[1:]) / power,
                      np.vdot(field[:, :-1], field[:, 1:]) / power]  # fmt: skip
            n_windows += 1
    total /= max(n_windows, 1)
    total[np.abs(total) < SMALLEST_CORRELATION] = 0
    return total


def centre_spectrum(
    field: Complex, centre: tuple[float, float], origin: tuple[int, int] = (0, 0)
) -> Complex:
    """Shift the spectrum of a block by the centre of the whole image, to frequency 0.

    Parameters
    ----------
    field : ndarray, shape (y, x), complex64
        Not finite = nodata, is kept.
    centre : tuple of float
        From :func:`find_spectral_centre`, of the whole image or burst: tiles with phases of their
        own would not fit together.
    origin : tuple of int
        First row and column of the block in the image.

    Returns
    -------
    ndarray, shape (y, x), complex64
        The same intensity, another phase.
    """
    ramps = [
        np.exp(-2j * np.pi * np.mod(frequency * (start + np.arange(n)), 1.0))
        for frequency, start, n in zip(centre, origin, field.shape, strict=True)
    ]
    return np.asarray(field * (ramps[0][:, None] * ramps[1]).astype(np.complex64))
