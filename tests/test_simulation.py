"""Simulated speckle obeys the laws of speckle; simulated truth is its expectation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma, psi

from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.networks.date_sums import sum_dates
from sarstack.speckle.landscapes import (
    BRIGHTEST_DB,
    DARKEST_DB,
    LANDS,
    Reflectivity,
    reflect_image,
    simulate_reflectivity,
)
from sarstack.speckle.sensor import (
    SpeckleSimulator,
    gaussian_transfer_function,
    look_weights,
    simulate_stack,
    transfer_function,
)
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.landscape_drawing import REFERENCE_FRACTION
from sarstack.training.pixel_weights import weigh_scene
from sarstack.training.simulated_patches import (
    LOOKS_ERROR,
    SimulatedPatches,
    draw_simulator,
    draw_swath_edge,
)
from sarstack.training.simulated_stack_patches import SimulatedStackPatches


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
def test_small_scenes_can_be_simulated(shape):
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


def test_simulated_sensors_cover_the_range_of_looks_and_correlation():
    rng = np.random.default_rng(8)
    drawn = [draw_simulator(rng) for _ in range(500)]
    looks = np.array([s.looks for s in drawn])
    lag = np.array([s.correlation for s in drawn])
    assert looks.min() == 1
    assert looks.max() > 18
    assert lag.min() == 0
    assert 0.8 < lag.max() <= 0.85
    assert (lag[:, 0] != lag[:, 1]).mean() > 0.5


def test_a_clean_image_becomes_a_landscape_of_other_brightness_and_contrast():
    rng = np.random.default_rng(11)
    image_db = np.cumsum(rng.normal(0, 0.3, (50, 60)), axis=1).astype(np.float32)
    before = image_db.copy()
    levels, contrasts = [], []
    for seed in range(20):
        scene = reflect_image(image_db, (50, 60), np.random.default_rng(seed))
        level_db = 10 * np.log10(scene.diffuse.astype(np.float64))
        contrast, level = np.polyfit((image_db - np.median(image_db)).ravel(), level_db.ravel(), 1)
        assert level_db.min() >= DARKEST_DB - 1e-3
        strong = level_db > BRIGHTEST_DB + 1e-3
        assert strong.mean() < 0.01
        levels.append(level)
        contrasts.append(contrast)
        follows = np.abs(level_db - level - contrast * (image_db - np.median(image_db))) < 0.3
        assert follows.mean() > 0.95
    assert -24.5 < min(levels) < -16
    assert -12 < max(levels) < -3.5
    assert 0.5 < min(contrasts) < 0.9
    assert 1.2 < max(contrasts) < 1.6
    np.testing.assert_array_equal(image_db, before)


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (33, 20), (200, 150)])
def test_images_of_any_size_become_landscapes_of_the_size_asked_for(size):
    image_db = np.random.default_rng(3).normal(0, 4, size).astype(np.float32)
    scene, again = (reflect_image(image_db, (40, 50), np.random.default_rng(4)) for _ in range(2))
    assert scene.diffuse.shape == scene.points.shape == (40, 50)
    assert np.isfinite(scene.diffuse).all()
    assert (scene.diffuse > 0).all()
    assert np.array_equal(scene.diffuse, again.diffuse)
    assert np.array_equal(scene.points, again.points)
    if size == (7, 90):  # mirrored at its edges: rows come in pairs
        first = scene.diffuse[:-1] == scene.diffuse[1:]
        assert (first.mean(axis=1) > 0.9).sum() >= 40 // 7 - 1


def test_patches_depend_on_seed_and_batch_number_alone():
    source, again = (SimulatedPatches(3, batch_size=2, patch_px=24) for _ in range(2))
    source.batch(0)
    first, second = source.batch(4), again.batch(4)
    for name in ("intensity", "target", "weight", "sensor", "detail"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.shape == ((2, 4) if name == "sensor" else (2, 1, 24, 24))
        assert a.dtype == np.float32
        assert np.array_equal(a, b, equal_nan=True)
    assert first.others is None
    assert not np.array_equal(first.intensity, source.batch(5).intensity)
    assert (first.weight >= 1).all()
    assert (first.detail >= 1).all()


@pytest.mark.parametrize("looks", [1.0, 2.0, 10.0])
def test_points_have_the_largest_weight_at_few_looks(looks):
    clean = np.full((64, 64), 0.1, np.float32)
    clean[20, 30], clean[40, 10:50] = 2.0, 0.02
    rng = np.random.default_rng(8)
    noisy = (clean * rng.gamma(looks, 1 / looks, clean.shape)).astype(np.float32)
    noisy[5, 5] = 0.1 * np.exp(2.5)
    weight, detail = weigh_scene(noisy, clean, looks)
    without_point, _ = weigh_scene(noisy, np.where(clean > 1, np.float32(0.1), clean), looks)
    np.testing.assert_allclose(weight, without_point, rtol=0.1)  # depends on the noisy image
    few = {1.0: 1, 2.0: 2 / 3, 10.0: 0}[looks]
    assert weight[5, 5] == pytest.approx(1 + 4 * few * 0.5, rel=0.1)
    assert np.median(weight) == 1
    assert detail[20, 30] == pytest.approx(1 + (np.log(20) - 0.5) + 18 * few, rel=0.05)
    assert detail[40, 30] == pytest.approx(1 + (np.log(5) - 0.5), rel=0.2)
    assert detail[10, 10] == 1
    for image in weigh_scene(noisy, clean, looks, 0.0):
        np.testing.assert_array_equal(image, 1)


def limit_scenes(monkeypatch, n_scenes=12):
    monkeypatch.setattr("sarstack.training.simulated_patches.POOL_SCENES", n_scenes)


def test_sensor_input_is_noisy_and_turned_with_the_patch(monkeypatch):
    """Looks and correlation have errors; for one patch in five, they are unknown."""
    limit_scenes(monkeypatch)
    simulator = SpeckleSimulator(2.0, (0.75, 0.1))
    batch = SimulatedPatches(5, batch_size=300, patch_px=64, simulator=simulator).batch(0)
    looks, correlation, known = batch.sensor[:, 0], batch.sensor[:, 1:3], batch.sensor[:, 3]
    assert set(known) == {0.0, 1.0}
    assert 0.1 < (known == 0).mean() < 0.3
    assert np.log(looks).mean() == pytest.approx(np.log(2), abs=0.03)
    assert np.log(looks).std() == pytest.approx(LOOKS_ERROR, rel=0.2)
    assert correlation.min() >= 0
    assert correlation.max() <= 0.95
    turned = correlation[:, 1] > correlation[:, 0]
    assert 0.35 < turned.mean() < 0.65
    assert correlation.max(axis=1).mean() == pytest.approx(0.75, abs=0.02)
    ratio = (batch.intensity / batch.target)[:, 0].astype(np.float64)
    for image, is_turned in zip(ratio, turned, strict=True):
        if np.isfinite(image).all():
            assert (lag_one(image, 1) > lag_one(image, 0)) == is_turned


def test_a_tenth_of_the_patches_has_the_edge_of_a_swath(monkeypatch):
    limit_scenes(monkeypatch)
    batch = SimulatedPatches(6, batch_size=300, patch_px=32).batch(0)
    holes = np.isnan(batch.intensity[:, 0])
    assert 0.05 < holes.any(axis=(1, 2)).mean() < 0.16
    assert np.isfinite(batch.target).all()
    assert np.isfinite(batch.weight).all()
    for hole in holes:
        for axis in (0, 1):  # each row and column crosses a straight line once
            assert (np.diff(hole.astype(int), axis=axis) != 0).sum(axis=axis).max() <= 1


def test_edges_of_swaths_have_any_direction():
    rng = np.random.default_rng(7)
    holes = np.stack([draw_swath_edge(40, rng) for _ in range(300)])
    assert 0.4 < holes.mean() < 0.6
    along_rows = (holes == holes[:, :, :1]).all(axis=(1, 2))
    along_columns = (holes == holes[:, :1, :]).all(axis=(1, 2))
    assert along_rows.mean() > 0.2
    assert along_columns.mean() > 0.2
    assert (~along_rows & ~along_columns).mean() > 0.1


def test_a_quarter_of_the_scenes_is_cut_from_references(monkeypatch):
    limit_scenes(monkeypatch, 60)
    board_db = (np.indices((300, 300)).sum(axis=0) % 2).astype(np.float32)
    white = SpeckleSimulator(1.0)

    def fraction_of_boards(references):
        source = SimulatedPatches(
            8, batch_size=240, patch_px=16, simulator=white, references=references
        )
        rises = np.diff(np.log(source.batch(0).target[:, 0]), axis=2) > 0
        alternating = rises[:, :, 1:] != rises[:, :, :-1]
        return float((alternating.mean(axis=(1, 2)) > 0.95).mean())

    assert fraction_of_boards([board_db]) == pytest.approx(REFERENCE_FRACTION, abs=0.12)
    assert fraction_of_boards([]) == 0


def test_patches_of_the_published_network_are_normalised(monkeypatch):
    limit_scenes(monkeypatch)
    batch = SimulatedPatches(9, batch_size=60, patch_px=64, brightness=True).batch(0)
    assert np.nanmax(batch.intensity) <= 10
    assert batch.target.max() <= 10
    assert 0.5 < np.nanquantile(batch.intensity, 0.98) < 2


@pytest.mark.parametrize("bad", [{"looks": 0.5}, {"looks": float("nan")}, {"correlation": (0, 1)}])
def test_impossible_sensors_are_refused(bad):
    with pytest.raises(UsageError, match="expected"):
        SpeckleSimulator(**bad)


def test_patches_of_a_stack_have_the_truth_and_sums_over_the_other_dates() -> None:
    source = SimulatedStackPatches(3, batch_size=6, patch_px=48)
    batch = source.batch(0)
    again = SimulatedStackPatches(3, batch_size=6, patch_px=48).batch(0)
    for part, same in zip(batch, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert batch.others is not None
    assert batch.others.shape == (6, 4, 48, 48)
    assert (batch.intensity / batch.target).mean() == pytest.approx(1, abs=0.05)
    counts = batch.others[:, 0, 0, 0]
    assert (batch.others[:, 0] == counts[:, None, None]).all()
    assert (batch.others[counts == 0] == 0).all()
    seen = counts > 0
    level = batch.others[seen, 1] / batch.others[seen, 0] / batch.target[seen, 0]
    assert np.median(level) == pytest.approx(1, abs=0.15), "most of the land does not change"


def test_sums_over_dates_are_those_of_the_despeckler() -> None:
    dates = np.random.default_rng(4).gamma(4, 0.1, (3, 9, 7)).astype(np.float32)
    despeckler = make_despeckler("despecknet-mt")
    summary = sum(despeckler.contribute(date, SceneStatistics(4.0)) for date in dates)
    np.testing.assert_allclose(sum_dates(dates, (9, 7)), summary, rtol=1e-5)
