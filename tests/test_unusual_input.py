"""Networks on input that no training had: many holes, areas without speckle."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.despecklers import make_despeckler
from sarstack.networks.bias import simulate_flat
from sarstack.networks.holes import FILL_PX, fill_holes
from sarstack.networks.smooth_areas import keep_smooth_areas
from sarstack.speckle.statistics import SceneStatistics

LOOKS, SIDE_PX = 4.4, 160
NETWORKS = ("despecknet", "despecknet-lite", "despecknet-mt")
EVERYTHING = (slice(0, SIDE_PX), slice(0, SIDE_PX))


def despeckle(method, image, looks=LOOKS):
    bright = float(np.nanquantile(image, 0.98, method="higher"))
    statistics = SceneStatistics(looks, (0.0, 0.0), bright)
    return make_despeckler(method, precision="float32").despeckle(image, statistics)


def flat_speckle(looks=LOOKS, side_px=SIDE_PX):
    return simulate_flat(looks, 0.0, band_limited=True, side_px=side_px)[0]


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize(("hole_px", "period_px", "axis"), [(1, 2, 1), (1, 3, 0), (3, 4, 1)])
def test_stripes_of_nodata_change_the_mean_by_at_most_one_percent(method, hole_px, period_px, axis):
    striped = flat_speckle()
    missing = np.arange(SIDE_PX) % period_px < hole_px
    striped[(slice(None),) * axis + (missing,)] = np.nan
    valid = np.isfinite(striped)
    result = despeckle(method, striped)
    assert_array_equal(np.isfinite(result), valid)
    assert_allclose(result[valid].mean(), striped[valid].mean(), rtol=0.01)


def test_the_published_network_keeps_the_mean_beside_single_holes():
    image = flat_speckle(side_px=48)
    image[np.random.default_rng(0).random(image.shape) < 0.1] = np.nan
    valid = np.isfinite(image)
    result = despeckle("despecknet-paper", image)
    assert_allclose(result[valid].mean(), image[valid].mean(), rtol=0.02)


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize("shape", [(60, 70), (1, 3000)])
def test_a_constant_stays_as_it_is(method, shape):
    constant = np.full(shape, 0.1, np.float32)
    result = despeckle(method, constant)
    # The ends of a single row have too few neighbours to tell.
    assert_allclose(result.mean(), 0.1, rtol=0.005)
    assert_allclose(np.median(result), 0.1, rtol=1e-6)


def test_a_smooth_area_does_not_change_speckle_elsewhere():
    image = flat_speckle()
    result = np.full_like(image, 0.5)
    image[:, 100:] = 2.0
    keep_smooth_areas(result, image, EVERYTHING)
    assert_array_equal(result[:, :80], 0.5)
    assert_array_equal(result[:, 120:], 2.0)


@pytest.mark.parametrize("looks", [1.0, LOOKS, 20.0, 50.0])
def test_speckle_of_any_sentinel_1_product_is_not_taken_for_smooth(looks):
    image, result = flat_speckle(looks), np.zeros((SIDE_PX, SIDE_PX), np.float32)
    keep_smooth_areas(result, image, EVERYTHING)
    assert (result != 0).mean() < 0.001


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.7, 0.6)])
def test_holes_are_filled_with_values_of_near_pixels(correlation):
    rows, columns = np.indices((40, 50), np.float32)
    holes = np.zeros(rows.shape, bool)
    large = np.s_[10:30, 20:40]
    holes[large] = holes[3, 3] = holes[:, 45] = True
    intensity = np.where(holes, np.nan, rows * 100 + columns).astype(np.float32)
    filled, others = fill_holes(intensity, np.stack([intensity, 2 * intensity]), correlation)
    assert_array_equal(filled[~holes], intensity[~holes])
    taken = np.isfinite(filled)
    assert_array_equal(others[:, taken], np.stack([filled, 2 * filled])[:, taken])
    source = np.divmod(filled[taken & holes], 100)
    for place, found in zip(np.nonzero(taken & holes), source, strict=True):
        assert np.abs(place - found).max() <= FILL_PX
    # The large hole is left, also its rim.
    expected = np.ones(rows.shape, bool)
    expected[large] = False
    assert_array_equal(taken, expected)


def test_surroundings_of_narrow_pieces_are_filled():
    """A network was trained on no image of a few rows."""
    intensity = np.full((40, 60), np.nan, np.float32)
    intensity[10:13, 10:30] = intensity[20:40, 40:60] = 1
    filled, _ = fill_holes(intensity, None, (0.0, 0.0))
    expected = np.zeros(intensity.shape, bool)
    expected[10 - FILL_PX : 13 + FILL_PX, 10 - FILL_PX : 30 + FILL_PX] = True
    expected[20:, 40:] = True
    assert_array_equal(np.isfinite(filled), expected)


def test_an_image_without_holes_is_not_copied():
    image = flat_speckle()
    filled, _ = fill_holes(image, None, (0.0, 0.0))
    assert filled is image
