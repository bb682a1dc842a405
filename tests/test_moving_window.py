"""Moving sums and means against a plain loop over windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import generic_filter

from sarstack.speckle.moving_window import box_count, box_mean, box_sum


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    window_px=st.sampled_from([1, 3, 5, 7, 9, 11]),
)
def test_moving_sums_equal_a_plain_loop(seed, shape, window_px):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    values[rng.random(shape) > 0.6] = np.nan

    def loop(function):
        return generic_filter(values, function, window_px, mode="constant", cval=np.nan)

    valid = ~np.isnan(values)
    summed = box_sum(np.where(valid, values, 0), window_px)
    np.testing.assert_allclose(summed, loop(np.nansum), atol=1e-12)
    count = loop(lambda window: np.isfinite(window).sum())
    np.testing.assert_array_equal(box_count(valid, window_px), count)
    mean = loop(
        lambda window: window[~np.isnan(window)].mean() if np.isfinite(window).any() else np.nan
    )
    np.testing.assert_allclose(box_mean(values, valid, window_px), mean, atol=1e-12)


def test_a_ship_leaves_no_rounding_error_on_the_sea():
    """A running sum would: 1e15 * 1e-16 is not small beside 1e-3."""
    sea = np.full((40, 60), 1e-3)
    sea[20, 10] = 1e15
    mean = box_mean(sea, np.ones(sea.shape, bool), 7)
    assert mean[20, 20] == pytest.approx(1e-3, rel=1e-12)


def test_the_mean_of_a_window_without_valid_pixels_is_nan():
    valid = np.zeros((5, 20), bool)
    valid[2, 2] = True
    mean = box_mean(np.full((5, 20), 3.0), valid, 3)
    assert np.isnan(mean[:, 5:]).all()
    assert (mean[1:4, 1:4] == 3).all()
