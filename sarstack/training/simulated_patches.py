"""Training patches of simulated speckle: endless, seeded, made in memory.

One batch mixes looks and correlations: with one setting per batch no network would learn
to tell them apart.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sarstack.speckle.landscapes import Reflectivity, reflect_image, simulate_reflectivity
from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.training.losses import SURROUNDINGS_PX, Batch

FloatImage = NDArray[np.float32]

SCENE_PX = 256
# A window of scenes slides through an endless row of them: one new scene per batch.
POOL_SCENES = 400
SATURATED = np.float32(10)
# How often the network is told nothing, and how wrong it is told the rest: the looks of a
# real scene are an estimate.
UNTOLD_SHARE = 0.2
LOOKS_SPREAD, CORRELATION_SPREAD = 0.15, 0.04
HOLE_SHARE = 0.1
REFERENCE_SHARE = 0.25
ROUGH_SHARE = 0.12
# Of the strong scatterers. What one look shows of a speckled one is 2.5 dB too dark on average:
# a network that knows every other one as speckled makes all of them a decibel too bright.
STEADY_SHARE = 0.95
# Many more of them than there are outside towns, for a network to learn what they look like.
POINTS = 2.5
# At few looks a weak point looks like speckle. There, points count that much more, and so does
# what is brighter than speckle often is.
FEW_LOOKS, MANY_LOOKS = 1.5, 3.0
POINT_WEIGHT, BRIGHT_WEIGHT = 18.0, 4.0
BRIGHT_NEPERS = 2.0
LOOKS_POWER = 0.6
USUAL_SHARE = 0.5
# Of what is usual: ground range detected, single looks, white single looks, and terrain
# corrected at 30 m, where small errors show most.
USUAL_SENSORS = (0.2, 0.2, 0.2, 0.4)


class ObservedScene(NamedTuple):
    """A simulated scene as one sensor saw it, arrays (y, x)."""

    noisy: FloatImage
    clean: FloatImage
    weight: FloatImage
    detail: FloatImage
    sensor: SpeckleSimulator


class SimulatedPatches:
    """Batches of speckled patches with their exact expectation.

    Parameters
    ----------
    seed : int
        Everything follows from it and from the number of the batch.
    batch_size, patch_px : int
        Patches per batch and their side in pixels, at most 256.
    detail_weight : float
        How much more details count, 1 being what the shipped weights were trained with: points
        and thin lines are few and would be given up otherwise.
    looks_power : float
        Patches weigh by this power of their looks: with many the errors are small, and would
        not count.
    brightness : bool
        Divide by the 98th percentile of the noisy scene, as ``despecknet-paper`` needs,
        and saturate at ten times that.
    simulator : SpeckleSimulator, optional
        Always this sensor, instead of one drawn per scene.
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
        if self.references and rng.random() < REFERENCE_SHARE:
            chosen = self.references[int(rng.integers(len(self.references)))]
            scene = reflect_image(chosen, (side, side), rng, STEADY_SHARE, POINTS)
        else:
            scene = simulate_reflectivity((side, side), rng, None, STEADY_SHARE, POINTS)
        scene, sensor = roughen(scene, rng), self.simulator or draw_simulator(rng)
        noisy, clean = sensor.observe_inside(scene, rng)
        if self.brightness:
            bright = np.float32(np.percentile(noisy, 98))
            # A mean square in linear power would see nothing but the strongest corners.
            noisy, clean = (np.minimum(part / bright, SATURATED) for part in (noisy, clean))
        weight, detail = weigh_scene(noisy, clean, sensor.looks, self.detail_weight)
        weight *= weigh_looks(sensor.looks, self.looks_power)
        return ObservedScene(noisy, clean, weight, detail, sensor)

    def _draw(self, scene: ObservedScene, rng: np.random.Generator) -> tuple[FloatImage, ...]:
        """Cut a patch and turn it; y is no longer y when a quarter turn is among it."""
        y, x = rng.integers(0, SCENE_PX - self.patch_px + 1, 2)
        rows, columns = slice(y, y + self.patch_px), slice(x, x + self.patch_px)
        way = int(rng.integers(8))
        images = [turn_image(image[rows, columns], way) for image in scene[:4]]
        if rng.random() < HOLE_SHARE:
            images[0] = np.where(draw_hole(self.patch_px, rng), np.float32(np.nan), images[0])
        correlation = scene.sensor.correlation[:: -1 if way % 2 else 1]
        return (*images, tell_sensor(scene.sensor.looks, correlation, rng))


def weigh_scene(
    noisy: FloatImage, clean: FloatImage, looks: float, detail_weight: float = 1.0
) -> tuple[FloatImage, FloatImage]:
    """Weigh the pixels of a scene by what they show, and by what they are.

    Parameters
    ----------
    noisy, clean : ndarray, shape (y, x), float32
        Linear power.
    looks : float
    detail_weight : float
        0: all weigh alike.

    Returns
    -------
    weight : ndarray, shape (y, x), float32
        More than 1 where few looks are far brighter than their surroundings. It follows from
        what the network sees, so it changes nothing of what is right.
    detail : ndarray, shape (y, x), float32
        More than 1 where the truth differs from its surroundings, most of all where it is a
        point; see :func:`sarstack.training.losses.clean_loss`.
    """
    log, around = _log_and_around(clean)
    few = np.clip((MANY_LOOKS - looks) / (MANY_LOOKS - FEW_LOOKS), 0, 1) * detail_weight
    excess = np.log(np.maximum(noisy, np.finfo(np.float32).tiny)) - around
    weight = 1 + few * BRIGHT_WEIGHT * np.clip(excess - BRIGHT_NEPERS, 0, 1)
    detail = _weigh_contrast(log - around, detail_weight)
    detail += few * POINT_WEIGHT * np.clip(log - around - BRIGHT_NEPERS, 0, 1)
    return weight.astype(np.float32), detail


def weigh_detail(clean: FloatImage, detail_weight: float) -> FloatImage:
    """Weigh pixels by how much they differ from their surroundings, 1 where they do not."""
    log, around = _log_and_around(clean)
    return _weigh_contrast(log - around, detail_weight)


def _log_and_around(clean: FloatImage) -> tuple[FloatImage, FloatImage]:
    log = np.log(clean)
    return log, uniform_filter(log, 2 * SURROUNDINGS_PX + 1, mode="nearest")


def _weigh_contrast(contrast: FloatImage, detail_weight: float) -> FloatImage:
    return (1 + detail_weight * np.clip(np.abs(contrast) - 0.5, 0, 6)).astype(np.float32)


def weigh_looks(looks: float, power: float = LOOKS_POWER) -> np.float32:
    """Weigh a patch by its looks."""
    return np.float32(looks**power)


def roughen(scene: Reflectivity, rng: np.random.Generator) -> Reflectivity:
    """Give some scenes texture from pixel to pixel, as 30 m data have: it is no speckle."""
    if rng.random() >= ROUGH_SHARE:
        return scene
    texture_db = rng.uniform(0.3, 2.5) * rng.standard_normal(scene.diffuse.shape)
    return Reflectivity((scene.diffuse * 10 ** (texture_db / 10)).astype(np.float32), scene.points)


def tell_sensor(
    looks: float, correlation: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Describe a sensor as a user would know it: not exactly, or not at all."""
    error = rng.normal(0, 1, 3)
    told = np.clip(np.array(correlation) + CORRELATION_SPREAD * error[1:], 0, 0.95)
    known = float(rng.random() >= UNTOLD_SHARE)
    return np.array([looks * np.exp(LOOKS_SPREAD * error[0]), *told, known], np.float32)


def draw_hole(side_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the edge of a swath: nodata beyond a straight line across the patch."""
    rows, columns = np.indices((side_px, side_px))
    angle = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2, rng.uniform(0, 2 * np.pi)])
    y, x = rng.uniform(0, side_px, 2)
    beyond: NDArray[np.bool_] = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle) > 0
    return beyond


def draw_simulator(rng: np.random.Generator) -> SpeckleSimulator:
    """Draw a sensor for training: looks 1-20 log-uniform, correlation 0-0.85.

    Half are near what users have, the others anywhere between. A quarter has no sharp band
    edge.
    """
    taper, sharp = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.75)
    if rng.random() < USUAL_SHARE:
        looks, low, high = [
            (rng.uniform(3.5, 5.5), 0.5, 0.8),
            (1.0, 0.2, 0.45),
            (1.0, 0.0, 0.0),
            (rng.uniform(7, 13), 0.0, 0.15),
        ][int(rng.choice(4, p=USUAL_SENSORS))]
        pair = rng.uniform(low, high, 2)
        return SpeckleSimulator(float(looks), (float(pair[0]), float(pair[1])), taper, sharp)
    looks = float(np.exp(rng.uniform(0, np.log(20))))
    if rng.random() < 0.15:
        return SpeckleSimulator(looks)
    shared = rng.uniform(0, 0.85)
    pair = np.clip(shared + rng.normal(0, 0.08, 2), 0, 0.85)
    return SpeckleSimulator(looks, (float(pair[0]), float(pair[1])), taper, sharp)


def turn_image(image: FloatImage, way: int) -> FloatImage:
    """Rotate and mirror: the eight symmetries of a square."""
    turned = np.rot90(image, way % 4)
    return np.ascontiguousarray(turned[:, ::-1] if way >= 4 else turned)
