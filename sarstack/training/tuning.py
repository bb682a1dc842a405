"""Tuning of a network on noisy images without labels.

Losses and validation scores are a :class:`TuningObjective`: the paper's phase 2
(:class:`PaperObjective`), or the other dates of the stack
(:class:`sarstack.training.noise_to_noise.NoiseToNoise`). If no step improves the validation
score, the network is returned unchanged.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import Batch, PatchSource, to_tensors
from sarstack.training.checkpoint import copy_weights
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.loop import LoopSettings, Progress, TrainingLoop, Validation
from sarstack.training.losses import WeightedMean, noisy_loss, variation_loss
from sarstack.training.ratio import RatioScore, RatioValidation

if TYPE_CHECKING:
    from torch import Tensor

WARMUP_STEPS = 10
"""Adam's first steps have full length, although its estimates of the moments are poor."""

SIGNIFICANT_SE = 3.0
"""A gain, averaged over blocks of pixels, is significant from so many standard errors."""

ALL_DONE = "all steps were done"
Score = TypeVar("Score", bound=RatioScore)


@dataclass(frozen=True)
class FinetuneSettings(LoopSettings):
    """Settings of tuning; see :class:`LoopSettings`.

    For the paper's objective, a suitable learning rate is a hundredth of the paper's, which
    ruins the network within 25 steps. Validation is in float32, also with `bfloat16`.
    """

    steps: int = 200
    learning_rate: float = 1e-5
    validate_every: int = 10
    checkpoint_every: int = 10

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: short linear warm-up, linear decay to zero."""
        return self.learning_rate * min((step + 1) / WARMUP_STEPS, 1 - step / self.steps)


class TuningObjective(Protocol[Score]):
    """Losses and validation scores of tuning."""

    def losses(
        self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings
    ) -> list[WeightedMean]:
        """Return the losses of a batch of noisy patches; tuning minimises their sum."""
        ...

    def validate(self, network: DeSpeckNet, device: str, group: ProcessGroup) -> Score:
        """Score a network on held-out patches; each process computes some of them."""
        ...

    def is_better(self, score: Score, best: Score, before: Score) -> bool:
        """Return whether a score is better than the best so far and than before tuning."""
        ...

    def reason_to_stop(self, score: Score, best: Score, before: Score) -> str:
        """Say why further steps would do harm; empty: they would not."""
        ...

    def describe_result(
        self, before: Score, best: Score | None, tried: Sequence[dict[str, float]]
    ) -> str:
        """Describe for the user what tuning did.

        `best` is None if nothing was better; `tried` has the columns of all validated scores.
        """
        ...


@dataclass
class FinetuneResult(Generic[Score]):
    """Result of tuning.

    Attributes
    ----------
    improved : bool
        False: the network is unchanged.
    message : str
        What tuning did, for the user.
    before, after : RatioScore
        Scores at step 0 and of the returned network.
    best_step, steps : int
        Step of the returned network; steps done.
    history : list of dict
        One row per validation: step, loss (NaN at step 0) and the score's columns.
    """

    improved: bool
    message: str
    before: Score
    after: Score
    best_step: int
    steps: int
    history: list[dict[str, float]] = field(default_factory=list)


def finetune(
    network: DeSpeckNet,
    patches: PatchSource,
    objective: TuningObjective[Score],
    settings: FinetuneSettings,
    folder: str | Path,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Callable[[Progress], None] | None = None,
) -> FinetuneResult[Score]:
    """Tune a network on noisy images, or continue an unfinished tuning found in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place, only if a validation score was better than before.
    patches : PatchSource
        Noisy patches of the scene, or the shards of this process; targets are ignored.
    objective : TuningObjective
        Losses and validation scores.
    settings : FinetuneSettings
    folder : str or Path
        Folder of the checkpoint and of ``curve.csv``, visible to all processes.
    group : ProcessGroup
        The processes that tune together.
    progress : callable, optional
        Called after every step.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    ResumeMismatchError
        If `folder` holds a checkpoint made with other settings (steps may differ).
    ConfigError
        If the loss is not finite.

    Notes
    -----
    Batch normalisation keeps the running statistics of the supervised training: the network is
    tuned in the state in which it is used.
    """
    loop = _TuningLoop(network, objective, settings, Path(folder), group)
    loop.run(patches, progress)
    state = loop.state
    improved = state.best_step > 0
    best = loop.best if improved else None
    description = objective.describe_result(loop.before, best, state.history[1:])
    kept = f"step {state.best_step} is kept; " if improved else ""
    return FinetuneResult(
        improved,
        message=f"{description} ({kept}{state.stopped or ALL_DONE})",
        before=loop.before,
        after=loop.best,
        best_step=max(state.best_step, 0),
        steps=state.step,
        history=state.history,
    )


class _TuningLoop(TrainingLoop, Generic[Score]):
    """`before`, `last` and `best` are the scores of the start, of the last and best validation."""

    settings: FinetuneSettings

    def __init__(
        self,
        network: DeSpeckNet,
        objective: TuningObjective[Score],
        settings: FinetuneSettings,
        folder: Path,
        group: ProcessGroup,
    ) -> None:
        super().__init__(network, network.parameters(), settings, folder, group)
        self.objective = objective
        network.eval()
        self.before = self.last = self.best = self._score()
        self.resume()
        if self.state.best_step > 0:
            self.best = self._score_weights(self.best_weights)
        if not self.state.history:
            self.state.history = [{"step": 0, "loss": float("nan"), **self.before.row()}]

    def losses(self, batch: Batch) -> list[WeightedMean]:
        return self.objective.losses(self.network, batch, self.settings)

    def validate(self) -> Validation:
        score = self.last = self._score()
        is_best = self.group.broadcast(self.objective.is_better(score, self.best, self.before))
        if is_best:
            self.best = score
        return Validation(score.row(), is_best)

    def curve_row(self, loss: float, smoothed_loss: float) -> dict[str, float]:  # noqa: ARG002
        return {"loss": loss}

    def reason_to_stop(self) -> str:
        reason = self.objective.reason_to_stop(self.last, self.best, self.before)
        # If rank 0 has a reason and this process has none, any text does: only rank 0 shows it.
        return (reason or ALL_DONE) if self.group.broadcast(bool(reason)) else ""

    def _score(self) -> Score:
        return self.objective.validate(self.network, self.settings.device, self.group)

    def _score_weights(self, weights: dict[str, "Tensor"]) -> Score:
        """Score the network with other weights, and restore its own."""
        current = copy_weights(self.network)
        self.network.load_state_dict(weights)
        score = self._score()
        self.network.load_state_dict(current)
        return score


def describe_no_gain(what: str, before: float, tried: Sequence[float], wanted: str) -> str:
    """Describe a tuning that found nothing better: what was compared, its values, what to do.

    Parameters
    ----------
    what : str
        What was measured at places that were not trained on.
    before : float
        Its value before tuning.
    tried : sequence of float
        Its values during tuning, smaller is better; NaN: not measured.
    wanted : str
        Which value would have been better.
    """
    nearest = min((value for value in tried if math.isfinite(value)), default=None)
    tuned = "no step was done" if nearest is None else f"at best {nearest:.4f} after tuning"
    return (
        f"Tuning found nothing better, so the network is unchanged. Compared was {what}, at places "
        f"that were not trained on: {before:.4f} before tuning, {tuned}; {wanted}. Do this: use "
        "the network as it was, or tune it with more dates or a larger area"
    )


def is_significantly_smaller(sums: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Return whether errors are smaller by more than chance, compared block by block.

    Parameters
    ----------
    sums, before : ndarray, shape (block,), float64
        Sums of the errors in the same blocks, which are nearly independent of each other.
    """
    gain = before - sums
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return float(gain.mean()) > SIGNIFICANT_SE * error


def copies_noise(score: RatioScore, before: RatioScore) -> bool:
    """Return whether the ratio image varies clearly less than speckle and than before tuning.

    False where no window is homogeneous: in texture, the best estimate keeps some speckle.
    """
    return score.variance < 0.97 * min(score.expected_variance, before.variance)


@dataclass(frozen=True)
class PaperObjective:
    """Phase 2 of deSpeckNet: the target is the noisy image itself.

    The loss ``mu2 |Y - X|^2 + xi |Y - X N|^2`` has its minimum at X = Y, N = 1, without any
    despeckling (the authors stop after one epoch). Validation uses the ratio image Y / X on
    homogeneous land: mean 1 and variance 1 / looks mean that exactly the speckle was removed.
    A smaller variance means that the network copies the noise.

    Attributes
    ----------
    validation : RatioValidation
        Held-out patches, from :meth:`RatioValidation.from_patches`.
    mu2, xi : float
        Weights of both losses, as in the paper.
    tv : float
        Weight of the total variation of the clean image, the paper's lambda: 1e-4 for one look,
        0 for several.
    min_gain : float
        Smallest improvement of the ratio score that counts.

    Notes
    -----
    Mullissa et al., TGRS 2020, section III-C. In the log domain, the losses compare logarithms.
    """

    validation: RatioValidation
    mu2: float = 0.01
    xi: float = 1.0
    tv: float = 0.0
    min_gain: float = 0.005

    def losses(
        self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings
    ) -> list[WeightedMean]:
        """Return the distance of the noisy image from the clean image and from clean x speckle."""
        import torch

        noisy = batch._replace(target=batch.intensity, weight=np.ones_like(batch.intensity))
        tensors = to_tensors(noisy, settings.device)
        prediction = tensors.predict(network, noise=True, bfloat16=settings.bfloat16)
        used = (tensors.weight > 0) & torch.isfinite(prediction.observed)
        error = torch.where(used, prediction.clean - prediction.observed, 0.0) ** 2
        distance = WeightedMean(error.sum(), used.sum())
        losses = [self.mu2 * distance, self.xi * noisy_loss(prediction, tensors)]
        if self.tv:
            losses += [self.tv * mean for mean in variation_loss(prediction)]
        return losses

    def validate(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> RatioScore:
        """Score the ratio image on homogeneous windows."""
        return self.validation.score_network(network, device, group)

    def is_better(self, score: RatioScore, best: RatioScore, before: RatioScore) -> bool:  # noqa: ARG002
        """Return whether the ratio image is closer to speckle."""
        return score.distance < best.distance - self.min_gain

    def reason_to_stop(self, score: RatioScore, best: RatioScore, before: RatioScore) -> str:
        """Stop if the network copies noise, or the ratio image is far worse than the best."""
        if copies_noise(score, before):
            return "the ratio image varied less than speckle: the network began to copy the noise"
        if score.distance > best.distance + 0.25:
            return "the ratio image became clearly worse"
        return ""

    def describe_result(
        self, before: RatioScore, best: RatioScore | None, tried: Sequence[dict[str, float]]
    ) -> str:
        """Describe how the ratio image changed."""
        if best is None:
            return describe_no_gain(
                "the distance of noisy / despeckled from speckle, in areas without texture",
                before.distance,
                [row["distance"] for row in tried],
                "smaller is better, 0 is exactly speckle",
            )
        return (
            f"Tuning changed the variance of the ratio image from {before.variance:.4f} to "
            f"{best.variance:.4f} ({best.expected_variance:.4f} expected) and its mean from "
            f"{before.mean:.3f} to {best.mean:.3f}"
        )
