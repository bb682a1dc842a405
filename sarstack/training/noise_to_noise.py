"""Tuning between the dates of a stack: one date goes in, the others are the target.

Speckle of different dates is independent, so the best guess of the other dates is the clean
image: the network learns looks and correlation of this very stack without being shown either.
Land that changed between two dates is made alike by the starting network, or left out.
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
from sarstack.training.distributed import ALONE, Ranks
from sarstack.training.losses import Batch, Mean, TensorBatch, to_tensors
from sarstack.training.ratio import RatioProbe, RatioScore, despeckle_batches
from sarstack.training.tuning import FinetuneSettings, copies_noise

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_CHANGE_NAT = math.log(4)
SURPRISE = 3.0
"""Local change of so many standard deviations is change of the land, not of speckle."""

CHANGE_PX = 11
"""Changes are averaged over so many pixels. Pixel by pixel, what the starting network leaves
of the input's own speckle would be carried into the target, and nothing would be learnt;
over wide windows, changed land is no longer told from unchanged."""

BLOCK_PX = 16
SIGNIFICANT = 3.0
"""Gains over blocks of so many pixels must be so many standard errors from zero."""


@dataclass(frozen=True)
class DateScore(RatioScore):
    """How far despeckled dates are from the other dates, beside their ratio images.

    Attributes
    ----------
    squares : ndarray, shape (block,), float64
        Sum of squared deviations of ln(despeckled / mean of other dates) in blocks of the
        scene that hardly depend on each other.
    n_pixels : int
        How many deviations were summed.
    """

    squares: NDArray[np.float64]
    n_pixels: int

    @property
    def spread(self) -> float:
        """Leave-one-date-out score: standard deviation of ln(despeckled / other dates)."""
        return math.sqrt(self.squares.sum() / max(self.n_pixels, 1))

    def row(self) -> dict[str, float]:
        """Return the entries of a learning curve."""
        return {"spread": self.spread, **super().row()}

    def beats(self, other: "DateScore") -> bool:
        """Tell whether it is nearer to the other dates by more than chance, block by block."""
        gain = other.squares - self.squares
        chance = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
        return float(gain.mean()) > SIGNIFICANT * chance


@dataclass(frozen=True)
class DateProbe:
    """Held-out places on several dates with the mean of the other dates as target: the judge.

    Attributes
    ----------
    batches : tuple of Batch
        One place each, patches (date, 1, y, x); the target is the mean of all other dates.
    series : tuple of sequence of int
        For each batch, of which image of the stack (date and polarisation) its patches are.
    ratio : RatioProbe
        Homogeneous windows of the same batches.
    """

    batches: tuple[Batch, ...]
    series: tuple[Sequence[int], ...]
    ratio: RatioProbe

    def measure(self, network: DeSpeckNet, device: str = "cpu", ranks: Ranks = ALONE) -> DateScore:
        """Despeckle the patches and compare them with the other dates and with speckle."""
        despeckled = despeckle_batches(network, self.batches, device, ranks)
        squares, n_pixels = self._squares(despeckled)
        ratio = self.ratio.score(despeckled)
        return DateScore(
            ratio.mean, ratio.variance, ratio.expected_variance, ratio.n_windows,
            squares, n_pixels,
        )  # fmt: skip

    def _squares(
        self, despeckled: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float64], int]:
        image = np.concatenate(self.series)
        clean = np.concatenate(despeckled)[:, 0]
        reference = np.concatenate([batch.target for batch in self.batches])[:, 0]
        squares = np.full(clean.shape, np.nan)
        for one in np.unique(image):
            squares[image == one] = log_deviation(clean[image == one], reference[image == one]) ** 2
        place = np.repeat(np.arange(len(self.series)), [len(s) for s in self.series])
        rows, columns = (np.arange(n) // BLOCK_PX for n in clean.shape[1:])
        blocks = (rows.max() + 1) * (columns.max() + 1)
        block = place[:, None, None] * blocks + rows[:, None] * (columns.max() + 1) + columns
        known = np.isfinite(squares)
        sums = np.bincount(block[known], squares[known], minlength=len(self.series) * blocks)
        return sums.astype(np.float64), int(known.sum())


@dataclass(frozen=True)
class NoiseToNoise:
    """Learn from the other dates, be judged by the other dates of held-out places.

    Attributes
    ----------
    start : DeSpeckNet
        Frozen; tells change from speckle.
    probe : DateProbe
    n_dates : int
        Patches of a batch that show the same place: all of them are input in turn.
    looks : float
        Of the stack.
    """

    start: DeSpeckNet
    probe: DateProbe
    n_dates: int
    looks: float

    @classmethod
    def of(cls, network: DeSpeckNet, probe: DateProbe, n_dates: int, looks: float) -> Self:
        """Freeze a copy of the network that is going to be tuned."""
        start = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        return cls(start, probe, n_dates, looks)

    def losses(self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings) -> list[Mean]:
        """Return the gamma likelihood ``o + t exp(-o)`` of the other dates, o = ln xhat.

        Its minimiser is the mean of t, so the speckle of the target does not make it darker.
        """
        import torch

        tensors = to_tensors(batch, settings.device)
        mixed = settings.bfloat16
        with torch.no_grad():
            start = self.start.to(settings.device)
            expected = tensors.predict(start, noise=False, bfloat16=mixed).clean
            target, weight = mean_of_other_dates(tensors, expected, self.n_dates, self.looks)
            log_target = torch.where(weight > 0, target, 1.0).log()
        predicted = tensors.predict(network, noise=False, bfloat16=mixed).clean
        distance = torch.where(weight > 0, predicted - log_target, 0.0)
        likelihood = distance + torch.exp(-distance)
        return [Mean((likelihood * weight).sum(), weight.sum())]

    def measure(self, network: DeSpeckNet, device: str = "cpu", ranks: Ranks = ALONE) -> DateScore:
        """Measure the leave-one-date-out score and the ratio image."""
        return self.probe.measure(network, device, ranks)

    def is_better(self, score: DateScore, best: DateScore, before: DateScore) -> bool:
        """Tell whether it is nearer to the other dates beyond chance, and copies no noise."""
        nearer = score.spread < best.spread and score.beats(before)
        return nearer and not copies_noise(score, before)

    def reason_to_stop(self, score: DateScore, best: DateScore, before: DateScore) -> str:
        """Stop where noise is copied or the other dates are far from what they were at best."""
        if copies_noise(score, before):
            return "the ratio image varied less than speckle: the network began to copy the noise"
        if score.spread > 1.1 * best.spread:
            return "the distance from the other dates became clearly worse"
        return ""

    def tell(self, before: DateScore, best: DateScore | None) -> str:
        """Say how the distance from the other dates changed."""
        if best is None:
            return (
                "Tuning between dates found nothing that is nearer to the other dates of held-out "
                "places by more than chance and copies no noise, so the network is unchanged: "
                f"spread {before.spread:.4f}"
            )
        ratio = (
            f"variance of the ratio image from {before.variance:.4f} to {best.variance:.4f}, "
            f"{best.expected_variance:.4f} expected"
            if best.n_windows
            else "no window without texture, so no ratio image to check"
        )
        return (
            "Tuning between dates moved the spread of ln(despeckled / mean of the other dates) at "
            f"held-out places from {before.spread:.4f} to {best.spread:.4f}; {ratio}"
        )


def mean_of_other_dates(
    batch: TensorBatch, expected: "Tensor", n_dates: int, looks: float
) -> tuple["Tensor", "Tensor"]:
    """Average the other dates of each place, as bright as the date they are the target of.

    Parameters
    ----------
    batch : TensorBatch
        Patches (place x date, 1, y, x), the dates of a place next to each other.
    expected : Tensor, same shape
        What the starting network makes of them, ln intensity.
    n_dates : int
        Dates of each place.
    looks : float
        Of the stack; steadier pixels than its speckle allows are coherent scatterers, which
        are the same noise on all dates, and are left out.

    Returns
    -------
    target, weight : Tensor, same shape
        Mean of the other dates, and how many they were: the likelihood of a mean of n dates
        counts n times. 0 where there is none.

    Notes
    -----
    The change between dates t and s is ``c = exp(m_t - m_s)``, m the mean of `expected` over
    11 x 11 pixels; date s is left out where c is not within [1/4, 4], and where `expected`
    changes locally by three standard deviations more than m does.
    """
    import torch

    shape = (-1, n_dates, *expected.shape[-2:])
    intensity, level = batch.intensity.reshape(shape), expected.reshape(shape)
    known = torch.isfinite(level)
    if batch.valid is not None:
        known &= batch.valid.reshape(shape) > 0
    mean = _box_mean(level, known)
    detail = torch.where(known, level - mean, torch.nan)
    change = mean[:, :, None] - mean[:, None]
    surprise = (detail[:, :, None] - detail[:, None]).abs()
    other = ~torch.eye(n_dates, dtype=torch.bool, device=level.device)[:, :, None, None]
    between = torch.where(other, surprise, torch.nan).flatten(2)
    usual = 1.4826 * between.nanmedian(dim=-1).values[:, :, None, None, None]
    used = other & (surprise <= SURPRISE * usual) & (change.abs() <= LARGEST_CHANGE_NAT)
    count = used.sum(dim=2)
    total = torch.where(used, change.exp() * intensity[:, None], 0.0).sum(dim=2)
    target = total / count.clamp(min=1)
    keep = (target > 0) & ~_is_steady(intensity * torch.exp(-mean), known, looks)
    weight = torch.where(keep, count, 0).to(level.dtype)
    return target.reshape(expected.shape), weight.reshape(expected.shape)


def _box_mean(values: "Tensor", known: "Tensor") -> "Tensor":
    """Average the known pixels around each pixel, shape (place, date, y, x)."""
    import torch
    from torch.nn import functional

    total, count = (
        functional.avg_pool2d(image, CHANGE_PX, 1, CHANGE_PX // 2)
        for image in (torch.where(known, values, 0.0), known.to(values.dtype))
    )
    return total / count.clamp(min=1e-9)


def _is_steady(speckle: "Tensor", known: "Tensor", looks: float) -> "Tensor":
    """Mark pixels whose variation over time is too small for speckle, (place, 1, y, x)."""
    import torch

    count = known.sum(dim=1, keepdim=True)
    n = count.clamp(min=1)
    mean = torch.where(known, speckle, 0.0).sum(dim=1, keepdim=True) / n
    squares = torch.where(known, speckle - mean, 0.0).square().sum(dim=1, keepdim=True)
    variation = squares / (n - 1).clamp(min=1) / mean.square()
    limit = torch.tensor(_steady_limits(looks, known.shape[1])).to(speckle)
    return variation < limit[count]


@lru_cache
def _steady_limits(looks: float, n_dates: int) -> tuple[float, ...]:
    """Return the squared variation below which 0, 1, ... dates are too alike for speckle."""
    # Few dates are alike by chance: no more than a hundredth of true speckle is left out.
    rarely = np.nan_to_num(stable_threshold(looks, n_dates, 0.01))
    return tuple(np.minimum(rarely, 0.2 / looks).tolist())
