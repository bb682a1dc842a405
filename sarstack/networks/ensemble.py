"""Self-ensemble: the mean of what a network predicts for mirror images of its input.

Networks are not exactly symmetric. The mean over mirror images has a smaller error without any
training; it costs as many times the arithmetic.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import ALIGNMENT_PX

Image = NDArray[np.float32]
Place = tuple[slice, slice]

SIZES = (1, 4, 8)
"""1: no ensemble; 4: mirror images; 8: all symmetries of the square."""


class Symmetry(NamedTuple):
    """A mirror image: rows reversed, columns reversed, then rows and columns exchanged."""

    flip_y: bool
    flip_x: bool
    transpose: bool

    def apply(self, image: Image) -> Image:
        """Return the mirror image of the last two axes."""
        step_y, step_x = (-1 if flip else 1 for flip in (self.flip_y, self.flip_x))
        turned = image[..., ::step_y, ::step_x]
        return np.ascontiguousarray(turned.swapaxes(-1, -2) if self.transpose else turned)

    def undo(self, image: Image) -> Image:
        """Return the image of which `image` is the mirror image."""
        turned = image.swapaxes(-1, -2) if self.transpose else image
        step_y, step_x = (-1 if flip else 1 for flip in (self.flip_y, self.flip_x))
        return turned[..., ::step_y, ::step_x]

    def move(self, place: Place, shape: tuple[int, int]) -> Place:
        """Return where the pixels of `place` are in the mirror image of an image of `shape`."""
        moved = [
            slice(size - part.stop, size - part.start) if flip else part
            for part, size, flip in zip(place, shape, (self.flip_y, self.flip_x), strict=True)
        ]
        return (moved[1], moved[0]) if self.transpose else (moved[0], moved[1])

    def turn(self, sensor: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        """Return looks and correlation along y and x of the speckle of the mirror image."""
        if sensor is None or not self.transpose:
            return sensor
        return sensor[0], sensor[2], sensor[1]


def list_symmetries(size: int) -> Iterator[Symmetry]:
    """Yield the symmetries of an ensemble of 1, 4 or 8."""
    for transpose in (False, True)[: 1 if size < 8 else 2]:
        for flip_y, flip_x in ((False, False), (False, True), (True, False), (True, True)):
            if size > 1 or not (flip_y or flip_x):
                yield Symmetry(flip_y, flip_x, transpose)


def run_ensemble(
    run: Callable[..., Image],
    intensity: Image,
    sensor: tuple[float, float, float] | None,
    others: Image | None,
    inside: Place,
    size: int,
) -> Image:
    """Return the mean of what a network predicts for the mirror images of its input.

    Parameters
    ----------
    run : callable
        Called with an intensity, and `sensor`, `others` and `inside` by name.
    intensity : ndarray, shape (y, x), float32
        NaN = nodata. Starts at a multiple of 4 px from the origin of the scene.
    sensor, others, inside
        As for :func:`sarstack.networks.inference.run_network`.
    size : {1, 4, 8}
        Number of mirror images.

    Returns
    -------
    ndarray, shape of `inside`, float32
        Arithmetic mean, so that the mean of the image is that of the single predictions.

    Notes
    -----
    The coarse grid of a network begins at the first pixel. So that the cells of a mirror image are
    those of the image, it is first padded with nodata to whole cells.
    """
    if size == 1:
        return run(intensity, sensor=sensor, others=others, inside=inside)
    rest = [(0, -length % ALIGNMENT_PX) for length in intensity.shape]
    padded = np.pad(intensity, rest, constant_values=np.nan)
    padded_others = None if others is None else np.pad(others, [(0, 0), *rest])
    total: Image | None = None
    for symmetry in list_symmetries(size):
        predicted = symmetry.undo(
            run(
                symmetry.apply(padded),
                sensor=symmetry.turn(sensor),
                others=None if padded_others is None else symmetry.apply(padded_others),
                inside=symmetry.move(inside, padded.shape),
            )
        )
        total = predicted.copy() if total is None else np.add(total, predicted, out=total)
    assert total is not None
    total /= np.float32(size)
    return total
