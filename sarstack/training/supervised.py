"""Supervised training (phase 1 of deSpeckNet), on patches with a clean target.

Patches come from simulated speckle, or from a real stack and its labels. A patch source makes
batch n from the number n alone, so a resumed training gets the same batches and ends with
the same weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sarstack.conventions import DB_PER_NAT
from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import Batch, PatchSource, to_tensors
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.loop import LoopSettings, Progress, TrainingLoop, Validation
from sarstack.training.losses import WeightedMean, clean_loss, noisy_loss, variation_loss

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainingSettings(LoopSettings):
    """Settings of supervised training, beside those of :class:`LoopSettings`.

    Attributes
    ----------
    learning_rate : float
        Learning rate of Adam after a linear warm-up and before a linear decay to zero.
    warmup_steps, decay_steps : int
        Steps of warm-up and decay.
    mu, xi, tv : float
        Weights of the clean, the reconstruction and the total-variation loss (the paper's
        mu, xi, lambda; its phase 1 has 1, 0.01, 0). With xi = 0 the noise branch is neither
        computed nor changed.
    patience : int
        Stop after this many validations without a new best one; 0: never.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    validate_every: int = 250
    checkpoint_every: int = 250
    warmup_steps: int = 100
    decay_steps: int = 1500
    mu: float = 1.0
    xi: float = 0.01
    tv: float = 0.0
    patience: int = 0

    free_on_resume: ClassVar[frozenset[str]] = LoopSettings.free_on_resume | {
        "decay_steps",
        "patience",
    }

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, constant, linear decay."""
        warmup = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        decay = min(1.0, (self.steps - step) / max(self.decay_steps, 1))
        return self.learning_rate * min(warmup, decay)


@dataclass
class TrainingResult:
    """Result of a training; the network given to :func:`train` holds the best weights.

    Attributes
    ----------
    steps : int
        Steps done in all, over all resumed runs.
    best_step : int
        Step of the smallest validation loss.
    best_loss : float
        That loss.
    stopped_early : bool
        Whether the training stopped after `patience` validations without improvement.
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
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Train a network, or continue an unfinished training found in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        Changed in place; ends with the best weights of the training.
    patches : PatchSource
        Source of batches, or of the shards of this process; other threads call it.
    validation : sequence of Batch
        Held-out batches, always the same; with several processes, those of this one.
    settings : TrainingSettings
    folder : str or Path
        Folder of the checkpoint and of ``curve.csv``, visible to all processes.
    group : ProcessGroup
        The processes that train together. Only the rounding of sums differs from a single
        process, so a training may be resumed with another number of processes.
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
    normalisation (``despecknet-paper``) uses the shard of its process only, and the running
    statistics are those of rank 0, as with a smaller batch.
    """
    loop = _SupervisedLoop(network, validation, settings, Path(folder), group)
    loop.run(patches, progress)
    state = loop.state
    stopped_early = bool(state.stopped)
    return TrainingResult(
        state.step, state.best_step, state.best_loss, stopped_early, state.history
    )


class _SupervisedLoop(TrainingLoop):
    settings: TrainingSettings

    def __init__(
        self,
        network: DeSpeckNet,
        validation: Sequence[Batch],
        settings: TrainingSettings,
        folder: Path,
        group: ProcessGroup,
    ) -> None:
        super().__init__(network, _trained_parameters(network, settings), settings, folder, group)
        self.validation = validation
        self.resume()
        # A resumed training may have another patience.
        self.state.stopped = self.reason_to_stop()

    def losses(self, batch: Batch) -> list[WeightedMean]:
        settings = self.settings
        self.network.train()
        self.network.prepare_step(self.state.step)
        tensors = to_tensors(batch, settings.device)
        with_noise = bool(settings.xi)
        prediction = tensors.predict(self.network, noise=with_noise, bfloat16=settings.bfloat16)
        losses = [settings.mu * clean_loss(self.network, prediction, tensors)]
        if settings.xi:
            losses.append(settings.xi * noisy_loss(prediction, tensors))
        if settings.tv:
            losses += [settings.tv * mean for mean in variation_loss(prediction)]
        return losses

    def validate(self) -> Validation:
        scores = validate(self.network, self.validation, self.settings, self.group)
        is_best = scores["validation_loss"] < self.state.best_loss
        if is_best:
            self.state.best_loss = scores["validation_loss"]
        return Validation(scores, is_best)

    def curve_row(self, loss: float, smoothed_loss: float) -> dict[str, float]:  # noqa: ARG002
        rate = self.settings.learning_rate_at(self.state.step - 1)
        return {"learning_rate": rate, "training_loss": smoothed_loss}

    def reason_to_stop(self) -> str:
        patience = self.settings.patience
        since_best = sum(row["step"] > self.state.best_step for row in self.state.history)
        if patience and since_best >= patience:
            return f"{since_best} validations without improvement"
        return ""


def _trained_parameters(
    network: DeSpeckNet, settings: TrainingSettings
) -> list["torch.nn.Parameter"]:
    branches = network if settings.xi else network.clean
    return [p for p in branches.parameters() if p.requires_grad]


def validate(
    network: DeSpeckNet,
    batches: Sequence[Batch],
    settings: LoopSettings,
    group: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, float]:
    """Score a network on the held-out batches of all processes.

    Returns
    -------
    dict
        ``validation_loss`` of the clean branch, and ``rmse_db`` over pixels with weight.
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
    group.sum_in_place([sums])
    loss, n_batches, squares, n_px = sums.tolist()
    rmse_db = DB_PER_NAT * (squares / max(n_px, 1)) ** 0.5
    return {"validation_loss": loss / max(n_batches, 1), "rmse_db": rmse_db}
