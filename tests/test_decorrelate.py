"""The decorrelator: flat spectrum inside a known band, mean and points kept, tiles exact."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `rio`
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import sarstack
from sarstack.errors import SarstackWarning, UsageError
from sarstack.speckle.complex_fields import NODATA, to_power
from sarstack.speckle.decorrelate import Decorrelator, fit_decorrelator
from sarstack.speckle.point_targets import fade_around, find_points
from sarstack.speckle.resample import resample_window, resampled_length, source_window
from sarstack.speckle.system_response import measure_response
from sarstack.tiles import Shape, Window, sample_windows, tile_grid

# Parts of the sampling rate that the band takes, along y and x, and its centre.
BAND, CENTRE = (0.67, 0.88), (0.13, -0.04)
SHAPE = (512, 640)


def draw_field(
    seed: int,
    shape: tuple[int, int] = SHAPE,
    *,
    reflectivity: Any = 1.0,
    points: Any = 0.0,
    centre: tuple[float, float] = CENTRE,
    taper: float = 0.75,
) -> NDArray[np.complex64]:
    """The model: z = h * (sqrt(x) g + a) with a Hamming window over a shifted band."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(2, *shape)) / np.sqrt(2)
    white = np.sqrt(reflectivity) * (parts[0] + 1j * parts[1]) + points
    response: Any = 1.0
    for n, width, middle in zip(shape, BAND, centre, strict=True):
        frequency = (np.fft.fftfreq(n) - middle + 0.5) % 1 - 0.5
        window = taper + (1 - taper) * np.cos(2 * np.pi * frequency / width)
        window[np.abs(frequency) > width / 2] = 0
        response = np.multiply.outer(response, window / np.sqrt(np.mean(window**2)))
    return np.fft.ifft2(np.fft.fft2(white) * response).astype(np.complex64)


def design(numbers: NDArray[np.complex64]) -> Decorrelator:
    return fit_decorrelator([numbers[w.slices] for w in sample_windows(Shape(*numbers.shape))])


def correlation(numbers: NDArray[Any], axis: int, lag: int = 1) -> float:
    along = np.moveaxis(numbers, axis, 0)
    products = along[lag:] * along[:-lag].conj()
    return float(np.abs(np.nanmean(products)) / np.nanmean(np.abs(along) ** 2))


def resample(
    numbers: NDArray[np.complex64], decorrelator: Decorrelator, window: Window | None = None
) -> NDArray[np.complex64]:
    scene, widths = Shape(*numbers.shape), decorrelator.bandwidths
    size = Shape(*(resampled_length(n, b) for n, b in zip(scene, widths, strict=True)))
    window = window or Window(0, size.y, 0, size.x)
    outer = source_window(window, scene, widths)
    return resample_window(numbers[outer.slices], outer, window, widths)


@pytest.fixture(scope="module")
def field() -> NDArray[np.complex64]:
    return draw_field(1)


@pytest.fixture(scope="module")
def decorrelator(field: NDArray[np.complex64]) -> Decorrelator:
    return design(field)


def test_the_spectrum_is_measured(decorrelator: Decorrelator) -> None:
    for axis, width, centre in zip((decorrelator.y, decorrelator.x), BAND, CENTRE, strict=True):
        assert axis.centre == pytest.approx(centre, abs=0.003)
        assert axis.bandwidth == pytest.approx(width, abs=0.015)


def test_speckle_becomes_white_inside_its_band(
    field: NDArray[np.complex64], decorrelator: Decorrelator
) -> None:
    white = decorrelator.apply(field)
    for axis, width in enumerate(BAND):
        assert correlation(field, axis) > abs(np.sinc(width)) + 0.15
        for lag in (1, 2, 3):
            wanted = abs(np.sinc(width * lag))
            assert correlation(white, axis, lag) == pytest.approx(wanted, abs=0.025)
    # Intensity: the square.
    power = to_power(white)
    contrast = power / power.mean() - 1
    found = (contrast[1:] * contrast[:-1]).mean() / contrast.var()
    assert found == pytest.approx(np.sinc(BAND[0]) ** 2, abs=0.03)
    assert power.mean() == pytest.approx(to_power(field).mean(), rel=0.005)
    assert power.mean() ** 2 / power.var() == pytest.approx(1, abs=0.03)


def test_resampled_speckle_is_white(
    field: NDArray[np.complex64], decorrelator: Decorrelator
) -> None:
    white = resample(decorrelator.centre(decorrelator.apply(field)), decorrelator)
    assert_allclose(white.shape, np.multiply(SHAPE, BAND), rtol=0.03)
    assert max(correlation(white, axis, lag) for axis in (0, 1) for lag in (1, 2)) < 0.05
    assert to_power(white).mean() == pytest.approx(to_power(field).mean(), rel=0.005)


def test_texture_does_not_change_the_filter(decorrelator: Decorrelator) -> None:
    rng = np.random.default_rng(3)
    blocks = np.exp(rng.normal(0, 1.5, (16, 20)))
    textured = design(draw_field(4, reflectivity=np.kron(blocks, np.ones((32, 32)))))
    for found, expected in ((textured.y, decorrelator.y), (textured.x, decorrelator.x)):
        assert found.bandwidth == pytest.approx(expected.bandwidth, abs=0.015)
        assert_allclose(found.taps, expected.taps, atol=0.06)


def test_the_local_mean_is_kept() -> None:
    """Fields of 10 dB contrast: away from their borders, each keeps its mean."""
    reflectivity = np.where(np.arange(SHAPE[1]) < 320, 1.0, 10.0) * np.ones(SHAPE)
    fields = [draw_field(seed, reflectivity=reflectivity) for seed in range(3)]
    before, after = (np.stack([to_power(z) for z in stack]) for stack in (
        fields, [design(z).apply(z) for z in fields]))  # fmt: skip
    for columns in (slice(20, 290), slice(350, 620)):
        means = [power[:, 20:-20, columns].mean(dtype=float) for power in (before, after)]
        assert means[1] == pytest.approx(means[0], rel=0.01)


def test_points_keep_their_values_and_have_no_dark_rim() -> None:
    points = np.zeros(SHAPE, complex)
    places = [(y, x) for y in range(40, 480, 60) for x in range(40, 600, 60)]
    points[tuple(np.transpose(places))] = 40
    field = draw_field(5, points=points)
    found = design(field)
    white = found.apply(field)
    core = find_points(to_power(field))
    assert all(core[place] for place in places)
    assert_array_equal(white[core], field[core])
    # The ring beside the points, in the mean over all points.
    rim = (fade_around(core) > 0) & ~core
    assert to_power(white)[rim].mean() == pytest.approx(to_power(field)[rim].mean(), rel=0.2)
    assert found.y.bandwidth == pytest.approx(BAND[0], abs=0.02)


def make_holes(field: NDArray[np.complex64]) -> NDArray[np.complex64]:
    holed = field.copy()
    holed[100:140, 200:330] = NODATA
    holed[:7] = NODATA
    holed[np.random.default_rng(0).random(field.shape) < 0.002] = NODATA
    holed[300, 50] = 60
    return holed


def test_nodata_stays_and_has_no_dark_rim(
    field: NDArray[np.complex64], decorrelator: Decorrelator
) -> None:
    rims = []
    for seed in range(4):
        holed = make_holes(draw_field(seed))
        white = decorrelator.apply(holed)
        missing = np.isnan(holed)
        assert_array_equal(np.isnan(white.real), missing)
        assert_array_equal(np.isnan(white.imag), missing)
        rim = np.s_[95:100, 200:330]
        rims.append([np.nanmean(to_power(z)[rim]) for z in (holed, white)])
    before, after = np.mean(rims, axis=0)
    assert after == pytest.approx(before, rel=0.05)
    assert design(make_holes(field)).x.bandwidth == pytest.approx(BAND[1], abs=0.02)


@pytest.mark.parametrize("size", [61, 200])
def test_tiles_give_the_pixels_of_the_whole_image(
    field: NDArray[np.complex64], decorrelator: Decorrelator, size: int
) -> None:
    holed = make_holes(field)
    whole = decorrelator.apply(holed)
    centred = decorrelator.centre(whole)
    small = resample(centred, decorrelator)
    scene = Shape(*holed.shape)
    for window in (tile.window for tile in tile_grid(scene, size)):
        outer = window.expand(decorrelator.halo, scene)
        tile = decorrelator.apply(holed[outer.slices], (outer.y0, outer.x0))
        assert_allclose(tile[window.slices_in(outer)], whole[window.slices], rtol=0, atol=2e-6)
    for window in (tile.window for tile in tile_grid(Shape(*small.shape), size)):
        tile = resample(centred, decorrelator, window)
        assert_allclose(tile, small[window.slices], rtol=0, atol=2e-6)


def test_a_factor_on_the_numbers_is_a_factor_on_the_result(
    field: NDArray[np.complex64], decorrelator: Decorrelator
) -> None:
    holed = make_holes(field)
    expected = decorrelator.apply(holed)
    for factor in (1e-3, 1e4):
        scaled = (holed * np.float32(factor)).astype(np.complex64)
        found = design(scaled)
        assert_allclose(found.x.taps, design(holed).x.taps, atol=1e-4)
        assert_allclose(decorrelator.apply(scaled) / factor, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 3), (17, 40)])
def test_any_size_works(decorrelator: Decorrelator, shape: tuple[int, int]) -> None:
    field = draw_field(2)[: shape[0], : shape[1]]
    assert np.isfinite(decorrelator.apply(field)).all()
    assert np.isfinite(resample(field, decorrelator)).all()
    assert np.isnan(decorrelator.apply(np.full(shape, NODATA, np.complex64))).all()


def test_white_speckle_stays_as_it_is() -> None:
    rng = np.random.default_rng(8)
    white = rng.normal(size=(2, 256, 256)).astype(np.float32)
    numbers = (white[0] + 1j * white[1]).astype(np.complex64)
    found = design(numbers)
    assert found.bandwidths == (1, 1)
    assert correlation(found.apply(numbers), 0) < 0.02


def test_too_few_pixels_are_refused(field: NDArray[np.complex64]) -> None:
    with pytest.raises(UsageError, match="spectrum"):
        measure_response([field[:20, :30]])


# ---- sarstack.decorrelate --------------------------------------------------------------------


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize("chunks", [(200, 250), (10, 640)])
def test_dask_arrays_give_the_result_of_numpy(
    field: NDArray[np.complex64], resampled: bool, chunks: tuple[int, int]
) -> None:
    holed = make_holes(field)
    expected = sarstack.decorrelate(holed, resample=resampled)
    lazy = sarstack.decorrelate(da.from_array(holed, chunks=chunks), resample=resampled)
    assert isinstance(lazy, da.Array)
    assert lazy.shape == expected.shape
    assert_allclose(lazy.compute(), expected, rtol=0, atol=2e-6)
    if not resampled:
        assert_array_equal(expected, design(holed).apply(holed))


def test_an_xarray_keeps_dims_coordinates_and_its_place(field: NDArray[np.complex64]) -> None:
    times = np.datetime64("2022-09-18T07:49", "ns") + np.arange(SHAPE[0]) * np.timedelta64(2, "ms")
    place = {"GeoTransform": "400000.0 10.0 0.0 5000000.0 0.0 -10.0"}
    image = xr.DataArray(
        field.T, dims=("x", "y"), name="vv", attrs={"orbit": 5},
        coords={"x": 4e5 + 5 + 10.0 * np.arange(SHAPE[1]), "time": ("y", times),
                "spatial_ref": ((), 0, place), "y": 5e6 - 5 - 10.0 * np.arange(SHAPE[0]),
                "latitude": (("y", "x"), np.zeros(SHAPE))},
    )  # fmt: skip
    same = sarstack.decorrelate(image)
    assert_array_equal(same.values, sarstack.decorrelate(field).T)
    xr.testing.assert_identical(same.copy(data=image.values), image)
    small = sarstack.decorrelate(image, resample=True)
    assert small.dims == ("x", "y")
    assert small.attrs == {"orbit": 5}
    assert "latitude" not in small.coords
    # A pixel lies where its transform and its coordinates say, and both cover the same ground.
    affine = small.rio.transform(recalc=False)
    x, y = affine * (0.5, 0.5)
    assert_allclose((small.x[0], small.y[0]), (x, y))
    assert_allclose(affine.a * small.sizes["x"], 10 * SHAPE[1], rtol=0.01)
    spacing = np.diff(small.time.values).astype(float)
    assert_allclose(spacing, 2e6 / design(field).bandwidths[0], rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((50, 60), np.float32),
        np.ones((2, 50, 60), np.complex64),
        xr.DataArray(np.ones((50, 60), np.complex64), dims=("a", "b")),
        [1, 2],
    ],
    ids=["real", "two images", "other dimensions", "list"],
)
def test_what_is_no_complex_image_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="cannot be decorrelated"):
        sarstack.decorrelate(wrong)


def test_a_doppler_ramp_is_told_and_a_real_image_is_refused(field: NDArray[np.complex64]) -> None:
    chirp = np.exp(1j * np.pi * 2e-3 * np.arange(SHAPE[0]) ** 2)[:, np.newaxis]
    with pytest.warns(SarstackWarning, match="not symmetric"):
        sarstack.decorrelate(field * chirp)
    with pytest.raises(UsageError, match="different powers"):
        sarstack.decorrelate(field.real.astype(np.complex64))
