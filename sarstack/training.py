"""Phase 1 of deSpeckNet: supervised training on patches whose clean image is known.

The loop knows nothing of where patches come from: simulated speckle, or a real stack and
its labels. A patch source makes batch number n from n alone, so a resumed training sees
the same patches and ends in the same weights.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sarstack.checkpoint import TrainingState, copy_weights, resume, save_checkpoint
from sarstack.errors import ConfigError
from sarstack.learning_curve import plot_curve, write_curve
from sarstack.losses import Batch, clean_loss, noisy_loss, to_tensors, variation_loss
from sarstack.networks.network import DeSpeckNet

if TYPE_CHECKING:
    import torch

__all__ = [
    "Batch",
    "PatchSource",
    "Progress",
    "TrainingResult",
    "TrainingSettings",
    "plot_curve",
    "train",
    "validate",
]

CURVE = "curve.csv"
DB_PER_NAT = 4.342944819032518
AHEAD = 3
"""Batches that are made while the network is busy."""


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

    def lasting(self) -> dict[str, Any]:
        """Return the settings that must stay the same when a training is resumed."""
        free = {"steps", "decay_steps", "device", "checkpoint_every", "patience"}
        return {key: value for key, value in asdict(self).items() if key not in free}


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
    network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(_trainable(network, settings), lr=settings.learning_rate)
    state, best = resume(folder, network, optimiser, settings.lasting())
    started, first, running = time.monotonic(), state.step, 0.0
    with ThreadPoolExecutor(1) as thread:
        queue = [thread.submit(patches.batch, state.step + i) for i in range(AHEAD)]
        while state.step < settings.steps and not _out_of_patience(state, settings):
            batch = queue.pop(0).result()
            queue.append(thread.submit(patches.batch, state.step + AHEAD))
            loss = _step(network, optimiser, batch, settings, state.step)
            state.step += 1
            running = loss if state.step == first + 1 else 0.98 * running + 0.02 * loss
            validated = None
            if _due(state.step, settings.validate_every, settings):
                scores = validate(network, validation, settings)
                validated = scores["validation_loss"]
                if validated < state.best_loss:
                    state.best_loss, state.best_step = validated, state.step
                    best = copy_weights(network)
                _record(state, settings, running, scores, folder)
            finished = _out_of_patience(state, settings)
            if finished or _due(state.step, settings.checkpoint_every, settings):
                save_checkpoint(folder, network, optimiser, state, best, settings.lasting())
            if progress is not None:
                per_step_s = (time.monotonic() - started) / (state.step - first)
                left_s = per_step_s * (settings.steps - state.step)
                progress(Progress(state.step, settings.steps, running, validated, left_s))
        for waiting in queue:
            waiting.cancel()
    network.load_state_dict(best)
    network.eval()
    stopped = _out_of_patience(state, settings)
    return TrainingResult(state.step, state.best_step, state.best_loss, stopped, state.history)


def _due(step: int, every: int, settings: TrainingSettings) -> bool:
    return step % every == 0 or step == settings.steps


def _record(
    state: TrainingState,
    settings: TrainingSettings,
    running: float,
    scores: dict[str, float],
    folder: Path,
) -> None:
    """Enter a validation into the history and the curve on disk."""
    rate = settings.rate(state.step - 1)
    row = {"step": state.step, "learning_rate": rate, "training_loss": running}
    state.history.append(row | scores)
    write_curve(folder / CURVE, state.history)


def _trainable(network: DeSpeckNet, settings: TrainingSettings) -> list["torch.nn.Parameter"]:
    branches = network if settings.xi else network.clean
    return [p for p in branches.parameters() if p.requires_grad]


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
        prediction = tensors.predict(network, noise=bool(settings.xi))
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
                prediction = tensors.predict(network, noise=False)
            losses.append(float(clean_loss(network, prediction, tensors)))
            used = (tensors.weight > 0) & (tensors.target > 0)
            estimate = network.to_intensity(prediction.clean)[used].clamp(min=1e-30)
            squares += float(((estimate / tensors.target[used]).log() ** 2).sum())
            count += int(used.sum())
    rmse_db = DB_PER_NAT * (squares / max(count, 1)) ** 0.5
    return {"validation_loss": float(np.mean(losses)), "rmse_db": rmse_db}


def _out_of_patience(state: TrainingState, settings: TrainingSettings) -> bool:
    if not settings.patience:
        return False
    since = sum(row["step"] > state.best_step for row in state.history)
    return since >= settings.patience
