"""Linear intensity, amplitude and decibel: conversion, and tests of which one numbers are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import Scale

# With fewer valid samples, no scale is guessed.
_MIN_SAMPLES = 16


def to_db(intensity: NDArray[Any]) -> NDArray[np.float32]:
    """Convert linear intensity to decibel.

    Parameters
    ----------
    intensity : ndarray, any shape, float
        Linear power; NaN = nodata.

    Returns
    -------
    ndarray, same shape, float32
        ``10 log10(intensity)``. NaN where the intensity is NaN, zero or negative (below
        the noise floor); never infinite.

    Notes
    -----
    For display only: the mean of decibel values is 2.5 dB too low at one look.
    """
    numbers = np.asarray(intensity)
    values_db = np.full(numbers.shape, np.nan, np.float32)
    np.log10(numbers, out=values_db, where=numbers > 0, casting="same_kind")
    return values_db * np.float32(10)


def from_db(values_db: NDArray[Any]) -> NDArray[np.float32]:
    """Convert decibel to linear intensity, ``10 ** (value / 10)``, NaN kept.

    Parameters
    ----------
    values_db : ndarray, any shape, float
        Decibel; NaN or infinite = nodata.

    Returns
    -------
    ndarray, same shape, float32
        Linear power; NaN where the input is not finite or too small for float32.
    """
    return to_intensity(values_db, "db")


def to_intensity(values: NDArray[Any], scale: Scale, gain_db: float = 0.0) -> NDArray[np.float32]:
    """Convert numbers of a known scale to linear intensity.

    Parameters
    ----------
    values : ndarray, any shape, real
        Stored numbers; nodata numbers such as -9999 must be NaN already.
    scale : {"linear", "amplitude", "db"}
        Scale of the numbers. Amplitude is squared.
    gain_db : float, optional
        Decibels that are added: a calibration factor.

    Returns
    -------
    ndarray, same shape, float32
        Linear power. NaN where the input is NaN or infinite, and where linear or amplitude
        data are zero: a sensor measures its own noise at least, so zero is nodata. Negative
        linear values stay: thermal noise was subtracted. Never zero, never infinite.
    """
    number = np.asarray(values)
    exact = np.float64 if scale == "db" or number.dtype == np.float64 else np.float32
    number = number.astype(exact)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if scale == "db":
            number = 10 ** (number / 10)
        elif scale == "amplitude":
            number = np.where(number > 0, number * number, np.nan)
        if gain_db:
            number = number * exact(10 ** (gain_db / 10))
        intensity = number.astype(np.float32, copy=False)
    intensity[~np.isfinite(intensity) | (intensity == 0)] = np.nan
    return intensity


def guess_scale(sample: NDArray[Any]) -> tuple[Scale | None, str]:
    """Guess the scale of numbers from their values, or return why that is impossible.

    Parameters
    ----------
    sample : ndarray, any shape, real
        Valid numbers of one polarisation; NaN is ignored.

    Returns
    -------
    scale : {"linear", "db"} or None
        None if unsure. Amplitude is never guessed: calibrated amplitude is in the range
        of intensity.
    reason : str
        Description of the numbers, for a message.

    Notes
    -----
    Medians of calibrated Sentinel-1 scenes are between 0.005 (water) and 2.8 (the brightest
    town) in intensity, and between -23 and -2.6 in decibel. Single negative values do not show
    decibel, because noise-subtracted intensity can be negative too: the median decides.
    """
    valid = np.asarray(sample)
    valid = valid[np.isfinite(valid)]
    if valid.size < _MIN_SAMPLES:
        return None, "the sample has almost no valid numbers"
    median = float(np.median(valid))
    seen = f"the median is {median:.4g}"
    if np.array_equal(valid, np.rint(valid)):
        return None, f"the numbers are whole ({seen}): digital numbers, amplitude or intensity"
    if median < -1 and np.percentile(valid, 1) > -100:
        return "db", seen
    if 0 < median <= 1 and np.percentile(valid, 1) > -1:
        return "linear", seen
    if median > 1:
        return None, f"{seen}: digital numbers, amplitude or uncalibrated intensity"
    return None, f"{seen}, which fits neither intensity nor decibel"


def scale_conflict(sample: NDArray[Any], scale: Scale) -> str:
    """Describe why numbers cannot be of the scale that a tag or the user declares.

    Parameters
    ----------
    sample : ndarray, any shape, real
        Valid numbers; NaN is ignored.
    scale : {"linear", "amplitude", "db"}
        Declared scale.

    Returns
    -------
    str
        Empty if the numbers fit the declared scale.
    """
    valid = np.asarray(sample)
    valid = valid[np.isfinite(valid)]
    if valid.size < _MIN_SAMPLES:
        return ""
    lowest, median, highest = (float(q) for q in np.percentile(valid, [1, 50, 99]))
    seen = f"1 % of the values are below {lowest:.4g}, the median is {median:.4g}"
    if scale == "linear" and median < -1:
        return f"{seen}: this looks like decibel"
    if scale == "amplitude" and lowest < 0:
        return f"{seen}: amplitude is never negative"
    if scale == "db" and highest > 100:
        return f"{seen}, 1 % are above {highest:.4g}: this is more than 100 dB"
    if scale == "db" and lowest >= 0 and median <= 2:
        return f"{seen}: this looks like linear intensity or amplitude"
    return ""


def median_local_looks(sample: NDArray[Any], size_px: int = 8) -> float:
    """Estimate the median looks of small squares, ``mean**2 / variance``.

    Parameters
    ----------
    sample : ndarray, shape (..., y, x), float
        Windows of linear intensity; NaN = nodata.
    size_px : int, optional
        Side of a square.

    Returns
    -------
    float
        Median over all squares without nodata; NaN if there is none. Of amplitude instead
        of intensity, the result is about four times the true looks.
    """
    windows = np.asarray(sample, np.float64)
    y, x = (n - n % size_px for n in windows.shape[-2:])
    if not y or not x:
        return float("nan")
    squares = windows[..., :y, :x].reshape(-1, y // size_px, size_px, x // size_px, size_px)
    mean, variance = squares.mean((2, 4)), squares.var((2, 4), ddof=1)
    usable = np.isfinite(mean) & (variance > 0)
    return float(np.median(mean[usable] ** 2 / variance[usable])) if usable.any() else float("nan")
