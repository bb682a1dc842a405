"""Metrics against closed forms of speckle and against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from sarstack.errors import UsageError
from sarstack.evaluation import metrics
from sarstack.evaluation.laws import border_gradient_ratio
from sarstack.speckle.laws import log_speckle_variance

RANDOM = np.random.default_rng(5)
TRUTH = np.exp(RANDOM.normal(-2, 1, (200, 240)))


def with_hole(image):
    holed = image.copy()
    holed[20:40, 30:70] = np.nan
    return holed


@pytest.mark.parametrize("gain", [1.0, 2.0, 0.1])
def test_a_constant_gain_is_its_own_rmse_and_bias(gain):
    expected = 10 * np.log10(gain)
    assert metrics.rmse_db(gain * TRUTH, TRUTH) == pytest.approx(abs(expected), abs=1e-9)
    assert metrics.bias_db(gain * TRUTH, TRUTH) == pytest.approx(expected, abs=1e-9)


def test_rmse_of_speckle_is_the_log_gamma_moment():
    """RMSE^2 of pure speckle = variance + squared mean of ln n, in dB."""
    looks = 5
    noisy = TRUTH * RANDOM.gamma(looks, 1 / looks, TRUTH.shape)
    expected = np.hypot(2.043, 0.449)
    assert metrics.rmse_db(noisy, TRUTH) == pytest.approx(expected, rel=0.02)


def test_psnr_agrees_with_scikit_image_and_with_the_closed_form():
    noisy = TRUTH * RANDOM.gamma(1, 1, TRUTH.shape)
    peak = np.sqrt(TRUTH).max()
    expected = peak_signal_noise_ratio(np.sqrt(TRUTH), np.sqrt(noisy), data_range=peak)
    assert metrics.psnr_amplitude_db(noisy, TRUTH, peak=peak) == pytest.approx(expected, abs=1e-9)
    flat = np.full((400, 400), 0.3)
    speckled = flat * RANDOM.gamma(1, 1, flat.shape)
    # Amplitude error of single-look speckle: mean intensity times 2 - 2 m_1 = 0.22755.
    assert metrics.psnr_amplitude_db(speckled, flat) == pytest.approx(
        -10 * np.log10(0.22755), abs=0.05
    )
    assert metrics.psnr_amplitude_db(flat, flat) == np.inf


def test_ratio_of_a_perfect_result_is_the_speckle():
    looks = 4.4
    noisy = TRUTH * RANDOM.gamma(looks, 1 / looks, TRUTH.shape)
    ratio = metrics.ratio_statistics(noisy, TRUTH)
    assert ratio.mean == pytest.approx(1, abs=0.01)
    assert ratio.variance == pytest.approx(1 / looks, rel=0.03)
    assert ratio.log_variance == pytest.approx(float(log_speckle_variance(looks)), rel=0.03)
    assert metrics.ratio_statistics(noisy, noisy) == (1.0, 0.0, 0.0)


def test_enl_is_the_number_of_looks_of_a_flat_region():
    assert metrics.enl(RANDOM.gamma(9, 1, (300, 300))) == pytest.approx(9, rel=0.03)


def test_nan_is_left_out_not_spread():
    noisy = TRUTH * RANDOM.gamma(3, 1 / 3, TRUTH.shape)
    outside = np.isfinite(with_hole(TRUTH))
    a, b = noisy[outside][None], TRUTH[outside][None]
    for score in (metrics.rmse_db, metrics.bias_db, metrics.psnr_amplitude_db):
        assert score(with_hole(noisy), with_hole(TRUTH)) == pytest.approx(score(a, b))
        assert score(with_hole(noisy), TRUTH) == pytest.approx(score(a, b))
    assert metrics.ratio_statistics(with_hole(noisy), TRUTH) == pytest.approx(
        metrics.ratio_statistics(a, b)
    )


def test_nothing_valid_gives_nan():
    empty = np.full((4, 4), np.nan)
    for score in (metrics.rmse_db, metrics.bias_db, metrics.psnr_amplitude_db):
        assert np.isnan(score(empty, empty))
    assert np.isnan(metrics.ratio_statistics(empty, empty)).all()
    assert np.isnan(metrics.enl(empty))
    assert np.isnan(border_gradient_ratio(empty, rows=[2]))


def test_seams_are_seen_and_their_absence_too():
    image = RANDOM.gamma(50, 1 / 50, (256, 256))
    borders = {"rows": [0, 64, 128, 192], "columns": [0, 100, 200]}
    assert border_gradient_ratio(image, **borders) == pytest.approx(1, abs=0.1)
    image[64:128] *= 1.5
    assert border_gradient_ratio(image, **borders) > 1.3
    assert border_gradient_ratio(image, rows=[32, 96]) == pytest.approx(1, abs=0.15)


def test_peak_loss_is_the_loss_of_the_highest_pixel_nearby():
    before, after = np.ones((30, 30)), np.ones((30, 30))
    before[5, 7], after[6, 7] = 100, 10
    before[20, 0] = after[20, 0] = 50
    assert metrics.point_peak_loss_db(before, after, [(5, 7)]) == pytest.approx(10)
    assert metrics.point_peak_loss_db(before, after, [(20, 0)]) == pytest.approx(0)
    assert metrics.point_peak_loss_db(before, after, [(5, 7), (20, 0)]) == pytest.approx(5)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match=r"\(2, 3\) and \(3, 2\)"):
        metrics.rmse_db(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(UsageError, match=r"points = \[\[9, 0\]\]"):
        metrics.point_peak_loss_db(np.ones((3, 3)), np.ones((3, 3)), [(1, 1), (9, 0)])
