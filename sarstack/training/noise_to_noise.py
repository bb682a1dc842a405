"""Tuning with the other dates of a stack as target (Noise2Noise).

Speckle of different dates is independent, so the best prediction of the other dates is the
clean image. The network adapts to the looks and the correlation of this stack without knowing
them. Where the land changed between two dates, the starting network's estimates bring both to
the same level, or the date is left out.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.laws import stable_threshold
from sarstack.speckle.statistics import log_deviation
from sarstack.training.batch import Batch, TensorBatch, to_tensors
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.losses import WeightedMean
from sarstack.training.ratio import RatioScore, RatioValidation, despeckle_batches
from sarstack.training.tuning import (
    FinetuneSettings,
    copies_noise,
    describe_no_gain,
    is_significantly_smaller,
)

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_CHANGE_NAT = math.log(4)

LARGEST_LOCAL_CHANGE_SD = 3.0
"""A larger local change, in standard deviations, is change of the land, not speckle."""

CHANGE_PX = 11
"""Window over which changes are averaged. Without averaging, residual speckle of the input in
the starting network's estimate would enter the target, and the network would learn nothing.
Over wide windows, changed land is no longer distinguished from unchanged land."""

BLOCK_PX = 16

COHERENT_FALSE_ALARM = 0.01
"""Fraction of pixels of true speckle that may be taken for coherent scatterers."""
COHERENT_VARIATION = 0.2
"""The variance over time of a coherent scatterer is below this fraction of that of speckle."""


@dataclass(frozen=True)
class OtherDatesScore(RatioScore):
    """Deviation of despeckled dates from the other dates, and their ratio images.

    Attributes
    ----------
    squares : ndarray, shape (block,), float64
        Sum of squared deviations of ln(despeckled / mean of other dates) in blocks of 16 x 16
        px, which are nearly independent of each other.
    n_pixels : int
        Number of deviations.
    """

    squares: NDArray[np.float64]
    n_pixels: int

    @property
    def spread(self) -> float:
        """Leave-one-date-out score: standard deviation of ln(despeckled / other dates)."""
        return math.sqrt(self.squares.sum() / max(self.n_pixels, 1))

    def row(self) -> dict[str, float]:
        """Return the columns of the learning curve."""
        return {"spread": self.spread, **super().row()}


@dataclass(frozen=True)
class OtherDatesValidation:
    """Held-out places on several dates; the target of a date is the mean of the others.

    Attributes
    ----------
    batches : tuple of Batch
        One place each, patches (date, 1, y, x); the target is the mean of all other dates.
    images : tuple of sequence of int
        For each batch, the image of the stack (date and polarisation) of each patch.
    ratio : RatioValidation
        Homogeneous windows of the same batches.
    """

    batches: tuple[Batch, ...]
    images: tuple[Sequence[int], ...]
    ratio: RatioValidation

    def score_network(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> OtherDatesScore:
        """Despeckle the patches; compare them with the other dates and with speckle."""
        despeckled = despeckle_batches(network, self.batches, device, group)
        squares, n_pixels = self._squared_deviations(despeckled)
        ratio = self.ratio.score_images(despeckled)
        return OtherDatesScore(
            ratio.mean, ratio.variance, ratio.expected_variance, ratio.n_windows,
            squares, n_pixels,
        )  # fmt: skip

    def _squared_deviations(
        self, despeckled: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float64], int]:
        """Return sums of squared deviations per block, and the number of pixels."""
        image = np.concatenate(self.images)
        clean = np.concatenate(despeckled)[:, 0]
        target = np.concatenate([batch.target for batch in self.batches])[:, 0]
        squares = np.full(clean.shape, np.nan)
        for one in np.unique(image):
            squares[image == one] = log_deviation(clean[image == one], target[image == one]) ** 2
        place = np.repeat(np.arange(len(self.images)), [len(s) for s in self.images])
        rows, columns = (np.arange(n) // BLOCK_PX for n in clean.shape[1:])
        n_columns = columns.max() + 1
        n_blocks = (rows.max() + 1) * n_columns
        block = place[:, None, None] * n_blocks + rows[:, None] * n_columns + columns
        valid = np.isfinite(squares)
        n_sums = len(self.images) * n_blocks
        sums = np.bincount(block[valid], squares[valid], minlength=n_sums)
        return sums.astype(np.float64), int(valid.sum())


@dataclass(frozen=True)
class NoiseToNoise:
    """Tuning objective: predict the other dates; validate on those of held-out places.

    Attributes
    ----------
    initial_network : DeSpeckNet
        Frozen copy of the network before tuning; distinguishes change from speckle.
    validation : OtherDatesValidation
    n_dates : int
        Number of consecutive patches of a batch that show the same place on different dates.
        Each of them is the input, with the others as its target.
    looks : float
        Equivalent looks of the stack.
    """

    initial_network: DeSpeckNet
    validation: OtherDatesValidation
    n_dates: int
    looks: float

    @classmethod
    def from_network(
        cls, network: DeSpeckNet, validation: OtherDatesValidation, n_dates: int, looks: float
    ) -> Self:
        """Freeze a copy of the network that will be tuned."""
        initial_network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        return cls(initial_network, validation, n_dates, looks)

    def losses(
        self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings
    ) -> list[WeightedMean]:
        """Return the gamma likelihood ``r + exp(-r)`` of the other dates, r = ln xhat - ln t.

        Its minimum is at the mean of t, so speckle in the target does not bias the estimate.
        """
        import torch

        tensors = to_tensors(batch, settings.device)
        bfloat16 = settings.bfloat16
        with torch.no_grad():
            initial = self.initial_network.to(settings.device)
            expected = tensors.predict(initial, noise=False, bfloat16=bfloat16).clean
            target, weight = mean_of_other_dates(tensors, expected, self.n_dates, self.looks)
            log_target = torch.where(weight > 0, target, 1.0).log()
        predicted = tensors.predict(network, noise=False, bfloat16=bfloat16).clean
        r = torch.where(weight > 0, predicted - log_target, 0.0)
        likelihood = r + torch.exp(-r)
        return [WeightedMean((likelihood * weight).sum(), weight.sum())]

    def validate(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> OtherDatesScore:
        """Compute the leave-one-date-out score and the ratio image."""
        return self.validation.score_network(network, device, group)

    def is_better(
        self, score: OtherDatesScore, best: OtherDatesScore, before: OtherDatesScore
    ) -> bool:
        """Return whether the deviation is significantly smaller and no noise is copied."""
        closer = score.spread < best.spread and is_significantly_smaller(
            score.squares, before.squares
        )
        return closer and not copies_noise(score, before)

    def reason_to_stop(
        self, score: OtherDatesScore, best: OtherDatesScore, before: OtherDatesScore
    ) -> str:
        """Stop if the network copies noise, or the deviation is far larger than the best."""
        if copies_noise(score, before):
            return "the ratio image varied less than speckle: the network began to copy the noise"
        if score.spread > 1.1 * best.spread:
            return "the distance from the other dates became clearly worse"
        return ""

    def describe_result(
        self,
        before: OtherDatesScore,
        best: OtherDatesScore | None,
        tried: Sequence[dict[str, float]],
    ) -> str:
        """Describe how the distance from the other dates changed."""
        if best is None:
            return describe_no_gain(
                "the spread of ln(despeckled / mean of the other dates)",
                before.spread,
                [row["spread"] for row in tried],
                "smaller is better if the difference is more than chance, and no noise is copied",
            )
        ratio = (
            f"variance of the ratio image from {before.variance:.4f} to {best.variance:.4f}, "
            f"{best.expected_variance:.4f} expected"
            if best.n_windows
            else "no window without texture, so no ratio image to check"
        )
        return (
            "Tuning between dates changed the spread of ln(despeckled / mean of the other dates) "
            f"at held-out places from {before.spread:.4f} to {best.spread:.4f}; {ratio}"
        )


def mean_of_other_dates(
    batch: TensorBatch, expected: "Tensor", n_dates: int, looks: float
) -> tuple["Tensor", "Tensor"]:
    """Average the other dates of each place, each brought to the level of the input date.

    Parameters
    ----------
    batch : TensorBatch
        Patches (place x date, 1, y, x), the dates of a place next to each other.
    expected : Tensor, same shape
        Estimates of the starting network, ln intensity.
    n_dates : int
        Dates of each place.
    looks : float
        Equivalent looks of the stack. Pixels that vary less over time than this speckle are
        coherent scatterers: their noise is the same on all dates, so they are left out.

    Returns
    -------
    target, weight : Tensor, same shape
        Mean of the other dates, and the number of these dates (0: none). The number is the
        weight: a mean of n dates has n times the likelihood of one date.

    Notes
    -----
    The change between dates t and s is ``c = exp(m_t - m_s)``, m the mean of `expected` over
    11 x 11 px. Date s is left out where c is outside [1/4, 4], and where the deviation of
    `expected` from m differs between t and s by more than three standard deviations.
    """
    import torch

    shape = (-1, n_dates, *expected.shape[-2:])
    intensity, level = batch.intensity.reshape(shape), expected.reshape(shape)
    valid = torch.isfinite(level)
    if batch.valid is not None:
        valid &= batch.valid.reshape(shape) > 0
    mean = _box_mean(level, valid)
    local = torch.where(valid, level - mean, torch.nan)
    change = mean[:, :, None] - mean[:, None]
    local_change = (local[:, :, None] - local[:, None]).abs()
    other = ~torch.eye(n_dates, dtype=torch.bool, device=level.device)[:, :, None, None]
    between = torch.where(other, local_change, torch.nan).flatten(2)
    deviation = 1.4826 * between.nanmedian(dim=-1).values[:, :, None, None, None]
    unchanged = local_change <= LARGEST_LOCAL_CHANGE_SD * deviation
    used = other & unchanged & (change.abs() <= LARGEST_CHANGE_NAT)
    count = used.sum(dim=2)
    total = torch.where(used, change.exp() * intensity[:, None], 0.0).sum(dim=2)
    target = total / count.clamp(min=1)
    keep = (target > 0) & ~_is_coherent(intensity * torch.exp(-mean), valid, looks)
    weight = torch.where(keep, count, 0).to(level.dtype)
    return target.reshape(expected.shape), weight.reshape(expected.shape)


def _box_mean(values: "Tensor", valid: "Tensor") -> "Tensor":
    """Average the valid pixels around each pixel, shape (place, date, y, x)."""
    import torch
    from torch.nn import functional

    total, count = (
        functional.avg_pool2d(image, CHANGE_PX, 1, CHANGE_PX // 2)
        for image in (torch.where(valid, values, 0.0), valid.to(values.dtype))
    )
    return total / count.clamp(min=1e-9)


def _is_coherent(speckle: "Tensor", valid: "Tensor", looks: float) -> "Tensor":
    """Mark pixels whose variation over time is too small for speckle, (place, 1, y, x)."""
    import torch

    count = valid.sum(dim=1, keepdim=True)
    n = count.clamp(min=1)
    mean = torch.where(valid, speckle, 0.0).sum(dim=1, keepdim=True) / n
    squares = torch.where(valid, speckle - mean, 0.0).square().sum(dim=1, keepdim=True)
    variation = squares / (n - 1).clamp(min=1) / mean.square()
    limit = torch.tensor(_coherent_limits(looks, valid.shape[1])).to(speckle)
    return variation < limit[count]


@lru_cache
def _coherent_limits(looks: float, n_dates: int) -> tuple[float, ...]:
    """Return the squared variation below which 0, 1, ... `n_dates` dates are coherent."""
    # Few dates vary little by chance: at most 1 % of true speckle is left out.
    by_chance = np.nan_to_num(stable_threshold(looks, n_dates, COHERENT_FALSE_ALARM))
    return tuple(np.minimum(by_chance, COHERENT_VARIATION / looks).tolist())
