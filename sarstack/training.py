"""Phase 1 of deSpeckNet: supervised training on patches whose clean image is known.

The loop knows nothing of where patches come from: simulated speckle, or a real stack and
its labels. A patch source makes batch number n from n alone, so a resumed training sees
the same patches and ends in the same weights.
"""

import csv
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import ConfigError, ResumeMismatchError
from sarstack.networks.card import read_header, write_safetensors
from sarstack.networks.despecknet import DeSpeckNet, Prediction

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
CURVE = "curve.csv"
_STATE_KEY = "sarstack-training"
DB_PER_NAT = 4.342944819032518


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
    """

    intensity: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]


class PatchSource(Protocol):
    """Makes training batches."""

    def batch(self, step: int) -> Batch:
        """Return batch number `step`; the same number gives the same batch, always."""
        ...


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Parameters
    ----------
    steps : int
        Batches to see in all. A resumed training may have more or fewer.
    learning_rate : float
        Of Adam, after a linear warm-up and before a linear decay to zero.
    warmup_steps, decay_steps : int
        Length of both.
    mu, xi, tv : float
        Weights of the clean, the reconstruction and the total-variation loss
        (the paper's mu, xi, lambda; its phase 1 has 1, 0.01, 0). With xi = 0 the noise
        branch is neither computed nor changed.
    validate_every, checkpoint_every : int
        Steps between.
    patience : int
        Stop when this many validations in a row were no better than the best; 0: never.
    bfloat16 : bool
        Mixed precision: twice as fast on CPUs and GPUs that have it.
    device : str
        ``cpu``, ``cuda``, ...
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 1500
    mu: float = 1.0
    xi: float = 0.01
    tv: float = 0.0
    validate_every: int = 250
    checkpoint_every: int = 250
    patience: int = 0
    bfloat16: bool = False
    device: str = "cpu"

    def rate(self, step: int) -> float:
        """Learning rate at a step: a ramp, a plateau, a ramp."""
        up = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        down = min(1.0, (self.steps - step) / max(self.decay_steps, 1))
        return self.learning_rate * min(up, down)


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each step."""

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    eta_s: float


@dataclass
class TrainingResult:
    """How a training went; the network given to :func:`train` holds the best weights.

    Attributes
    ----------
    steps : int
        Steps done in all, over all resumed runs.
    best_step : int
        Where the validation loss was lowest.
    best_loss : float
        That loss.
    stopped_early : bool
        Whether patience ran out.
    history : list of dict
        One row per validation: step, learning_rate, training_loss, validation_loss, rmse_db.
    """

    steps: int
    best_step: int
    best_loss: float
    stopped_early: bool
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class _State:
    """Where the loop stands; the part of a checkpoint that is not tensors."""

    step: int = 0
    best_step: int = -1
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    network: DeSpeckNet,
    patches: PatchSource,
    validation: Sequence[Batch],
    settings: TrainingSettings,
    folder: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Train a network, or go on with an unfinished training found in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place; ends with the best weights of the training.
    patches : PatchSource
        Where batches come from; called from one other thread.
    validation : sequence of Batch
        Held-out batches, always the same.
    settings : TrainingSettings
    folder : str or Path
        Gets the checkpoint and ``curve.csv``.
    progress : callable, optional
        Called after every step.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ResumeMismatchError
        If `folder` holds a checkpoint made with other settings (steps and decay may differ).
    ConfigError
        If the loss is not finite.

    Notes
    -----
    Mullissa et al., TGRS 2020, section III: losses (5) to (8), Adam(0.9, 0.999).
    """
    import torch

    folder = Path(folder)
    network.to(settings.device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(_trainable(network, settings), lr=settings.learning_rate)
    state, best = _resume(folder, network, optimiser, settings)
    started, first, running = time.monotonic(), state.step, 0.0
    stopped = False
    with ThreadPoolExecutor(1) as ahead:
        queue = [ahead.submit(patches.batch, state.step + i) for i in range(3)]
        while state.step < settings.steps and not stopped:
            batch = queue.pop(0).result()
            queue.append(ahead.submit(patches.batch, state.step + 3))
            loss = _step(network, optimiser, batch, settings, state.step)
            state.step += 1
            running = loss if running == 0.0 else 0.98 * running + 0.02 * loss
            validated: float | None = None
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                scores = validate(network, validation, settings)
                validated = scores["validation_loss"]
                if validated < state.best_loss:
                    state.best_loss, state.best_step = validated, state.step
                    best = _copy(network)
                rate = settings.rate(state.step - 1)
                row = {"step": state.step, "learning_rate": rate, "training_loss": running}
                state.history.append(row | scores)
                write_curve(folder / CURVE, state.history)
                stopped = _out_of_patience(state, settings)
            if state.step % settings.checkpoint_every == 0 or state.step == settings.steps or stopped:
                _save_checkpoint(folder, network, optimiser, state, best, settings)
            if progress is not None:
                per_step = (time.monotonic() - started) / (state.step - first)
                left_s = per_step * (settings.steps - state.step)
                progress(Progress(state.step, settings.steps, running, validated, left_s))
        for waiting in queue:
            waiting.cancel()
    network.load_state_dict(best)
    network.eval()
    return TrainingResult(state.step, state.best_step, state.best_loss, stopped, state.history)


def clean_loss(network: DeSpeckNet, prediction: Prediction, batch: "TensorBatch") -> "Tensor":
    """Distance of the clean branch from the target, averaged by weight.

    In the log domain: the gamma likelihood ``exp(-r) + r - 1`` of ``r = ln xhat - ln t``,
    whose minimiser is the mean intensity even when t is noisy, plus ``r**2 / 2``, which
    keeps pulling where the likelihood is flat: at bright points taken too dark it is the
    exponential that pulls, at dark lines taken too bright the square. In the linear domain:
    the paper's mean square, equation (5).
    """
    import torch

    used = batch.weight > 0
    if network.domain == "linear":
        error = torch.where(used, prediction.clean - batch.target, 0.0) ** 2
    else:
        target = torch.where(used & (batch.target > 0), batch.target, 1.0).log()
        r = torch.where(used & (batch.target > 0), prediction.clean - target, 0.0)
        # Limited, so that one dark speckle at the start does not throw the weights away.
        error = torch.exp(-r.clamp(min=-3.0)) + r - 1 + r**2 / 2
    return (error * batch.weight).sum() / batch.weight.sum().clamp(min=1e-6)


def noisy_loss(prediction: Prediction, batch: "TensorBatch") -> "Tensor":
    """Mean square distance of clean x speckle from the observed image, equation (6)."""
    import torch

    if prediction.reconstruction is None:
        raise ValueError("the noise branch was not computed")
    used = (batch.weight > 0) & torch.isfinite(prediction.observed)
    error = torch.where(used, prediction.reconstruction - prediction.observed, 0.0) ** 2
    return error.sum() / used.sum().clamp(min=1)


def variation_loss(prediction: Prediction) -> "Tensor":
    """Mean absolute gradient of the clean prediction, equation (8) per pixel."""
    clean = prediction.clean
    rows, columns = clean.diff(dim=-2).abs(), clean.diff(dim=-1).abs()
    return rows.nanmean() + columns.nanmean()


class TensorBatch(NamedTuple):
    """A :class:`Batch` on the device, with NaN taken out and said in `valid`."""

    intensity: "Tensor"
    target: "Tensor"
    weight: "Tensor"
    valid: "Tensor | None"


def to_tensors(batch: Batch, device: str) -> TensorBatch:
    """Move a batch to the device; invalid pixels become 0 with weight 0."""
    import torch

    intensity = torch.from_numpy(np.ascontiguousarray(batch.intensity)).to(device)
    target = torch.from_numpy(np.ascontiguousarray(batch.target)).to(device)
    weight = torch.from_numpy(np.ascontiguousarray(batch.weight)).to(device)
    finite = torch.isfinite(intensity)
    usable = finite & torch.isfinite(target)
    weight = torch.where(usable, weight, 0.0)
    if bool(finite.all()):
        return TensorBatch(intensity, target.nan_to_num(0.0), weight, None)
    valid = finite.to(torch.float32)
    return TensorBatch(intensity.nan_to_num(0.0), target.nan_to_num(0.0), weight, valid)


def _trainable(network: DeSpeckNet, settings: TrainingSettings) -> list["torch.nn.Parameter"]:
    return list((network if settings.xi else network.clean).parameters())


def _step(
    network: DeSpeckNet,
    optimiser: "torch.optim.Optimizer",
    batch: Batch,
    settings: TrainingSettings,
    step: int,
) -> float:
    """Do one step of gradient descent and return its loss."""
    import torch

    network.train()
    tensors = to_tensors(batch, settings.device)
    for group in optimiser.param_groups:
        group["lr"] = settings.rate(step)
    with torch.autocast(settings.device.split(":")[0], torch.bfloat16, enabled=settings.bfloat16):
        prediction = network(tensors.intensity, tensors.valid, noise=bool(settings.xi))
    loss = settings.mu * clean_loss(network, prediction, tensors)
    if settings.xi:
        loss = loss + settings.xi * noisy_loss(prediction, tensors)
    if settings.tv:
        loss = loss + settings.tv * variation_loss(prediction)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(_trainable(network, settings), 1.0)
    value = float(loss.detach())
    if not np.isfinite(value):
        raise ConfigError(
            f"the training loss is {value} at step {step}",
            expected="a finite number",
            do="lower the learning rate; check the patches for infinite values",
        )
    optimiser.step()
    return value


def validate(
    network: DeSpeckNet, batches: Sequence[Batch], settings: TrainingSettings
) -> dict[str, float]:
    """Score a network on held-out batches.

    Returns
    -------
    dict
        ``validation_loss`` (of the clean branch) and ``rmse_db`` over pixels with weight.
    """
    import torch

    network.eval()
    losses, squares, count = [], 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            tensors = to_tensors(batch, settings.device)
            kind = settings.device.split(":")[0]
            with torch.autocast(kind, torch.bfloat16, enabled=settings.bfloat16):
                prediction = network(tensors.intensity, tensors.valid, noise=False)
            losses.append(float(clean_loss(network, prediction, tensors)))
            used = (tensors.weight > 0) & (tensors.target > 0)
            estimate = network.to_intensity(prediction.clean)[used].clamp(min=1e-30)
            squares += float(((estimate / tensors.target[used]).log() ** 2).sum())
            count += int(used.sum())
    rmse_db = DB_PER_NAT * (squares / max(count, 1)) ** 0.5
    return {"validation_loss": float(np.mean(losses)), "rmse_db": rmse_db}


def _out_of_patience(state: _State, settings: TrainingSettings) -> bool:
    if not settings.patience:
        return False
    since = sum(row["step"] > state.best_step for row in state.history)
    return since >= settings.patience


def _copy(network: DeSpeckNet) -> dict[str, "Tensor"]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def write_curve(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the learning curve as CSV, one row per validation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    part.replace(path)


def plot_curve(history: Sequence[dict[str, float]], path: str | Path) -> None:
    """Draw the learning curve as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row["step"] for row in history]
    axes.plot(steps, [row["training_loss"] for row in history], label="training loss")
    axes.plot(steps, [row["validation_loss"] for row in history], label="validation loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_yscale("log")
    axes.legend(loc="upper right")
    right = axes.twinx()
    right.plot(steps, [row["rmse_db"] for row in history], color="black", linestyle=":")
    right.set_ylabel("validation RMSE [dB] (dotted)")
    figure.savefig(path, dpi=120)


def _fixed(settings: TrainingSettings) -> dict[str, Any]:
    """Settings that must not change between the parts of a resumed training."""
    free = {"steps", "decay_steps", "device", "checkpoint_every", "patience"}
    return {key: value for key, value in asdict(settings).items() if key not in free}


def _save_checkpoint(
    folder: Path,
    network: DeSpeckNet,
    optimiser: "torch.optim.Optimizer",
    state: _State,
    best: dict[str, "Tensor"],
    settings: TrainingSettings,
) -> None:
    tensors: dict[str, Tensor] = {}
    for prefix, group in (("network", _copy(network)), ("best", best)):
        tensors |= {f"{prefix}/{k}": v.cpu().contiguous() for k, v in group.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for key, value in moments.items():
            tensors[f"optimiser/{index}/{key}"] = value.detach().cpu().contiguous()
    text = json.dumps({"state": asdict(state), "settings": _fixed(settings)})
    write_safetensors(folder / CHECKPOINT, tensors, {_STATE_KEY: text})


def _resume(
    folder: Path,
    network: DeSpeckNet,
    optimiser: "torch.optim.Optimizer",
    settings: TrainingSettings,
) -> tuple[_State, dict[str, "Tensor"]]:
    """Load the checkpoint in `folder`, if there is one."""
    path = folder / CHECKPOINT
    if not path.exists():
        return _State(), _copy(network)
    from safetensors.torch import load_file

    known = json.loads(read_header(path).get("__metadata__", {}).get(_STATE_KEY, "{}"))
    if known.get("settings") != _fixed(settings):
        raise ResumeMismatchError(
            "an unfinished training in this folder was started with other settings",
            expected=f"{known.get('settings')}",
            where=str(path),
            do="use the same settings, or another folder",
        )
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimiser": {}}
    for key, value in load_file(str(path)).items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    network.load_state_dict(groups["network"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimiser"].items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = value
    whole = optimiser.state_dict()
    whole["state"] = moments
    optimiser.load_state_dict(whole)
    return _State(**known["state"]), groups["best"]
