"""Scene statistics: simulated scenes of known speckle, and the real ones."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from sarstack.errors import UsageError
from sarstack.speckle.samples import sample_speckle
from sarstack.speckle.statistics import combine_samples, measure_scene
from sarstack.tiles import Shape, sample_windows

DATA = Path(__file__).parents[2] / "shared" / "data"
NEEDS_DATA = pytest.mark.skipif(not DATA.is_dir(), reason="real data not here")


def speckle(looks, correlation, shape, n_dates=1, seed=0):
    """Draw speckle of mean 1 whose correlation falls off as rho ** lag ** 2 along each axis."""
    rng = np.random.default_rng(seed)
    transfer = np.ones(shape)
    for axis, rho in enumerate(correlation):
        lag = np.fft.fftfreq(shape[axis]) * shape[axis]
        spectrum = np.fft.fft(np.sqrt(rho) ** (lag**2)).real
        transfer = transfer * np.expand_dims(np.sqrt(np.maximum(spectrum, 0)), 1 - axis)
    white = rng.normal(size=(n_dates, looks, *shape)) + 1j * rng.normal(
        size=(n_dates, looks, *shape)
    )
    field = np.fft.ifft2(np.fft.fft2(white) * transfer)
    return (np.abs(field) ** 2).mean(axis=1).astype(np.float32) / 2


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.45, 0.4), (0.7, 0.63)])
@pytest.mark.parametrize("looks", [1, 4, 12])
def test_looks_and_correlation_of_a_flat_scene_are_estimated(looks, correlation):
    (known,) = measure_scene(speckle(looks, correlation, (400, 380)))
    assert known.looks_source == "estimated"
    assert known.looks == pytest.approx(looks, rel=0.1)
    assert known.correlation == pytest.approx(correlation, abs=0.05)


def test_textured_land_is_not_taken_for_speckle():
    """One tenth of the scene is flat, the rest varies from pixel to pixel."""
    scene = speckle(4, (0.6, 0.6), (500, 500))
    texture = np.exp(np.random.default_rng(1).normal(0, 0.7, scene.shape[1:]))
    texture[:, 350:] = 1
    texture *= np.exp(np.linspace(0, 4, 500))
    (known,) = measure_scene(scene * texture.astype(np.float32))
    assert known.looks == pytest.approx(4, rel=0.2)
    assert known.correlation == pytest.approx((0.6, 0.6), abs=0.08)


@pytest.mark.parametrize(("looks", "correlation"), [(1, (0.4, 0.4)), (5, (0.2, 0.3))])
def test_dates_reveal_the_speckle_of_fully_textured_land(looks, correlation):
    texture = np.exp(np.random.default_rng(1).normal(0, 0.8, (120, 130)))
    block = speckle(looks, correlation, texture.shape, n_dates=5) * texture
    together, alone = measure_scene(block)[0], measure_scene(block[:1])[0]
    assert alone.looks < 0.8 * looks
    assert together.looks == pytest.approx(looks, rel=0.1)
    assert together.correlation == pytest.approx(correlation, abs=0.06)


def test_a_stack_has_one_number_of_looks_but_each_date_its_brightness():
    block = speckle(3, (0, 0), (150, 150), n_dates=3)
    block[1] *= 100
    first, second, third = measure_scene(block)
    assert first.looks == second.looks == third.looks
    assert second.bright == pytest.approx(100 * first.bright, rel=0.05)
    for date, known in zip(block, (first, second, third), strict=True):
        assert known.bright in date
        assert np.mean(date <= known.bright) == pytest.approx(0.98, abs=1e-3)


def test_a_factor_on_the_block_changes_only_its_brightness():
    block = speckle(3, (0.3, 0.3), (150, 150), n_dates=2)
    known, scaled = measure_scene(block), measure_scene(block * np.float32(2.0**-20))
    for a, b in zip(known, scaled, strict=True):
        assert (a.looks, a.correlation) == (b.looks, b.correlation)
        assert b.bright == a.bright * 2.0**-20


def test_statistics_from_pickled_samples_of_dates_equal_those_of_the_block():
    """Dates can be sampled one by one, in other processes."""
    block = speckle(4, (0.5, 0.4), (300, 520), n_dates=3)
    windows = sample_windows(Shape(300, 520))
    samples = [
        pickle.loads(pickle.dumps(sample_speckle(date[w.slices] for w in windows)))
        for date in block
    ]
    assert combine_samples(samples) == measure_scene(block)
    assert max(len(pickle.dumps(sample)) for sample in samples) < 600_000


def test_order_of_windows_does_not_matter():
    block = speckle(4, (0.5, 0.4), (300, 520), n_dates=2)
    windows = sample_windows(Shape(300, 520))
    forward, backward = (
        combine_samples([sample_speckle([d[w.slices] for w in order]) for d in block])
        for order in (windows, windows[::-1])
    )
    for a, b in zip(forward, backward, strict=True):
        assert b.looks == pytest.approx(a.looks, rel=1e-12)
        assert b.correlation == pytest.approx(a.correlation, rel=1e-12)
        assert b.bright == a.bright


def test_nodata_does_not_change_estimated_looks():
    block = speckle(4, (0.3, 0.3), (400, 400))
    block[:, :200, :150] = np.nan
    block[:, 250:260] = np.nan
    (known,) = measure_scene(block)
    assert known.looks == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("shape", [(0, 5, 5), (2, 1, 1), (1, 24, 900), (3, 60, 60)])
def test_too_little_to_measure_gives_the_nominal_looks(shape):
    for known in measure_scene(np.ones(shape, np.float32)):
        assert (known.looks, known.correlation) == (4.4, (0.0, 0.0))
        assert known.looks_source == "nominal"
        assert known.bright == 1


def test_a_block_without_valid_pixels_has_nominal_statistics():
    (known,) = measure_scene(np.full((1, 200, 200), np.nan, np.float32))
    assert known.looks_source == "nominal"
    assert known.bright == np.inf


def test_given_looks_are_used_with_the_measured_correlation():
    block = speckle(4, (0.6, 0.6), (300, 300))
    (known,) = measure_scene(block, looks=7)
    assert (known.looks, known.looks_source) == (7.0, "given")
    assert known.correlation == pytest.approx((0.6, 0.6), abs=0.05)
    with pytest.raises(UsageError, match="looks = -1"):
        measure_scene(block, looks=-1)


def test_looks_of_the_product_replace_an_estimate_and_give_way_to_the_user():
    block = speckle(4, (0.6, 0.6), (300, 300))
    sample = sample_speckle([block[0][w.slices] for w in sample_windows(Shape(300, 300))])
    (told,) = combine_samples([sample], product_looks=6.5)
    assert (told.looks, told.looks_source) == (6.5, "product")
    assert told.sensor == (6.5, *told.correlation)
    (given,) = combine_samples([sample], looks=3, product_looks=6.5)
    assert (given.looks, given.looks_source) == (3.0, "given")


def read_dates(pattern):
    rasterio = pytest.importorskip("rasterio")
    images = []
    for path in sorted(DATA.glob(pattern)):
        with rasterio.open(path) as raster:
            images.append(raster.read(1))
    return np.stack(images)


@NEEDS_DATA
def test_real_single_look_amplitudes():
    paths = sorted(DATA.glob("stacks/s1slc-amplitude-5date/**/marais1_?.npy"))
    block = np.stack([np.load(path).astype(np.float64) ** 2 for path in paths])
    known = measure_scene(block)[0]
    assert known.looks == pytest.approx(1, abs=0.15)
    assert known.correlation == pytest.approx((0.4, 0.4), abs=0.1)


@NEEDS_DATA
def test_real_stack_of_30_m_with_mostly_nodata():
    known = measure_scene(read_dates("stacks/opera-rtc-10date-nodata/*.tif"))[0]
    assert known.looks == pytest.approx(7.5, rel=0.1)
    assert known.correlation == pytest.approx((0, 0), abs=0.05)


@NEEDS_DATA
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_real_scenes_of_10_m_are_strongly_correlated():
    decibels = read_dates("scenes/rtc-5sites-db/*.tif")
    for known in (measure_scene(10 ** (image[None] / 10))[0] for image in decibels):
        assert 3 < known.looks < 7
        assert known.correlation == pytest.approx((0.72, 0.72), abs=0.1)
