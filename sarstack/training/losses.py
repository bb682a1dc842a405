"""Losses of deSpeckNet, over the valid and weighted pixels of a batch.

Equations are those of Mullissa et al., TGRS 2020, section III.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sarstack.networks.network import DeSpeckNet, Prediction
from sarstack.training.batch import TensorBatch
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.pixel_weights import mean_of_surroundings, weigh_contrast

BLIND_TV = 0.003
"""Weight of the total variation of ln xhat in the training of a blind-spot network."""


@dataclass(frozen=True)
class WeightedMean:
    """A weighted mean over pixels, kept as two sums so that it can be summed over processes.

    Attributes
    ----------
    total, weight : Tensor, scalar
        Weighted sum, and sum of the weights.
    """

    total: Tensor
    weight: Tensor

    def __rmul__(self, factor: float) -> "WeightedMean":
        return WeightedMean(factor * self.total, self.weight)

    def __float__(self) -> float:
        return float(sum_means([self]).detach())


def sum_means(means: Sequence[WeightedMean], group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
    """Return the sum of weighted means; with several processes, the part of this process.

    The sum of the parts of all processes is the loss of the whole batch. Weights are summed
    over all processes first: a mean of the processes' means would give pixels more weight
    where a process has few of them.
    """
    weights = torch.stack([mean.weight.detach().to(mean.total.dtype) for mean in means])
    group.sum_in_place([weights])
    return (torch.stack([mean.total for mean in means]) / weights.clamp(min=1e-6)).sum()


def clean_loss(network: DeSpeckNet, prediction: Prediction, batch: TensorBatch) -> WeightedMean:
    """Return the distance of the clean branch from the target.

    Networks on linear intensity: mean square error, equation (5).

    Speckle2Void: mean of ``-ln p(ln y)`` of the observed pixels; see :func:`blind_loss`.

    SAR-CNN: mean of ``|ln xhat - ln t|``. Denoisers of Gaussian noise: mean of its square.

    deSpeckNet on log intensity: with ``r = ln xhat - ln t``, the gamma likelihood
    ``exp(-r) + r - 1`` plus ``r**2 / 4``. The minimum of the likelihood is at the mean
    intensity, also where the target t is noisy. Its gradient grows exponentially for r < 0 (a
    bright point estimated too dark), but stays below 1 for r > 0 (a dark line estimated too
    bright); there, the square adds a gradient that grows.

    With `batch.detail`, pixels that differ from their surroundings count more: in the
    likelihood by the contrast of the prediction, in the square by the contrast of the target
    (`batch.detail`). The mean of ``w t`` over the mean of ``w`` exceeds the mean of t where w
    grows with t, so a weight by the target alone makes possible bright details too bright. A
    weight by the prediction keeps the mean. The minimum of the square lies below the mean,
    which compensates its weight by the target.
    """
    if network.loss == "blind":
        return blind_loss(prediction, batch)
    used = batch.weight > 0
    if network.domain == "linear":
        error = torch.where(used, prediction.clean - batch.target, 0.0) ** 2
        return WeightedMean((error * batch.weight).sum(), batch.weight.sum())
    target = torch.where(used & (batch.target > 0), batch.target, 1.0).log()
    r = torch.where(used & (batch.target > 0), prediction.clean - target, 0.0)
    if network.loss != "likelihood":
        error = r.abs() if network.loss == "absolute" else r**2
        return WeightedMean((error * batch.weight).sum(), batch.weight.sum())
    # The limit keeps one dark pixel at the start of a training from ruining the weights.
    likelihood, square = torch.exp(-r.clamp(min=-3.0)) + r - 1, r**2 / 4
    if batch.detail is None:
        return WeightedMean(((likelihood + square) * batch.weight).sum(), batch.weight.sum())
    predicted = torch.where(used, prediction.clean.detach(), target)
    by_prediction = weigh_contrast(predicted - mean_of_surroundings(predicted))
    error = likelihood * by_prediction + square * batch.detail
    weight = (by_prediction + batch.detail) / 2
    return WeightedMean((error * batch.weight).sum(), (weight * batch.weight).sum())


def blind_loss(prediction: Prediction, batch: TensorBatch) -> WeightedMean:
    """Return the mean of ``-ln p(ln y)`` given the prior of a blind-spot network.

    The target is not used: only where it has weight. Pixels that are not positive do not count.
    """
    if prediction.prior is None:
        raise ValueError("the network predicts no prior")
    used = (batch.weight > 0) & (batch.intensity > 0)
    surprise = prediction.prior.negative_log_marginal(prediction.observed)
    return WeightedMean(torch.where(used, surprise, 0.0).sum(), used.sum())


def noisy_loss(prediction: Prediction, batch: TensorBatch) -> WeightedMean:
    """Return the mean square error of clean x speckle against the noisy image, equation (6)."""
    if prediction.reconstruction is None:
        raise ValueError("the noise branch was not computed: predict with noise=True")
    used = (batch.weight > 0) & torch.isfinite(prediction.observed)
    error = torch.where(used, prediction.reconstruction - prediction.observed, 0.0) ** 2
    return WeightedMean(error.sum(), used.sum())


def variation_loss(prediction: Prediction) -> list[WeightedMean]:
    """Return the mean absolute gradient of the clean image along y and x, equation (8)."""
    differences = [prediction.clean.diff(dim=axis).abs() for axis in (-2, -1)]
    return [WeightedMean(d.nansum(), torch.isfinite(d).sum()) for d in differences]
