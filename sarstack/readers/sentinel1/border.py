"""Noise at the edges of products of processors before version 2.90, which later ones set to zero.

From each edge of the image inwards, blocks of 16 pixels of a row (left and right edge) or column
(upper and lower edge) are border as long as their mean digital number is below 30, at most 512
pixels. The limits are those of the border operator of SNAP; it looks at single pixels. The
co-polarised image (VV or HH) decides for both, because water is darker than 30 in the other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape, Window

FIRST_VERSION_WITHOUT = 2.90
"""First version of the processor whose edges are zero."""

MARGIN_PX = 512
_BLOCK_PX = 16
_MIN_NUMBER = 30.0

ReadNumbers = Callable[[Window], NDArray[Any]]


def find_border(
    read: ReadNumbers, scene: Shape, window: Window, *, top: bool = True, bottom: bool = True
) -> NDArray[np.bool_]:
    """Find the pixels of a window that are noise at an edge of the image.

    Parameters
    ----------
    read : callable
        Returns the digital numbers of the co-polarised image in a window of it.
    scene : Shape
        Size of the image.
    window : Window
        In pixels of the image.
    top, bottom : bool, optional
        Whether the first and the last row are edges. Not so where another slice follows.

    Returns
    -------
    ndarray, shape of `window`, bool
        The same for every window that has the pixel. Pixels far from the edges are not read.
    """
    border = np.zeros(window.shape, np.bool_)
    rows, columns = np.arange(window.y0, window.y1), np.arange(window.x0, window.x1)
    y, x = (min(MARGIN_PX, length) for length in scene)
    if window.x0 < x:
        numbers = read(Window(window.y0, window.y1, 0, x))
        border |= columns[np.newaxis] < _measure_runs(numbers)[:, np.newaxis]
    if window.x1 > scene.x - x:
        numbers = read(Window(window.y0, window.y1, scene.x - x, scene.x))
        last = scene.x - 1 - columns
        border |= last[np.newaxis] < _measure_runs(numbers[:, ::-1])[:, np.newaxis]
    if top and window.y0 < y:
        numbers = read(Window(0, y, window.x0, window.x1)).T
        border |= rows[:, np.newaxis] < _measure_runs(numbers)[np.newaxis]
    if bottom and window.y1 > scene.y - y:
        numbers = read(Window(scene.y - y, scene.y, window.x0, window.x1)).T
        last = scene.y - 1 - rows
        border |= last[:, np.newaxis] < _measure_runs(numbers[:, ::-1])[np.newaxis]
    return border


def _measure_runs(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the length of the border at the start of each row, in pixels."""
    whole = numbers.shape[1] // _BLOCK_PX
    blocks = numbers[:, : whole * _BLOCK_PX].reshape(len(numbers), whole, _BLOCK_PX)
    dark = blocks.mean(2, dtype=np.float64) < _MIN_NUMBER
    runs = np.logical_and.accumulate(dark, axis=1).sum(1)
    return np.asarray(runs * _BLOCK_PX, np.int64)
