"""Look-up tables of the annotation: vectors of values along the range, at some lines."""

from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.sentinel1.annotation import text_of
from sarstack.tiles import Window

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Vector:
    """Values at some pixels of one line; `line`, `pixels` and `values` as in the XML file."""

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


def read_vectors(elements: Iterable[ET.Element], name: str, member: str) -> tuple[Vector, ...]:
    """Read vectors from XML elements with the children ``line``, ``pixel`` and `name`.

    Returns
    -------
    tuple of Vector
        In order of their lines, one for each line.

    Raises
    ------
    ValueError
        If there is none, or its numbers cannot be used.
    """
    found = {}
    for element in elements:
        line = int(text_of(element, "line", member))
        pixels, values = (read_numbers(element, child, member) for child in ("pixel", name))
        check_axis(pixels, values, f"{name} of line {line} in {member}")
        found[line] = Vector(line, pixels, values)
    if not found:
        raise ValueError(f"{member} has no vector of {name}")
    return tuple(found[line] for line in sorted(found))


def read_numbers(element: ET.Element, name: str, member: str) -> Array:
    """Return the numbers of a child element that has a list of them."""
    return np.array(text_of(element, name, member).split(), np.float64)


def check_axis(positions: Array, values: Array, what: str) -> None:
    """Raise a ValueError if values have not the length of their increasing positions."""
    if positions.shape != values.shape or (np.diff(positions) <= 0).any():
        raise ValueError(f"{what} does not fit its positions")
    if not (np.isfinite(positions).all() and np.isfinite(values).all()):
        raise ValueError(f"{what} is not finite")
