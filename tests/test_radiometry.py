"""Linear, amplitude and decibel convert exactly, and are recognised from the values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarstack.readers.radiometry import (
    from_db,
    guess_scale,
    median_local_looks,
    scale_conflict,
    to_db,
    to_intensity,
)

LOOKS = 4.4


def speckle(mean, looks=LOOKS, shape=(200, 200), seed=0):
    return np.random.default_rng(seed).gamma(looks, mean / looks, shape)


@given(st.floats(1e-7, 1e7))
def test_decibel_and_back_gives_the_same_intensity(intensity):
    value = np.array([intensity], np.float32)
    np.testing.assert_allclose(from_db(to_db(value)), value, rtol=1e-5)


def test_decibel_of_zero_or_negative_intensity_is_nan_without_a_warning():
    with np.errstate(all="raise"):
        values_db = to_db(np.array([np.nan, 0.0, -0.01, 1.0, 10.0], np.float32))
    np.testing.assert_array_equal(values_db, np.array([np.nan, np.nan, np.nan, 0, 10], np.float32))
    assert values_db.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint16, np.int16])
@pytest.mark.parametrize("scale", ["linear", "amplitude", "db"])
def test_intensity_is_float32_and_never_zero_or_infinite(dtype, scale):
    stored = np.array([0, 1, 2, 3, 100], dtype)
    intensity = to_intensity(stored, scale)
    assert intensity.dtype == np.float32
    assert not np.any(intensity == 0)
    assert not np.any(np.isinf(intensity))
    if scale != "db":
        assert np.isnan(intensity[0])


def test_each_scale_of_the_same_scene_gives_the_same_intensity():
    scene = speckle(0.1).astype(np.float32)
    np.testing.assert_allclose(to_intensity(np.sqrt(scene), "amplitude"), scene, rtol=1e-6)
    np.testing.assert_allclose(to_intensity(10 * np.log10(scene), "db"), scene, rtol=2e-6)
    np.testing.assert_array_equal(to_intensity(scene, "linear"), scene)


def test_negative_intensity_stays_and_is_not_taken_for_decibel():
    scene = speckle(0.003) - 0.002
    assert (scene < 0).mean() > 0.1
    np.testing.assert_array_equal(to_intensity(scene, "linear"), scene.astype(np.float32))
    assert guess_scale(scene)[0] == "linear"
    assert scale_conflict(scene, "linear") == ""


@pytest.mark.parametrize("mean", [0.005, 0.02, 0.1, 0.5])
def test_calibrated_intensity_and_its_decibel_are_recognised(mean):
    scene = speckle(mean)
    assert guess_scale(scene)[0] == "linear"
    assert guess_scale(10 * np.log10(scene))[0] == "db"


@pytest.mark.parametrize(
    "numbers",
    [
        speckle(2e4),
        np.sqrt(speckle(2e4)),
        np.sqrt(speckle(2e4)).astype(np.uint16),
        np.ones((50, 50)),
        np.rint(10 * np.log10(speckle(0.1))),
        -0.3 * np.ones(100),
        np.full(100, np.nan),
        1e4 * np.log10(speckle(0.1)),
    ],
    ids=["dn2", "dn", "uint16", "whole", "whole-db", "neither", "empty", "scaled-db"],
)
def test_the_scale_of_ambiguous_numbers_is_not_guessed(numbers):
    scale, reason = guess_scale(numbers)
    assert scale is None
    assert reason


@pytest.mark.parametrize(
    ("numbers", "declared"),
    [
        (10 * np.log10(speckle(0.1)), "linear"),
        (10 * np.log10(speckle(0.1)), "amplitude"),
        (speckle(0.1), "db"),
        (speckle(2e4), "db"),
    ],
)
def test_numbers_contradict_a_wrong_scale(numbers, declared):
    assert scale_conflict(numbers, declared)


@pytest.mark.parametrize(
    ("numbers", "declared"),
    [
        (speckle(0.1), "linear"),
        (speckle(0.1), "amplitude"),
        (speckle(2e4), "linear"),
        (10 * np.log10(speckle(0.1)), "db"),
        (10 * np.log10(speckle(2e4)), "db"),
        (np.full(100, np.nan), "db"),
    ],
)
def test_numbers_do_not_contradict_their_true_scale(numbers, declared):
    assert scale_conflict(numbers, declared) == ""


def test_amplitude_taken_for_intensity_has_about_four_times_the_looks():
    scene = speckle(0.1)
    assert median_local_looks(scene) == pytest.approx(LOOKS, rel=0.15)
    assert median_local_looks(np.sqrt(scene)) > 3.5 * LOOKS
    assert np.isnan(median_local_looks(np.full((64, 64), np.nan)))
    assert np.isnan(median_local_looks(scene[:5, :7])), "no square fits"
