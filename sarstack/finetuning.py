"""Phase 2 of deSpeckNet: unsupervised tuning on the noisy images themselves, with brakes.

The phase-2 loss ``mu2 |Y - X|^2 + xi |Y - X N|^2`` is smallest at X = Y, N = 1: nothing
in it rewards despeckling (the authors stop after one epoch). What tells a good
step from a bad one is the ratio image Y / X on homogeneous land: its mean is 1 and its
variance 1 / looks when exactly the speckle was taken out; a smaller variance means that
the network is copying the noise. So the ratio is measured every few steps, the best iterate is
kept, and where no iterate is better than the start, the start is returned.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sarstack.checkpoint import copy_weights
from sarstack.losses import Batch, noisy_loss, to_tensors
from sarstack.networks.despecknet import DeSpeckNet
from sarstack.ratio_probe import RatioProbe, RatioScore, find_homogeneous
from sarstack.training import PatchSource

if TYPE_CHECKING:
    import torch


__all__ = ["FinetuneResult", "FinetuneSettings", "RatioProbe", "find_homogeneous", "finetune"]


@dataclass(frozen=True)
class FinetuneSettings:
    """How to tune.

    Parameters
    ----------
    steps : int
        At most this many batches.
    learning_rate : float
        A hundredth of the paper's: its own ruins the network within 25 steps.
    mu2, xi : float
        Weights of both losses, as in the paper.
    probe_every : int
        Steps between measurements of the ratio image.
    min_gain : float
        Smallest improvement of the ratio score that counts.
    device : str
        Torch device.
    """

    steps: int = 200
    learning_rate: float = 1e-5
    mu2: float = 0.01
    xi: float = 1.0
    probe_every: int = 10
    min_gain: float = 0.005
    device: str = "cpu"


@dataclass
class FinetuneResult:
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
        One row per measurement: step, loss, ratio_mean, ratio_variance, distance.
    """

    improved: bool
    message: str
    before: RatioScore
    after: RatioScore
    best_step: int
    steps: int
    history: list[dict[str, float]] = field(default_factory=list)


def finetune(
    network: DeSpeckNet,
    patches: PatchSource,
    ratio_probe: RatioProbe,
    settings: FinetuneSettings | None = None,
    *,
    progress: Callable[[int, RatioScore], None] | None = None,
) -> FinetuneResult:
    """Tune a network on noisy images (the paper's phase 2), never for the worse.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place, only if the ratio image became better.
    patches : PatchSource
        Noisy patches of the scene; their targets are not looked at.
    ratio_probe : RatioProbe
        Held-out patches, from :func:`find_homogeneous`.
    settings : FinetuneSettings, optional
    progress : callable, optional
        Called with step and score after every measurement.

    Returns
    -------
    FinetuneResult

    Notes
    -----
    Mullissa et al., TGRS 2020, section III-C; in the log domain the losses compare
    logarithms. Batch normalisation keeps the statistics of phase 1.
    """
    import torch

    chosen = settings or FinetuneSettings()
    network.to(chosen.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = copy_weights(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=chosen.learning_rate)
    before = best_score = ratio_probe.measure(network, chosen.device)
    best, best_step = start, 0
    history = [_row(0, float("nan"), before)]
    step, why = 0, "all steps were done"
    while step < chosen.steps:
        loss = _step(network, optimiser, patches.batch(step), chosen)
        step += 1
        if step % chosen.probe_every and step != chosen.steps:
            continue
        score = ratio_probe.measure(network, chosen.device)
        history.append(_row(step, loss, score))
        if progress is not None:
            progress(step, score)
        if score.distance < best_score.distance - chosen.min_gain:
            best, best_score, best_step = copy_weights(network), score, step
        why = _reason_to_stop(score, before, best_score)
        if why:
            break
        why = "all steps were done"
    network.load_state_dict(best)
    network.eval()
    message = _tell(before, best_score, best_step, why)
    return FinetuneResult(best_step > 0, message, before, best_score, best_step, step, history)


def _step(
    network: DeSpeckNet,
    optimiser: "torch.optim.Optimizer",
    batch: Batch,
    settings: FinetuneSettings,
) -> float:
    """Do one step of phase 2: the target is the noisy image itself."""
    import torch

    # Running statistics, not those of a batch: what is tuned is what will be used.
    network.eval()
    itself = Batch(batch.intensity, batch.intensity, np.ones_like(batch.intensity))
    tensors = to_tensors(itself, settings.device)
    prediction = network(tensors.intensity, tensors.valid)
    used = (tensors.weight > 0) & torch.isfinite(prediction.observed)
    difference = torch.where(used, prediction.clean - prediction.observed, 0.0) ** 2
    copying = difference.sum() / used.sum().clamp(min=1)
    loss = settings.mu2 * copying + settings.xi * noisy_loss(prediction, tensors)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _reason_to_stop(score: RatioScore, before: RatioScore, best: RatioScore) -> str:
    if score.variance < 0.97 * score.expected_variance and score.variance < before.variance:
        return "the ratio image varied less than speckle: the network began to copy the noise"
    if score.distance > best.distance + 0.25:
        return "the ratio image became clearly worse"
    return ""


def _tell(before: RatioScore, best: RatioScore, best_step: int, why: str) -> str:
    if not best_step:
        return (
            "Tuning did not improve the ratio image, so the network is unchanged "
            f"(variance {before.variance:.4f}, {before.expected_variance:.4f} expected; {why})."
        )
    return (
        f"Tuning moved the variance of the ratio image from {before.variance:.4f} to "
        f"{best.variance:.4f} ({best.expected_variance:.4f} expected) and its mean from "
        f"{before.mean:.3f} to {best.mean:.3f} in {best_step} steps ({why})."
    )


def _row(step: int, loss: float, score: RatioScore) -> dict[str, float]:
    return {
        "step": step,
        "loss": loss,
        "ratio_mean": score.mean,
        "ratio_variance": score.variance,
        "distance": score.distance,
    }
