"""What a score is: its description, its input, and how its values are pooled over scenes.

The scores themselves are in :mod:`sarstack.evaluation.metrics`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Cube = NDArray[np.float32]
Mask = NDArray[np.bool_]
Region = Mask | tuple[slice, slice]
Scores = dict[str, float]
Pool = Callable[[NDArray[np.float64]], float]

# Kinds of data: a simulated case with exact truth, a real stack, a real scene of one date.
Kind = Literal["simulated", "stack", "scene"]

NAN = float("nan")


class Line(NamedTuple):
    """A line of known width: the mask of its pixels, and that of the ground beside it."""

    width_px: int
    inside: Mask
    beside: Mask


@dataclass(frozen=True)
class Result:
    """The input of a score: a despeckled image or stack, and the truth or references to compare.

    Attributes
    ----------
    kind : {"simulated", "stack", "scene"}
    noisy, despeckled : ndarray, shape (time, y, x), float32
        Linear power, NaN = nodata.
    reference : ndarray, shape (time, y, x), float32
        The scene without the speckle of `noisy`. Simulated: the truth. Stack: the mean of the
        half of the dates that a multi-temporal method has not seen. Scene: another
        polarisation. NaN where there is none.
    looks : float
        Equivalent number of looks of `noisy`.
    others : ndarray, shape (time, y, x), float32, optional
        Stack: for each date the mean of all other dates. None for multi-temporal methods.
    changed : ndarray, shape (time, y, x), bool, optional
        Simulated stack: pixels where a date differs from the others.
    unchanged : ndarray, shape (time, y, x), float32, optional
        Simulated stack: the truth without these changes.
    flats : sequence of regions
        Homogeneous parts of the image: masks of shape (y, x), or pairs of slices.
    homogeneous : ndarray, shape (y, x), bool, optional
        Pixels in which mean and variance of the ratio are measured; None: all.
    points : sequence of (int, int)
        Row and column of point targets.
    lines : sequence of Line
    """

    kind: Kind
    noisy: Cube
    despeckled: Cube
    reference: Cube
    looks: float
    others: Cube | None = None
    changed: Mask | None = None
    unchanged: Cube | None = None
    flats: Sequence[Region] = ()
    homogeneous: Mask | None = None
    points: Sequence[tuple[int, int]] = ()
    lines: Sequence[Line] = ()


def mean(values: NDArray[np.float64]) -> float:
    """Return the arithmetic mean."""
    return float(values.mean())


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Return the root of the mean square: the rule for errors and standard deviations."""
    return float(np.sqrt(np.mean(values**2)))


def worst(values: NDArray[np.float64]) -> float:
    """Return the value that is farthest from 0, with its sign."""
    return float(values[np.argmax(np.abs(values))])


def harmonic_mean(values: NDArray[np.float64]) -> float:
    """Return the harmonic mean: the rule for looks, which are inverse variances.

    NaN if a value is not positive; infinite if all are.
    """
    if not (values > 0).all():
        return NAN
    inverse = float(np.mean(1 / values))
    return 1 / inverse if inverse else float("inf")


def pool(values: Iterable[float], rule: Pool) -> float:
    """Pool the values that are not NaN by a rule; NaN if there is none."""
    numbers = np.array([value for value in values if not np.isnan(value)])
    return rule(numbers) if numbers.size else NAN


@dataclass(frozen=True)
class Score:
    """One score: how it is computed, pooled and shown.

    Attributes
    ----------
    name : str
        Key in results and column in CSV files, unit as suffix.
    heading : str
        Heading of its column in tables, with the unit.
    meaning : str
        One line for the legend below the tables.
    better : {"lower", "higher"} or float
        Which values are better; a number is the ideal value.
    decimals : int
        Digits after the point in tables; CSV files have all digits.
    kinds : tuple of Kind
        Data that it is computed on.
    function : callable, optional
        From a `Result` to the score; NaN if the result lacks what it needs. None: the score
        compares the methods of a table, and :mod:`sarstack.evaluation.quality` fills it in.
    pool : callable
        From the values of scenes, ndarray of float64 without NaN, to one value.
    bold : bool
        Whether pictures of tables show the best value in bold.
    """

    name: str
    heading: str
    meaning: str
    better: Literal["lower", "higher"] | float
    decimals: int
    kinds: tuple[Kind, ...] = ()
    function: Callable[[Result], float] | None = None
    pool: Pool = mean
    bold: bool = False

    @property
    def legend(self) -> str:
        """The heading, the meaning, and which values are better."""
        which = (
            f"{self.better} is better"
            if self.better in ("lower", "higher")
            else (f"ideal: {self.better}")
        )
        return f"{self.heading}: {self.meaning}; {which}"

    def best_index(self, values: Sequence[float]) -> int:
        """Return the index of the best value, NaN left out.

        Raises
        ------
        ValueError
            If all values are NaN.
        """
        numbers = np.asarray(values, dtype=np.float64)
        if self.better == "higher":
            return int(np.nanargmax(numbers))
        if self.better == "lower":
            return int(np.nanargmin(numbers))
        return int(np.nanargmin(np.abs(numbers - self.better)))
