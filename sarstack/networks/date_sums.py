"""What several dates add up to, for networks that see the other dates of a stack."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

N_SUMS = 4
Sums = NDArray[np.float32] | NDArray[np.float64]
Count = TypeVar("Count", "Tensor", NDArray[np.float64])


def scale_date_count(count: Count) -> Count:
    """Return n / (n + 3) of a number of dates: the first tell most.

    Networks see a number of dates like this, and their bias is linear along it.
    """
    return count / (count + 3)


def sum_dates(dates: Iterable[NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return 1, y, ln y and (ln y)^2 summed over dates.

    Parameters
    ----------
    dates : iterable of ndarray, shape (y, x), float32
        Linear power; where it is not positive (NaN, too) a date adds nothing.
    shape : tuple of int
        Of a date.

    Returns
    -------
    ndarray, shape (4, y, x), float32
    """
    sums = np.zeros((N_SUMS, *shape), np.float32)
    for date in dates:
        add_date(sums, date)
    return sums


def add_date(sums: Sums, intensity: NDArray[np.float32]) -> None:
    """Add one date to the sums, in place; a pixel that is not positive adds nothing."""
    for total, term in zip(sums, _terms(intensity), strict=True):
        total += term


def subtract_date(sums: Sums, intensity: NDArray[np.float32]) -> None:
    """Subtract one date from the sums, in place.

    The terms are float32, as in :func:`add_date`, so they cancel.
    """
    for total, term in zip(sums, _terms(intensity), strict=True):
        total -= term


def _terms(intensity: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """Return 1, y, ln y and (ln y)^2 at positive pixels, 0 elsewhere."""
    positive = intensity > 0
    log = np.log(np.where(positive, intensity, np.float32(1)))
    return positive, np.where(positive, intensity, np.float32(0)), log, log * log
