"""Simulated speckle obeys the laws of speckle; simulated truth is its expectation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma, psi

from sarstack.errors import UsageError
from sarstack.patch_simulation import SimulatedPatches, draw_simulator
from sarstack.reflectivity import LANDS, Reflectivity, simulate_reflectivity
from sarstack.simulation import (
    SpeckleSimulator,
    gaussian_transfer_function,
    look_weights,
    simulate_stack,
    transfer_function,
)


def flat(side: int) -> Reflectivity:
    return Reflectivity(np.ones((side, side), np.float32), np.zeros((side, side), np.complex64))


def lag_one(y: np.ndarray, axis: int) -> float:
    z = np.moveaxis(y, axis, 0) - y.mean(dtype=np.float64)
    return float((z[1:] * z[:-1]).mean() / z.var())


@given(st.floats(1, 20))
def test_look_weights_average_to_the_looks_asked_for(looks):
    weights = look_weights(looks)
    assert weights.sum() == pytest.approx(1)
    assert 1 / np.sum(weights**2) == pytest.approx(looks, rel=1e-6)
    assert len(weights) < looks + 1 + 1e-6
    assert (weights >= 0).all()


@given(st.floats(0, 0.85), st.floats(0.6, 1.0))
@settings(max_examples=40)
def test_transfer_function_has_the_correlation_asked_for(correlation, taper):
    power = transfer_function(2048, correlation, taper) ** 2
    # Wiener-Khinchin: the field's autocorrelation is the transform of its spectrum.
    g = np.fft.ifft(power).real
    assert g[0] == pytest.approx(1)
    assert g[1] ** 2 == pytest.approx(correlation, abs=0.01)


@given(st.floats(0, 0.85))
@settings(max_examples=20)
def test_gaussian_transfer_function_has_the_correlation_asked_for(correlation):
    g = np.fft.ifft(gaussian_transfer_function(512, correlation) ** 2).real
    for lag in range(4):
        assert g[lag] ** 2 == pytest.approx(correlation ** (lag**2), abs=1e-3)


@pytest.mark.parametrize("looks", [1, 2.5, 4.4, 20])
def test_white_speckle_is_gamma_distributed(looks):
    y = SpeckleSimulator(looks).observe(flat(512), np.random.default_rng(1)).astype(np.float64)
    n = y.size
    assert y.mean() == pytest.approx(1, abs=5 / np.sqrt(looks * n))
    assert 1 / y.var() == pytest.approx(looks, rel=0.02)
    # Whole looks are gamma exactly; the part of a look weighs less, so nearly.
    log, slack = np.log(y), 1 if looks == int(looks) else 3
    assert log.mean() == pytest.approx(psi(looks) - np.log(looks), abs=0.01 * slack)
    assert log.var() == pytest.approx(polygamma(1, looks), rel=0.03 * slack)
    assert abs(lag_one(y, 0)) < 0.01
    assert abs(lag_one(y, 1)) < 0.01


@pytest.mark.parametrize(
    ("looks", "correlation"), [(4.5, (0.65, 0.65)), (1, (0.3, 0.2)), (10, (0.0, 0.8))]
)
def test_correlated_speckle_keeps_its_looks_and_has_its_correlation(looks, correlation):
    simulator = SpeckleSimulator(looks, correlation)
    y = simulator.observe(flat(512), np.random.default_rng(2)).astype(np.float64)
    assert y.mean() == pytest.approx(1, abs=0.015)
    assert y.mean() ** 2 / y.var() == pytest.approx(looks, rel=0.06)
    for axis in (0, 1):
        assert lag_one(y, axis) == pytest.approx(correlation[axis], abs=0.025)


def test_truth_is_the_mean_of_many_observations():
    rng = np.random.default_rng(3)
    scene = simulate_reflectivity((40, 48), rng, "town")
    simulator = SpeckleSimulator(4, (0.6, 0.5))
    truth = simulator.expect(scene)
    draws = np.mean([simulator.observe(scene, rng) for _ in range(600)], axis=0)
    # 600 draws of 4 looks: 2 % standard error per pixel, less where points are steady.
    deviation = draws / truth - 1
    assert np.abs(deviation.mean()) < 0.01
    assert np.sqrt((deviation**2).mean()) < 0.03
    assert np.abs(deviation).max() < 0.15


def test_steady_points_do_not_fluctuate_and_spread_as_the_sensor_does():
    scene = Reflectivity(np.full((33, 33), 1e-6, np.float32), np.zeros((33, 33), np.complex64))
    scene.points[16, 16] = 10
    simulator = SpeckleSimulator(1, (0.65, 0.65))
    first, second = (simulator.observe(scene, np.random.default_rng(s)) for s in (1, 2))
    truth = simulator.expect(scene)
    assert first[16, 16] == pytest.approx(truth[16, 16], rel=0.02)
    assert second[16, 16] == pytest.approx(first[16, 16], rel=0.02)
    assert truth.argmax() == 16 * 33 + 16
    assert truth.sum() == pytest.approx(100, rel=0.02)
    assert truth[16, 15] == pytest.approx(truth[16, 17], rel=1e-3)


@pytest.mark.parametrize("kind", LANDS)
def test_landscapes_stay_in_range_and_follow_from_their_seed(kind):
    scene, again, other = (
        simulate_reflectivity((70, 90), np.random.default_rng(s), kind) for s in (5, 5, 6)
    )
    assert scene.diffuse.shape == (70, 90)
    assert np.array_equal(scene.diffuse, again.diffuse)
    assert np.array_equal(scene.points, again.points)
    assert not np.array_equal(scene.diffuse, other.diffuse)
    level_db = 10 * np.log10(scene.diffuse)
    assert level_db.min() >= -32.01
    assert np.median(level_db) <= 15.01
    assert level_db.max() <= 55.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 2)])
def test_small_scenes_work(shape):
    for kind in LANDS:
        rng = np.random.default_rng(0)
        scene = simulate_reflectivity(shape, rng, kind)
        simulator = SpeckleSimulator(2, (0.5, 0.5))
        assert np.isfinite(simulator.observe(scene, rng)).all()
        assert (simulator.expect(scene) > 0).all()


def test_stack_differs_from_its_landscape_only_where_it_says():
    stack = simulate_stack(5, (96, 80), np.random.default_rng(7), drift_db=0.0)
    assert stack.intensity.shape == stack.truth.shape == stack.changed.shape == (5, 96, 80)
    assert 0.002 < stack.changed.mean() < 0.3
    median = np.median(stack.truth, axis=0)
    off_db = np.abs(10 * np.log10(stack.truth / median))
    assert off_db[stack.changed].mean() > 2
    # Beyond the reach of the point response, unchanged land is the same at all dates.
    from scipy.ndimage import binary_dilation

    near = np.stack([binary_dilation(c, iterations=6) for c in stack.changed]).sum(0) > 0
    assert np.quantile(off_db[:, ~near], 0.99) < 0.5
    ratio = stack.intensity / stack.truth
    assert ratio.mean() == pytest.approx(1, abs=0.03)


def test_training_draws_cover_the_range():
    rng = np.random.default_rng(8)
    drawn = [draw_simulator(rng) for _ in range(500)]
    looks = np.array([s.looks for s in drawn])
    lag = np.array([s.correlation for s in drawn])
    assert looks.min() == 1
    assert looks.max() > 18
    assert lag.min() == 0
    assert 0.8 < lag.max() <= 0.85
    assert (lag[:, 0] != lag[:, 1]).mean() > 0.5


def test_patches_follow_from_their_number_alone():
    source, again = (SimulatedPatches(3, batch_size=2, patch_px=24) for _ in range(2))
    source.batch(0)
    first, second = source.batch(4), again.batch(4)
    for a, b in zip(first, second, strict=True):
        assert a.shape == (2, 1, 24, 24)
        assert a.dtype == np.float32
        assert np.array_equal(a, b)
    assert not np.array_equal(first.intensity, source.batch(5).intensity)
    assert (first.weight >= 1).all()


@pytest.mark.parametrize("bad", [{"looks": 0.5}, {"looks": float("nan")}, {"correlation": (0, 1)}])
def test_impossible_sensors_are_refused(bad):
    with pytest.raises(UsageError, match="expected"):
        SpeckleSimulator(**bad)
