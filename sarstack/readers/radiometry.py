"""Linear intensity, amplitude and decibel: conversion, and telling them apart by the numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import Scale

# Below this share of valid samples the data say nothing about their scale.
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
        ``10 log10(intensity)``; NaN where the intensity is NaN, zero or negative (below
        the noise floor), never an infinity.

    Notes
    -----
    For showing only: a mean taken over decibel is too low by 2.5 dB at one look.
    """
    known = np.asarray(intensity)
    values_db = np.full(known.shape, np.nan, np.float32)
    np.log10(known, out=values_db, where=known > 0, casting="same_kind")
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


def to_intensity(values: NDArray[Any], scale: Scale) -> NDArray[np.float32]:
    """Convert numbers of a known scale to linear intensity.

    Parameters
    ----------
    values : ndarray, any shape, real
        Stored numbers, nodata already NaN where it has a number of its own.
    scale : {"linear", "amplitude", "db"}
        What the numbers are. Amplitude is squared.

    Returns
    -------
    ndarray, same shape, float32
        Linear power. NaN where the input is NaN, infinite, or zero in linear and
        amplitude data (the nodata of a sensor that always hears its own noise). Negative
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
        intensity = number.astype(np.float32, copy=False)
    intensity[~np.isfinite(intensity) | (intensity == 0)] = np.nan
    return intensity


def guess_scale(sample: NDArray[Any]) -> tuple[Scale | None, str]:
    """Guess from the numbers alone what they are, or say why that is impossible.

    Parameters
    ----------
    sample : ndarray, any shape, real
        Valid numbers of one polarisation; NaN is ignored.

    Returns
    -------
    scale : {"linear", "db"} or None
        None when unsure. Amplitude is never guessed: calibrated amplitude lies in the
        same range as intensity.
    reason : str
        What the numbers look like, for a message.

    Notes
    -----
    Medians of calibrated Sentinel-1 intensity lie between 0.005 (water) and 2.8 (the
    brightest town), of decibel between -23 and -2.6. A negative value is no sign of decibel:
    noise-subtracted intensities fall below zero too, so only the median decides.
    """
    known = np.asarray(sample)
    known = known[np.isfinite(known)]
    if known.size < _MIN_SAMPLES:
        return None, "the sample holds almost no valid numbers"
    median = float(np.median(known))
    seen = f"the median is {median:.4g}"
    if np.array_equal(known, np.rint(known)):
        return None, f"the numbers are whole ({seen}): digital numbers, amplitude or intensity"
    if median < -1 and np.percentile(known, 1) > -100:
        return "db", seen
    if 0 < median <= 1 and np.percentile(known, 1) > -1:
        return "linear", seen
    if median > 1:
        return None, f"{seen}: digital numbers, amplitude or uncalibrated intensity"
    return None, f"{seen}, which fits neither intensity nor decibel"


def scale_conflict(sample: NDArray[Any], scale: Scale) -> str:
    """Say why the numbers cannot be of the scale that a tag or the user declares.

    Parameters
    ----------
    sample : ndarray, any shape, real
        Valid numbers; NaN is ignored.
    scale : {"linear", "amplitude", "db"}
        What is declared.

    Returns
    -------
    str
        Empty when nothing speaks against the declared scale.
    """
    known = np.asarray(sample)
    known = known[np.isfinite(known)]
    if known.size < _MIN_SAMPLES:
        return ""
    lowest, median, highest = (float(q) for q in np.percentile(known, [1, 50, 99]))
    seen = f"1 % of the values lie below {lowest:.4g}, the median is {median:.4g}"
    if scale == "linear" and median < -1:
        return f"{seen}: this looks like decibel"
    if scale == "amplitude" and lowest < 0:
        return f"{seen}: amplitude is never negative"
    if scale == "db" and highest > 100:
        return f"{seen}, 1 % lie above {highest:.4g}: this is more than 100 dB"
    if scale == "db" and lowest >= 0 and median <= 2:
        return f"{seen}: this looks like linear intensity or amplitude"
    return ""


def median_local_looks(sample: NDArray[Any], size_px: int = 8) -> float:
    """Estimate the usual looks of small squares, ``mean**2 / variance``, as if it were intensity.

    Parameters
    ----------
    sample : ndarray, shape (..., y, x), float
        Windows of numbers; NaN = nodata.
    size_px : int, optional
        Side of a square.

    Returns
    -------
    float
        Median over all squares without nodata; NaN when there is none. Calibrated
        amplitude taken for intensity shows about four times the true looks.
    """
    windows = np.asarray(sample, np.float64)
    y, x = (n - n % size_px for n in windows.shape[-2:])
    if not y or not x:
        return float("nan")
    squares = windows[..., :y, :x].reshape(-1, y // size_px, size_px, x // size_px, size_px)
    mean, variance = squares.mean((2, 4)), squares.var((2, 4), ddof=1)
    usable = np.isfinite(mean) & (variance > 0)
    return float(np.median(mean[usable] ** 2 / variance[usable])) if usable.any() else float("nan")
