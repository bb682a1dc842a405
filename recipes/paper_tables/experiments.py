"""The experiments: methods on all scenes, phases of the paper, weights of its losses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from conclusions import Numbers
from numpy.typing import NDArray
from paper import (
    BM3D,
    BOTH,
    DESPECKNET,
    LEE,
    PHASE_1_ONLY,
    PHASE_2_ONLY,
    REFERENCE,
    SAR_CNN,
    TABLE_7,
    TABLE_8,
    Losses,
    Table,
)
from phases import (
    PHASE_1,
    PHASE_2,
    Patches,
    Weights,
    label_patches,
    new_network,
    noisy_patches,
    run_network,
    train_phase_1,
    tune_phase_2,
)
from scenes import KINDS, Scene, simulate_dates
from scoring import score

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.despeckler import Despeckler
from sarstack.networks.bias import flat_bias, simulate_flat
from sarstack.networks.card import BiasTable
from sarstack.networks.despecknet_paper import LinearDeSpeckNet
from sarstack.networks.model_file import load_model, save_model, shipped_model

Image = NDArray[np.float32]
Key, Value = TypeVar("Key"), TypeVar("Value")

OWN, CORRELATED = "despecknet", "SAR-BM3D, correlated"
METHODS = (LEE, BM3D, CORRELATED, SAR_CNN, DESPECKNET, OWN)
"""Columns of the tables."""
# Phase 2 of the shipped weights. The learning rate of the paper, 100 times as large, ruins them.
SHIPPED_STEPS, SHIPPED_RATE, SHIPPED_BATCH = 12, 1e-5, 4
# The network of Tables VI to VIII: a fiftieth of the weights of the published one.
DEPTH, WIDTH, N_DATES = 6, 16, 23
TUNING_RATE, SCRATCH_RATE = 1e-4, 1e-3
# For one look, the paper adds total variation in phase 2.
ONE_LOOK, ONE_LOOK_TV = 1.5, 1e-4


@dataclass
class Outcome:
    """Numbers of the tables, and the images of the figures by scene and method."""

    numbers: Numbers = field(default_factory=Numbers)
    results: dict[str, dict[str, Image]] = field(default_factory=dict)
    noises: dict[str, dict[str, Image]] = field(default_factory=dict)


def run_methods(scenes: Sequence[Scene], folder: Path) -> Outcome:
    """Run all methods on all scenes: Tables IV and V, and the images of figures 10 and 11."""
    outcome = Outcome()
    for scene in scenes:
        methods = make_methods(scene, folder)
        results = {name: _apply(method, scene) for name, method in methods.items()}
        noises = {name: _apply(methods[name].estimate_noise(), scene) for name in (DESPECKNET, OWN)}
        outcome.results[scene.name], outcome.noises[scene.name] = results, noises
        scored = dict(results)
        if scene.reference is not None:
            noises[REFERENCE] = scene.noisy / scene.reference
            scored[REFERENCE] = scene.reference
        for name, image in scored.items():
            _add(outcome.numbers.methods, scene.name, name, score(scene, image))
    return outcome


def make_methods(scene: Scene, folder: Path) -> dict[str, Despeckler]:
    """Return the methods by column of the tables."""
    methods = {
        LEE: make_despeckler("lee-sigma"),
        BM3D: make_despeckler("sar-bm3d", noise="white"),  # as published
        CORRELATED: make_despeckler("sar-bm3d"),
        DESPECKNET: tune_shipped(scene, folder),
        SAR_CNN: make_despeckler("sar-cnn"),
        OWN: make_despeckler(OWN),
    }
    return {name: methods[name] for name in METHODS}


def _apply(method: Despeckler, scene: Scene) -> Image:
    return method.apply(scene.noisy[np.newaxis], [scene.statistics])[0]


def tune_shipped(scene: Scene, folder: Path) -> Despeckler:
    """Tune the shipped weights of the published network on a scene, without labels."""
    network, card = load_model(shipped_model("despecknet-paper"))
    known = scene.statistics
    tuned, step = tune_phase_2(
        network, noisy_patches(scene.noisy, known.bright, batch_size=SHIPPED_BATCH), known,
        weights_for(scene), SHIPPED_STEPS, SHIPPED_RATE, stop_early=True,
    )  # fmt: skip
    print(f"{scene.name}: phase 2 keeps the weights of step {step} of {SHIPPED_STEPS}", flush=True)
    if not step:
        return make_despeckler("despecknet-paper")
    # As sarstack does after each training: the result is divided by the bias on flat ground.
    correlation = float(np.sqrt(np.prod(np.maximum(known.correlation, 0))))
    flat = simulate_flat(known.looks, correlation, band_limited=True)
    bias = flat_bias(tuned, card, flat, known.looks, correlation)
    path = folder / f"{scene.name}.safetensors"
    save_model(path, tuned, replace(card, calibration=BiasTable(bias=((bias,),))))
    return make_despeckler("despecknet-paper", model=str(path))


def weights_for(scene: Scene) -> Weights:
    """Return the weights of phase 2 that the paper uses for such a scene."""
    return replace(PHASE_2, tv=ONE_LOOK_TV) if scene.statistics.looks < ONE_LOOK else PHASE_2


def _add(table: Table, scene: str, column: str, scores: dict[str, float]) -> None:
    for name, value in scores.items():
        table.setdefault((scene, name), {})[column] = value


@dataclass(frozen=True)
class SmallNetwork:
    """Tables VI to VIII: a small network that sees only the first scene in phase 1.

    Attributes
    ----------
    scenes : sequence of Scene
        The first is the one of phase 1. All are divided by its 98th percentile: the published
        network has no other normalisation.
    steps : int
        Of phase 1. Phase 2 has a fifth of them.
    """

    scenes: Sequence[Scene]
    steps: int

    @property
    def divisor(self) -> float:
        """Intensity that is 1 in the input of the network."""
        return self.scenes[0].statistics.bright

    @cached_property
    def labels(self) -> Patches:
        """Patches of further dates of the first scene, without change, and their mean."""
        dates = simulate_dates(KINDS[0], len(self.scenes[0].noisy), N_DATES)
        return label_patches(dates, self.divisor)

    def run(self, numbers: Numbers, save: Callable[[], None]) -> None:
        """Fill in the tables; two networks are trained at a time. `save` is called after each."""
        # Networks are made here, because threads share the random numbers of torch.
        random = {weights: new_network(DEPTH, WIDTH) for weights in TABLE_7}
        print(f"training on {len(self.labels.dates)} dates of {self.scenes[0].name}", flush=True)
        trained = dict(self._in_threads(lambda w: self.train(random[w], w), TABLE_7))
        numbers.training |= {w: self.score(n, self.scenes[0]) for w, n in trained.items()}
        save()
        start, untrained = trained[astuple(PHASE_1)], new_network(DEPTH, WIDTH)
        for scene, blocks in self._in_threads(
            lambda scene: self.compare_phases(start, untrained, scene), self.scenes
        ):
            for block, scores in blocks.items():
                _add(numbers.phases, scene.name, block, scores)
        save()
        numbers.tuning |= dict(self._in_threads(
            lambda w: self.tune(start, self.scenes[1], Weights(*w), stop_early=False), TABLE_8
        ))  # fmt: skip

    def _in_threads(
        self, work: Callable[[Key], Value], keys: Iterable[Key]
    ) -> Iterator[tuple[Key, Value]]:
        ordered = list(keys)
        with ThreadPoolExecutor(2) as threads:
            yield from zip(ordered, threads.map(work, ordered), strict=True)

    def train(self, network: LinearDeSpeckNet, weights: Losses) -> LinearDeSpeckNet:
        """Train on dates of the first scene."""
        print(f"phase 1 with mu, lambda, xi = {weights}", flush=True)
        return train_phase_1(network, self.labels, Weights(*weights), self.steps)

    def compare_phases(
        self, trained: LinearDeSpeckNet, untrained: LinearDeSpeckNet, scene: Scene
    ) -> dict[str, dict[str, float]]:
        """Return the scores of phase 1 only, phase 2 only, and both."""
        weights, phase_1 = weights_for(scene), self.score(trained, scene)
        both = phase_1
        if scene is not self.scenes[0]:  # the paper does not tune on the scene of phase 1
            both = self.tune(trained, scene, weights, stop_early=True)
        phase_2 = self.tune(untrained, scene, weights, SCRATCH_RATE, stop_early=False)
        return {PHASE_1_ONLY: phase_1, PHASE_2_ONLY: phase_2, BOTH: both}

    def tune(
        self, start: LinearDeSpeckNet, scene: Scene, weights: Weights,
        learning_rate: float = TUNING_RATE, *, stop_early: bool,
    ) -> dict[str, float]:  # fmt: skip
        """Return the scores after phase 2."""
        patches, steps = noisy_patches(scene.noisy, self.divisor), max(1, self.steps // 5)
        network, _ = tune_phase_2(
            start, patches, scene.statistics, weights, steps, learning_rate, stop_early=stop_early
        )
        return self.score(network, scene)

    def score(self, network: LinearDeSpeckNet, scene: Scene) -> dict[str, float]:
        """Return the scores of a network on a scene."""
        return score(scene, run_network(network, scene.noisy, self.divisor))
