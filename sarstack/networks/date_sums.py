"""What several dates add up to, for networks that see the other dates of a stack."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

N_SUMS = 4
Sums = NDArray[np.float32] | NDArray[np.float64]
Count = TypeVar("Count", "Tensor", NDArray[np.float64])


def weigh_count(count: Count) -> Count:
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
        add_terms(sums, date, np.add)
    return sums


def add_terms(sums: Sums, intensity: NDArray[np.float32], add: np.ufunc) -> None:
    """Add 1, y, ln y and (ln y)^2 where there is a positive pixel, or take them away, in place.

    Terms are in float32 both times: what was added goes without a rest.
    """
    positive = intensity > 0
    log = np.log(np.where(positive, intensity, np.float32(1)))
    terms = (positive, np.where(positive, intensity, np.float32(0)), log, log * log)
    for total, term in zip(sums, terms, strict=True):
        add(total, term, out=total)
