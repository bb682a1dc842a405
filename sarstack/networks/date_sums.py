"""Sums over dates: the input of networks that use the other dates of a stack.

At each pixel there are four sums over the dates with positive power: the number of dates n, and
the sums of y, ln y and (ln y)^2, with y the linear intensity. From them follow the mean of y, the
mean of ln y and the standard deviation of ln y. Sums can be weighted; the number of dates is then
the sum of the weights.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

N_SUMS = 4
UNKNOWN_COUNT = -1
"""Number of dates that agree where nobody has compared the dates."""
FEWEST_DATES = 0.25
"""Sums of fewer dates than this are rounding errors: weighted sums are of half a date or more."""
Sums = NDArray[np.float32] | NDArray[np.float64]
Count = TypeVar("Count", "Tensor", NDArray[np.float64])
Images = TypeVar("Images", "Tensor", NDArray[np.float32])


def scale_date_count(count: Count) -> Count:
    """Return n / (n + 3) for a number of dates n: between 0 and 1, steepest for few dates.

    Networks take the number of dates in this form. Their bias is close to linear in it.
    """
    return count / (count + 3)


def sum_dates(dates: Iterable[NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the four sums over dates.

    Parameters
    ----------
    dates : iterable of ndarray, shape (y, x), float32
        Linear power. A pixel that is zero, negative or NaN adds nothing.
    shape : tuple of int
        Shape of one date.

    Returns
    -------
    ndarray, shape (4, y, x), float32
        Number of dates, and sums of y, ln y and (ln y)^2.
    """
    sums = np.zeros((N_SUMS, *shape), np.float32)
    for date in dates:
        add_date(sums, date)
    return sums


def add_date(sums: Sums, intensity: NDArray[np.float32]) -> None:
    """Add one date to the sums, in place.

    Parameters
    ----------
    sums : ndarray, shape (4, y, x), float32 or float64
    intensity : ndarray, shape (y, x), float32
        Linear power. A pixel that is zero, negative or NaN adds nothing.
    """
    for total, term in zip(sums, _terms(intensity), strict=True):
        total += term


def subtract_date(sums: Sums, intensity: NDArray[np.float32]) -> None:
    """Subtract one date from the sums, in place.

    The terms are rounded to float32 as in :func:`add_date`, so both calls use the same values.
    """
    for total, term in zip(sums, _terms(intensity), strict=True):
        total -= term


def favour_agreeing(every: Images, agreeing: Images) -> Images:
    """Return the sums over the dates that agree with a date, as far as these are the majority.

    A date that agrees with less than half of the others is itself the exception: it has changed,
    and the sums over all others tell from what. So there the sums over all dates come in, in full
    where no date agrees. Of n dates at least n / 2 are counted.

    Parameters
    ----------
    every, agreeing : ndarray or Tensor, shape (4, y, x) or (batch, 4, y, x), float32
        Sums over all other dates, and those weighted by their agreement.

    Returns
    -------
    ndarray or Tensor, of the same shape, float32
    """
    share = agreeing[..., :1, :, :] / every[..., :1, :, :].clip(1)
    weight = (2 * share).clip(0, 1)
    return weight * agreeing + (1 - weight) * every


def _terms(intensity: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """Return 1, y, ln y and (ln y)^2 at positive pixels, 0 elsewhere."""
    positive = intensity > 0
    log = np.log(np.where(positive, intensity, np.float32(1)))
    return positive, np.where(positive, intensity, np.float32(0)), log, log * log
