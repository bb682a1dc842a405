"""Tuning without labels, on the noisy images themselves: one loop, with brakes.

What the network learns from and what it is judged by is a :class:`TuningSignal`: the
paper's phase 2 (:class:`PaperSignal`) or the other dates of the stack
(:class:`sarstack.training.noise_to_noise.NoiseToNoise`). The judge measures every few steps, the
best iterate is kept, and where no iterate is better than the start, the start is returned.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from sarstack.networks.network import DeSpeckNet
from sarstack.training.checkpoint import TrainingState, copy_weights, resume, save_checkpoint
from sarstack.training.distributed import ALONE, Ranks
from sarstack.training.learning_curve import write_curve
from sarstack.training.losses import Batch, Mean, noisy_loss, to_tensors
from sarstack.training.ratio import RatioProbe, RatioScore
from sarstack.training.supervised import CURVE, PatchSource, descend, draw_ahead

if TYPE_CHECKING:
    from torch import Tensor

WARMUP_STEPS = 10
"""The first steps of Adam are as long as the later ones, and know less."""

ALL_DONE = "all steps were done"
Score = TypeVar("Score", bound=RatioScore)


class TuningSignal(Protocol[Score]):
    """What a network learns from in tuning, and what it is judged by."""

    def losses(self, network: DeSpeckNet, batch: Batch, settings: "FinetuneSettings") -> list[Mean]:
        """Return the losses of a batch of noisy patches; what is learnt from is their sum."""
        ...

    def measure(self, network: DeSpeckNet, device: str, ranks: Ranks) -> Score:
        """Judge a network on held-out patches, each rank on some of them."""
        ...

    def is_better(self, score: Score, best: Score, before: Score) -> bool:
        """Tell whether an iterate is to be kept: better than the best and than the start."""
        ...

    def reason_to_stop(self, score: Score, best: Score, before: Score) -> str:
        """Say why going on would do harm; empty: it would not."""
        ...

    def tell(self, before: Score, best: Score | None) -> str:
        """Say what tuning did, for the user; `best` is None where nothing was better."""
        ...


@dataclass(frozen=True)
class FinetuneSettings:
    """How to tune.

    Parameters
    ----------
    steps : int
        At most this many batches.
    learning_rate : float
        Of Adam. For the paper's signal a hundredth of the paper's: its own ruins the network
        within 25 steps.
    probe_every : int
        Steps between measurements.
    bfloat16 : bool
        Mixed precision, see :class:`sarstack.training.supervised.TrainingSettings`; measurements
        are         float32.
    device : str
        Torch device.
    """

    steps: int = 200
    learning_rate: float = 1e-5
    probe_every: int = 10
    bfloat16: bool = False
    device: str = "cpu"

    def rate(self, step: int) -> float:
        """Learning rate at a step: a short ramp, then down to zero, so that the end settles."""
        return self.learning_rate * min((step + 1) / WARMUP_STEPS, 1 - step / self.steps)

    def lasting(self) -> dict[str, Any]:
        """Return the settings that must stay the same when a tuning is resumed."""
        return {key: value for key, value in asdict(self).items() if key not in {"steps", "device"}}


@dataclass
class FinetuneResult(Generic[Score]):
    """What tuning did.

    Attributes
    ----------
    improved : bool
        False: the network was left exactly as it was.
    message : str
        What happened, in a sentence for the user.
    before, after : RatioScore
        At step 0 and of the returned network.
    best_step, steps : int
        Step of the returned network; steps done.
    history : list of dict
        One row per measurement: step, loss and what the score says. NaN: no loss yet.
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
    signal: TuningSignal[Score],
    settings: FinetuneSettings,
    folder: str | Path,
    *,
    ranks: Ranks = ALONE,
    progress: Callable[[int, Score], None] | None = None,
) -> FinetuneResult[Score]:
    """Tune a network on noisy images, never for the worse, or go on with an unfinished tuning.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place, only if the judge found something better.
    patches : PatchSource
        Noisy patches of the scene, or this rank's share; their targets are not looked at.
    signal : TuningSignal
        What it learns from and is judged by.
    settings : FinetuneSettings
    folder : str or Path
        Gets a checkpoint at every measurement, and ``curve.csv``. All ranks must see it.
    ranks : Ranks
        The processes that tune together.
    progress : callable, optional
        Called with step and score after every measurement.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    ResumeMismatchError
        If `folder` holds a checkpoint made with other settings (steps may differ).

    Notes
    -----
    Batch normalisation keeps the statistics of phase 1: what is tuned is what will be used.
    """
    import torch

    folder = Path(folder)
    network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    before = best_score = signal.measure(network, settings.device, ranks)
    state, best = resume(folder, network, optimiser, settings.lasting())
    if state.best_step > 0:
        best_score = _measure_weights(network, best, signal, settings.device, ranks)
    state.history = state.history or [{"step": 0, "loss": float("nan"), **before.row()}]
    with closing(draw_ahead(patches, range(state.step, settings.steps))) as batches:
        while state.step < settings.steps and not state.stopped:
            losses = signal.losses(network, next(batches), settings)
            loss = descend(optimiser, losses, settings.rate(state.step), ranks)
            state.step += 1
            if state.step % settings.probe_every and state.step != settings.steps:
                continue
            score = signal.measure(network, settings.device, ranks)
            state.history.append({"step": state.step, "loss": loss, **score.row()})
            if ranks.agree(signal.is_better(score, best_score, before)):
                best, best_score, state.best_step = copy_weights(network), score, state.step
            why = signal.reason_to_stop(score, best_score, before)
            state.stopped = (why or ALL_DONE) if ranks.agree(bool(why)) else ""
            if ranks.leads:
                write_curve(folder / CURVE, state.history)
                save_checkpoint(folder, network, optimiser, state, best, settings.lasting())
            if progress is not None:
                progress(state.step, score)
    network.load_state_dict(best)
    return _conclude(signal, state, before, best_score)


def _measure_weights(
    network: DeSpeckNet,
    weights: dict[str, "Tensor"],
    signal: TuningSignal[Score],
    device: str,
    ranks: Ranks,
) -> Score:
    """Judge other weights than the network has, and leave it as it was."""
    current = copy_weights(network)
    network.load_state_dict(weights)
    score = signal.measure(network, device, ranks)
    network.load_state_dict(current)
    return score


def _conclude(
    signal: TuningSignal[Score], state: TrainingState, before: Score, best: Score
) -> FinetuneResult[Score]:
    improved = state.best_step > 0
    found = signal.tell(before, best if improved else None)
    kept = f"step {state.best_step} is kept; " if improved else ""
    message = f"{found} ({kept}{state.stopped or ALL_DONE})"
    best_step = max(state.best_step, 0)
    return FinetuneResult(improved, message, before, best, best_step, state.step, state.history)


def copies_noise(score: RatioScore, before: RatioScore) -> bool:
    """Tell whether the ratio image varies clearly less than speckle and than it did at first.

    Never where no window is homogeneous: among texture the best estimate keeps some speckle.
    """
    return score.variance < 0.97 * min(score.expected_variance, before.variance)


@dataclass(frozen=True)
class PaperSignal:
    """Phase 2 of deSpeckNet: the target is the noisy image itself.

    Its loss ``mu2 |Y - X|^2 + xi |Y - X N|^2`` is smallest at X = Y, N = 1: nothing in it
    rewards despeckling (the authors stop after one epoch). What tells a good step from a bad
    one is the ratio image Y / X on homogeneous land: its mean is 1 and its variance 1 / looks
    when exactly the speckle was taken out; a smaller variance means that the network is
    copying the noise.

    Parameters
    ----------
    probe : RatioProbe
        Held-out patches, from :func:`sarstack.training.ratio.find_homogeneous`.
    mu2, xi : float
        Weights of both losses, as in the paper.
    min_gain : float
        Smallest improvement of the ratio score that counts.

    Notes
    -----
    Mullissa et al., TGRS 2020, section III-C; in the log domain the losses compare
    logarithms.
    """

    probe: RatioProbe
    mu2: float = 0.01
    xi: float = 1.0
    min_gain: float = 0.005

    def losses(self, network: DeSpeckNet, batch: Batch, settings: FinetuneSettings) -> list[Mean]:
        """Return the distance of the noisy image from clean image and from clean x speckle."""
        import torch

        itself = batch._replace(target=batch.intensity, weight=np.ones_like(batch.intensity))
        tensors = to_tensors(itself, settings.device)
        prediction = tensors.predict(network, noise=True, bfloat16=settings.bfloat16)
        used = (tensors.weight > 0) & torch.isfinite(prediction.observed)
        difference = torch.where(used, prediction.clean - prediction.observed, 0.0) ** 2
        copying = Mean(difference.sum(), used.sum())
        return [self.mu2 * copying, self.xi * noisy_loss(prediction, tensors)]

    def measure(self, network: DeSpeckNet, device: str = "cpu", ranks: Ranks = ALONE) -> RatioScore:
        """Measure the ratio image on homogeneous windows."""
        return self.probe.measure(network, device, ranks)

    def is_better(self, score: RatioScore, best: RatioScore, before: RatioScore) -> bool:  # noqa: ARG002
        """Tell whether the ratio image is closer to speckle."""
        return score.distance < best.distance - self.min_gain

    def reason_to_stop(self, score: RatioScore, best: RatioScore, before: RatioScore) -> str:
        """Stop where noise is copied or the ratio image is far worse than the best."""
        if copies_noise(score, before):
            return "the ratio image varied less than speckle: the network began to copy the noise"
        if score.distance > best.distance + 0.25:
            return "the ratio image became clearly worse"
        return ""

    def tell(self, before: RatioScore, best: RatioScore | None) -> str:
        """Say how the ratio image changed."""
        if best is None:
            return (
                "Tuning did not improve the ratio image, so the network is unchanged: "
                f"variance {before.variance:.4f}, {before.expected_variance:.4f} expected"
            )
        return (
            f"Tuning moved the variance of the ratio image from {before.variance:.4f} to "
            f"{best.variance:.4f} ({best.expected_variance:.4f} expected) and its mean from "
            f"{before.mean:.3f} to {best.mean:.3f}"
        )
