"""Train the part of a network that tells how uncertain its result is; all else stays as it is.

The loss asks for shares: a share p of the errors should be smaller than z_p standard deviations,
with z_p of a Gaussian. With a likelihood, a few large errors, at edges and points, would widen the
bands of all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sarstack.networks.card import ModelCard
from sarstack.networks.inference import find_bias
from sarstack.networks.network import DeSpeckNet, Prediction
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.batch import Batch, PatchSource, TensorBatch, to_tensors
from sarstack.training.distributed import SINGLE_PROCESS
from sarstack.training.loop import LoopSettings, Progress, TrainingLoop, Validation
from sarstack.training.losses import WeightedMean, sum_means

SHARES = (0.5, 0.8, 0.95)
"""Shares of the errors for which the bands are trained."""
DEVIATIONS = tuple(NormalDist().inv_cdf((1 + share) / 2) for share in SHARES)
"""Half width of their bands, in standard deviations of a Gaussian."""
_SMALLEST_ERROR = 1e-4
WARMUP_STEPS = 30


@dataclass(frozen=True)
class SpreadSettings(LoopSettings):
    """Settings of :func:`train_spread`; see :class:`LoopSettings`."""

    steps: int = 1200
    learning_rate: float = 1e-2
    validate_every: int = 250
    checkpoint_every: int = 250
    bfloat16: bool = False

    free_on_resume: ClassVar[frozenset[str]] = LoopSettings.free_on_resume

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: a short warm-up, then half a cosine to zero."""
        warmup = min(1.0, (step + 1) / WARMUP_STEPS)
        return self.learning_rate * warmup * (1 + float(np.cos(np.pi * step / self.steps))) / 2


def train_spread(
    network: DeSpeckNet,
    card: ModelCard,
    patches: PatchSource,
    validation: Sequence[Batch],
    settings: SpreadSettings,
    folder: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, float]]:
    """Train the spread of a network, or continue an unfinished training in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        On log intensity, with a spread. Only the weights of the spread change.
    card : ModelCard
        Its bias tables are applied: the errors are those of the corrected result.
    patches : PatchSource
        Patches with their exact truth as target.
    validation : sequence of Batch
        Held-out batches, always the same.
    settings : SpreadSettings
    folder : str or Path
        Folder of the checkpoint and of ``curve.csv``.
    progress : callable, optional
        Called after every step.

    Returns
    -------
    list of dict
        The learning curve.
    """
    network.requires_grad_(requires_grad=False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".spread." in name)
    loop = _SpreadLoop(network, card, validation, settings, Path(folder))
    loop.run(patches, progress)
    return loop.state.history


class _SpreadLoop(TrainingLoop):
    settings: SpreadSettings

    def __init__(
        self,
        network: DeSpeckNet,
        card: ModelCard,
        validation: Sequence[Batch],
        settings: SpreadSettings,
        folder: Path,
    ) -> None:
        trained = [p for p in network.parameters() if p.requires_grad]
        super().__init__(network, trained, settings, folder, SINGLE_PROCESS)
        self.card, self.validation = card, validation
        self.resume()

    def losses(self, batch: Batch) -> list[WeightedMean]:
        self.network.eval()  # nothing but the spread changes, also no running statistics
        tensors, prediction = self._predict(batch)
        errors = errors_of(prediction, tensors, self._bias(batch))
        return [spread_loss(errors, prediction, tensors, weighted=True)]

    def _predict(self, batch: Batch) -> tuple[TensorBatch, Prediction]:
        tensors, bfloat16 = to_tensors(batch, self.settings.device), self.settings.bfloat16
        return tensors, tensors.predict(self.network, noise=False, spread=True, bfloat16=bfloat16)

    def _bias(self, batch: Batch) -> Tensor:
        return torch.from_numpy(log_bias(self.card, batch)).to(self.settings.device)

    def validate(self) -> Validation:
        loss, inside, count = 0.0, np.zeros(len(SHARES)), 0
        with torch.inference_mode():
            for batch in self.validation:
                tensors, prediction = self._predict(batch)
                errors = errors_of(prediction, tensors, self._bias(batch))
                loss += float(sum_means([spread_loss(errors, prediction, tensors)]))
                used = tensors.weight > 0
                count += int(used.sum())
                scaled = (errors.abs() / spread_of(prediction).exp())[used]
                inside += [int((scaled <= z).sum()) for z in DEVIATIONS]
        loss /= max(len(self.validation), 1)
        shares = inside / max(count, 1)
        names = [f"inside_{100 * share:.0f}" for share in SHARES]
        is_best = loss < self.state.best_loss
        if is_best:
            self.state.best_loss = loss
        rounded = {name: round(float(s), 4) for name, s in zip(names, shares, strict=True)}
        return Validation({"validation_loss": loss, **rounded}, is_best)

    def curve_row(self, loss: float, smoothed_loss: float) -> dict[str, float]:  # noqa: ARG002
        rate = self.settings.learning_rate_at(self.state.step - 1)
        return {"learning_rate": rate, "training_loss": smoothed_loss}

    def reason_to_stop(self) -> str:
        return ""


def spread_of(prediction: Prediction) -> Tensor:
    """Return the predicted ln of the standard deviation; it must have been computed."""
    if prediction.spread is None:
        raise ValueError("the spread was not computed: predict with spread=True")
    return prediction.spread


def log_bias(card: ModelCard, batch: Batch) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return ln of the bias by which the result is divided.

    Returns
    -------
    ndarray, shape (batch, 1, 1, 1), or (batch, 1, y, x) with other dates, float32
    """
    sensors = np.ones((len(batch.intensity), 4)) if batch.sensor is None else batch.sensor
    bias = []
    for patch, (looks, along_y, along_x, is_known) in enumerate(sensors.tolist()):
        source = "given" if is_known and batch.sensor is not None else "estimated"
        statistics = SceneStatistics(looks, (along_y, along_x), 1.0, source)
        n_others = None if batch.others is None else batch.others[patch, 0]
        bias.append(np.atleast_2d(find_bias(card, statistics, n_others)))
    return np.log(np.stack(bias)[:, None], dtype=np.float32)


def errors_of(prediction: Prediction, batch: TensorBatch, bias: Tensor) -> Tensor:
    """Return ln of the corrected result minus ln of the truth; 0 at pixels without weight."""
    used = (batch.weight > 0) & (batch.target > 0)
    truth = torch.where(used, batch.target, 1.0).log()
    return torch.where(used, prediction.clean.detach() - bias - truth, 0.0)


def spread_loss(
    errors: Tensor, prediction: Prediction, batch: TensorBatch, *, weighted: bool = False
) -> WeightedMean:
    """Return the quantile loss of the size of the errors, in logarithms.

    For each share p it is ``max(p d, (p - 1) d)`` with ``d = ln|error| - (ln z_p + spread)``. Its
    minimum is where a share p of the errors is smaller than z_p standard deviations.

    With `weighted`, pixels have the weight ``exp(-spread / 2)``: pixels of small errors are few.
    The minimum is the same, because the weight depends on the input of the network only.
    """
    spread = spread_of(prediction)
    size = errors.abs().clamp(min=_SMALLEST_ERROR).log()
    weight = (batch.weight > 0).float()
    if weighted:
        weight = weight * torch.exp(-spread.detach() / 2)
    total = torch.zeros_like(size)
    for share, deviations in zip(SHARES, DEVIATIONS, strict=True):
        excess = size - spread - float(np.log(deviations))
        total = total + torch.maximum(share * excess, (share - 1) * excess)
    return WeightedMean((total * weight).sum(), weight.sum())
