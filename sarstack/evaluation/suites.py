"""Suites with exact truth: one simulated sensor each, the same scenes for all sensors.

Scenes are simulated, or real images that no shipped network was trained on. The speckle is
simulated in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.metrics import score_result
from sarstack.evaluation.product_effects import MapGrid, measure_looks, observe_with_border
from sarstack.evaluation.scenes import SEED, Scene, make_scenes
from sarstack.evaluation.scores import Cube, Mask, Result, Scores
from sarstack.evaluation.textures import make_textures
from sarstack.speckle.landscapes import LANDS, Reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.stacks import simulate_changes


@dataclass(frozen=True)
class Suite:
    """A simulated sensor and the number of its dates.

    Attributes
    ----------
    name : str
        Name in the command line and in file names.
    title : str
        Title of the table.
    simulator : SpeckleSimulator
    n_dates : int
        1: single dates. More: stacks with known changes.
    seed : int
        Seed of the speckle. Single-date scenes are the same in all suites.
    map_grid : MapGrid, optional
        Grid to which the scenes are resampled after detection, truth alike.
    right_looks : float, optional
        Looks of the right half of each scene, if they differ.
    has_real_truth : bool
        Whether the scenes are real images in place of simulated landscapes.
    """

    name: str
    title: str
    simulator: SpeckleSimulator
    n_dates: int = 1
    seed: int = 0
    map_grid: MapGrid | None = None
    right_looks: float | None = None
    has_real_truth: bool = False

    @property
    def has_fields(self) -> bool:
        """Whether its cases have the complex field of a single look."""
        plain = self.n_dates == 1 and self.map_grid is None and self.right_looks is None
        return plain and self.simulator.looks == 1


@dataclass(frozen=True)
class Case:
    """One simulated image or stack: the input of a method, and the truth.

    Attributes
    ----------
    scene : Scene
    noisy, truth : ndarray, shape (time, y, x), float32
        Linear power; `truth` is the exact expectation of `noisy`.
    looks : float
        Equivalent number of looks of the speckle.
    unchanged : ndarray, shape (time, y, x), float32, optional
        Stacks: the truth without the changes of single dates. None for single dates.
    changed : ndarray, shape (time, y, x), bool, optional
        Stacks: pixels where a date differs from `unchanged`.
    field : ndarray, shape (y, x), complex64, optional
        Complex image of a single look, before detection: `noisy` is its power. None for
        several looks.
    """

    scene: Scene
    noisy: Cube
    truth: Cube
    looks: float
    unchanged: Cube | None = None
    changed: Mask | None = None
    field: NDArray[np.complex64] | None = None

    def input_of(self, despeckler: Despeckler | None) -> NDArray[Any]:
        """Return what a method gets, shape (time, y, x): intensity, or the complex field."""
        if self.field is None or despeckler is None or not despeckler.needs_complex:
            return self.noisy
        return self.field[np.newaxis]


GRD = SpeckleSimulator(4.5, (0.65, 0.65))
RTC = SpeckleSimulator(10.0, (0.05, 0.05))

SIMULATED = {
    suite.name: suite
    for suite in (
        Suite("grd", "GRD-like: 4.5 looks, lag-1 correlation 0.65", GRD, seed=10),
        Suite("rtc", "RTC-like: 10 looks, nearly white", RTC, seed=11),
        Suite("single-look-white", "Single look, white", SpeckleSimulator(1.0), seed=12),
        Suite("single-look", "Single look, lag-1 correlation 0.3",
              SpeckleSimulator(1.0, (0.3, 0.3)), seed=13),
        Suite("grd-stack", "GRD-like stack of 10 dates with known changes", GRD, n_dates=10,
              seed=14),
        Suite("grd-map", "GRD-like, resampled to a map grid (bilinear)", GRD, seed=15,
              map_grid=MapGrid(1)),
        Suite("grd-nearest", "GRD-like, resampled to a map grid (nearest)", GRD, seed=16,
              map_grid=MapGrid(0)),
        Suite("rtc-map", "RTC-like, resampled to another map grid (bilinear)", RTC, seed=17,
              map_grid=MapGrid(1)),
        Suite("grd-border", "GRD-like, 4.5 looks on the left, 16 on the right", GRD, seed=18,
              right_looks=16.0),
    )
}  # fmt: skip

REAL = {
    f"real-{name}": replace(
        SIMULATED[name],
        name=f"real-{name}",
        title=f"Real textures. {SIMULATED[name].title}",
        seed=SIMULATED[name].seed + 100,
        has_real_truth=True,
    )
    for name in ("grd", "rtc", "single-look-white", "single-look", "grd-map")
}

SUITES = SIMULATED | REAL


def find_suite(name: str) -> Suite:
    """Return the suite of this name.

    Raises
    ------
    UsageError
        If there is no suite of this name.
    """
    if name not in SUITES:
        raise UsageError(f"suite = {name!r} is not known", expected=f"one of {', '.join(SUITES)}")
    return SUITES[name]


def make_cases(suite: Suite, size_px: int = 256, n_scenes: int = 6) -> Iterator[Case]:
    """Make the cases of a suite, one after the other.

    Parameters
    ----------
    suite : Suite
    size_px : int
        Side of every scene; of real textures at most that of the image.
    n_scenes : int
        Number of landscapes. Suites of single dates have the five canonical scenes in addition.
        Suites of stacks have a third of this number, at least one. Suites of real textures have
        all images, whatever it is.

    Yields
    ------
    Case
        Seeds are fixed: the cases are the same on every machine.
    """
    if suite.n_dates > 1:
        yield from _make_stacks(suite, size_px, max(n_scenes // 3, 1))
        return
    scenes = make_textures(size_px) if suite.has_real_truth else make_scenes(size_px, n_scenes)
    for index, scene in enumerate(scenes):
        yield _observe(suite, scene, [SEED, suite.seed, index])


def _observe(suite: Suite, scene: Scene, seed: list[int]) -> Case:
    """Make the case of one scene of a suite of single dates."""
    sensor, rng = suite.simulator, np.random.default_rng(seed)
    truth, looks, field = sensor.expect(scene.reflectivity), sensor.looks, None
    if suite.right_looks:
        noisy = observe_with_border(scene, sensor, suite.right_looks, rng)
        looks = measure_looks(noisy, truth)
    else:
        noisy = sensor.observe(scene.reflectivity, rng)
    if suite.map_grid:
        noisy, truth = suite.map_grid.resample(noisy), suite.map_grid.resample(truth)
        scene, looks = suite.map_grid.move_scene(scene), measure_looks(noisy, truth)
    elif suite.has_fields:
        field = sensor.observe_field(scene.reflectivity, np.random.default_rng(seed))
    return Case(scene, noisy[None], truth[None], looks, field=field)


def _make_stacks(suite: Suite, size_px: int, count: int) -> Iterator[Case]:
    shape, kinds = (size_px, size_px), list(LANDS)
    for index in range(count):
        # Fields and town come first: they differ most.
        kind = kinds[(3 * index + index // 2) % len(kinds)]
        rng = np.random.default_rng([SEED, suite.seed, index])
        stack = simulate_changes(suite.n_dates, size_px, kind, suite.simulator, rng)
        # The scene before the sensor is not needed: the stack has its own truth.
        land = Reflectivity(stack.truth[0], np.zeros(shape, np.complex64))
        scene = Scene(f"{kind}-{index + 1}", land)
        looks = suite.simulator.looks
        yield Case(scene, stack.noisy, stack.truth, looks, stack.unchanged, stack.changed)


def score_case(case: Case, despeckled: Cube) -> Scores:
    """Score the result of a method on a case.

    Parameters
    ----------
    case : Case
    despeckled : ndarray, shape (time, y, x), float32
        Linear power.

    Returns
    -------
    dict of float
        By names of :data:`sarstack.evaluation.metrics.SCORES`; NaN where the scene has no such
        object (line, point, flat field, change).

    Notes
    -----
    Bias is measured against the mean of the input, not of the truth. Both the input and the
    result contain the same random deviation of the speckle's mean, which at one look would hide
    a bias of 0.1 dB.
    """
    scene = case.scene
    return score_result(
        Result(
            "simulated", case.noisy, despeckled, case.truth, case.looks,
            changed=case.changed, unchanged=case.unchanged,
            flats=scene.flats, points=scene.points, lines=scene.lines,
        )
    )  # fmt: skip
