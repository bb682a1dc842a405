"""Classical methods compared with slow, direct versions of the formulas of their papers."""

import re

import numpy as np
import pytest
from naive_filters import WHITE, image, naive_lee, windows
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import uniform_filter
from scipy.stats import gamma

from sarstack.despecklers import despeckler_names, make_despeckler
from sarstack.despecklers.catalogue import list_methods, measure_speed
from sarstack.despecklers.methods.lee_sigma import point_targets, prior_gain, sigma_range
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.errors import UsageError
from sarstack.speckle.laws import pair_correlation
from sarstack.speckle.statistics import SceneStatistics


def test_boxcar_is_the_mean_of_the_valid_pixels_of_the_window():
    values = image()
    expected = np.full(values.shape, np.nan)
    for place, near in windows(values, 5):
        expected[place] = near.mean()
    assert_allclose(make_despeckler("boxcar", window_px=5).despeckle(values, WHITE), expected, 1e-6)


def test_boxcar_inside_a_whole_image_is_scipys_uniform_filter():
    values = image((40, 40), hole=False)
    expected = uniform_filter(values.astype(float), 7)[3:-3, 3:-3]
    out = make_despeckler("boxcar").despeckle(values, WHITE)
    assert_allclose(out[3:-3, 3:-3], expected, rtol=1e-6)


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.6, 0.5)])
def test_lee_follows_its_formula(correlation):
    values = image()
    statistics = SceneStatistics(4.0, correlation)
    expected = naive_lee(values, 7, (1 - pair_correlation(correlation, 7)) / 4)
    assert_allclose(make_despeckler("lee").despeckle(values, statistics), expected, rtol=1e-5)


def test_lee_keeps_bright_targets_and_smooths_flat_land():
    values = image((60, 60), hole=False)
    out = make_despeckler("lee").despeckle(values, WHITE)
    assert out[30:50, 5:22].var() < values[30:50, 5:22].var() / 15
    assert out[8:11, 20:23].mean() == pytest.approx(values[8:11, 20:23].mean(), rel=0.1)


@pytest.mark.parametrize(
    ("looks", "fraction", "low", "high", "deviation"),
    [
        (1, 0.5, 0.436, 1.920, 0.4057),
        (1, 0.9, 0.084, 3.941, 0.8191),
        (2, 0.8, 0.327, 2.260, 0.4810),
        (3, 0.95, 0.2375, 2.649, 0.5082),
        (4, 0.9, 0.378, 2.094, 0.3991),
    ],
)
def test_sigma_range_is_the_published_table(looks, fraction, low, high, deviation):
    found = sigma_range(looks, fraction)
    assert found.low == pytest.approx(low, abs=0.002)
    assert found.high == pytest.approx(high, abs=0.012)
    assert np.sqrt(found.cv2) == pytest.approx(deviation, abs=0.002)


@pytest.mark.parametrize("looks", [0.8, 4.4, 37.5])
def test_sigma_range_of_any_looks_has_its_fraction_and_mean_one(looks):
    low, high, cv2 = sigma_range(looks, 0.9)
    speckle = gamma(looks, scale=1 / looks)
    assert speckle.cdf(high) - speckle.cdf(low) == pytest.approx(0.9, abs=1e-6)
    inside = {"lb": low, "ub": high, "conditional": True}
    assert speckle.expect(lambda n: n, **inside) == pytest.approx(1, abs=1e-6)
    assert speckle.expect(lambda n: (n - 1) ** 2, **inside) == pytest.approx(cv2, abs=1e-6)


def test_lee_sigma_follows_its_formula():
    values, looks, sigma, window_px = image(), 4.0, 0.9, 9
    low, high, cv2 = sigma_range(looks, sigma)
    prior = prior_gain(looks, (0.0, 0.0), window_px, sigma) * naive_lee(values, 3, 1 / looks)
    expected = values.astype(float)
    for place, near in windows(values, window_px):
        chosen = near[(near >= low * prior[place]) & (near <= high * prior[place])]
        if len(chosen):
            mean = chosen.mean()
            variance = chosen.var(ddof=1) if len(chosen) > 1 else 0
            signal = max(variance - mean**2 * cv2, 0) / (1 + cv2)
            weight = signal / variance if signal else 0
            expected[place] = mean + weight * (values[place] - mean)
    out = make_despeckler("lee-sigma").despeckle(values, WHITE)
    assert_allclose(out, expected, rtol=1e-5)


def test_bright_clusters_are_kept_and_single_bright_pixels_are_not():
    values = image((40, 40), hole=False)
    values[5, 5] = 50
    values[20:23, 30:33] = 40
    values[20, 30] = np.nan
    statistics = SceneStatistics(4.0, (0.0, 0.0), bright=10.0)
    marked = point_targets(values, 10.0)
    assert marked[21, 31]
    assert marked[20:23, 30:33].sum() == 8
    assert not marked[5, 5]
    out = make_despeckler("lee-sigma").despeckle(values, statistics)
    assert_array_equal(out[marked], values[marked])


def test_point_targets_do_not_depend_on_the_order_of_pixels():
    values = np.random.default_rng(101).gamma(1, 1, (60, 70)).astype(np.float32)
    values[20:30, 20:40] *= 8
    marked = point_targets(values, 5.0)
    assert marked.any()
    assert_array_equal(point_targets(values[::-1, ::-1], 5.0)[::-1, ::-1], marked)


@pytest.mark.parametrize("n_dates", [1, 2, 6])
def test_quegan_yu_follows_its_formula(n_dates):
    block = np.stack([image() for _ in range(n_dates)])
    block[0, :5] = np.nan
    mean = np.full(block.shape, np.nan)
    for date, local in zip(block, mean, strict=True):
        for place, near in windows(date, 7):
            local[place] = near.mean()
    count = (~np.isnan(block)).sum(axis=0)
    expected = mean * np.nansum(block / mean, axis=0) / np.where(count, count, np.nan)
    out = make_despeckler("quegan-yu").apply(block, [WHITE] * n_dates)
    assert_allclose(out, expected, rtol=1e-5)
    if n_dates == 1:
        assert_allclose(out, block, rtol=1e-6)


def test_quegan_yu_has_the_looks_of_theory():
    """L M N / (M + N - 1) for M dates and N independent pixels: 4 looks, 10 dates give 33.8."""
    block = np.random.default_rng(102).gamma(4, 1 / 4, (10, 200, 200)).astype(np.float32)
    out = make_despeckler("quegan-yu").apply(block, [WHITE] * 10)
    looks = out[0].mean() ** 2 / out[0].var()
    assert looks == pytest.approx(4 * 10 * 49 / 58, rel=0.04)


def test_quegan_yu_keeps_detail_that_all_dates_have():
    scene = np.full((50, 50), 0.1)
    scene[:, 25] = 2
    block = (scene * np.random.default_rng(103).gamma(4, 1 / 4, (30, 50, 50))).astype(np.float32)
    road = make_despeckler("quegan-yu").apply(block, [WHITE] * 30)[:, 10:40, 25]
    assert road.mean() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", ["boxcar", "lee", "lee-sigma", "frost", "median", "quegan-yu"])
@pytest.mark.parametrize("window_px", [0, 4, 7.0, "7", None])
def test_window_widths_that_are_not_odd_are_refused(name, window_px):
    with pytest.raises(UsageError, match="window_px = "):
        make_despeckler(name, window_px=window_px)


def test_a_windowed_method_needs_no_constructor():
    class Median(MovingWindowMethod):
        name = "median"

        def despeckle(self, intensity, statistics, summary=None):
            return intensity

    assert Median().settings() == {"halo": "3", "window_px": "7"}
    assert Median(window_px=11).halo == 5


def test_parameters_are_set_or_refused():
    assert make_despeckler("lee-sigma", window_px=11).halo == 5
    assert make_despeckler("lee-sigma", window_px=3).halo == 2
    with pytest.raises(UsageError, match=r"sigma = 1\.5"):
        make_despeckler("lee-sigma", sigma=1.5)
    with pytest.raises(UsageError, match="method = 'leee'"):
        make_despeckler("leee")


def test_every_method_has_a_description_of_one_line():
    entries = list_methods()
    assert [entry.name for entry in entries] == despeckler_names()
    for entry in entries:
        assert 20 < len(entry.summary) < 100
        assert entry.summary[-1] in ".)"
        assert entry.halo == make_despeckler(entry.name).halo


def test_every_published_method_names_its_paper_and_every_network_its_licence():
    for entry in list_methods():
        published = re.search(r", (19|20)\d\d\b", entry.paper)
        assert published or entry.name in ("boxcar", "median"), entry.name
        is_network = hasattr(make_despeckler(entry.name), "card")
        assert bool(entry.licence) == is_network, entry.name


def test_the_speed_of_a_method_is_measured_in_this_process():
    assert 1e3 < measure_speed(make_despeckler("quegan-yu")) < 1e10
