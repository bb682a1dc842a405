"""Laws of speckle against published tables, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from sarstack.errors import UsageError
from sarstack.speckle import laws as gamma


@pytest.mark.parametrize(
    ("looks", "mean", "spread"),
    [(1, -0.57722, 1.2825), (2, -0.27036, 0.8031), (4.4, -0.11792, 0.5050), (16, -0.03158, 0.2540)],
)
def test_moments_of_log_speckle(looks, mean, spread):
    assert gamma.log_speckle_mean(looks) == pytest.approx(mean, abs=1e-5)
    assert np.sqrt(gamma.log_speckle_variance(looks)) == pytest.approx(spread, abs=1e-4)


def test_trigamma_is_inverted_over_the_whole_range():
    looks = np.geomspace(0.05, 5000, 200)
    assert gamma.looks_from_log_variance(gamma.log_speckle_variance(looks)) == pytest.approx(
        looks, rel=1e-9
    )
    assert np.isnan(gamma.looks_from_log_variance([0, -1, np.nan])).all()


@pytest.mark.parametrize("looks", [1, 4.4, 20])
@pytest.mark.parametrize(
    "estimate", [gamma.moment_looks, gamma.log_moment_looks, gamma.likelihood_looks]
)
def test_estimators_find_the_looks(estimate, looks):
    sample = 1e-3 * np.random.default_rng(114).gamma(looks, 1 / looks, 200_000)
    sample[::100] = np.nan
    assert estimate(sample) == pytest.approx(looks, rel=0.03)


def test_maximum_likelihood_agrees_with_scipy():
    sample = np.random.default_rng(115).gamma(3.3, 2.0, 500)
    shape, _, _ = stats.gamma.fit(sample, floc=0)
    assert gamma.likelihood_looks(sample) == pytest.approx(shape, rel=1e-4)


def test_looks_of_one_value_are_nan_and_of_a_constant_infinite():
    for estimate in (gamma.moment_looks, gamma.log_moment_looks, gamma.likelihood_looks):
        assert np.isnan(estimate([np.nan, 1.0]))
    assert gamma.moment_looks([2.0, 2.0]) == np.inf
    assert gamma.likelihood_looks([2.0, 2.0]) == np.inf


def test_correlated_area_against_the_sum_over_all_pairs():
    correlation, n = (0.66, 0.3), 5
    y, x = np.mgrid[:n, :n].reshape(2, -1)
    pairs = correlation[0] ** ((y[:, None] - y) ** 2) * correlation[1] ** ((x[:, None] - x) ** 2)
    assert gamma.correlated_area(correlation, n) == pytest.approx(pairs.sum() / n**2)
    off_diagonal = pairs[~np.eye(n * n, dtype=bool)]
    assert gamma.pair_correlation(correlation, n) == pytest.approx(off_diagonal.mean())
    assert gamma.correlated_area((0.0, 0.0), 7) == 1


def test_looks_after_a_boxcar_on_grd_speckle():
    """4.4 looks, correlation .66/.63: 3x3 gives about 10 and 7x7 about 39, not 40 and 216."""
    for window_px, expected in ((3, 10.2), (7, 39)):
        looks = 4.4 * window_px**2 / gamma.correlated_area((0.66, 0.63), window_px)
        assert looks == pytest.approx(expected, rel=0.03)


def test_the_stable_threshold_is_the_quantile_of_pure_speckle():
    looks, n_dates = 4.4, 12
    threshold = gamma.stable_threshold(looks, n_dates)
    assert threshold.shape == (n_dates + 1,)
    assert np.isnan(threshold[:2]).all()
    for n in (2, 5, 12):
        speckle = np.random.default_rng(116).gamma(looks, 1 / looks, (n, 100_000))
        variation = speckle.var(axis=0, ddof=1) / speckle.mean(axis=0) ** 2
        assert np.mean(variation <= threshold[n]) == pytest.approx(0.99, abs=0.002)


def test_threshold_is_the_same_everywhere_and_checks_its_arguments():
    np.testing.assert_array_equal(gamma.stable_threshold(3, 4), gamma.stable_threshold(3, 9)[:5])
    with pytest.raises(UsageError, match="looks = 0"):
        gamma.stable_threshold(0, 4)
    with pytest.raises(UsageError, match="n_dates = 0"):
        gamma.stable_threshold(3, 0)
    with pytest.raises(UsageError, match=r"quantile = 1"):
        gamma.stable_threshold(3, 4, quantile=1)
