"""Labels: temporal statistics of a stack, used as training targets.

Temporal mean, standard deviation, count of valid dates, coefficient of variation, and the mask of
stable pixels. Means are of linear intensity, in float64, in one pass over the dates.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.laws import stable_threshold
from sarstack.speckle.moving_window import box_mean
from sarstack.tiles import row_strips

STATISTICS = ("mean", "std", "count", "cv")
LABELS = (*STATISTICS, "stable")
VARIATION = {"cv": "cv", "paper": "std"}
"""The label that each rule of the stable mask compares with its limit."""

DTYPES = {"mean": "f4", "std": "f4", "count": "u2", "cv": "f4", "stable": "u1"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "mean": {"long_name": "temporal mean of intensity", "units": "1", "cell_methods": "time: mean"},
    "std": {
        "long_name": "temporal standard deviation of intensity (N - 1)",
        "units": "1",
        "cell_methods": "time: standard_deviation",
    },
    "count": {"long_name": "number of valid dates", "units": "1"},
    "cv": {"long_name": "temporal coefficient of variation of intensity", "units": "1"},
    "stable": {
        "long_name": "pixel without change beyond speckle",
        "flag_values": [0, 1],
        "flag_meanings": "changing_or_unknown stable",
        "units": "1",
    },
}  # fmt: skip


def multilook(intensity: NDArray[np.float32], width_px: int) -> NDArray[np.float32]:
    """Return the mean of the valid pixels around each valid pixel.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    width_px : int
        Odd width of the square; 1 returns the input.

    Returns
    -------
    ndarray, shape (y, x), float32
        NaN exactly where the input is NaN.
    """
    if width_px == 1:
        return intensity
    valid = np.isfinite(intensity)
    smooth = box_mean(intensity.astype(np.float64), valid, width_px)
    return np.where(valid, smooth, np.nan).astype(np.float32)


def add_dates(moments: NDArray[np.float64], dates: Sequence[NDArray[np.float32]]) -> None:
    """Add dates to the moments, in place.

    Parameters
    ----------
    moments : ndarray, shape (3, y, x), float64
        Count, sum and sum of squares of the valid intensities.
    dates : sequence of ndarray, shape (y, x), float32
        Linear power, NaN = nodata; negative values count.

    Notes
    -----
    All dates are added in a strip of rows before the next strip, so the sums stay in the cache.
    """
    for rows in row_strips(moments.shape[1:]):
        count, total, squares = moments[:, rows]
        n_valid: Any = 0
        as_float64 = np.empty_like(total)
        for date in dates:
            value = date[rows]
            # Usually all pixels are valid, and two fast passes show it: NaN fails both comparisons.
            if value.min() > -np.inf and value.max() < np.inf:
                n_valid = n_valid + 1
            else:
                valid = np.isfinite(value)
                n_valid = n_valid + valid
                value = np.where(valid, value, 0)
            np.copyto(as_float64, value)
            total += as_float64
            np.multiply(as_float64, as_float64, out=as_float64)
            squares += as_float64
        count += n_valid


def statistics(moments: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Turn moments into temporal statistics.

    Parameters
    ----------
    moments : ndarray, shape (3, y, x), float64
        From :func:`add_dates` over all dates.

    Returns
    -------
    dict of ndarray, shape (y, x)
        ``mean`` (NaN where no date is valid), ``std`` and ``cv`` (NaN below two valid
        dates), ``count``.
    """
    shape = moments.shape[1:]
    found = {name: np.empty(shape, DTYPES[name]) for name in STATISTICS}
    for rows in row_strips(shape):
        count, total, squares = moments[:, rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / count
            # On constant pixels rounding can make the difference negative. With one date this is
            # 0 / 0.
            variance = np.maximum(squares - total * mean, 0) / (count - 1)
            std = np.sqrt(variance, out=variance)
            cv = std / np.abs(mean)
        for name, values in zip(STATISTICS, (mean, std, count, cv), strict=True):
            found[name][rows] = values
    return found


def mark_stable(
    variation: NDArray[np.float32],
    count: NDArray[np.uint16],
    *,
    looks: float,
    rule: str = "cv",
    threshold: float = 0.1,
    quantile: float = 0.99,
) -> NDArray[np.uint8]:
    """Mark pixels whose variation over dates is not larger than that of speckle.

    Parameters
    ----------
    variation : ndarray, shape (y, x), float32
        Coefficient of variation, or standard deviation for the rule ``paper``.
    count : ndarray, shape (y, x), uint16
        Number of valid dates.
    looks : float
        Equivalent number of looks of the speckle.
    rule : {"cv", "paper"}
        ``cv``: stable if the squared coefficient of variation is at most the `quantile` of pure
        speckle with these looks and as many dates; independent of brightness. ``paper``:
        stable if the standard deviation is at most `threshold` (deSpeckNet, section III.C).
    threshold, quantile : float
        See `rule`.

    Returns
    -------
    ndarray, shape (y, x), uint8
        0 or 1; 0 below two valid dates.
    """
    if rule == "paper":
        return np.asarray(variation <= threshold, np.uint8)
    limit = np.sqrt(_cached_threshold(looks, int(count.max(initial=1)), quantile))
    return np.asarray(variation <= limit.astype(np.float32)[count], np.uint8)


# The threshold comes from a simulation, and every tile needs it.
_cached_threshold = lru_cache(maxsize=256)(stable_threshold)


def finish_labels(
    moments: NDArray[np.float64], *, rule: str = "cv", **options: float
) -> dict[str, NDArray[np.generic]]:
    """Turn moments into all labels: :func:`statistics`, and :func:`mark_stable` as ``stable``."""
    found: dict[str, Any] = statistics(moments)
    return found | {
        "stable": mark_stable(found[VARIATION[rule]], found["count"], rule=rule, **options)
    }


def mean_without(
    mean: NDArray[np.float32], count: NDArray[np.uint16], date: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the temporal mean without one date: a training target without the input date.

    Parameters
    ----------
    mean, count : ndarray, shape (y, x)
        Labels over all dates.
    date : ndarray, shape (y, x), float32
        One of these dates, with the same multilook as the labels.

    Returns
    -------
    ndarray, shape (y, x), float32
        Mean of the other dates; NaN without any.
    """
    valid = np.isfinite(date)
    others = count.astype(np.float64) - valid
    total = mean.astype(np.float64) * count - np.where(valid, date, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(others > 0, total / others, np.nan).astype(np.float32)


def temporal_mean(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the valid dates of each pixel, shape (y, x); NaN without any."""
    valid = np.isfinite(block)
    total = np.where(valid, block, 0).sum(axis=0, dtype=np.float64)
    count = valid.sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean.astype(np.float32)


def leave_one_out_means(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each date the mean of all others, shape (time, y, x)."""
    dates = np.arange(len(block))
    return np.stack([temporal_mean(block[dates != date]) for date in dates])
