"""What products have and a plain simulation lacks: a map grid, and looks that change in a scene."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from sarstack.evaluation.scenes import Scene
from sarstack.evaluation.scores import Line, Mask
from sarstack.speckle.sensor import SpeckleSimulator

Image = NDArray[np.float32]


class MapGrid(NamedTuple):
    """A finer, turned grid to which a scene is resampled after detection, around its middle.

    Attributes
    ----------
    order : {0, 1}
        0: nearest pixel, 1: bilinear.
    step : tuple of float
        Steps along y and x in pixels of the scene, small enough that the grid is inside it.
    angle_deg : float
        By how much the grid is turned.
    """

    order: int
    step: tuple[float, float] = (0.8, 0.85)
    angle_deg: float = 4.0

    def resample(self, image: NDArray[np.floating], order: int | None = None) -> Image:
        """Return an image, shape (y, x), on this grid: the same shape, float32."""
        places = self._places((image.shape[0], image.shape[1]))
        order = self.order if order is None else order
        resampled = map_coordinates(image, places, order=order, mode="reflect", prefilter=False)
        return np.asarray(resampled, np.float32)

    def move_scene(self, scene: Scene) -> Scene:
        """Return the places of the objects of a scene on this grid."""
        lines = (
            Line(line.width_px, self._move(line.inside), self._move(line.beside))
            for line in scene.lines
        )
        shape = scene.reflectivity.diffuse.shape
        points = (self._find(point, (shape[0], shape[1])) for point in scene.points)
        return replace(
            scene,
            flats=tuple(self._move(flat) for flat in scene.flats),
            lines=tuple(lines),
            points=tuple(point for point in points if point),
        )

    def _move(self, mask: Mask) -> Mask:
        return self.resample(mask.astype(np.float32), order=0) > 0

    def _matrix(self) -> NDArray[np.float64]:
        """Return the steps along y and x of the grid (columns) in y and x of the scene (rows)."""
        cos, sin = np.cos(np.deg2rad(self.angle_deg)), np.sin(np.deg2rad(self.angle_deg))
        return np.array([[cos, -sin], [sin, cos]]) * np.array(self.step)

    def _places(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the places of the pixels of the grid in the scene, shape (2, y, x)."""
        middle = (np.array(shape) - 1) / 2
        offsets = np.indices(shape) - middle[:, None, None]
        return np.einsum("ij,jyx->iyx", self._matrix(), offsets) + middle[:, None, None]

    def _find(self, point: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int] | None:
        """Return the pixel of the grid nearest to a point of the scene; None if it is outside."""
        middle = (np.array(shape) - 1) / 2
        place = np.linalg.solve(self._matrix(), np.array(point) - middle) + middle
        y, x = (int(value) for value in np.rint(place))
        return (y, x) if 0 <= y < shape[0] and 0 <= x < shape[1] else None


def observe_with_border(
    scene: Scene, left: SpeckleSimulator, looks: float, rng: np.random.Generator
) -> Image:
    """Observe a scene whose right half has another number of looks.

    So are the borders of sub-swaths, of bursts and of mosaics.

    Parameters
    ----------
    scene : Scene
    left : SpeckleSimulator
        Sensor of the left half.
    looks : float
        Looks of the right half; its correlation is that of the left half.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (y, x), float32
        Linear power. The expectation is that of `left`, everywhere.
    """
    observed = left.observe(scene.reflectivity, rng)
    right = replace(left, looks=looks).observe(scene.reflectivity, rng)
    middle = observed.shape[1] // 2
    observed[:, middle:] = right[:, middle:]
    return observed


def measure_looks(noisy: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Return the equivalent number of looks of an image whose expectation is known."""
    positive = truth > 0
    ratio = noisy[positive].astype(np.float64) / truth[positive]
    return float(1 / np.mean((ratio - 1) ** 2))
