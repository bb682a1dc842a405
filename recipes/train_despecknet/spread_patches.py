"""Patches for the training of the uncertainty: more flat ground, and more unknown sensors.

Where the ground is flat, a network errs less than where it has weak texture that speckle hides. In
the patches of run.py hardly any ground is flat; there the network would tell too large a spread.
"""

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import MARGIN_PX
from sarstack.training.batch import Batch
from sarstack.training.simulated_patches import (
    SCENE_PX,
    ObservedScene,
    SimulatedPatches,
    draw_simulator,
)

LANDSCAPE_FRACTION, MOSAIC_FRACTION = 0.25, 0.4
"""Of landscapes without the additional texture of run.py, and of mosaics of flat ground."""
UNKNOWN_FRACTION = 0.4
"""Of the patches whose looks and correlation are made unknown, beside those of run.py."""


class SpreadPatches(SimulatedPatches):
    """A source of patches; parameters are those of :class:`SimulatedPatches`."""

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x), float32."""
        batch = super().batch(step)
        rng = np.random.default_rng([self.seed, 8, step])
        assert batch.sensor is not None
        batch.sensor[rng.random(len(batch.sensor)) < UNKNOWN_FRACTION, 3] = 0
        return batch

    def _observe_scene(self, index: int) -> ObservedScene:
        rng = np.random.default_rng([self.seed, 7, index])
        kind, side = rng.random(), SCENE_PX + 2 * MARGIN_PX
        if kind > LANDSCAPE_FRACTION + MOSAIC_FRACTION:
            return super()._observe_scene(index)
        draw = draw_mosaic if kind < MOSAIC_FRACTION else simulate_reflectivity
        sensor = draw_simulator(rng)
        noisy, clean = sensor.observe_inside(draw((side, side), rng), rng)
        ones = np.ones_like(clean)
        return ObservedScene(noisy, clean, ones, ones, sensor.looks, sensor.correlation)


def draw_mosaic(
    shape: tuple[int, int], rng: np.random.Generator, objects: float = 0.5
) -> Reflectivity:
    """Draw fields of constant reflectivity with straight borders.

    Lines are drawn with the probability `objects`, and points, too.
    """
    rows, columns = np.indices(shape)
    n_fields = int(rng.integers(1, 9))
    seeds = rng.uniform(0, shape, (n_fields, 2))
    distance = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in seeds]
    land_db = rng.normal(-12, 5, n_fields)[np.argmin(distance, axis=0)]
    for _ in range(int(rng.integers(0, 5)) * (rng.random() < objects)):
        _draw_line(land_db, rng)
    points = np.zeros(shape, np.complex64)
    n_points = int(rng.integers(0, 20)) * (rng.random() < objects)
    place = tuple(rng.integers(0, size, n_points) for size in shape)
    amplitude = 10 ** (rng.uniform(-2, 20, n_points) / 20)
    points[place] = amplitude * np.exp(2j * np.pi * rng.random(n_points))
    return Reflectivity((10 ** (land_db / 10)).astype(np.float32), points)


def _draw_line(land_db: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw a dark or bright straight line of 1 to 5 px across the image, in place."""
    rows, columns = np.indices(land_db.shape)
    angle, (y, x) = rng.uniform(0, np.pi), rng.uniform(0, land_db.shape)
    distance_px = np.abs((rows - y) * np.sin(angle) + (columns - x) * np.cos(angle))
    land_db[distance_px < rng.integers(1, 6) / 2] += rng.choice([-8.0, 8.0])
