"""Training patches of simulated speckle: unlimited, from a seed, made in memory.

Each batch mixes looks and correlations, so that a network learns to distinguish them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.training.batch import Batch
from sarstack.training.landscape_drawing import draw_training_landscape
from sarstack.training.pixel_weights import LOOKS_POWER, weigh_looks, weigh_scene

FloatImage = NDArray[np.float32]

SCENE_PX = 256

POOL_SCENES = 400
"""Batch n draws its scenes from n to n + 399, so a batch needs one new scene on average."""

SATURATION = np.float32(10)

UNKNOWN_SENSOR_FRACTION = 0.2
LOOKS_ERROR, CORRELATION_ERROR = 0.15, 0.04
"""Standard deviation of the looks (relative) and of the correlation that a network gets as
input: those of a real scene are estimates."""

SWATH_EDGE_FRACTION = 0.1

USUAL_SENSOR_FRACTION = 0.5
USUAL_SENSOR_PROBABILITIES = (0.2, 0.2, 0.2, 0.4)
"""Of ground range detected data, single looks, white single looks, and terrain corrected data at
30 m (where small errors are most visible)."""


class ObservedScene(NamedTuple):
    """A simulated scene, observed by one sensor; arrays (y, x).

    Attributes
    ----------
    noisy, clean, weight, detail : ndarray, shape (y, x), float32
        See :class:`sarstack.training.batch.Batch`.
    looks : float
    correlation : tuple of float
        Lag-1 correlation of intensity along y and x.
    """

    noisy: FloatImage
    clean: FloatImage
    weight: FloatImage
    detail: FloatImage
    looks: float
    correlation: tuple[float, float]


class SimulatedPatches:
    """A source of speckled patches with their exact expected intensity as target.

    Parameters
    ----------
    seed : int
        A batch depends on the seed and on its own number only.
    batch_size, patch_px : int
        Patches per batch and their side in pixels, at most 256.
    detail_weight : float
        Additional weight of pixels that differ from their surroundings; see
        :func:`sarstack.training.pixel_weights.weigh_scene`.
    looks_power : float
        Patches are weighted by this power of their looks.
    brightness : bool
        Divide by the 98th percentile of the noisy scene, as ``despecknet-paper`` needs,
        and limit intensities to ten times the percentile.
    simulator : SpeckleSimulator, optional
        Sensor of all scenes; by default one is drawn for each scene.
    references : sequence of ndarray, shape (y, x), float32
        Clean images in dB; a quarter of the scenes are cut from them.
    """

    def __init__(
        self,
        seed: int,
        batch_size: int = 16,
        patch_px: int = 64,
        *,
        detail_weight: float = 1.0,
        looks_power: float = LOOKS_POWER,
        brightness: bool = False,
        simulator: SpeckleSimulator | None = None,
        references: Sequence[FloatImage] = (),
    ) -> None:
        self.seed, self.batch_size, self.patch_px = seed, batch_size, patch_px
        self.detail_weight, self.looks_power = detail_weight, looks_power
        self.brightness = brightness
        self.simulator, self.references = simulator, references
        self._scene = lru_cache(maxsize=POOL_SCENES + 16)(self._observe_scene)

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x), float32."""
        rng = np.random.default_rng([self.seed, 0, step])
        scenes = step + rng.integers(0, POOL_SCENES, self.batch_size)
        drawn = [self._draw(self._scene(int(index)), rng) for index in scenes]
        *images, sensor = (np.stack(part) for part in zip(*drawn, strict=True))
        noisy, clean, weight, detail = (image[:, None] for image in images)
        return Batch(noisy, clean, weight, sensor, detail=detail)

    def _observe_scene(self, index: int) -> ObservedScene:
        rng = np.random.default_rng([self.seed, 1, index])
        side = SCENE_PX + 2 * MARGIN_PX
        scene = draw_training_landscape(side, rng, self.references)
        sensor = self.simulator or draw_simulator(rng)
        noisy, clean = sensor.observe_inside(scene, rng)
        if self.brightness:
            bright = np.float32(np.percentile(noisy, 98))
            # Otherwise, the strongest corners would dominate a mean square in linear power.
            noisy, clean = (np.minimum(part / bright, SATURATION) for part in (noisy, clean))
        weight, detail = weigh_scene(noisy, clean, sensor.looks, self.detail_weight)
        weight *= weigh_looks(sensor.looks, self.looks_power)
        return ObservedScene(noisy, clean, weight, detail, sensor.looks, sensor.correlation)

    def _draw(self, scene: ObservedScene, rng: np.random.Generator) -> tuple[FloatImage, ...]:
        """Cut a patch and transform it; a quarter turn swaps the correlation of y and x."""
        y, x = rng.integers(0, SCENE_PX - self.patch_px + 1, 2)
        rows, columns = slice(y, y + self.patch_px), slice(x, x + self.patch_px)
        symmetry = int(rng.integers(8))
        images = [apply_symmetry(image[rows, columns], symmetry) for image in scene[:4]]
        if rng.random() < SWATH_EDGE_FRACTION:
            outside = draw_swath_edge(self.patch_px, rng)
            images[0] = np.where(outside, np.float32(np.nan), images[0])
        correlation = scene.correlation[:: -1 if symmetry % 2 else 1]
        return (*images, draw_sensor_input(scene.looks, correlation, rng))


def draw_sensor_input(
    looks: float, correlation: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw looks and correlation as a network gets them: with errors, or unknown.

    Returns
    -------
    ndarray, shape (4,), float32
        Looks, correlation along y and x, and 1 if they are known, else 0.
    """
    error = rng.normal(0, 1, 3)
    estimate = np.clip(np.array(correlation) + CORRELATION_ERROR * error[1:], 0, 0.95)
    is_known = float(rng.random() >= UNKNOWN_SENSOR_FRACTION)
    return np.array([looks * np.exp(LOOKS_ERROR * error[0]), *estimate, is_known], np.float32)


def draw_swath_edge(side_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a straight line across the patch; return True for the pixels beyond it."""
    rows, columns = np.indices((side_px, side_px))
    angle = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2, rng.uniform(0, 2 * np.pi)])
    y, x = rng.uniform(0, side_px, 2)
    beyond: NDArray[np.bool_] = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle) > 0
    return beyond


def draw_simulator(rng: np.random.Generator) -> SpeckleSimulator:
    """Draw a sensor for training: looks 1 to 20, log-uniform, lag-1 correlation 0 to 0.85.

    Half of the sensors are similar to usual products. A quarter has no sharp band edge.
    """
    taper, sharp = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.75)
    if rng.random() < USUAL_SENSOR_FRACTION:
        looks, low, high = [
            (rng.uniform(3.5, 5.5), 0.5, 0.8),
            (1.0, 0.2, 0.45),
            (1.0, 0.0, 0.0),
            (rng.uniform(7, 13), 0.0, 0.15),
        ][int(rng.choice(4, p=USUAL_SENSOR_PROBABILITIES))]
        pair = rng.uniform(low, high, 2)
        return SpeckleSimulator(float(looks), (float(pair[0]), float(pair[1])), taper, sharp)
    looks = float(np.exp(rng.uniform(0, np.log(20))))
    if rng.random() < 0.15:
        return SpeckleSimulator(looks)
    mean_of_both = rng.uniform(0, 0.85)
    pair = np.clip(mean_of_both + rng.normal(0, 0.08, 2), 0, 0.85)
    return SpeckleSimulator(looks, (float(pair[0]), float(pair[1])), taper, sharp)


def draw_single_look_simulator(rng: np.random.Generator) -> SpeckleSimulator:
    """Draw a sensor of 1 to 4 looks, most of them one; lag-1 correlation 0 or 0.1 to 0.5."""
    taper, sharp = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.75)
    looks = 1.0 if rng.random() < 0.6 else float(np.exp(rng.uniform(0, np.log(4))))
    if rng.random() < 0.5:
        return SpeckleSimulator(looks)
    pair = rng.uniform(0.1, 0.5, 2)
    return SpeckleSimulator(looks, (float(pair[0]), float(pair[1])), taper, sharp)


SENSORS = {"all": draw_simulator, "single-look": draw_single_look_simulator}
"""Which sensors a training sees."""


def apply_symmetry(image: FloatImage, symmetry: int) -> FloatImage:
    """Apply one of the eight symmetries of a square (0 to 7): quarter turns, then a mirror."""
    turned = np.rot90(image, symmetry % 4)
    return np.ascontiguousarray(turned[:, ::-1] if symmetry >= 4 else turned)
