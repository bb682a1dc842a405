"""Training by a schedule, on batches that are made on the device.

The learning rate follows a cosine over the steps, or over the seconds that are given. The result is
a moving average of the weights. Nothing waits for the device between two reports.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sarstack.errors import ConfigError, UsageError
from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import Batch, TensorBatch, prefetch_batches
from sarstack.training.checkpoint import (
    CURVE,
    TrainingState,
    copy_weights,
    load_checkpoint,
    save_checkpoint,
    write_curve,
)
from sarstack.training.loop import LARGEST_GRADIENT_NORM, LoopSettings
from sarstack.training.losses import clean_loss, sum_means, variation_loss
from sarstack.training.supervised import validate

LOGGER = logging.getLogger("sarstack")
ENDLESS = 10**9
"""Steps of a training that ends after a time."""


class DevicePatchSource(Protocol):
    """A source of batches on the device; batch n depends on n only."""

    def batch(self, step: int) -> TensorBatch:
        """Return batch number `step`."""
        ...


@dataclass(frozen=True)
class ScheduleSettings(LoopSettings):
    """Settings of a training by schedule, beside those of :class:`LoopSettings`.

    Attributes
    ----------
    seconds : float
        End after this time, in place of `steps`; the learning rate follows the clock. To compile
        counts, interruptions do not. 0: end after `steps`.
    warmup_steps : int
        Steps in which the learning rate grows.
    average_steps : float
        The result is an average of the weights over about this many steps.
    tv : float
        Weight of the total variation of the clean image.
    compiled : bool
        Compile the network with ``torch.compile``, if that works.
    report_every : int
        Steps between two reports of the loss.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    validate_every: int = 500
    checkpoint_every: int = 500
    seconds: float = 0.0
    warmup_steps: int = 100
    average_steps: float = 100.0
    tv: float = 0.0
    compiled: bool = False
    report_every: int = 50

    free_on_resume: ClassVar[frozenset[str]] = LoopSettings.free_on_resume | {
        "seconds", "validate_every", "compiled", "report_every",
    }  # fmt: skip

    def done(self, state: TrainingState) -> float:
        """Return which part of the training is done, 0 to 1."""
        if self.seconds:
            return min(1.0, state.seconds / self.seconds)
        return min(1.0, state.step / self.steps)

    def rate(self, state: TrainingState) -> float:
        """Return the learning rate of the next step: a warm-up, then half a cosine to zero."""
        warmup = min(1.0, (state.step + 1) / max(self.warmup_steps, 1))
        return self.learning_rate * warmup * (1 + math.cos(math.pi * self.done(state))) / 2


def train_by_schedule(
    network: DeSpeckNet,
    patches: DevicePatchSource,
    validation: Sequence[Batch],
    settings: ScheduleSettings,
    folder: str | Path,
    *,
    report: Callable[[TrainingState], None] | None = None,
) -> TrainingState:
    """Train the clean branch of a network, or continue an unfinished training in `folder`.

    Parameters
    ----------
    network : DeSpeckNet
        On log intensity. Changed in place; ends with the average of the weights.
    patches : DevicePatchSource
        Source of batches; other threads call it.
    validation : sequence of Batch
        Held-out batches, always the same. Empty: no validation.
    settings : ScheduleSettings
    folder : str or Path
        Folder of the checkpoint and of ``curve.csv``.
    report : callable, optional
        Called every `report_every` steps and after the last one.

    Returns
    -------
    TrainingState
        ``history`` has one row for each validation.

    Raises
    ------
    ResumeMismatchError
        If `folder` has a checkpoint of other settings (time and number of steps may differ).
    ConfigError
        If the loss is not finite.
    UsageError
        If the network is not on log intensity.
    """
    if network.domain != "log":
        raise UsageError(
            f"a schedule cannot train {network.variant}",
            expected="despecknet, despecknet-lite or despecknet-mt",
            do="use recipes/train_despecknet/run.py",
        )
    training = _Scheduled(network, settings, Path(folder))
    return training.run(patches, validation, report)


class _Scheduled:
    def __init__(self, network: DeSpeckNet, settings: ScheduleSettings, folder: Path) -> None:
        device = settings.device
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.settings, self.folder = network, settings, folder
        on_gpu = torch.device(device).type == "cuda"
        self.parameters = list(network.clean.parameters())
        rate = settings.learning_rate
        self.optimiser = torch.optim.Adam(self.parameters, lr=rate, fused=on_gpu or None)
        self.state, average = load_checkpoint(
            folder, network, self.optimiser, settings.fixed_on_resume()
        )
        self.average = {key: weights.to(device) for key, weights in average.items()}
        self.loss = torch.tensor(self.state.smoothed_loss or 0.0, device=device)

    def run(
        self,
        patches: DevicePatchSource,
        validation: Sequence[Batch],
        report: Callable[[TrainingState], None] | None,
    ) -> TrainingState:
        settings, state = self.settings, self.state
        last = ENDLESS if settings.seconds else settings.steps
        with closing(prefetch_batches(patches.batch, range(state.step, last))) as batches:
            self._take_steps(batches, validation, report)
        self.network.load_state_dict(self.average)
        self.network.clean._compiled_call_impl = None
        self.network.eval()
        return state

    def _take_steps(
        self,
        batches: Iterable[TensorBatch],
        validation: Sequence[Batch],
        report: Callable[[TrainingState], None] | None,
    ) -> None:
        settings, state = self.settings, self.state
        before, is_first, saved = time.monotonic(), True, state.step
        for batch in batches:
            if settings.done(state) >= 1:
                break
            if is_first and settings.compiled:
                compile_branch(self.network, batch, bfloat16=settings.bfloat16)
            is_first = False
            self._take_step(batch)
            state.step += 1
            now = time.monotonic()
            state.seconds, before = state.seconds + now - before, now
            is_last = settings.done(state) >= 1
            if is_last or state.step % settings.report_every == 0:
                self._read_loss()
                if report is not None:
                    report(state)
            if validation and (is_last or state.step % settings.validate_every == 0):
                self._validate(validation)
            if is_last or state.step - saved >= settings.checkpoint_every:
                self._save()
                saved = state.step

    def _take_step(self, batch: TensorBatch) -> None:
        settings, state = self.settings, self.state
        self.network.train()
        self.network.prepare_step(state.step)
        for entry in self.optimiser.param_groups:
            entry["lr"] = settings.rate(state)
        self.optimiser.zero_grad()
        prediction = batch.predict(self.network, noise=False, bfloat16=settings.bfloat16)
        losses = [clean_loss(self.network, prediction, batch)]
        if settings.tv:
            losses += [settings.tv * mean for mean in variation_loss(prediction)]
        loss = sum_means(losses)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT_NORM)
        self.optimiser.step()
        # At the start, an average over as many steps as there were.
        kept = min(1 - 1 / settings.average_steps, (state.step + 1) / (state.step + 10))
        live = dict(self.network.clean.named_parameters())
        averages = [self.average[f"clean.{name}"] for name in live]
        get_ema_multi_avg_fn(kept)(averages, [w.detach() for w in live.values()], state.step)
        weight = 1.0 if state.step == 0 else 0.02
        self.loss.lerp_(loss.detach(), weight)

    def _read_loss(self) -> None:
        value = float(self.loss)
        if not math.isfinite(value):
            raise ConfigError(
                f"the training loss is {value} after {self.state.step} steps",
                expected="a finite number",
                do="lower the learning rate, and continue from a copy of the last checkpoint",
            )
        self.state.smoothed_loss = value

    def _validate(self, validation: Sequence[Batch]) -> None:
        state, live = self.state, copy_weights(self.network)
        self._read_loss()
        self.network.load_state_dict(self.average)
        with without_compiler(self.network):
            scores = validate(self.network, validation, self.settings)
        self.network.load_state_dict(live)
        row = {"step": state.step, "seconds": round(state.seconds, 1)}
        row |= {"learning_rate": self.settings.rate(state), "training_loss": float(self.loss)}
        state.history.append(row | scores)
        write_curve(self.folder / CURVE, state.history)

    def _save(self) -> None:
        self._read_loss()
        self.folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self.folder, self.network, self.optimiser, self.state, self.average,
            self.settings.fixed_on_resume(),
        )  # fmt: skip


def compile_branch(network: DeSpeckNet, batch: TensorBatch, *, bfloat16: bool) -> bool:
    """Compile the clean branch; if that fails on this machine, go on without.

    Returns
    -------
    bool
        Whether the branch is compiled.
    """
    network.clean.compile()
    try:
        prediction = batch.predict(network, noise=False, bfloat16=bfloat16)
        prediction.clean.float().sum().backward()
    except Exception as failure:
        network.clean._compiled_call_impl = None
        LOGGER.warning("torch.compile does not work here: %s", str(failure)[:200])
        return False
    finally:
        network.zero_grad()
    return True


@contextmanager
def without_compiler(network: DeSpeckNet) -> Iterator[None]:
    """Run the clean branch as it is: another size of patches would be compiled again."""
    compiled = network.clean._compiled_call_impl
    network.clean._compiled_call_impl = None
    try:
        yield
    finally:
        network.clean._compiled_call_impl = compiled
