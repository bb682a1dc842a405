"""Tuning of MERLIN: from one part of a single look complex image, predict the other part.

Both parts have the same expectation and independent speckle, so the best prediction of the other
part is the clean image. Neither clean images nor other dates are needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.complex_parts import PART_LOOKS
from sarstack.training.batch import Batch, TensorBatch, to_tensors
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.losses import WeightedMean
from sarstack.training.ratio import RatioScore, RatioValidation, despeckle_batches
from sarstack.training.tuning import (
    FinetuneSettings,
    describe_no_gain,
    is_significantly_smaller,
)

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_PX = 16

LARGEST_RATIO = 20.0
"""The loss grows linearly with the logarithm where the other part is brighter than this many times
the prediction: a strong scatterer whose phase hides it from this part. Of speckle, one pixel in
130,000 is."""
LEAST_RATIO_VARIANCE = 0.7
MIN_GAIN = 0.002
"""Smallest gain of the mean loss that counts. Where the weights fit, tuning gains 0.0006."""

SMALLEST_TARGET = 1e-30
"""Replaces zeros of whole numbers, whose logarithm is not finite."""


@dataclass(frozen=True)
class PartsScore(RatioScore):
    """Distance of held-out predictions from the other part, and their ratio images.

    Attributes
    ----------
    sums : ndarray, shape (block,), float64
        Loss summed over blocks of 16 x 16 px, which are nearly independent of each other.
    n_pixels : int
        Number of pixels in these sums.
    """

    sums: NDArray[np.float64]
    n_pixels: int

    @property
    def loss(self) -> float:
        """Mean loss of a pixel; its level depends on the unit of the intensity."""
        return float(self.sums.sum()) / max(self.n_pixels, 1)

    def row(self) -> dict[str, float]:
        """Return the columns of the learning curve."""
        return {"validation_loss": self.loss, **super().row()}


@dataclass(frozen=True)
class PartsValidation:
    """Held-out places of single look complex images.

    Attributes
    ----------
    batches : tuple of Batch
        Each place gives two patches next to each other: a part with the other one as target, then
        the reverse.
    ratio : RatioValidation
        Intensities of the same places, one patch each, and their homogeneous windows.
    """

    batches: tuple[Batch, ...]
    ratio: RatioValidation

    @classmethod
    def from_batches(
        cls, batches: Sequence[Batch], correlation: tuple[float, float]
    ) -> "PartsValidation":
        """Use batches of :class:`sarstack.training.part_patches.PartPatches` as validation."""
        both = tuple(_add_reverse(batch) for batch in batches)
        half = np.float32(0.5)
        intensity = [b._replace(intensity=half * (b.intensity + b.target)) for b in batches]
        return cls(both, RatioValidation.from_patches(intensity, 2 * PART_LOOKS, correlation))

    def score_network(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> PartsScore:
        """Predict each part from the other; compare the mean of both with speckle."""
        predicted = despeckle_batches(network, self.batches, device, group)
        sums, n_pixels = zip(*map(_sum_blocks, predicted, self.batches), strict=True)
        ratio = self.ratio.score_images([np.float32(0.5) * (p[::2] + p[1::2]) for p in predicted])
        return PartsScore(
            ratio.mean, ratio.variance, ratio.expected_variance, ratio.n_windows,
            np.concatenate(sums), sum(n_pixels),
        )  # fmt: skip


def _add_reverse(batch: Batch) -> Batch:
    """Return each patch followed by the patch with input and target exchanged."""

    def interleave(
        first: NDArray[np.float32] | None, second: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        assert first is not None
        assert second is not None
        return np.stack([first, second], 1).reshape(-1, *first.shape[1:])

    return Batch(
        interleave(batch.intensity, batch.target),
        interleave(batch.target, batch.intensity),
        interleave(batch.weight, batch.weight),
        interleave(batch.sensor, batch.sensor),
    )


def _sum_blocks(predicted: NDArray[np.float32], batch: Batch) -> tuple[NDArray[np.float64], int]:
    """Return the loss of both directions summed over blocks, and the number of pixels."""
    valid = (batch.weight > 0) & np.isfinite(batch.target) & (predicted > 0)
    level = np.where(valid, predicted, 1).astype(np.float64)
    target = np.where(valid, batch.target, 0)
    ratio = target / level
    bounded = np.minimum(ratio, LARGEST_RATIO)
    bounded *= 1 + np.log(np.maximum(ratio / LARGEST_RATIO, 1))
    loss = np.where(valid, (np.log(level) + bounded) / 2, 0)
    loss = loss.reshape(-1, 2, *loss.shape[-2:]).sum(axis=1)
    for axis in (1, 2):
        loss = np.add.reduceat(loss, np.arange(0, loss.shape[axis], BLOCK_PX), axis=axis)
    return loss.ravel(), int(valid.sum())


@dataclass(frozen=True)
class PartsObjective:
    """Tuning objective: predict one part of the image from the other.

    Attributes
    ----------
    validation : PartsValidation
    """

    validation: PartsValidation

    def losses(
        self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings
    ) -> list[WeightedMean]:
        """Return the likelihood of the other part, :func:`other_part_loss`."""
        tensors = to_tensors(batch, settings.device)
        predicted = tensors.predict(network, noise=False, bfloat16=settings.bfloat16).clean
        return [other_part_loss(predicted, tensors)]

    def validate(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> PartsScore:
        """Compute the loss at held-out places and the ratio image."""
        return self.validation.score_network(network, device, group)

    def is_better(self, score: PartsScore, best: PartsScore, before: PartsScore) -> bool:
        """Return whether the loss is clearly smaller and no noise is copied."""
        gains = score.loss < min(best.loss, before.loss - MIN_GAIN)
        closer = gains and is_significantly_smaller(score.sums, before.sums)
        return closer and not _copies_noise(score, before)

    def reason_to_stop(self, score: PartsScore, best: PartsScore, before: PartsScore) -> str:
        """Stop if the network copies noise, or the loss is significantly above the best."""
        if _copies_noise(score, before):
            return (
                "the ratio image varied less than speckle: the parts are not independent (is the "
                "spectrum centred?)"
            )
        if is_significantly_smaller(best.sums, score.sums):
            return "the prediction of the other part became clearly worse"
        return ""

    def describe_result(
        self, before: PartsScore, best: PartsScore | None, tried: Sequence[dict[str, float]]
    ) -> str:
        """Describe how the loss at held-out places changed."""
        if best is None:
            return describe_no_gain(
                "the loss with which one part of the image predicts the other",
                before.loss,
                [row["validation_loss"] for row in tried],
                f"smaller by {MIN_GAIN:g} is better if it is more than chance",
            )
        return (
            "Tuning made the log likelihood of the other part at held-out places larger (better) "
            f"by {before.loss - best.loss:.5f} a pixel, and changed the ratio image from mean "
            f"{before.mean:.3f}, variance {before.variance:.3f} to {best.mean:.3f}, "
            f"{best.variance:.3f} ({best.expected_variance:.0f} expected)"
        )


def _copies_noise(score: PartsScore, before: PartsScore) -> bool:
    """Return whether the ratio image varies far less than speckle and than before tuning.

    A network cannot predict noise that is independent of its input. So this happens only if the
    parts are not independent; smaller differences are chance.
    """
    expected = min(score.expected_variance, before.variance)
    return score.variance < LEAST_RATIO_VARIANCE * expected


def other_part_loss(log_predicted: "Tensor", batch: TensorBatch) -> WeightedMean:
    """Return the negative log likelihood of the other part, ``ln(R) / 2 + b**2 / R``.

    Parameters
    ----------
    log_predicted : Tensor, shape (batch, 1, y, x)
        ln R, predicted from ``2 a**2``.
    batch : TensorBatch
        Its target is ``2 b**2``.

    Returns
    -------
    WeightedMean
        Its minimum is at ``R = E[2 b**2]``, so the prediction is an unbiased intensity.
    """
    import torch

    used = batch.weight > 0
    log = torch.where(used, log_predicted, 0.0)
    positive = torch.where(used & (batch.target > 0), batch.target, SMALLEST_TARGET)
    excess = positive.log() - log - math.log(LARGEST_RATIO)
    error = (log + LARGEST_RATIO * (excess.clamp(max=0).exp() + excess.clamp(min=0))) / 2
    weight = torch.where(used, batch.weight, 0.0)
    return WeightedMean((torch.where(used, error, 0.0) * weight).sum(), weight.sum())
