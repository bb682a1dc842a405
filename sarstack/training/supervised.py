"""Phase 1 of deSpeckNet: supervised training on patches whose clean image is known.

The loop knows nothing of where patches come from: simulated speckle, or a real stack and
its labels. A patch source makes batch number n from n alone, so a resumed training sees
the same patches and ends in the same weights.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sarstack.errors import ConfigError
from sarstack.networks.network import DeSpeckNet
from sarstack.training.checkpoint import TrainingState, copy_weights, resume, save_checkpoint
from sarstack.training.distributed import ALONE, Ranks
from sarstack.training.learning_curve import plot_curve, write_curve
from sarstack.training.losses import (
    Batch,
    Mean,
    add_means,
    clean_loss,
    noisy_loss,
    to_tensors,
    variation_loss,
)

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
    ranks: Ranks = ALONE,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Train a network, or go on with an unfinished training found in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place; ends with the best weights of the training.
    patches : PatchSource
        Where batches come from, or this rank's share of them; called from one other thread.
    validation : sequence of Batch
        Held-out batches, always the same; with several ranks, those this rank judges.
    settings : TrainingSettings
    folder : str or Path
        Gets the checkpoint and ``curve.csv``. All ranks must see it.
    ranks : Ranks
        The processes that train together. They differ from one process only by the rounding
        of sums, so either may go on with a training of the other.
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
    Mullissa et al., TGRS 2020, section III: losses (5) to (8), Adam(0.9, 0.999). Batch
    normalisation (``despecknet-paper``) knows the share of its rank only, and the running
    statistics are those of rank 0: there, ranks are as a smaller batch.
    """
    import torch

    folder = Path(folder)
    network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(_trainable(network, settings), lr=settings.learning_rate)
    state, best = resume(folder, network, optimiser, settings.lasting())
    started, first, running = time.monotonic(), state.step, 0.0
    with closing(draw_ahead(patches, range(state.step, settings.steps))) as batches:
        while state.step < settings.steps and not _out_of_patience(state, settings):
            loss = _step(network, optimiser, next(batches), settings, state.step, ranks)
            state.step += 1
            running = loss if state.step == first + 1 else 0.98 * running + 0.02 * loss
            validated = None
            if _due(state.step, settings.validate_every, settings):
                scores = validate(network, validation, settings, ranks)
                validated = scores["validation_loss"]
                if validated < state.best_loss:
                    state.best_loss, state.best_step = validated, state.step
                    best = copy_weights(network)
                row = {"step": state.step, "learning_rate": settings.rate(state.step - 1)}
                state.history.append(row | {"training_loss": running} | scores)
                if ranks.leads:
                    write_curve(folder / CURVE, state.history)
            finished = _out_of_patience(state, settings)
            due = finished or _due(state.step, settings.checkpoint_every, settings)
            if due and ranks.leads:
                save_checkpoint(folder, network, optimiser, state, best, settings.lasting())
            if progress is not None:
                per_step_s = (time.monotonic() - started) / (state.step - first)
                left_s = per_step_s * (settings.steps - state.step)
                progress(Progress(state.step, settings.steps, running, validated, left_s))
    network.load_state_dict(best)
    network.eval()
    stopped = _out_of_patience(state, settings)
    return TrainingResult(state.step, state.best_step, state.best_loss, stopped, state.history)


def _due(step: int, every: int, settings: TrainingSettings) -> bool:
    return step % every == 0 or step == settings.steps


def draw_ahead(patches: PatchSource, steps: range) -> Generator[Batch]:
    """Make the batches of `steps` in other threads, some ahead of the one being used."""
    import torch

    # One for two that compute: a batch of a stack is read in the time of one or two steps.
    n_threads = min(AHEAD, max(1, torch.get_num_threads() // 2))
    with ThreadPoolExecutor(n_threads) as threads:
        queue = deque(threads.submit(patches.batch, step) for step in steps[:AHEAD])
        try:
            for step in steps:
                batch = queue.popleft().result()
                if step + AHEAD in steps:
                    queue.append(threads.submit(patches.batch, step + AHEAD))
                yield batch
        finally:
            for waiting in queue:
                waiting.cancel()


def _trainable(network: DeSpeckNet, settings: TrainingSettings) -> list["torch.nn.Parameter"]:
    branches = network if settings.xi else network.clean
    return [p for p in branches.parameters() if p.requires_grad]


def _step(
    network: DeSpeckNet,
    optimiser: "torch.optim.Optimizer",
    batch: Batch,
    settings: TrainingSettings,
    step: int,
    ranks: Ranks,
) -> float:
    """Do one step of supervised training and return its loss."""
    network.train()
    tensors = to_tensors(batch, settings.device)
    prediction = tensors.predict(network, noise=bool(settings.xi), bfloat16=settings.bfloat16)
    losses = [settings.mu * clean_loss(network, prediction, tensors)]
    if settings.xi:
        losses.append(settings.xi * noisy_loss(prediction, tensors))
    if settings.tv:
        losses += [settings.tv * mean for mean in variation_loss(prediction)]
    return descend(optimiser, losses, settings.rate(step), ranks)


def descend(
    optimiser: "torch.optim.Optimizer", losses: Sequence[Mean], rate: float, ranks: Ranks
) -> float:
    """Do one step of gradient descent on a sum of losses over all ranks, and return it.

    Raises
    ------
    ConfigError
        If the loss is not finite.
    """
    import torch

    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss = add_means(losses, ranks)
    loss.backward()  # type: ignore[no-untyped-call]
    whole = loss.detach().clone()
    ranks.add([whole, *(p.grad for p in parameters if p.grad is not None)])
    value = float(whole)
    if not np.isfinite(value):
        raise ConfigError(
            f"the training loss is {value}",
            expected="a finite number",
            do="lower the learning rate; check the patches for infinite values",
        )
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    return value


def validate(
    network: DeSpeckNet,
    batches: Sequence[Batch],
    settings: TrainingSettings,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Score a network on held-out batches, and on those of the other ranks.

    Returns
    -------
    dict
        ``validation_loss`` (of the clean branch) and ``rmse_db`` over pixels with weight.
    """
    import torch

    network.eval()
    loss, squares, count = 0.0, 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            tensors = to_tensors(batch, settings.device)
            prediction = tensors.predict(network, noise=False, bfloat16=settings.bfloat16)
            loss += float(clean_loss(network, prediction, tensors))
            used = (tensors.weight > 0) & (tensors.target > 0)
            estimate = network.to_intensity(prediction.clean)[used].clamp(min=1e-30)
            squares += float(((estimate / tensors.target[used]).log() ** 2).sum())
            count += int(used.sum())
    sums = torch.tensor([loss, len(batches), squares, count], dtype=torch.float64)
    ranks.add([sums])
    loss, n_batches, squares, n_px = sums.tolist()
    rmse_db = DB_PER_NAT * (squares / max(n_px, 1)) ** 0.5
    return {"validation_loss": loss / max(n_batches, 1), "rmse_db": rmse_db}


def _out_of_patience(state: TrainingState, settings: TrainingSettings) -> bool:
    if not settings.patience:
        return False
    since = sum(row["step"] > state.best_step for row in state.history)
    return since >= settings.patience
