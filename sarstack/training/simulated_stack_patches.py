"""Training patches of simulated stacks: one date, and sums over the other dates.

These stacks change more than real land does. A network must learn to ignore the other dates
at pixels where they differ from the input by more than speckle.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.date_sums import sum_dates
from sarstack.speckle.landscapes import Reflectivity
from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.training.batch import Batch
from sarstack.training.landscape_drawing import draw_brightness_changes, draw_training_landscape
from sarstack.training.pixel_weights import weigh_looks, weigh_scene
from sarstack.training.simulated_patches import (
    apply_symmetry,
    draw_sensor_input,
    draw_simulator,
)

FloatCube = NDArray[np.float32]

SCENE_PX = 192
MAX_DATES = 10

POOL_STACKS = 80
BATCHES_PER_STACK = 3
"""A new stack every third batch: simulating a stack takes as long as ten scenes."""

SINGLE_DATE_FRACTION = 0.15
"""Fraction of patches without other dates, as in a stack of one date."""

LONG_STACK_FRACTION = 0.2
"""Fraction of patches whose sums contain up to six more dates for each simulated one."""

CHANGED_DB = 1.0
CHANGED_WEIGHT = 2.0
"""Additional weight of pixels that differ by more than 1 dB from the median over time."""


class ObservedStack(NamedTuple):
    """A simulated stack, observed by one sensor; arrays (time, y, x)."""

    noisy: FloatCube
    clean: FloatCube
    weight: FloatCube
    detail: FloatCube
    sensor: SpeckleSimulator


class SimulatedStackPatches:
    """A source of batches for ``despecknet-mt``: patches, targets and sums over other dates.

    Parameters
    ----------
    seed : int
        A batch depends on the seed and on its own number only.
    batch_size, patch_px : int
        Patches per batch and their side in pixels, at most 192.
    detail_weight : float
        See :class:`sarstack.training.simulated_patches.SimulatedPatches`.
    """

    def __init__(
        self, seed: int, batch_size: int = 16, patch_px: int = 96, *, detail_weight: float = 1.0
    ) -> None:
        self.seed, self.batch_size, self.patch_px = seed, batch_size, patch_px
        self.detail_weight = detail_weight
        self._stack = lru_cache(maxsize=POOL_STACKS + 8)(self._observe_stack)

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x) and sums (batch, 4, y, x)."""
        rng = np.random.default_rng([self.seed, 2, step])
        stacks = step // BATCHES_PER_STACK + rng.integers(0, POOL_STACKS, self.batch_size)
        drawn = [self._draw(self._stack(int(index)), rng) for index in stacks]
        noisy, clean, weight, detail, sensor, others = _stack_parts(drawn)
        noisy, clean, weight, detail = (part[:, None] for part in (noisy, clean, weight, detail))
        return Batch(noisy, clean, weight, sensor, others, detail)

    def _observe_stack(self, index: int) -> ObservedStack:
        rng = np.random.default_rng([self.seed, 3, index])
        side = SCENE_PX + 2 * MARGIN_PX
        land = draw_training_landscape(side, rng)
        sensor = draw_simulator(rng)
        gain = (10 ** (draw_brightness_changes(MAX_DATES, side, rng) / 10)).astype(np.float32)
        scenes = [Reflectivity(land.diffuse * g, land.points * np.sqrt(g)) for g in gain]
        noisy, clean = _stack_parts(sensor.observe_inside(scene, rng) for scene in scenes)
        weight, detail = _stack_parts(
            weigh_scene(*date, sensor.looks, self.detail_weight)
            for date in zip(noisy, clean, strict=True)
        )
        weight *= weigh_looks(sensor.looks)
        changed = np.abs(np.log(clean / np.median(clean, axis=0))) > CHANGED_DB * np.log(10) / 10
        weight += np.float32(CHANGED_WEIGHT) * changed
        return ObservedStack(noisy, clean, weight, detail, sensor)

    def _draw(self, stack: ObservedStack, rng: np.random.Generator) -> tuple[FloatCube, ...]:
        """Cut a patch of one date, and sum a random choice of the other dates."""
        y, x = rng.integers(0, SCENE_PX - self.patch_px + 1, 2)
        place = (slice(y, y + self.patch_px), slice(x, x + self.patch_px))
        date, *others = rng.permutation(MAX_DATES)[: 1 + draw_date_count(rng)]
        total = sum_dates(stack.noisy[(others, *place)], (self.patch_px, self.patch_px))
        if others and rng.random() < LONG_STACK_FRACTION:
            total += sum_further_dates(stack, others, place, rng)
        symmetry = int(rng.integers(8))
        images = [apply_symmetry(image[(date, *place)], symmetry) for image in stack[:4]]
        correlation = stack.sensor.correlation[:: -1 if symmetry % 2 else 1]
        sensor = draw_sensor_input(stack.sensor.looks, correlation, rng)
        return (*images, sensor, np.stack([apply_symmetry(part, symmetry) for part in total]))


def _stack_parts(tuples: Iterable[tuple[FloatCube, ...]]) -> list[FloatCube]:
    """Stack the first elements of all tuples, the second elements, and so on."""
    return [np.stack(part) for part in zip(*tuples, strict=True)]


def draw_date_count(rng: np.random.Generator) -> int:
    """Draw the number of other dates: 0 in 15 % of the cases, else log-uniform."""
    if rng.random() < SINGLE_DATE_FRACTION:
        return 0
    return int(np.clip(np.exp(rng.uniform(0, np.log(MAX_DATES))), 1, MAX_DATES - 1))


def sum_further_dates(
    stack: ObservedStack, others: list[int], place: tuple[slice, slice], rng: np.random.Generator
) -> FloatCube:
    """Return sums over 1 to 6 further dates for each of `others`, with the same clean image.

    Their speckle is white, which is simpler to simulate: in sums over so many dates, little of
    it is left.
    """
    times = int(rng.integers(1, 7))
    clean = np.repeat(stack.clean[(others, *place)], times, axis=0)
    looks = stack.sensor.looks
    speckle = rng.gamma(looks, 1 / looks, clean.shape).astype(np.float32)
    return sum_dates(clean * speckle + np.float32(1e-12), clean.shape[1:])
