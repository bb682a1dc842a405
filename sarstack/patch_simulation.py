"""Training patches of simulated speckle: endless, seeded, made in memory.

One batch mixes looks and correlations: with one setting per batch the running statistics
of batch normalisation would fit none of them.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sarstack.losses import Batch
from sarstack.reflectivity import Reflectivity, simulate_reflectivity
from sarstack.simulation import MARGIN_PX, SpeckleSimulator

SCENE_PX = 256
# A window of scenes slides through an endless row of them: one new scene per batch.
POOL_SCENES = 400
SATURATED = np.float32(10)


class SimulatedPatches:
    """Batches of speckled patches with their exact expectation.

    Parameters
    ----------
    seed : int
        Everything follows from it and from the number of the batch.
    batch_size, patch_px : int
        Patches per batch and their side in pixels.
    detail_weight : float
        How much more a pixel counts per neper that its clean value differs from its
        surroundings: points and thin lines are few and would be given up otherwise.
    brightness : bool
        Divide by the 98th percentile of the noisy scene, as ``despecknet-paper`` needs,
        and saturate at ten times that.
    simulator : SpeckleSimulator, optional
        Always this sensor, instead of one drawn per patch.
    """

    def __init__(
        self,
        seed: int,
        batch_size: int = 16,
        patch_px: int = 64,
        *,
        detail_weight: float = 1.0,
        brightness: bool = False,
        simulator: SpeckleSimulator | None = None,
    ) -> None:
        self.seed, self.batch_size, self.patch_px = seed, batch_size, patch_px
        self.detail_weight, self.brightness = detail_weight, brightness
        self.simulator = simulator
        self._scene = lru_cache(maxsize=POOL_SCENES + 16)(self._make_scene)

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x), float32."""
        rng = np.random.default_rng([self.seed, 0, step])
        scenes = step + rng.integers(0, POOL_SCENES, self.batch_size)
        drawn = [self._draw(self._scene(int(index)), rng) for index in scenes]
        noisy, clean, weight = (np.stack(part)[:, None] for part in zip(*drawn, strict=True))
        return Batch(noisy, clean, weight)

    def _make_scene(self, index: int) -> Reflectivity:
        rng = np.random.default_rng([self.seed, 1, index])
        return simulate_reflectivity((SCENE_PX, SCENE_PX), rng)

    def _draw(
        self, scene: Reflectivity, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], ...]:
        sensor = self.simulator or draw_simulator(rng)
        side = self.patch_px + 2 * MARGIN_PX
        y, x = rng.integers(0, SCENE_PX - side + 1, 2)
        part = scene.crop(slice(y, y + side), slice(x, x + side))
        part = _turn(part, int(rng.integers(8)))
        noisy, clean = sensor.observe_inside(part, rng)
        if self.brightness:
            seen = scene.diffuse[::5, ::5]
            speckle = rng.gamma(sensor.looks, 1 / sensor.looks, seen.shape)
            bright = np.float32(np.percentile(seen * speckle, 98))
            # A mean square in linear power would see nothing but the strongest corners.
            noisy, clean = (np.minimum(part / bright, SATURATED) for part in (noisy, clean))
        return noisy, clean, self._weigh(clean)

    def _weigh(self, clean: NDArray[np.float32]) -> NDArray[np.float32]:
        log = np.log(clean)
        contrast = np.abs(log - uniform_filter(log, 15, mode="nearest"))
        return (1 + self.detail_weight * np.clip(contrast - 0.5, 0, 6)).astype(np.float32)


def draw_simulator(rng: np.random.Generator) -> SpeckleSimulator:
    """Draw a sensor for blind training: looks 1-20 log-uniform, correlation 0-0.85.

    Four in ten are near what users have (GRD, single look, white single look, terrain
    corrected at 30 m), the others anywhere between. A quarter has no sharp band edge.
    """
    taper, sharp = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.75)
    if rng.random() < 0.4:
        looks, low, high = [
            (rng.uniform(3.5, 5.5), 0.5, 0.8),
            (1.0, 0.2, 0.45),
            (1.0, 0.0, 0.0),
            (rng.uniform(7, 13), 0.0, 0.15),
        ][int(rng.integers(4))]
        pair = rng.uniform(low, high, 2)
        return SpeckleSimulator(float(looks), (float(pair[0]), float(pair[1])), taper, sharp)
    looks = float(np.exp(rng.uniform(0, np.log(20))))
    if rng.random() < 0.15:
        return SpeckleSimulator(looks)
    shared = rng.uniform(0, 0.85)
    pair = np.clip(shared + rng.normal(0, 0.08, 2), 0, 0.85)
    return SpeckleSimulator(looks, (float(pair[0]), float(pair[1])), taper, sharp)


def _turn(scene: Reflectivity, way: int) -> Reflectivity:
    """Rotate and mirror: the eight symmetries of a square."""

    def turn(image: NDArray[np.generic]) -> NDArray[np.generic]:
        turned = np.rot90(image, way % 4)
        return np.ascontiguousarray(turned[:, ::-1] if way >= 4 else turned)

    return Reflectivity(turn(scene.diffuse), turn(scene.points))  # type: ignore[arg-type]
