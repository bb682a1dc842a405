"""Scores of changes in a stack: how much of them is kept, and how much leaks to other dates."""

import numpy as np
from numpy.typing import NDArray

from sarstack.evaluation.scores import NAN, Mask

Image = NDArray[np.floating]


def changed_elsewhere(changed: Mask) -> Mask:
    """Return the pixels that did not change on a date, but did on another date.

    Parameters
    ----------
    changed : ndarray, shape (time, y, x), bool
        Pixels where a date differs from the usual state of the stack.

    Returns
    -------
    ndarray, shape (time, y, x), bool
    """
    return np.asarray(~changed & changed.any(axis=0))


def change_kept(despeckled: Image, truth: Image, unchanged: Image) -> float:
    """Return which fraction of the true change of a date is kept, both changes in dB.

    Parameters
    ----------
    despeckled, truth, unchanged : ndarray, any shape, floating
        Linear intensity of changed pixels: the result, the truth, and the truth without the
        change.

    Returns
    -------
    float
        Slope of the regression of ``ln(despeckled / unchanged)`` on ``ln(truth / unchanged)``:
        1 if changes are kept, 0 if the result looks like the other dates. NaN if nothing changes.
    """
    change, true_change = _log_ratios((despeckled, unchanged), (truth, unchanged))
    return _slope(change, true_change)


def leak_from_others(despeckled: Image, truth: Image, unchanged: Image, changed: Mask) -> float:
    """Return which fraction of the change of other dates is in a date that did not change.

    Parameters
    ----------
    despeckled, truth, unchanged : ndarray, shape (time, y, x), floating
        Linear intensity: the result, the truth, and the truth without the changes.
    changed : ndarray, shape (time, y, x), bool
        Pixels where a date differs from `unchanged`.

    Returns
    -------
    float
        At the pixels of :func:`changed_elsewhere`: slope of the regression of the error in dB on
        the change of the others, ``10 log10`` of the mean over the other dates of
        ``truth / unchanged``. 0 if nothing leaks, 1 if the result is the mean of the other dates.
        NaN if nothing changes.
    """
    where = changed_elsewhere(changed)
    if not where.any():
        return NAN
    ratio = truth / unchanged
    others = (np.nansum(ratio, axis=0) - ratio) / (np.isfinite(ratio).sum(axis=0) - 1)
    images = (despeckled[where], truth[where]), (others[where], np.ones(int(where.sum())))
    return _slope(*_log_ratios(*images))


def _log_ratios(*pairs: tuple[Image, Image]) -> list[NDArray[np.float64]]:
    """Return ln(a / b) of each pair, at the values where all are positive (not NaN)."""
    positive = np.logical_and.reduce([(a > 0) & (b > 0) for a, b in pairs])
    return [
        np.log(a[positive].astype(np.float64)) - np.log(b[positive].astype(np.float64))
        for a, b in pairs
    ]


def _slope(values: NDArray[np.float64], against: NDArray[np.float64]) -> float:
    """Return the slope of the regression of values; NaN if `against` is constant."""
    if against.size < 2 or np.ptp(against) < 1e-12:
        return NAN
    return float(np.cov(values, against)[0, 1] / against.var(ddof=1))
