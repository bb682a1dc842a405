"""SAFE SLC and complex GeoTIFF: intensity of complex numbers, and bursts that stay apart."""

import pickle

import numpy as np
import pytest
import rasterio
from test_safe import interpolate_plainly, noise_of_pixel
from written_images import write_tif
from written_safe import write_safe

from sarstack.errors import ScaleError, UsageError
from sarstack.readers import index_stack
from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.sentinel1.slc import split_bursts
from sarstack.tiles import Window
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig

N_BURSTS, LINES, SAMPLES = 3, 40, 90
SHAPE = (N_BURSTS * LINES, SAMPLES)
WHOLE = Window(0, SHAPE[0], 0, SHAPE[1])


def simulate_slc(seed, shape=SHAPE, amplitude=120.0):
    """Single-look speckle as whole numbers, also where the annotation says that it is invalid."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, amplitude / np.sqrt(2), (2, *shape)).round()
    numbers = (parts[0] + 1j * parts[1]).astype(np.complex64)
    numbers[7, 30:40] = 0
    return numbers


def make_bursts(top=5, bottom=4, left=6, right=8):
    """First and last valid sample of each line; the left edge of the second burst differs."""
    first, last = np.full((2, N_BURSTS, LINES), -1)
    for i in range(N_BURSTS):
        rows = slice(top, LINES - bottom)
        first[i, rows] = left + (3 if i == 1 else 0)
        last[i, rows] = SAMPLES - 1 - right
    return first, last


def find_valid(bursts):
    first, last = (edge.reshape(-1, 1) for edge in bursts)
    columns = np.arange(SAMPLES)
    return (first >= 0) & (columns >= first) & (columns <= last)


@pytest.fixture
def bursts():
    return make_bursts()


@pytest.fixture
def written(tmp_path, bursts):
    """An IW product: two sub-swaths with two polarisations each."""
    keys = ("iw1-vv", "iw2-vv", "iw1-vh", "iw2-vh")
    numbers = {key: simulate_slc(seed) for seed, key in enumerate(keys)}
    return write_safe(
        tmp_path / "slc", numbers, product_type="SLC", bursts=bursts, version="003.71"
    )


def test_each_sub_swath_is_an_image_of_its_own(written):
    stack = index_stack(written.path)
    assert stack.polarisations == ("vv", "vh")
    assert not stack.is_coregistered
    stems = [[raster.stem[:14] for raster in own] for own in map(stack.rasters.get, ("vv", "vh"))]
    assert stems == [["s1b-iw1-slc-vv", "s1b-iw2-slc-vv"], ["s1b-iw1-slc-vh", "s1b-iw2-slc-vh"]]
    text = describe_stack(stack).render()
    assert "single look complex in slant range" in text
    assert "3 bursts" in text


@pytest.mark.parametrize("calibration", ["sigma0", "beta0", "dn"])
def test_intensity_is_that_of_the_formula_where_samples_are_valid(written, bursts, calibration):
    stack = index_stack(written.path, calibration=calibration)
    names = {"sigma0": "sigmaNought", "beta0": "betaNought"}
    for date, swath in enumerate(("iw1", "iw2")):
        numbers = written.numbers[f"{swath}-vv"].astype(complex)
        expected = np.full(SHAPE, np.nan)
        for y, x in np.argwhere(find_valid(bursts) & (numbers != 0)):
            factor = 1.0
            if calibration != "dn":
                table = written.calibration[f"{swath}-vv"]
                factor = interpolate_plainly(table, y, x, names[calibration])
            expected[y, x] = abs(numbers[y, x]) ** 2 / factor**2
        raster = pickle.loads(pickle.dumps(stack.rasters["vv"][date]))
        pixels = raster.read(WHOLE)
        np.testing.assert_allclose(pixels, expected, rtol=2e-7)
        part = Window(33, 85, 4, 60)
        np.testing.assert_array_equal(raster.read(part), pixels[part.slices])


def test_complex_numbers_have_the_same_intensity_and_the_phase_of_the_file(written):
    raster = index_stack(written.path).rasters["vv"][0]
    window = Window(3, 50, 2, 70)
    numbers, pixels = read_complex(raster, window), raster.read(window)
    assert numbers.dtype == np.complex64
    np.testing.assert_array_equal(np.isnan(numbers), np.isnan(pixels))
    np.testing.assert_allclose(np.abs(numbers) ** 2, pixels, rtol=1e-6)
    valid = np.isfinite(pixels)
    stored = written.numbers["iw1-vv"][window.slices]
    np.testing.assert_allclose(np.angle(numbers[valid]), np.angle(stored[valid]), atol=1e-6)


def run(stack, output, **settings):
    settings = {"method": "boxcar", "polarisations": ["vv"], "workers": 1, **settings}
    outcome = despeckle(
        DespeckleConfig.make(stack=str(stack), output=str(output), keep_bits=23, **settings)
    )
    found = {}
    for path in outcome.outputs:
        with rasterio.open(path) as file:
            found[path.stem[4:7]] = file.read(1)
    return found


@pytest.mark.parametrize("gap", [9, 0], ids=["black lines between", "bursts that touch"])
def test_a_burst_does_not_see_its_neighbours(tmp_path, gap):
    """Oracle: the mean of a window around each pixel, of one burst alone."""
    bursts = make_bursts(top=gap // 2, bottom=gap - gap // 2)
    numbers = simulate_slc(1)
    numbers[LINES : 2 * LINES] *= 20
    written = write_safe(tmp_path / "slc", {"iw1-vv": numbers}, product_type="SLC", bursts=bursts)
    found = run(written.path, tmp_path / "out", calibration="dn", parameters={"window_px": 31})
    valid = find_valid(bursts) & (numbers != 0)
    scene = np.where(valid, np.abs(numbers.astype(complex)) ** 2, np.nan)
    for y, x in [(20, 40), (34, 50), (44, 30), (60, 45), (72, 20), (85, 60), (110, 45)]:
        first = y // LINES * LINES
        rows = slice(max(y - 15, first), min(y + 16, first + LINES))
        around = scene[rows, max(x - 15, 0) : x + 16]
        assert found["iw1"][y, x] == pytest.approx(np.nanmean(around), rel=1e-4)
    np.testing.assert_array_equal(np.isnan(found["iw1"]), ~valid)


def test_noise_is_that_of_the_table_without_places(written, tmp_path):
    kept = run(written.path, tmp_path / "kept", calibration="dn")["iw2"]
    removed = run(written.path, tmp_path / "removed", calibration="dn", remove_noise=True)["iw2"]
    for y, x in np.argwhere(np.isfinite(kept))[::50]:
        noise = noise_of_pixel(written, "iw2-vv", y, x, old=False)
        assert removed[y, x] == pytest.approx(max(kept[y, x] - noise, 0.01 * noise), rel=1e-5)


def test_a_stripmap_image_has_no_bursts(tmp_path):
    numbers = simulate_slc(3)
    written = write_safe(tmp_path, {"s3-hh": numbers}, product_type="SLC", mode="SM")
    [raster] = index_stack(written.path, calibration="dn").rasters["hh"]
    expected = np.where(numbers == 0, np.nan, np.abs(numbers.astype(complex)) ** 2)
    np.testing.assert_allclose(raster.read(WHOLE), expected, rtol=2e-7)
    assert [part for part, _ in split_bursts(raster, WHOLE)] == [WHOLE]


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_a_complex_image_is_used_as_intensity(tmp_path, dtype):
    numbers = simulate_slc(5)
    numbers[0, 0], numbers[0, 1], numbers[0, 2] = -5, -5 - 5j, -5 + 1j
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)}
    with rasterio.open(
        tmp_path / "a_20210304_vv.tif", "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1],
        count=1, dtype=dtype, nodata=-5, **place,
    ) as file:  # fmt: skip
        file.write(numbers, 1)
    stack = index_stack(tmp_path)
    expected = np.abs(numbers.astype(complex)) ** 2
    expected[(numbers == 0) | (numbers == -5) | (numbers == -5 - 5j)] = np.nan
    raster = pickle.loads(pickle.dumps(stack.rasters["vv"][0]))
    np.testing.assert_allclose(raster.read(WHOLE), expected, rtol=2e-7)
    found = read_complex(raster, Window(0, 9, 30, 50))
    valid = np.isfinite(found)
    np.testing.assert_array_equal(found[valid], numbers[0:9, 30:50][valid])
    np.testing.assert_array_equal(valid, np.isfinite(expected[0:9, 30:50]))
    assert stack.calibration == ""
    assert "used as intensity" in describe_stack(stack).render()


def test_a_scale_cannot_be_given_for_complex_numbers(tmp_path, written):
    write_tif(tmp_path / "a_20210304_vv.tif", simulate_slc(5))
    for stack in (tmp_path / "a_20210304_vv.tif", written.path):
        with pytest.raises(ScaleError, match="become linear intensity"):
            index_stack(stack, scale="amplitude")
        index_stack(stack, scale="linear")


def test_images_of_intensity_have_no_complex_numbers(tmp_path):
    write_tif(tmp_path / "a_20210304_vv.tif", np.abs(simulate_slc(5)) ** 2 / 1e5)
    raster = index_stack(tmp_path).rasters["vv"][0]
    with pytest.raises(UsageError, match="no complex numbers"):
        read_complex(raster, WHOLE)
