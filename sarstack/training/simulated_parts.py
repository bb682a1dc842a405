"""Training patches of single look complex images: one part as input of MERLIN."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np

from sarstack.speckle.complex_parts import PART_LOOKS, split_parts
from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.training.landscape_drawing import draw_training_landscape
from sarstack.training.pixel_weights import weigh_scene
from sarstack.training.simulated_patches import (
    SCENE_PX,
    FloatImage,
    ObservedScene,
    SimulatedPatches,
)

WHITE_FRACTION, OVERSAMPLED_FRACTION = 0.15, 0.15


class SimulatedParts(SimulatedPatches):
    """A source of patches ``2 a**2``, a one part of a simulated complex field.

    Parameters
    ----------
    seed, batch_size, patch_px
        See :class:`SimulatedPatches`.
    target : {"truth", "other part"}
        ``truth``: the exact expectation of ``a**2 + b**2``. ``other part``: ``2 b**2``, which has
        the same expectation, as in the training on real images.
    detail_weight, simulator, references
        See :class:`SimulatedPatches`. Only the correlation of a simulator counts: all fields are
        single looks.
    """

    def __init__(
        self,
        seed: int,
        batch_size: int = 16,
        patch_px: int = 96,
        *,
        target: Literal["truth", "other part"] = "truth",
        detail_weight: float = 1.0,
        simulator: SpeckleSimulator | None = None,
        references: Sequence[FloatImage] = (),
    ) -> None:
        super().__init__(
            seed, batch_size, patch_px, detail_weight=detail_weight, looks_power=0.0,
            simulator=simulator, references=references,
        )  # fmt: skip
        self.target = target

    def _observe_scene(self, index: int) -> ObservedScene:
        rng = np.random.default_rng([self.seed, 8, index])
        scene = draw_training_landscape(SCENE_PX + 2 * MARGIN_PX, rng, self.references)
        sensor = self.simulator or draw_single_look(rng)
        field, clean = sensor.observe_field_inside(scene, rng)
        noisy, other = split_parts(field)[:: rng.choice([-1, 1])]
        end = partial(ObservedScene, looks=PART_LOOKS, correlation=sensor.correlation)
        if self.target == "other part":
            return end(noisy, other, np.ones_like(clean), np.ones_like(clean))
        return end(noisy, clean, *weigh_scene(noisy, clean, PART_LOOKS, self.detail_weight))


def draw_single_look(rng: np.random.Generator) -> SpeckleSimulator:
    """Draw a sensor of single looks: white, or with a band of 0.6 to 1 of the sampling frequency.

    Some are oversampled. A quarter has no sharp band edge. Sentinel-1 IW has an intensity
    correlation of about 0.36 in range and 0.25 in azimuth.
    """
    if rng.random() < WHITE_FRACTION:
        return SpeckleSimulator(1.0)
    y, x = rng.uniform(*((0.0, 0.5) if rng.random() > OVERSAMPLED_FRACTION else (0.3, 0.75)), 2)
    taper, sharp = float(rng.uniform(0.6, 1.0)), bool(rng.random() < 0.75)
    return SpeckleSimulator(1.0, (float(y), float(x)), taper, sharp)
