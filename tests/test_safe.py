"""Sentinel-1 SAFE GRD: calibrated as the formula says, whole or in parts, as folder or zip file."""

import pickle
import warnings

import numpy as np
import pytest
import rasterio
from written_images import speckle, write_tif
from written_safe import grid_points, write_safe, zip_safe

from sarstack.errors import (
    ResumeMismatchError,
    SarstackError,
    SarstackWarning,
    StackError,
    StackReadError,
    UsageError,
)
from sarstack.readers import index_stack
from sarstack.readers.formats import safe
from sarstack.tiles import Window
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.fingerprint import fingerprint
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig

SHAPE = (64, 90)


def simulate_numbers(seed=0, shape=SHAPE, mean=150.0):
    """Amplitudes of speckle with 4.4 looks, whole numbers; a border of zeros at the left."""
    rng = np.random.default_rng(seed)
    numbers = np.sqrt(rng.gamma(4.4, mean**2 / 4.4, shape)).round().clip(1).astype(np.uint16)
    numbers[:, :5] = 0
    return numbers


@pytest.fixture
def written(tmp_path):
    """A dual-polarisation product."""
    return write_safe(tmp_path, {"vv": simulate_numbers(1), "vh": simulate_numbers(2, mean=60)})


@pytest.mark.parametrize("form", ["folder", "zip", "manifest"])
def test_a_product_opens_with_its_polarisations_time_platform_and_orbit(written, form):
    path = {"folder": written.path, "manifest": written.path / "manifest.safe"}.get(form)
    stack = index_stack(path or zip_safe(written.path))
    [date] = stack.dates
    assert stack.polarisations == ("vv", "vh")
    assert date.timestamp == "2021-12-23T05:11:22Z"
    assert (date.platform, date.orbit_direction, date.relative_orbit) == (
        "sentinel-1b", "descending", 22
    )  # fmt: skip
    points = [(p.row, p.column, p.x, p.y) for p in stack.grid.gcps]
    np.testing.assert_allclose(points, grid_points(SHAPE))
    assert stack.grid.crs_name == "EPSG:4326"
    text = describe_stack(stack).render()
    assert "2021-12-23T05:11:22  sentinel-1b" in text
    assert "9 ground control points" in text


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_digital_numbers_are_squared_and_zeros_are_nodata(written, form):
    path = written.path if form == "folder" else zip_safe(written.path)
    stack = index_stack(path, calibration="dn")
    for pol, numbers in written.numbers.items():
        expected = np.where(numbers == 0, np.nan, numbers.astype(np.float32) ** 2)
        raster = pickle.loads(pickle.dumps(stack.rasters[pol][0]))
        np.testing.assert_array_equal(raster.read(Window(0, 64, 0, 90)), expected)
        part = raster.read(Window(30, 61, 3, 60))
        np.testing.assert_array_equal(part, expected[30:61, 3:60])


def test_pixels_without_points_get_those_of_the_annotation(tmp_path):
    stack = index_stack(write_safe(tmp_path, {"vv": simulate_numbers()}, gcps=False).path)
    points = [(p.row, p.column, p.x, p.y) for p in stack.grid.gcps]
    np.testing.assert_allclose(points, grid_points(SHAPE))


@pytest.mark.parametrize("platform", "ACD")
def test_all_platforms_and_modes_open(tmp_path, platform):
    written = write_safe(tmp_path, {"hh": simulate_numbers()}, platform=platform, mode="EW")
    stack = index_stack(written.path)
    assert stack.dates[0].platform == f"sentinel-1{platform.lower()}"
    assert stack.polarisations == ("hh",)


def test_a_folder_with_one_product_is_that_product(written):
    assert index_stack(written.path.parent).polarisations == ("vv", "vh")
    zip_safe(written.path)  # the download, left beside the unpacked folder
    assert index_stack(written.path.parent).rasters["vv"][0].path.endswith(".tiff")


def test_a_large_compressed_product_is_told_to_be_slow(written, monkeypatch):
    monkeypatch.setattr(safe, "LARGE_BYTES", 10_000)
    with pytest.warns(SarstackWarning, match="Unzip it"):
        index_stack(zip_safe(written.path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index_stack(written.path)


def test_a_missing_polarisation_is_told(written):
    next(written.path.glob("measurement/*-vh-*")).unlink()
    with pytest.warns(SarstackWarning, match="no measurement of IW VH"):
        assert index_stack(written.path).polarisations == ("vv",)


def test_products_without_images_are_refused(tmp_path):
    written = write_safe(tmp_path, {"vv": simulate_numbers()}, product_type="OCN")
    with pytest.raises(StackError, match="type OCN"):
        index_stack(written.path)


def damage_manifest(root):
    (root / "manifest.safe").unlink()


def damage_annotation(root):
    file = next(root.glob("annotation/*-vv-*.xml"))
    file.write_text(file.read_text()[:300])


def damage_size(root):
    file = next(root.glob("annotation/*-vv-*.xml"))
    file.write_text(file.read_text().replace("<numberOfLines>64", "<numberOfLines>65"))


def damage_pixels(root):
    file = next(root.glob("measurement/*-vv-*"))
    file.write_bytes(file.read_bytes()[:9000])


@pytest.mark.parametrize("damage", [damage_manifest, damage_annotation, damage_size, damage_pixels])
def test_damaged_products_are_unreadable(written, damage):
    damage(written.path)
    with warnings.catch_warnings(), pytest.raises(StackReadError, match="cannot be read"):
        index_stack(written.path)


def test_a_damaged_zip_file_is_unreadable(written):
    archive = zip_safe(written.path)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(SarstackError, match="cannot be read"):
        index_stack(archive)


ELEMENTS = {"sigma0": "sigmaNought", "beta0": "betaNought", "gamma0": "gamma"}


def interpolate_plainly(vectors, y, x, name):
    """The value of a look-up table at one pixel: linear in range, then linear in azimuth."""

    def in_range(pixels, values):
        right = next(i for i, p in enumerate(pixels) if p >= x)
        left = right if pixels[right] == x else right - 1
        if left == right:
            return float(values[left])
        part = (x - pixels[left]) / (pixels[right] - pixels[left])
        return (1 - part) * values[left] + part * values[right]

    below = max(i for i, (line, _, _) in enumerate(vectors[:-1]) if line <= y)
    (y0, p0, v0), (y1, p1, v1) = vectors[below], vectors[below + 1]
    part = (y - y0) / (y1 - y0)
    return (1 - part) * in_range(p0, v0[name]) + part * in_range(p1, v1[name])


@pytest.mark.parametrize("calibration", ELEMENTS)
def test_calibration_equals_the_formula_pixel_by_pixel(written, calibration):
    stack = index_stack(written.path, calibration=calibration)
    assert stack.calibration == calibration
    for pol, numbers in written.numbers.items():
        expected = np.full(SHAPE, np.nan)
        for y, x in np.argwhere(numbers > 0):
            factor = interpolate_plainly(written.calibration[pol], y, x, ELEMENTS[calibration])
            expected[y, x] = float(numbers[y, x]) ** 2 / factor**2
        pixels = stack.rasters[pol][0].read(Window(0, 64, 0, 90))
        np.testing.assert_allclose(pixels, expected, rtol=1.2e-7)


def test_calibrated_windows_are_parts_of_the_whole(written):
    raster = pickle.loads(pickle.dumps(index_stack(zip_safe(written.path)).rasters["vv"][0]))
    whole = raster.read(Window(0, 64, 0, 90))
    for window in (Window(0, 1, 0, 1), Window(40, 42, 1, 90), Window(30, 61, 3, 60)):
        np.testing.assert_array_equal(raster.read(window), whole[window.slices])


def test_sigma0_is_the_default_and_dn_is_not_calibrated(written):
    assert index_stack(written.path).calibration == "sigma0"
    stack = index_stack(written.path, calibration="dn")
    assert stack.calibration == ""


def test_a_product_without_tables_can_be_opened_as_digital_numbers(written):
    for file in written.path.glob("annotation/calibration/calibration-*"):
        file.unlink()
    with pytest.raises(StackReadError, match="no table for sigma0") as caught:
        index_stack(written.path)
    assert "--calibration dn" in caught.value.message()
    index_stack(written.path, calibration="dn")


DAMAGED_TABLES = {
    "a line that is no number": ("<line>21<", "<line>x<"),
    "no values": ("sigmaNought", "other"),
    "too many values": ("</sigmaNought>", " 1</sigmaNought>"),
    "a cut file": ("</calibration>", ""),
}


@pytest.mark.parametrize("damage", DAMAGED_TABLES.values(), ids=DAMAGED_TABLES)
def test_damaged_tables_are_told(written, damage):
    for file in written.path.glob("annotation/calibration/calibration-*"):
        file.write_text(file.read_text().replace(*damage))
    with pytest.raises(StackReadError, match="no table for sigma0"):
        index_stack(written.path)


def test_other_inputs_have_no_calibration_to_choose(tmp_path):
    write_tif(tmp_path / "a_20210304_vv.tif", speckle(0))
    with pytest.raises(UsageError, match="no SAFE or EOPF product"):
        index_stack(tmp_path, calibration="sigma0")


def despeckle_safe(path, output, calibration="sigma0", **settings):
    """Despeckle VV of a product; return pixels, tags and ground control points of the result."""
    config = DespeckleConfig.make(
        stack=str(path), output=str(output), method="boxcar", polarisations=["vv"], workers=1,
        calibration=calibration, keep_bits=23, **settings,
    )  # fmt: skip
    [result] = despeckle(config).outputs
    with rasterio.open(result) as file:
        return {"pixels": file.read(1), "tags": file.tags(), "gcps": file.gcps}


def noise_of_pixel(written, pol, y, x, *, old):
    """The noise power at one pixel, as in the specification of the product."""
    if old:
        return interpolate_plainly(written.noise[pol], y, x, "noise")
    vectors, blocks = written.noise[pol]
    [block] = [b for b in blocks if b[1] <= y <= b[3] and b[2] <= x <= b[4]]
    factor = np.interp(y, block[5], block[6])
    return factor * interpolate_plainly(vectors, y, x, "noise")


@pytest.mark.parametrize("calibration", ["gamma0", "dn"])
@pytest.mark.parametrize("old", [False, True], ids=["range and azimuth", "one list"])
def test_noise_is_subtracted_after_despeckling(tmp_path, old, calibration):
    version = "002.84" if old else "003.71"
    written = write_safe(tmp_path, {"vv": simulate_numbers()}, old_noise=old, version=version)
    results = {}
    for remove_noise in (False, True):
        results[remove_noise] = despeckle_safe(
            written.path, tmp_path / f"{remove_noise}", calibration, remove_noise=remove_noise
        )
    kept, removed = results[False], results[True]
    assert removed["tags"]["THERMAL_NOISE"] == "subtracted"
    assert "THERMAL_NOISE" not in kept["tags"]
    expected = np.full(SHAPE, np.nan)
    for y, x in np.argwhere(written.numbers["vv"] > 0):
        noise = noise_of_pixel(written, "vv", y, x, old=old)
        if calibration == "gamma0":
            noise /= interpolate_plainly(written.calibration["vv"], y, x, "gamma") ** 2
        expected[y, x] = max(kept["pixels"][y, x] - noise, 0.01 * noise)
    np.testing.assert_allclose(removed["pixels"], expected, rtol=1e-5)


def test_results_keep_points_time_and_the_mean(written, tmp_path):
    result = despeckle_safe(written.path, tmp_path / "out")
    points, crs = result["gcps"]
    np.testing.assert_allclose(
        [(p.row, p.col, p.x, p.y) for p in points], grid_points(SHAPE), atol=1e-9
    )
    assert crs.to_epsg() == 4326
    tags = result["tags"]
    assert tags["CALIBRATION"] == "sigma0"
    assert tags["ACQUISITION_DATETIME"] == "2021-12-23T05:11:22Z"
    assert (tags["PLATFORM"], tags["RELATIVE_ORBIT"]) == ("sentinel-1b", "22")
    assert tags["PRODUCT_NAME"] == written.path.stem
    assert (tags["PROCESSOR_VERSION"], tags["FREQUENCY_BAND"]) == ("3.40", "C")
    before = index_stack(written.path).rasters["vv"][0].read(Window(0, 64, 0, 90))
    np.testing.assert_array_equal(np.isnan(result["pixels"]), np.isnan(before))
    assert np.nanmean(result["pixels"]) == pytest.approx(np.nanmean(before), rel=0.01)


def test_another_calibration_is_not_taken_for_a_finished_result(written, tmp_path):
    despeckle_safe(written.path, tmp_path / "out", "sigma0")
    with pytest.raises(ResumeMismatchError):
        despeckle_safe(written.path, tmp_path / "out", "beta0")


@pytest.mark.parametrize(("cause", "old", "version", "flag"), [
    ("processor version 2.36", True, "002.36", "false"),
    ("already subtracted", False, "003.40", "true"),
])  # fmt: skip
def test_noise_that_cannot_be_subtracted_is_told(tmp_path, cause, old, version, flag):
    written = write_safe(
        tmp_path, {"vv": simulate_numbers()}, old_noise=old, version=version, noise_removed=flag
    )
    with pytest.raises(SarstackError, match=cause) as caught:
        index_stack(written.path, remove_noise=True)
    assert "--remove-noise" in caught.value.message()
    index_stack(written.path)


def simulate_old_numbers(shape=(700, 1300)):
    """VV with noise at three edges, and a dark VH; the truth: which pixels are border."""
    vv, vh = simulate_numbers(3, shape, mean=90), simulate_numbers(4, shape, mean=14)
    border = np.zeros(shape, bool)
    border[:, :96] = border[:, -48:] = border[:32] = True
    dark = np.random.default_rng(5).integers(0, 22, shape, dtype=np.uint16)
    vv[border], vh[border] = dark[border], dark[border]
    vv[300:340, 600:700] = 20  # a dark lake far from the edges
    return {"vv": vv, "vh": vh}, border


@pytest.mark.parametrize("version", ["002.36", "002.90"])
def test_noise_at_the_edges_of_old_products_is_nodata(tmp_path, version):
    numbers, border = simulate_old_numbers()
    written = write_safe(tmp_path, numbers, version=version)
    stack = index_stack(written.path, calibration="dn")
    for pol, own in numbers.items():
        masked = border if version < "002.90" else np.zeros_like(border)
        expected = np.where(masked | (own == 0), np.nan, own.astype(np.float32) ** 2)
        pixels = stack.rasters[pol][0].read(Window(0, 700, 0, 1300))
        np.testing.assert_array_equal(pixels, expected)


def test_a_window_does_not_change_which_edge_pixels_are_nodata(tmp_path):
    written = write_safe(tmp_path, simulate_old_numbers()[0], version="002.36")
    raster = index_stack(zip_safe(written.path)).rasters["vh"][0]
    whole = raster.read(Window(0, 700, 0, 1300))
    for window in (Window(0, 5, 0, 9), Window(20, 700, 90, 100), Window(511, 600, 1290, 1300)):
        np.testing.assert_array_equal(raster.read(window), whole[window.slices])


def test_a_moved_product_is_the_same_and_changed_tables_are_not(written, tmp_path):
    def identity(path):
        return fingerprint(index_stack(path).rasters["vv"][0].identity())

    before = identity(written.path)
    moved = tmp_path / "elsewhere" / written.path.name
    moved.parent.mkdir()
    written.path.rename(moved)
    assert identity(moved) == before
    table = next(moved.glob("annotation/calibration/calibration-*-vv-*"))
    table.write_text(table.read_text().replace("<line>21<", "<line>22<"))
    assert identity(moved) != before
