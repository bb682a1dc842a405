"""Parts of single look complex images: independent of each other if the spectrum is centred."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.errors import UsageError
from sarstack.speckle.complex_parts import (
    PART_LOOKS,
    check_powers,
    describe_asymmetry,
    describe_part,
    find_asymmetry,
    split_parts,
)
from sarstack.speckle.landscapes import Reflectivity
from sarstack.speckle.laws import moment_looks
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics

SENTINEL_1 = SpeckleSimulator(1.0, (0.25, 0.36))
NODATA = complex(np.nan, np.nan)


def draw_field(simulator=SENTINEL_1, shape=(300, 320), seed=0):
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    return simulator.observe_field(flat, np.random.default_rng(seed))


def move_spectrum(field, frequency):
    """Move the spectrum along x, in cycles per pixel."""
    return (field * np.exp(2j * np.pi * frequency * np.arange(field.shape[1]))).astype(np.complex64)


def correlate(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_the_mean_of_both_parts_is_the_intensity_and_each_has_half_a_look():
    field = draw_field()
    parts = split_parts(field)
    assert_allclose((parts[0] + parts[1]) / 2, np.abs(field) ** 2, rtol=1e-5)
    for part in parts:
        assert part.dtype == np.float32
        assert part.mean() == pytest.approx(1, abs=0.03)
        assert moment_looks(part) == pytest.approx(PART_LOOKS, rel=0.06)


def test_nodata_in_one_part_is_nodata_in_both():
    field = draw_field(shape=(8, 9))
    field[2, 3], field[4, 5] = NODATA, complex(1, np.nan)
    for part in split_parts(field):
        assert_array_equal(np.isnan(part), ~np.isfinite(field))


def test_parts_are_independent_only_if_the_spectrum_is_centred():
    field = draw_field()
    shifted = move_spectrum(field, 0.1)
    for image, limit in ((field, 0.015), (shifted, 1.0)):
        first, second = split_parts(image)
        at_lag_one = correlate(first[:, 1:], second[:, :-1])
        assert abs(correlate(first, second)) < 0.015
        assert abs(at_lag_one) < limit
        # The standard error of a correlation of 96,000 pixels is 0.003 to 0.006.
        assert find_asymmetry([image]) == pytest.approx(max(at_lag_one, 0), abs=0.015)
    assert find_asymmetry([field]) < 0.01
    assert find_asymmetry([shifted]) > 0.08


def test_a_frequency_that_changes_along_y_is_noticed():
    """As in bursts whose Doppler ramp was not removed: the mean over a window is near 0."""
    field = draw_field()
    row = np.arange(field.shape[0])[:, None]
    swept = (field * np.exp(1j * np.pi * 0.007 * row**2)).astype(np.complex64)
    assert find_asymmetry([swept]) > 0.05
    assert find_asymmetry([swept]) > 10 * find_asymmetry([field])


def test_a_warning_names_the_image_whose_parts_are_correlated():
    field = draw_field()
    assert describe_asymmetry([field], "a.tif") == ""
    text = describe_asymmetry([move_spectrum(field, 0.15)], "a.tif")
    assert text.startswith("a.tif: real and imaginary part are correlated (0.")
    assert "SAFE" in text


def test_white_images_and_images_without_data_are_symmetric():
    white = draw_field(SpeckleSimulator(1.0))
    for windows in ([white], [np.full((5, 5), NODATA)], [np.zeros((1, 1), np.complex64)], []):
        assert find_asymmetry(windows) < 0.003


@pytest.mark.parametrize(("source", "told"), [("given", True), ("estimated", False)])
def test_a_part_has_half_a_look_and_a_network_is_told_only_what_is_certain(source, told):
    part = describe_part(SceneStatistics(0.87, (0.2, 0.3), 2.0, source))
    assert (part.looks, part.correlation, part.bright) == (PART_LOOKS, (0.2, 0.3), 2.0)
    assert (part.sensor is not None) == told


def test_an_image_without_imaginary_part_is_refused():
    """Points, holes and coarse numbers are no reason to refuse."""
    field = draw_field()
    field[::40, ::40] = 1000
    field[:9] = np.nan
    check_powers([field], "a.tif")
    check_powers([np.round(field.real) + 1j * np.round(field.imag)], "a.tif")
    with pytest.raises(UsageError, match=r"a\.tif: .* different powers"):
        check_powers([field.real.astype(np.complex64)], "a.tif")
    check_powers([], "a.tif")
