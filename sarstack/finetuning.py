"""Phase 2 of deSpeckNet: unsupervised tuning on the noisy images themselves, with brakes.

The phase-2 loss ``mu2 |Y - X|^2 + xi |Y - X N|^2`` is smallest at X = Y, N = 1: nothing
in it rewards despeckling (E.g. Mullissa et al. stop after one epoch). What tells a good
step from a bad one is the ratio image Y / X on homogeneous land: its mean is 1 and its
variance 1 / looks when exactly the speckle was taken out; a smaller variance means that
the network is copying the noise. So the ratio is measured every few steps, the best iterate is
kept, and where no iterate is better than the start, the start is returned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.networks.despecknet import DeSpeckNet
from sarstack.training import Batch, PatchSource, clean_loss, noisy_loss, to_tensors

WINDOW_PX = 15


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


@dataclass(frozen=True)
class RatioScore:
    """Statistics of the ratio image noisy / despeckled on homogeneous windows.

    Attributes
    ----------
    mean : float
        1 when the radiometry is kept.
    variance : float
        Of the ratio; `expected_variance` (1 / looks) when the speckle and nothing
        else was taken out.
    expected_variance : float
    n_windows : int
    """

    mean: float
    variance: float
    expected_variance: float
    n_windows: int

    @property
    def distance(self) -> float:
        """How far the ratio image is from ideal: relative error of variance plus of mean."""
        return abs(self.variance / self.expected_variance - 1) + 2 * abs(self.mean - 1)


@dataclass(frozen=True)
class RatioProbe:
    """Held-out noisy patches with their homogeneous windows, the judge of phase 2.

    Attributes
    ----------
    patches : tuple of ndarray, each (batch, 1, y, x), float32
        Noisy linear power (on the scale the network wants), NaN = nodata.
    masks : tuple of ndarray of bool, same shapes
        True in homogeneous windows.
    looks : float
        Equivalent looks of the scene.
    """

    patches: tuple[NDArray[np.float32], ...]
    masks: tuple[NDArray[np.bool_], ...]
    looks: float

    @property
    def n_windows(self) -> int:
        """Number of homogeneous windows."""
        return sum(int(m.sum()) for m in self.masks) // WINDOW_PX**2

    def measure(self, network: DeSpeckNet, device: str = "cpu") -> RatioScore:
        """Despeckle the patches and measure the ratio image on the homogeneous windows."""
        import torch

        network.eval()
        ratios = []
        with torch.inference_mode():
            for noisy, mask in zip(self.patches, self.masks, strict=True):
                tensors = to_tensors(Batch(noisy, noisy, np.ones_like(noisy)), device)
                clean = network.to_intensity(
                    network(tensors.intensity, tensors.valid, noise=False).clean
                )
                estimate = np.maximum(clean.cpu().numpy()[mask], 1e-30)
                ratios.append(noisy[mask] / estimate)
        ratio = np.concatenate(ratios).astype(np.float64)
        mean, variance = float(ratio.mean()), float(ratio.var())
        return RatioScore(mean, variance, 1 / self.looks, self.n_windows)


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


def find_homogeneous(
    patches: Sequence[NDArray[np.float32]],
    looks: float,
    correlation: tuple[float, float] = (0.0, 0.0),
    *,
    share: float = 0.2,
) -> RatioProbe:
    """Pick the homogeneous windows of held-out noisy patches.

    Parameters
    ----------
    patches : sequence of ndarray, each (batch, 1, y, x), float32
        Noisy linear power, NaN = nodata, at least 15x15.
    looks : float
        Equivalent looks of the scene.
    correlation : tuple of float
        Lag-1 correlation of its speckle; correlated windows vary less than 1 / looks.
    share : float
        Best share of the windows kept, if their variation is that of speckle.

    Returns
    -------
    RatioProbe

    Raises
    ------
    UsageError
        If no window is free of nodata.
    """
    from sarstack.gamma import pair_correlation

    variations = [_window_variation(patch) for patch in patches]
    known = np.concatenate([v[np.isfinite(v)] for v in variations])
    if not known.size:
        raise UsageError(
            "no window of the patches is free of nodata",
            expected=f"at least one window of {WINDOW_PX}x{WINDOW_PX} valid positive pixels",
            do="tune on a part of the stack that has data",
        )
    speckle = (1 - pair_correlation(correlation, WINDOW_PX)) / looks
    # Homogeneous: closest to what speckle alone does, not the smallest, which would pick
    # the windows where chance made the speckle weak.
    limit = np.quantile(np.abs(np.log(known / speckle)), share)
    masks = []
    for variation in variations:
        chosen = np.abs(np.log(np.where(variation > 0, variation, np.nan) / speckle)) <= limit
        masks.append(chosen)
    full = [_spread(chosen, patch.shape) for chosen, patch in zip(masks, patches, strict=True)]
    return RatioProbe(tuple(patches), tuple(full), looks)


def _window_variation(patch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared coefficient of variation of non-overlapping windows; NaN where nodata."""
    rows, columns = patch.shape[-2] // WINDOW_PX, patch.shape[-1] // WINDOW_PX
    cut = patch[:, 0, : rows * WINDOW_PX, : columns * WINDOW_PX].astype(np.float64)
    cut = np.where(cut > 0, cut, np.nan)
    windows = cut.reshape(len(patch), rows, WINDOW_PX, columns, WINDOW_PX)
    return np.asarray(windows.var(axis=(2, 4), ddof=1) / windows.mean(axis=(2, 4)) ** 2)


def _spread(chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Blow up chosen windows to a mask of pixels."""
    mask = np.zeros(shape, dtype=bool)
    large = chosen.repeat(WINDOW_PX, axis=1).repeat(WINDOW_PX, axis=2)
    mask[:, 0, : large.shape[1], : large.shape[2]] = large
    return mask


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
    network.to(chosen.device, memory_format=torch.channels_last)
    start = _copy(network)
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
            best, best_score, best_step = _copy(network), score, step
        why = _reason_to_stop(score, before, best_score)
        if why:
            break
        why = "all steps were done"
    network.load_state_dict(best)
    network.eval()
    message = _tell(before, best_score, best_step, why)
    return FinetuneResult(
        best_step > 0, message, before, best_score, best_step, step, history
    )


def _step(
    network: DeSpeckNet, optimiser: "object", batch: Batch, settings: FinetuneSettings
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
    optimiser.zero_grad()  # type: ignore[attr-defined]
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()  # type: ignore[attr-defined]
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


def _copy(network: DeSpeckNet) -> dict[str, "object"]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
