"""Scores against scikit-image, SciPy and closed forms of speckle; each entry has an oracle."""

import numpy as np
import pytest
from scipy import ndimage, special, stats
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from sarstack.errors import UsageError
from sarstack.evaluation import metrics
from sarstack.evaluation.laws import border_gradient_ratio
from sarstack.evaluation.scores import Line, Result
from sarstack.speckle.laws import log_speckle_variance

TRUTH = np.exp(np.random.default_rng(104).normal(-2, 1, (200, 240)))


def with_hole(image):
    holed = image.copy()
    holed[20:40, 30:70] = np.nan
    return holed


@pytest.mark.parametrize("gain", [1.0, 2.0, 0.1])
def test_rmse_and_bias_of_a_gain_are_the_gain(gain):
    expected = 10 * np.log10(gain)
    assert metrics.rmse_db(gain * TRUTH, TRUTH) == pytest.approx(abs(expected), abs=1e-9)
    assert metrics.bias_db(gain * TRUTH, TRUTH) == pytest.approx(expected, abs=1e-9)


def test_rmse_of_speckle_is_the_log_gamma_moment():
    """RMSE^2 of pure speckle = variance + squared mean of ln n, in dB."""
    looks = 5
    noisy = TRUTH * np.random.default_rng(105).gamma(looks, 1 / looks, TRUTH.shape)
    expected = np.hypot(2.043, 0.449)
    assert metrics.rmse_db(noisy, TRUTH) == pytest.approx(expected, rel=0.02)


def test_psnr_agrees_with_scikit_image_and_with_the_closed_form():
    noisy = TRUTH * np.random.default_rng(106).gamma(1, 1, TRUTH.shape)
    peak = np.sqrt(TRUTH).max()
    expected = peak_signal_noise_ratio(np.sqrt(TRUTH), np.sqrt(noisy), data_range=peak)
    assert metrics.psnr_amplitude_db(noisy, TRUTH, peak=peak) == pytest.approx(expected, abs=1e-9)
    flat = np.full((400, 400), 0.3)
    speckled = flat * np.random.default_rng(107).gamma(1, 1, flat.shape)
    # Amplitude error of single-look speckle: mean intensity times 2 - 2 m_1 = 0.22755.
    assert metrics.psnr_amplitude_db(speckled, flat) == pytest.approx(
        -10 * np.log10(0.22755), abs=0.05
    )
    assert metrics.psnr_amplitude_db(flat, flat) == np.inf


def test_ratio_of_a_perfect_result_is_the_speckle():
    looks = 4.4
    noisy = TRUTH * np.random.default_rng(108).gamma(looks, 1 / looks, TRUTH.shape)
    ratio = metrics.ratio_statistics(noisy, TRUTH)
    assert ratio.mean == pytest.approx(1, abs=0.01)
    assert ratio.variance == pytest.approx(1 / looks, rel=0.03)
    assert ratio.log_variance == pytest.approx(float(log_speckle_variance(looks)), rel=0.03)
    assert metrics.ratio_statistics(noisy, noisy) == (1.0, 0.0, 0.0)


def test_enl_is_the_number_of_looks_of_a_flat_region():
    assert metrics.enl(np.random.default_rng(109).gamma(9, 1, (300, 300))) == pytest.approx(
        9, rel=0.03
    )


def test_nan_pixels_are_left_out():
    noisy = TRUTH * np.random.default_rng(110).gamma(3, 1 / 3, TRUTH.shape)
    outside = np.isfinite(with_hole(TRUTH))
    a, b = noisy[outside][None], TRUTH[outside][None]
    for score in (metrics.rmse_db, metrics.bias_db, metrics.psnr_amplitude_db):
        assert score(with_hole(noisy), with_hole(TRUTH)) == pytest.approx(score(a, b))
        assert score(with_hole(noisy), TRUTH) == pytest.approx(score(a, b))
    assert metrics.ratio_statistics(with_hole(noisy), TRUTH) == pytest.approx(
        metrics.ratio_statistics(a, b)
    )


def test_scores_without_valid_pixels_are_nan():
    empty = np.full((4, 4), np.nan)
    for score in (metrics.rmse_db, metrics.bias_db, metrics.psnr_amplitude_db):
        assert np.isnan(score(empty, empty))
    assert np.isnan(metrics.ratio_statistics(empty, empty)).all()
    assert np.isnan(metrics.enl(empty))
    assert np.isnan(border_gradient_ratio(empty, rows=[2]))


def test_border_gradient_ratio_is_one_without_seams_and_larger_with_them():
    image = np.random.default_rng(111).gamma(50, 1 / 50, (256, 256))
    borders = {"rows": [0, 64, 128, 192], "columns": [0, 100, 200]}
    assert border_gradient_ratio(image, **borders) == pytest.approx(1, abs=0.1)
    image[64:128] *= 1.5
    assert border_gradient_ratio(image, **borders) > 1.3
    assert border_gradient_ratio(image, rows=[32, 96]) == pytest.approx(1, abs=0.15)


def test_peak_loss_compares_the_maxima_near_each_point():
    before, after = np.ones((30, 30)), np.ones((30, 30))
    before[5, 7], after[6, 7] = 100, 10
    before[20, 0] = after[20, 0] = 50
    assert metrics.point_peak_loss_db(before, after, [(5, 7)]) == pytest.approx(10)
    assert metrics.point_peak_loss_db(before, after, [(20, 0)]) == pytest.approx(0)
    assert metrics.point_peak_loss_db(before, after, [(5, 7), (20, 0)]) == pytest.approx(5)


def test_images_of_different_shapes_and_points_outside_are_refused():
    with pytest.raises(UsageError, match=r"\(2, 3\) and \(3, 2\)"):
        metrics.rmse_db(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(UsageError, match=r"points = \[\[9, 0\]\]"):
        metrics.point_peak_loss_db(np.ones((3, 3)), np.ones((3, 3)), [(1, 1), (9, 0)])


# ---- one oracle for each entry of SCORES -----------------------------------------------------

LOOKS = 4.0
LAND = TRUTH[None]
NOISY = LAND * np.random.default_rng(112).gamma(LOOKS, 1 / LOOKS, LAND.shape)
LEFT = np.zeros(LAND.shape, dtype=bool)
LEFT[..., :90] = True
HALVES = (LEFT[0], ~LEFT[0])
DOUBLED_DB = 10 * np.log10(2)


def result(despeckled, kind="simulated", noisy=NOISY, reference=LAND, **objects):
    return Result(kind, noisy, despeckled, reference, LOOKS, **objects)


def rmse_by_scikit_image():
    to_db = [10 * np.log10(image) for image in (LAND, NOISY)]
    return result(NOISY), np.sqrt(mean_squared_error(*to_db))


def psnr_by_scikit_image():
    truth, noisy = np.sqrt(LAND), np.sqrt(NOISY)
    peak = np.quantile(truth, 0.99)
    return result(NOISY), peak_signal_noise_ratio(truth, noisy, data_range=peak)


def gain_of_2_where_changed_and_4_elsewhere():
    return result(np.where(LEFT, 2, 4) * LAND, changed=LEFT)


def changes_reduced_to_their_power_of_0_4():
    gain = np.exp(np.random.default_rng(113).normal(0, 1, LAND.shape))
    return result(LAND * gain**0.4, reference=LAND * gain, unchanged=LAND, changed=LEFT)


def a_tenth_of_the_change_of_the_others():
    """Three dates; the third one changes in the left half, by a gain of each pixel."""
    gain = np.exp(np.random.default_rng(114).normal(0, 1, LAND.shape[1:]))
    unchanged = np.repeat(LAND, 3, axis=0)
    changed = np.zeros(unchanged.shape, dtype=bool)
    changed[2] = LEFT
    truth = np.where(changed, gain * unchanged, unchanged)
    mean_of_others = (gain + 1) / 2
    despeckled = np.where(changed | ~LEFT, 3 * truth, mean_of_others**0.1 * truth)
    return result(despeckled, reference=truth, unchanged=unchanged, changed=changed)


def gain_of_2_where_another_date_changed():
    given = a_tenth_of_the_change_of_the_others()
    elsewhere = ~given.changed & LEFT
    despeckled = np.where(elsewhere, 2, 5) * given.reference
    return result(despeckled, reference=given.reference, changed=given.changed)


def two_dates_of_deviations_0_3_and_0_4():
    """Deviations are half positive, half negative; a gain of the whole date does not count."""
    signs = np.where(np.arange(LAND.size).reshape(LAND.shape[1:]) % 2, 1, -1)
    return 2 * LAND * np.exp(np.array([0.3, 0.4])[:, None, None] * signs)


def looks_by_scipy():
    looks = [stats.variation(NOISY[0][half], ddof=1) ** -2 for half in HALVES]
    return result(NOISY, flats=HALVES), stats.hmean(looks)


def points_of_half_power():
    despeckled = LAND.copy()
    despeckled[0, 5, 7] /= 2
    despeckled[0, 9, 3] /= 2
    return result(despeckled, points=[(5, 7), (9, 3)])


def lines_of_half_and_full_contrast():
    """A line of 1 px whose contrast in dB is halved, and one of 3 px that is kept."""
    truth, despeckled = np.ones((1, 30, 30)), np.ones((1, 30, 30))
    thin, wide = np.zeros((2, 30, 30), dtype=bool)
    thin[5], wide[20:23] = True, True
    beside = ~(thin | wide)
    truth[0, thin], truth[0, wide] = 16, 1 / 16
    despeckled[0, thin], despeckled[0, wide] = 4, 1 / 16
    lines = [Line(1, thin, beside), Line(3, wide, beside)]
    return result(despeckled, noisy=truth, reference=truth, lines=lines)


def log_variance_by_scipy():
    expected = np.var(np.log(NOISY / LAND), ddof=1) / special.polygamma(1, LOOKS)
    return result(LAND), expected


def structure_by_scipy():
    """The ratio is the image itself if the result is constant."""
    logs = np.log(NOISY[0])
    sums, counts = (
        ndimage.uniform_filter(x, 15, mode="constant") for x in (logs, np.ones_like(logs))
    )
    expected = stats.pearsonr(logs.ravel(), (logs - sums / counts).ravel()).statistic
    return result(np.ones_like(LAND), reference=NOISY), expected


TWO_DATES = two_dates_of_deviations_0_3_and_0_4()
BOTH = np.repeat(LAND, 2, axis=0)
# The input of each score and the value that an independent library or a closed form gives.
ORACLES = {
    "rmse_db": rmse_by_scikit_image(),
    "rmse_changed_db": (gain_of_2_where_changed_and_4_elsewhere(), DOUBLED_DB),
    "rmse_unchanged_db": (gain_of_2_where_changed_and_4_elsewhere(), 2 * DOUBLED_DB),
    "change_kept": (changes_reduced_to_their_power_of_0_4(), 0.4),
    "rmse_others_changed_db": (gain_of_2_where_another_date_changed(), DOUBLED_DB),
    "leak_from_others": (a_tenth_of_the_change_of_the_others(), 0.1),
    "spread": (result(TWO_DATES, "stack", BOTH, others=BOTH), np.sqrt(0.125)),
    "spread_half": (result(TWO_DATES, "stack", BOTH, reference=BOTH), np.sqrt(0.125)),
    "bias_db": (result(2 * NOISY), DOUBLED_DB),
    "flat_bias_db": (result(np.where(LEFT, 0.5, 1.2) * NOISY, flats=HALVES), -DOUBLED_DB),
    "enl": looks_by_scipy(),
    "psnr_db": psnr_by_scikit_image(),
    "point_loss_db": (points_of_half_power(), DOUBLED_DB),
    "line_kept": (lines_of_half_and_full_contrast(), 0.75),
    "thin_line_kept": (lines_of_half_and_full_contrast(), 0.5),
    "ratio_mean": (result(NOISY / 3), 3.0),
    "ratio_variance": log_variance_by_scipy(),
    "ratio_structure": structure_by_scipy(),
}
# Scores that compare the methods of a table; tests/test_evaluation.py has their tests.
OF_A_TABLE = {"rmse_relative_to_lee", "cpu_s_per_mpx"}


@pytest.mark.parametrize("name", ORACLES)
def test_score_equals_its_oracle(name):
    given, expected = ORACLES[name]
    assert metrics.SCORES[name].function(given) == pytest.approx(expected, rel=1e-6)


def test_every_score_has_an_oracle():
    assert set(ORACLES) | OF_A_TABLE == set(metrics.SCORES)
    assert {name for name, score in metrics.SCORES.items() if not score.function} == OF_A_TABLE
    assert len({score.heading for score in metrics.SCORES.values()}) == len(metrics.SCORES)


def test_best_value_follows_the_direction_of_the_score():
    values = [0.7, np.nan, 1.2, 5.0]
    assert metrics.SCORES["rmse_db"].best_index(values) == 0
    assert metrics.SCORES["psnr_db"].best_index(values) == 3
    assert metrics.SCORES["line_kept"].best_index(values) == 2
