"""The real and the imaginary part of a single look complex image.

Of a fully developed speckle field ``z = a + j b`` with a symmetric spectrum around frequency 0, a
and b are independent of each other, given the reflectivity: at a pixel and between pixels. If the
spectrum is centred elsewhere, a is correlated with b of the neighbouring pixels.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.speckle.samples import CELL_PX
from sarstack.speckle.statistics import SceneStatistics

PART_LOOKS = 0.5
"""Looks of ``2 a**2``: the square of a Gaussian number has the variance of half a look."""

LARGEST_ASYMMETRY = 0.03
"""Correlation between the parts of neighbouring pixels above which an image is not usable as it is.
Measured: Sentinel-1 IW 0.10 with the Doppler ramp of its burst, 0.005 without it."""

Complex = NDArray[np.complex64]


LARGEST_POWER_RATIO = 2.0
"""Ratio of the mean powers of the parts above which numbers are no single look complex image."""
_FEWEST_PIXELS = 1000
_POINTS_PERCENT = 5


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

    The parts of a single look have half a look, whatever number was measured. The correlation of a
    part is that of the intensity. A network gets both as input only if the looks are given or
    measured between dates: texture makes an estimate of the correlation too high (told of it, a
    network made a Sentinel-1 scene 9 % too bright; not told, 5 %).
    """
    return replace(statistics, looks=PART_LOOKS)


def find_asymmetry(windows: Iterable[Complex]) -> float:
    """Return how much a part is correlated with the other part of the neighbouring pixels.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Not finite = nodata.

    Returns
    -------
    float
        Correlation of ``a**2`` with ``b**2`` at lag 1, the larger one of y and x: near 0 for a
        spectrum that is symmetric around frequency 0, 0.1 and more for one that is not.

    Notes
    -----
    The median over cells of 25 px: in bursts the frequency changes fast along y.
    """
    found: list[NDArray[np.complex128]] = []
    for window in windows:
        rows, columns = (max(n // CELL_PX, 1) for n in window.shape)
        for band in np.array_split(window, rows, axis=0):
            found += map(_lag_one_correlation, np.array_split(band, columns, axis=1))
    usable = [correlation for correlation in found if np.isfinite(correlation).all()]
    return float(np.max(np.median(np.imag(usable) ** 2, axis=0))) if usable else 0.0


def describe_asymmetry(windows: Iterable[Complex], name: str) -> str:
    """Return a warning if the parts of an image are not independent; empty if they are.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Sample windows, as a method gets them.
    name : str
        Name of the image, for the warning.
    """
    found = find_asymmetry(windows)
    if found <= LARGEST_ASYMMETRY:
        return ""
    return (
        f"{name}: real and imaginary part are correlated ({found:.2f} between neighbouring pixels, "
        f"at most {LARGEST_ASYMMETRY:g} expected), so speckle, or its correlation, may stay in the "
        "result: the spectrum is not symmetric around zero. Use the SAFE product, whose Doppler "
        "ramp sarstack removes, or remove the ramp of the bursts before"
    )


def check_powers(windows: Iterable[Complex], name: str) -> None:
    """Raise if the real and the imaginary part of an image have different mean powers.

    Speckle has a uniform phase, so both parts have the same power. The brightest 5 % of the pixels
    are left out: the phase of points is not random. Fewer than 1,000 pixels are not checked.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), complex64
        Sample windows. Not finite = nodata.
    name : str
        Name of the image, for the error.

    Raises
    ------
    UsageError
        If one mean power is more than twice the other one.
    """
    found = [np.stack([half[np.isfinite(half)] for half in split_parts(w)]) for w in windows]
    parts = np.concatenate(found, axis=1) if found else np.empty((2, 0))
    if parts.shape[1] < _FEWEST_PIXELS:
        return
    power = parts.sum(axis=0)
    kept = parts[:, power <= np.percentile(power, 100 - _POINTS_PERCENT)]
    lower, higher = sorted(kept.mean(axis=1, dtype=np.float64))
    if higher > LARGEST_POWER_RATIO * lower:
        raise UsageError(
            f"{name}: real and imaginary part have different powers "
            f"({lower:.3g} and {higher:.3g} in the mean)",
            expected="the same mean power in both, as single look complex images have",
            do="use a method for intensity, if these are detected images in complex numbers",
        )


def _lag_one_correlation(window: Complex) -> NDArray[np.complex128]:
    """Return the lag-1 correlation of complex numbers along y and x; NaN without any power."""
    field = np.where(np.isfinite(window), window, 0).astype(np.complex128)
    power = np.vdot(field, field).real
    if not 0 < power < np.inf:
        return np.full(2, np.nan, np.complex128)
    along_y, along_x = np.vdot(field[:-1], field[1:]), np.vdot(field[:, :-1], field[:, 1:])
    return np.array([along_y, along_x]) / power
