"""Simulated suites: one sensor each, the same scenes for all, and the exact truth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.evaluation.scenes import SEED, Scene, make_scenes
from sarstack.speckle.landscapes import LANDS, Reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.stacks import simulate_changes

FloatCube = NDArray[np.float32]


@dataclass(frozen=True)
class Suite:
    """A sensor and the number of dates it looks.

    Attributes
    ----------
    name : str
        For the command line and file names.
    title : str
        For people.
    simulator : SpeckleSimulator
    n_dates : int
        1: single scenes. More: stacks with known changes.
    seed : int
        Of the speckle; scenes do not depend on the suite.
    """

    name: str
    title: str
    simulator: SpeckleSimulator
    n_dates: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One exercise: what the method is given, and what it should find.

    Attributes
    ----------
    scene : Scene
    noisy, truth : ndarray, shape (time, y, x), float32
        Linear power; `truth` is the exact expectation of `noisy`.
    looks : float
        Of the speckle.
    usual : ndarray, shape (time, y, x), float32, optional
        What each date would be if it did not differ from the others; None for single dates.
    changed : ndarray, shape (time, y, x), bool, optional
        Where it differs.
    field : ndarray, shape (y, x), complex64, optional
        What a single look is before detection: `noisy` is its power. None for several looks.
    """

    scene: Scene
    noisy: FloatCube
    truth: FloatCube
    looks: float
    usual: FloatCube | None = None
    changed: NDArray[np.bool_] | None = None
    field: NDArray[np.complex64] | None = None


GRD = SpeckleSimulator(4.5, (0.65, 0.65))

SUITES = {
    suite.name: suite
    for suite in (
        Suite("grd", "GRD-like: 4.5 looks, lag-1 correlation 0.65", GRD, seed=10),
        Suite("rtc", "RTC-like: 10 looks, nearly white", SpeckleSimulator(10.0, (0.05, 0.05)),
              seed=11),
        Suite("single-look-white", "Single look, white", SpeckleSimulator(1.0), seed=12),
        Suite("single-look", "Single look, lag-1 correlation 0.3",
              SpeckleSimulator(1.0, (0.3, 0.3)), seed=13),
        Suite("grd-stack", "GRD-like stack of 10 dates with known changes", GRD, n_dates=10,
              seed=14),
    )
}  # fmt: skip


def find_suite(name: str) -> Suite:
    """Return the suite of this name.

    Raises
    ------
    UsageError
        If there is none.
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
        Side of every scene.
    n_scenes : int
        Number of landscapes. Single dates come with the five canonical scenes besides; of
        stacks there is one for every three landscapes asked for, and at least one.

    Yields
    ------
    Case
        Everything follows from fixed seeds: the same on every machine.
    """
    if suite.n_dates > 1:
        yield from _make_stacks(suite, size_px, max(n_scenes // 3, 1))
        return
    for index, scene in enumerate(make_scenes(size_px, n_scenes)):
        seed, sensor = [SEED, suite.seed, index], suite.simulator
        noisy = sensor.observe(scene.reflectivity, np.random.default_rng(seed))
        truth = sensor.expect(scene.reflectivity)
        field = None
        if sensor.looks == 1:
            field = sensor.observe_field(scene.reflectivity, np.random.default_rng(seed))
        yield Case(scene, noisy[None], truth[None], sensor.looks, field=field)


def _make_stacks(suite: Suite, size_px: int, count: int) -> Iterator[Case]:
    shape, kinds = (size_px, size_px), list(LANDS)
    for index in range(count):
        # Every third kind first: fields and town differ most.
        kind = kinds[(3 * index + index // 2) % len(kinds)]
        rng = np.random.default_rng([SEED, suite.seed, index])
        stack = simulate_changes(suite.n_dates, size_px, kind, suite.simulator, rng)
        # The landscape itself is not needed: truth says what there is to say.
        land = Reflectivity(stack.truth[0], np.zeros(shape, np.complex64))
        scene = Scene(f"{kind}-{index + 1}", land)
        looks = suite.simulator.looks
        yield Case(scene, stack.noisy, stack.truth, looks, stack.usual, stack.changed)
