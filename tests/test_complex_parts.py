"""Parts of single look complex images: independent of each other if the spectrum is centred."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.speckle.complex_parts import (
    PART_LOOKS,
    centre_spectrum,
    describe_part,
    find_asymmetry,
    find_spectral_centre,
    split_parts,
)
from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.laws import moment_looks
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics

SENTINEL_1 = SpeckleSimulator(1.0, (0.25, 0.36))
NODATA = complex(np.nan, np.nan)


def draw_field(simulator=SENTINEL_1, shape=(300, 320), seed=0):
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    return simulator.observe_field(flat, np.random.default_rng(seed))


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
    shifted = centre_spectrum(field, (0.0, -0.1))
    for image, limit in ((field, 0.015), (shifted, 1.0)):
        first, second = split_parts(image)
        at_lag_one = correlate(first[:, 1:], second[:, :-1])
        assert abs(correlate(first, second)) < 0.015
        assert abs(at_lag_one) < limit
        # The standard error of a correlation of 96,000 pixels is 0.003 to 0.006.
        assert find_asymmetry([image]) == pytest.approx(max(at_lag_one, 0), abs=0.015)
    assert find_asymmetry([shifted]) > 0.08


@pytest.mark.parametrize("centre", [(0.1, -0.07), (-0.31, 0.0), (0.45, 0.2)])
def test_the_centre_is_found_in_a_landscape_with_strong_scatterers(centre):
    scene = simulate_reflectivity((256, 256), np.random.default_rng(3), "town")
    field = SENTINEL_1.observe_field(scene, np.random.default_rng(4))
    moved = centre_spectrum(field, (-centre[0], -centre[1]))
    moved[40:60, 30:] = NODATA
    windows = [moved[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    found = find_spectral_centre(windows)
    assert_allclose(found, centre, atol=0.015)
    back = centre_spectrum(moved, found)
    assert find_asymmetry([back[:128, :128], back[128:, 128:]]) < 0.005
    assert_array_equal(np.isnan(back), np.isnan(moved))
    assert_allclose(np.abs(back), np.abs(moved), rtol=1e-5)


def test_tiles_get_the_phase_of_the_whole_image():
    field, centre = draw_field(shape=(90, 70)), (0.123, -0.377)
    whole = centre_spectrum(field, centre)
    tile = centre_spectrum(field[40:, 13:], centre, origin=(40, 13))
    assert_allclose(tile, whole[40:, 13:], atol=1e-6)
    # A million rows further, the phase has the same precision.
    far = centre_spectrum(field, centre, origin=(1_000_000, 0))
    assert_allclose(far, whole * np.exp(-2j * np.pi * (0.123 * 1_000_000 % 1)), atol=1e-5)


def test_white_images_and_images_without_data_have_their_centre_at_zero():
    white = draw_field(SpeckleSimulator(1.0))
    for windows in ([white], [np.full((5, 5), NODATA)], [np.zeros((1, 1), np.complex64)], []):
        assert find_spectral_centre(windows) == (0.0, 0.0)
        assert find_asymmetry(windows) == 0


@pytest.mark.parametrize(("source", "told"), [("estimated", True), ("nominal", False)])
def test_a_network_is_told_half_a_look_unless_nothing_was_measured(source, told):
    part = describe_part(SceneStatistics(0.87, (0.2, 0.3), 2.0, source))
    assert (part.looks, part.correlation, part.bright) == (PART_LOOKS, (0.2, 0.3), 2.0)
    assert (part.sensor is not None) == told
