"""The losses of deSpeckNet, over the valid and weighted pixels of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.networks.network import DeSpeckNet, Inside, Prediction
from sarstack.networks.two_scale import encode_sensor
from sarstack.training.distributed import ALONE, Ranks

SURROUNDINGS_PX = 7
"""What a detail is compared with: pixels within this distance."""


class Batch(NamedTuple):
    """What one training step sees; all arrays (batch, 1, y, x), float32.

    Attributes
    ----------
    intensity : ndarray
        Noisy linear power, NaN = nodata. For ``despecknet-paper`` divided by the
        98th percentile of its scene.
    target : ndarray
        Clean linear power on the same scale, or a label; anything where weight is 0.
    weight : ndarray
        0 keeps a pixel out of the loss, more than 1 makes it count more.
    sensor : ndarray, shape (batch, 4), float32, optional
        What the network is told of each patch: looks, correlation along y and x, and 1, or
        0 where it is told nothing; None: nothing.
    others : ndarray, shape (batch, 4, y, x), float32, optional
        Sums over other dates, for ``despecknet-mt``.
    detail : ndarray, optional
        How much more details of the target count, where the target is the truth; 1 elsewhere.
    """

    intensity: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    sensor: NDArray[np.float32] | None = None
    others: NDArray[np.float32] | None = None
    detail: NDArray[np.float32] | None = None


class TensorBatch(NamedTuple):
    """A :class:`Batch` on the device, with NaN taken out and said in `valid`."""

    intensity: Tensor
    target: Tensor
    weight: Tensor
    valid: Tensor | None
    sensor: Tensor | None = None
    others: Tensor | None = None
    detail: Tensor | None = None

    def predict(
        self,
        network: DeSpeckNet,
        *,
        noise: bool,
        inside: Inside | None = None,
        bfloat16: bool = False,
    ) -> Prediction:
        """Run a network on the batch, or what is needed of it for the pixels `inside`.

        With `bfloat16`, convolutions and their gradients are computed in it; weights, the
        prediction and the losses stay float32.
        """
        known = {"sensor": self.sensor, "others": self.others}
        with torch.autocast(self.intensity.device.type, torch.bfloat16, enabled=bfloat16):
            found = network(self.intensity, self.valid, **known, noise=noise, inside=inside)
        return cast("Prediction", found)


def to_tensors(batch: Batch, device: str) -> TensorBatch:
    """Move a batch to the device; invalid pixels become 0 with weight 0."""
    intensity = torch.from_numpy(np.ascontiguousarray(batch.intensity)).to(device)
    target = torch.from_numpy(np.ascontiguousarray(batch.target)).to(device)
    weight = torch.from_numpy(np.ascontiguousarray(batch.weight)).to(device)
    finite = torch.isfinite(intensity)
    usable = finite & torch.isfinite(target)
    weight = torch.where(usable, weight, 0.0)
    valid = None if bool(finite.all()) else finite.to(torch.float32)
    sensor = others = detail = None
    if batch.sensor is not None:
        told = torch.from_numpy(np.ascontiguousarray(batch.sensor)).to(device)
        sensor = encode_sensor(told[:, 0], told[:, 1:3], told[:, 3])
    if batch.others is not None:
        others = torch.from_numpy(np.ascontiguousarray(batch.others)).to(device)
    if batch.detail is not None:
        detail = torch.from_numpy(np.ascontiguousarray(batch.detail)).to(device)
        detail = torch.where(usable, detail, 1.0)
    image, clean = intensity.nan_to_num(0.0), target.nan_to_num(0.0)
    return TensorBatch(image, clean, weight, valid, sensor, others, detail)


@dataclass(frozen=True)
class Mean:
    """A mean over pixels, kept as sum and count: of the shares of a batch both add up.

    Attributes
    ----------
    total, count : Tensor, scalar
        Weighted sum, and sum of the weights.
    """

    total: Tensor
    count: Tensor

    def __rmul__(self, factor: float) -> "Mean":
        return Mean(factor * self.total, self.count)

    def __float__(self) -> float:
        return float(add_means([self]).detach())


def add_means(means: Sequence[Mean], ranks: Ranks = ALONE) -> Tensor:
    """Add means up to a loss: this rank's part of it, the parts of all ranks being the whole.

    The counts are those of all ranks: an average of the ranks' averages would give a pixel
    more weight where a share has few.
    """
    counts = torch.stack([mean.count.detach().to(mean.total.dtype) for mean in means])
    ranks.add([counts])
    return (torch.stack([mean.total for mean in means]) / counts.clamp(min=1e-6)).sum()


def clean_loss(network: DeSpeckNet, prediction: Prediction, batch: TensorBatch) -> Mean:
    """Distance of the clean branch from the target, averaged by weight.

    In the log domain: the gamma likelihood ``exp(-r) + r - 1`` of ``r = ln xhat - ln t``,
    whose minimiser is the mean intensity even when t is noisy, plus ``r**2 / 4``, which
    keeps pulling where the likelihood is flat: at bright points taken too dark it is the
    exponential that pulls, at dark lines taken too bright the square. In the linear domain:
    the paper's mean square, equation (5).

    Where `batch.detail` is given, details count more: in the likelihood those of the
    prediction, in the square those of the truth. A weight that follows the truth makes
    whatever may be a bright detail too bright, for the mean of ``w t`` over that of ``w`` is
    above that of t. One that follows from what the network sees keeps the mean; the square,
    whose minimiser is below the mean, needs what the other has too much.
    """
    used = batch.weight > 0
    if network.domain == "linear":
        error = torch.where(used, prediction.clean - batch.target, 0.0) ** 2
        return Mean((error * batch.weight).sum(), batch.weight.sum())
    target = torch.where(used & (batch.target > 0), batch.target, 1.0).log()
    r = torch.where(used & (batch.target > 0), prediction.clean - target, 0.0)
    # Limited, so that one dark speckle at the start does not throw the weights away.
    likelihood, square = torch.exp(-r.clamp(min=-3.0)) + r - 1, r**2 / 4
    if batch.detail is None:
        return Mean(((likelihood + square) * batch.weight).sum(), batch.weight.sum())
    seen = weigh_contrast(torch.where(used, prediction.clean.detach(), target))
    error = likelihood * seen + square * batch.detail
    weight = (seen + batch.detail) / 2
    return Mean((error * batch.weight).sum(), (weight * batch.weight).sum())


def weigh_contrast(log: Tensor) -> Tensor:
    """Weigh pixels by how much they differ from their surroundings, in nepers; 1: not at all."""
    width = 2 * SURROUNDINGS_PX + 1
    around = torch.nn.functional.avg_pool2d(log, width, 1, SURROUNDINGS_PX, count_include_pad=False)
    return 1 + ((log - around).abs() - 0.5).clamp(0, 6)


def noisy_loss(prediction: Prediction, batch: TensorBatch) -> Mean:
    """Mean square distance of clean x speckle from the observed image, equation (6)."""
    if prediction.reconstruction is None:
        raise ValueError("the noise branch was not computed")
    used = (batch.weight > 0) & torch.isfinite(prediction.observed)
    error = torch.where(used, prediction.reconstruction - prediction.observed, 0.0) ** 2
    return Mean(error.sum(), used.sum())


def variation_loss(prediction: Prediction) -> list[Mean]:
    """Mean absolute gradient of the clean prediction along y and x, equation (8) per pixel."""
    differences = [prediction.clean.diff(dim=axis).abs() for axis in (-2, -1)]
    return [Mean(d.nansum(), torch.isfinite(d).sum()) for d in differences]
