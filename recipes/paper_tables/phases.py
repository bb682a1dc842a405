"""The two phases of the paper: training on one stack, tuning on a noisy image without labels."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from sarstack.networks.despecknet_paper import LinearDeSpeckNet
from sarstack.networks.inference import choose_precision
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.batch import Batch
from sarstack.training.ratio import RatioScore, RatioValidation
from sarstack.training.supervised import TrainingSettings, train
from sarstack.training.tuning import FinetuneSettings, PaperObjective, finetune

Image = NDArray[np.float32]

# Pixels whose standard deviation over the dates is larger are no labels, in linear power.
LARGEST_STD = 0.1
PATCH_PX, BATCH_SIZE = 40, 8
N_VALIDATION = 16
LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class Weights:
    """Weights of the losses: clean image (the paper's mu), total variation (lambda), noisy (xi)."""

    mu: float
    tv: float
    xi: float


PHASE_1, PHASE_2 = Weights(1, 0, 0.01), Weights(0.01, 0, 1)


@dataclass(frozen=True)
class Patches:
    """Patches of one date, with the mean of the other dates as target; or of one image alone.

    Attributes
    ----------
    dates : ndarray, shape (time, y, x), float32
        Scaled as the input of the network.
    weight : ndarray, shape (y, x), float32
        1 where the mean over the dates is a label.
    seed, batch_size : int
    """

    dates: Image
    weight: Image
    seed: int = 0
    batch_size: int = BATCH_SIZE

    def batch(self, step: int) -> Batch:
        """Draw places, dates and flips from the number of the step."""
        rng = np.random.default_rng([self.seed, step])
        return self.draw(rng, self.batch_size)

    def draw(self, rng: np.random.Generator, n: int) -> Batch:
        """Draw `n` patches."""
        patches = [self._cut(rng) for _ in range(n)]
        return Batch(*(np.stack(images)[:, np.newaxis] for images in zip(*patches, strict=True)))

    def _cut(self, rng: np.random.Generator) -> tuple[Image, Image, Image]:
        n_dates, *size = self.dates.shape
        date = int(rng.integers(n_dates))
        y, x = (int(rng.integers(side - PATCH_PX + 1)) for side in size)
        place = (slice(y, y + PATCH_PX), slice(x, x + PATCH_PX))
        steps = rng.choice([-1, 1], 2)
        flipped = self.dates[:, *place][:, :: steps[0], :: steps[1]]
        noisy = flipped[date]
        target = noisy if n_dates == 1 else (flipped.sum(axis=0) - noisy) / (n_dates - 1)
        return noisy, target, self.weight[place][:: steps[0], :: steps[1]]


def label_patches(dates: Image, divisor: float) -> Patches:
    """Return patches of a stack with labels by the paper's rule for stable pixels."""
    stable = dates.std(axis=0, ddof=1) <= LARGEST_STD
    return Patches(dates / np.float32(divisor), stable.astype(np.float32))


def noisy_patches(noisy: Image, divisor: float, *, batch_size: int = BATCH_SIZE) -> Patches:
    """Return patches of one noisy image, for tuning."""
    valid = np.isfinite(noisy).astype(np.float32)
    return Patches(noisy[np.newaxis] / np.float32(divisor), valid, batch_size=batch_size)


def new_network(depth: int, width: int) -> LinearDeSpeckNet:
    """Return a network of the published kind with random weights, always the same."""
    torch.manual_seed(0)
    return LinearDeSpeckNet(depth, width)


def train_phase_1(
    network: LinearDeSpeckNet, patches: Patches, weights: Weights, steps: int
) -> LinearDeSpeckNet:
    """Train a network in place on patches with labels, and return it."""
    settings = TrainingSettings(
        steps=steps, learning_rate=LEARNING_RATE, warmup_steps=steps // 10, decay_steps=steps // 3,
        validate_every=max(1, steps // 5), checkpoint_every=steps,
        mu=weights.mu, tv=weights.tv, xi=weights.xi, bfloat16=_has_bfloat16(),
    )  # fmt: skip
    checked = patches.draw(np.random.default_rng(99), N_VALIDATION)
    with _folder() as folder:
        train(network, patches, [checked], settings, folder)
    return network.eval()


@dataclass(frozen=True)
class FixedSteps(PaperObjective):
    """Phase 2 without early stopping: the last step is kept, whatever the ratio image says."""

    def is_better(self, score: RatioScore, best: RatioScore, before: RatioScore) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def reason_to_stop(self, score: RatioScore, best: RatioScore, before: RatioScore) -> str:  # noqa: ARG002
        """Return no reason."""
        return ""


def tune_phase_2(
    network: DeSpeckNet,
    patches: Patches,
    known: SceneStatistics,
    weights: Weights,
    steps: int,
    learning_rate: float,
    *,
    stop_early: bool,
) -> tuple[DeSpeckNet, int]:
    """Return a network tuned on noisy patches without labels, and the step that was kept."""
    tuned = copy.deepcopy(network)
    checked = patches.draw(np.random.default_rng(99), N_VALIDATION)
    validation = RatioValidation.from_patches([checked], known.looks, known.correlation)
    kind = PaperObjective if stop_early else FixedSteps
    objective = kind(validation, mu2=weights.mu, xi=weights.xi, tv=weights.tv)
    settings = FinetuneSettings(
        steps=steps, learning_rate=learning_rate, validate_every=max(1, steps // 4),
        checkpoint_every=steps, bfloat16=_has_bfloat16(),
    )  # fmt: skip
    with _folder() as folder:
        result = finetune(tuned, patches, objective, settings, folder)
    return tuned.eval(), result.best_step


@torch.inference_mode()
def run_network(network: DeSpeckNet, noisy: Image, divisor: float) -> Image:
    """Return the clean branch for a whole small image, as published: no other correction."""
    scaled = torch.from_numpy(np.nan_to_num(noisy / np.float32(divisor)))[None, None]
    clean = network(scaled, noise=False).clean[0, 0].numpy() * np.float32(divisor)
    # A ratio needs positive numbers; the published network can return others.
    return np.where(np.isfinite(noisy), np.maximum(clean, 1e-6), np.nan).astype(np.float32)


def _has_bfloat16() -> bool:
    return choose_precision("cpu") == "bfloat16"


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)
