"""The training loop of supervised training and of tuning.

The loop takes steps, validates on held-out patches, keeps the best weights, writes
checkpoints and the learning curve, and stops early. Losses and scores are in
:mod:`sarstack.training.supervised` and :mod:`sarstack.training.tuning`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sarstack.errors import ConfigError
from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import Batch, PatchSource, prefetch_batches
from sarstack.training.checkpoint import (
    CURVE,
    TrainingState,
    copy_weights,
    load_checkpoint,
    save_checkpoint,
    write_curve,
)
from sarstack.training.distributed import ProcessGroup
from sarstack.training.losses import WeightedMean, sum_means

if TYPE_CHECKING:
    import torch

LARGEST_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class LoopSettings:
    """Settings of every training.

    Attributes
    ----------
    steps : int
        Number of batches in all. A resumed training may have more or fewer.
    learning_rate : float
        Largest learning rate of Adam.
    validate_every, checkpoint_every : int
        Steps between validations and between checkpoints.
    bfloat16 : bool
        Mixed precision: twice as fast on CPUs and GPUs that support it.
    device : str
        Torch device: ``cpu``, ``cuda``, ...
    """

    steps: int
    learning_rate: float
    validate_every: int
    checkpoint_every: int
    bfloat16: bool = False
    device: str = "cpu"

    free_on_resume: ClassVar[frozenset[str]] = frozenset({"steps", "device", "checkpoint_every"})

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        raise NotImplementedError

    def fixed_on_resume(self) -> dict[str, Any]:
        """Return the settings that must stay the same when a training is resumed."""
        return {key: v for key, v in asdict(self).items() if key not in self.free_on_resume}


@dataclass(frozen=True)
class Progress:
    """Progress of a training after a step.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps in all.
    loss : float
        Training loss, smoothed over some 50 steps.
    scores : dict of str to float, optional
        Scores on held-out patches, if this step was validated.
    eta_s : float
        Estimated time to the last step.
    """

    step: int
    steps: int
    loss: float
    scores: dict[str, float] | None
    eta_s: float


@dataclass(frozen=True)
class Validation:
    """Result of a validation on held-out patches.

    Attributes
    ----------
    scores : dict of str to float
        For the learning curve.
    is_best : bool
        Whether the weights of this step are the best so far.
    """

    scores: dict[str, float]
    is_best: bool


class TrainingLoop(ABC):
    """A training that continues from its checkpoint; subclasses define losses and scores.

    Attributes
    ----------
    network : DeSpeckNet
        Changed in place; :meth:`run` ends with the best weights.
    parameters : iterable of Parameter
        The parameters of `network` to train.
    settings : LoopSettings
    folder : Path
        Folder of the checkpoint and of ``curve.csv``.
    group : ProcessGroup
        The processes that train together.
    """

    settings: LoopSettings

    def __init__(
        self,
        network: DeSpeckNet,
        parameters: Iterable["torch.nn.Parameter"],
        settings: LoopSettings,
        folder: Path,
        group: ProcessGroup,
    ) -> None:
        import torch

        network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.settings = network, settings
        self.folder, self.group = folder, group
        self.optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.state, self.best_weights = TrainingState(), copy_weights(network)

    def resume(self) -> None:
        """Load the checkpoint in the folder, if there is one."""
        self.state, self.best_weights = load_checkpoint(
            self.folder, self.network, self.optimiser, self.settings.fixed_on_resume()
        )

    @abstractmethod
    def losses(self, batch: Batch) -> list[WeightedMean]:
        """Return the losses of a batch; the training minimises their sum."""

    @abstractmethod
    def validate(self) -> Validation:
        """Score the network on held-out patches."""

    @abstractmethod
    def curve_row(self, loss: float, smoothed_loss: float) -> dict[str, float]:
        """Return the columns of the learning curve between step and scores."""

    @abstractmethod
    def reason_to_stop(self) -> str:
        """Say after a validation why the training should stop; empty: it should not."""

    def run(self, patches: PatchSource, progress: Callable[[Progress], None] | None = None) -> None:
        """Take all steps that are left, and load the best weights into the network.

        Parameters
        ----------
        patches : PatchSource
            Source of batches; other threads call it.
        progress : callable, optional
            Called after every step.

        Raises
        ------
        ConfigError
            If the loss is not finite.
        """
        settings, state = self.settings, self.state
        started, first = time.monotonic(), state.step
        with closing(prefetch_batches(patches.batch, range(first, settings.steps))) as batches:
            while state.step < settings.steps and not state.stopped:
                losses = self.losses(next(batches))
                rate = settings.learning_rate_at(state.step)
                loss = take_step(self.optimiser, losses, rate, self.group)
                state.step += 1
                before = loss if state.smoothed_loss is None else state.smoothed_loss
                smoothed = state.smoothed_loss = 0.98 * before + 0.02 * loss
                scores = None
                if self._is_due(settings.validate_every):
                    scores = self._validate_and_record(loss, smoothed)
                if state.stopped or self._is_due(settings.checkpoint_every):
                    self._save_checkpoint()
                if progress is not None:
                    per_step_s = (time.monotonic() - started) / (state.step - first)
                    eta_s = per_step_s * (settings.steps - state.step)
                    progress(Progress(state.step, settings.steps, smoothed, scores, eta_s))
        self.network.load_state_dict(self.best_weights)
        self.network.eval()

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.settings.steps

    def _validate_and_record(self, loss: float, smoothed_loss: float) -> dict[str, float]:
        """Validate; update best weights, learning curve and the reason to stop."""
        state = self.state
        validation = self.validate()
        if validation.is_best:
            state.best_step, self.best_weights = state.step, copy_weights(self.network)
        columns = self.curve_row(loss, smoothed_loss)
        state.history.append({"step": state.step, **columns, **validation.scores})
        state.stopped = self.reason_to_stop()
        if self.group.is_main:
            write_curve(self.folder / CURVE, state.history)
        return validation.scores

    def _save_checkpoint(self) -> None:
        if self.group.is_main:
            save_checkpoint(
                self.folder, self.network, self.optimiser, self.state, self.best_weights,
                self.settings.fixed_on_resume(),
            )  # fmt: skip


def take_step(
    optimiser: "torch.optim.Optimizer",
    losses: Sequence[WeightedMean],
    learning_rate: float,
    group: ProcessGroup,
) -> float:
    """Take one step of gradient descent on the sum of losses over all processes.

    Returns
    -------
    float
        The loss before the step.

    Raises
    ------
    ConfigError
        If the loss is not finite.
    """
    import torch

    parameters = [p for entry in optimiser.param_groups for p in entry["params"]]
    for entry in optimiser.param_groups:
        entry["lr"] = learning_rate
    optimiser.zero_grad()
    loss = sum_means(losses, group)
    loss.backward()  # type: ignore[no-untyped-call]
    whole_loss = loss.detach().clone()
    group.sum_in_place([whole_loss, *(p.grad for p in parameters if p.grad is not None)])
    value = float(whole_loss)
    if not np.isfinite(value):
        raise ConfigError(
            f"the training loss is {value}",
            expected="a finite number",
            do="lower the learning rate; check the patches for infinite values",
        )
    torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT_NORM)
    optimiser.step()
    return value
