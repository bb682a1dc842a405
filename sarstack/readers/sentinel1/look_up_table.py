"""Look-up tables of a product: vectors of values along the range, at some lines."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Window

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Vector:
    """Values at some pixels of one line; `line`, `pixels` and `values` as in the product."""

    line: int
    pixels: Array
    values: Array


@dataclass(frozen=True)
class LookUpTable:
    """Vectors, interpolated linearly between pixels and then between lines.

    Attributes
    ----------
    vectors : tuple of Vector
        Lines increase. Each vector has pixels of its own.
    """

    vectors: tuple[Vector, ...]

    def interpolate(self, window: Window) -> Array:
        """Return the values in a window of the image.

        Parameters
        ----------
        window : Window
            In pixels of the image.

        Returns
        -------
        ndarray, shape of `window`, float64
            Beside the outermost pixels and lines of the table, their values hold.
        """
        rows = np.arange(window.y0, window.y1, dtype=np.float64)
        columns = np.arange(window.x0, window.x1, dtype=np.float64)
        lines = np.array([v.line for v in self.vectors], np.float64)
        rows = np.clip(rows, lines[0], lines[-1])
        upper = np.clip(np.searchsorted(lines, rows, side="right") - 1, 0, max(len(lines) - 2, 0))
        values = np.empty(window.shape)
        for i in np.unique(upper):
            own = upper == i
            first, last = self.vectors[i], self.vectors[min(i + 1, len(lines) - 1)]
            start, end = (np.interp(columns, v.pixels, v.values) for v in (first, last))
            fraction = (rows[own] - first.line) / max(last.line - first.line, 1)
            values[own] = start + fraction[:, np.newaxis] * (end - start)
        return values


def check_axis(positions: Array, values: Array, what: str) -> None:
    """Raise a ValueError if values have not the length of their increasing positions."""
    if positions.shape != values.shape or (np.diff(positions) <= 0).any():
        raise ValueError(f"{what} does not fit its positions")
    if not (np.isfinite(positions).all() and np.isfinite(values).all()):
        raise ValueError(f"{what} is not finite")


def make_calibration(vectors: tuple[Vector, ...], what: str) -> LookUpTable:
    """Make the table of a calibration; raise a ValueError if a factor is not above zero."""
    if any((vector.values <= 0).any() for vector in vectors):
        raise ValueError(f"{what} is not above zero")
    return LookUpTable(vectors)
