"""EOPF stores give the pixels of the SAFE product with the same numbers and tables."""

import json
import pickle
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from numcodecs import Blosc
from test_safe import SHAPE, despeckle_safe, simulate_numbers, simulate_old_numbers
from written_eopf import GROUP, LAYOUTS, write_eopf
from written_safe import grid_points, write_safe

from sarstack.errors import SarstackError, SarstackWarning, StackError, StackReadError, UsageError
from sarstack.readers import block_cache, index_stack
from sarstack.readers.block_cache import BlockCache
from sarstack.readers.blosc_parts import decode_part
from sarstack.readers.formats import eopf
from sarstack.readers.formats import zarr as plain
from sarstack.readers.sentinel1 import eopf_raster
from sarstack.tiles import Shape, Window, order_in_row_pairs, tile_grid
from sarstack.workflows.fingerprint import fingerprint
from sarstack.workflows.info import describe_stack

WHOLE = Window(0, SHAPE[0], 0, SHAPE[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A SAFE product whose tables an EOPF store can hold exactly."""
    numbers = {"vv": simulate_numbers(1), "vh": simulate_numbers(2, mean=60)}
    return write_safe(tmp_path_factory.mktemp("safe"), numbers, one_axis=True)


@pytest.fixture(scope="module")
def stores(written, tmp_path_factory):
    """The store of this product in each layout, not to be changed."""
    return {a: write_eopf(tmp_path_factory.mktemp(a), written, layout=a) for a in LAYOUTS}


@pytest.fixture
def copy(stores, tmp_path):
    """Return a function that copies a store, to be changed by the test."""

    def copy_store(layout="complete", to="."):
        path = stores[layout]
        return Path(shutil.copytree(path, tmp_path / to / path.name))

    return copy_store


@pytest.mark.parametrize(
    ("layout", "calibration"),
    [("complete", "sigma0"), ("complete", "beta0"), ("holes", "dn"), ("axis", "gamma0")],
)
def test_calibrated_pixels_equal_those_of_the_safe_product(written, stores, layout, calibration):
    path = stores[layout]
    expected = index_stack(written.path, calibration=calibration)
    stack = index_stack(path, calibration=calibration)
    assert stack.polarisations == ("vv", "vh")
    assert stack.calibration == expected.calibration
    for pol in ("vv", "vh"):
        raster = pickle.loads(pickle.dumps(stack.rasters[pol][0]))
        pixels = expected.rasters[pol][0].read(WHOLE)
        np.testing.assert_array_equal(raster.read(WHOLE), pixels)
        part = Window(30, 61, 3, 60)
        np.testing.assert_array_equal(raster.read(part), pixels[part.slices])


@pytest.mark.parametrize("layout", ["complete", "axis"])
def test_noise_is_that_of_the_safe_product(written, stores, layout):
    path = stores[layout]
    flat = np.full(SHAPE, 0.02, np.float32)
    for pol in ("vv", "vh"):
        one, other = (
            index_stack(p, remove_noise=True).rasters[pol][0].subtract_noise(flat, WHOLE)
            for p in (written.path, path)
        )
        assert np.ptp(one) > 0
        np.testing.assert_allclose(other, one, rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_time_platform_orbit_and_points_are_kept(stores, layout):
    stack = index_stack(stores[layout])
    [date] = stack.dates
    assert date.timestamp == "2021-12-23T05:11:22Z"
    assert date.platform == "sentinel-1b"
    assert date.relative_orbit == 22  # by the formula of the absolute orbit if it is missing
    assert date.orbit_direction == ("" if layout == "holes" else "descending")
    points = [(p.row, p.column, p.x, p.y) for p in stack.grid.gcps]
    np.testing.assert_allclose(points, grid_points(SHAPE))
    text = describe_stack(stack).render()
    assert "9 ground control points" in text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_xarray_reads_the_same_digital_numbers(stores, layout):
    path = stores[layout]
    group = f"{GROUP}/measurements" if layout == "axis" else f"{GROUP}_VV/measurements"
    with xr.open_zarr(path, group=group, consolidated=layout != "axis") as dataset:
        image = dataset["grd"].sel(polarization="VV") if layout == "axis" else dataset["grd"]
        assert image.dims == ("azimuth_time", "ground_range")
        numbers = image.values.astype(np.float32)
    pixels = index_stack(path, calibration="dn").rasters["vv"][0].read(WHOLE)
    np.testing.assert_array_equal(pixels, np.where(numbers == 0, np.nan, numbers**2))


def test_results_equal_those_of_the_safe_product_and_keep_points_and_attributes(
    written, stores, tmp_path
):
    path = stores["complete"]
    one = despeckle_safe(written.path, tmp_path / "a", remove_noise=True)
    other = despeckle_safe(path, tmp_path / "b", remove_noise=True)
    np.testing.assert_allclose(other["pixels"], one["pixels"], rtol=1e-6)
    assert [(p.row, p.col, p.x, p.y) for p in other["gcps"][0]] == [
        (p.row, p.col, p.x, p.y) for p in one["gcps"][0]
    ]
    assert other["tags"]["THERMAL_NOISE"] == "subtracted"
    tags = other["tags"]
    assert (tags["CALIBRATION"], tags["PROCESSOR_VERSION"]) == ("sigma0", "3.40")
    assert (tags["sat_absolute_orbit"], tags["PRODUCT_NAME"]) == ("30148", path.stem)


def test_a_store_without_noise_opens_and_says_so_when_noise_shall_be_removed(stores):
    path = stores["holes"]
    index_stack(path)
    with pytest.raises(StackReadError, match="no table for thermal noise") as caught:
        index_stack(path, remove_noise=True)
    assert "--remove-noise" in caught.value.message()


def test_noise_that_was_subtracted_is_not_subtracted_again(copy):
    path = copy()
    group = zarr.open_group(path, mode="r+", use_consolidated=False)[f"{GROUP}_VV"]
    flag = {"processing_information": {"thermal_noise_correction_performed": True}}
    group.attrs["other_metadata"] = {"image_annotation": flag}
    zarr.consolidate_metadata(str(path))
    with pytest.raises(UsageError, match="already subtracted"):
        index_stack(path, remove_noise=True)


def test_a_single_polarisation_opens(copy):
    path = copy()
    shutil.rmtree(path / f"{GROUP}_VV")
    zarr.consolidate_metadata(str(path))
    assert index_stack(path).polarisations == ("vh",)


def test_edges_of_old_products_are_nodata_as_in_the_safe_product(tmp_path):
    numbers, border = simulate_old_numbers((260, 300))
    written = write_safe(tmp_path / "safe", numbers, one_axis=True, version="002.71")
    software = {"processing:software": {"Sentinel-1 IPF": "002.71"}}
    path = write_eopf(tmp_path, written, chunks=(150, 300), **software)
    one, other = (
        index_stack(p).rasters["vh"][0].read(Window(0, 260, 0, 300)) for p in (written.path, path)
    )
    np.testing.assert_array_equal(other, one)
    assert np.isnan(one[border]).all()


def damage_calibration(root):
    root[f"{GROUP}_VV/quality/calibration/sigma_nought"][1, 2] = -1


def damage_pixels(root):
    root[f"{GROUP}_VV/quality/calibration/pixel"][1:4] = [50, 20, 60]


def damage_lines(root):
    del root[f"{GROUP}_VV/quality/calibration/line"]
    del root[f"{GROUP}_VV/measurements/azimuth_time"]


def damage_ranges(root):
    """Only coordinates are left, and those of the tables are wrong, as in real stores."""
    del root[f"{GROUP}_VV/quality/calibration/pixel"]


def damage_group(root):
    del root[f"{GROUP}_VV/quality/calibration"]


@pytest.mark.parametrize(
    "damage",
    [damage_calibration, damage_pixels, damage_lines, damage_ranges, damage_group],
)
def test_tables_that_cannot_be_used_are_told_and_dn_still_opens(copy, damage):
    path = copy()
    damage(zarr.open_group(path, mode="r+", use_consolidated=False))
    zarr.consolidate_metadata(str(path))
    with pytest.raises(StackReadError, match="no table for sigma0") as caught:
        index_stack(path)
    assert "--calibration dn" in caught.value.message()
    index_stack(path, calibration="dn")


def test_missing_control_points_are_told(copy):
    path = copy()
    for pol in ("VV", "VH"):
        shutil.rmtree(path / f"{GROUP}_{pol}" / "conditions")
    zarr.consolidate_metadata(str(path))
    with pytest.warns(SarstackWarning, match="no place on the ground"):
        assert not index_stack(path).grid.is_georeferenced


def test_missing_chunks_are_damage_unless_the_store_declares_them_empty(copy):
    path = copy()
    (path / f"{GROUP}_VV" / "measurements" / "grd" / "1.0").unlink()
    with pytest.raises(StackReadError, match="1 of 2 chunks of VV are missing"):
        index_stack(path)
    path = copy("axis", to="axis")
    (path / GROUP / "measurements" / "grd" / "c" / "0" / "1" / "0").unlink()
    with pytest.warns(SarstackWarning, match="not written"):
        pixels = index_stack(path).rasters["vv"][0].read(WHOLE)
    assert np.isnan(pixels[40:]).all()
    assert not np.isnan(pixels[:40, 5:]).any()


def test_a_damaged_chunk_is_unreadable(copy):
    path = copy()
    chunk = path / f"{GROUP}_VV" / "measurements" / "grd" / "1.0"
    chunk.write_bytes(chunk.read_bytes()[:700])
    with pytest.raises(StackReadError, match="cannot be read"):
        index_stack(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("S1A_IW_SLC__1SDV_20211223T051122_20211223T051147_030148_039993_5371", "S01SIWSLC"),
        ("S1A_WV_OCN__2SSV_20211223T051122_20211223T051147_030148_039993_5371", "S01SWVOCN"),
        ("S2B_MSIL2A_20211223T051122_N0511_R122_T32TQM_20211223T122613", "S02MSIL2A"),
    ],
)
def test_other_products_are_refused_with_the_reason(tmp_path, name, kind):
    path = tmp_path / f"{name}.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs["stac_discovery"] = {"properties": {"product:type": kind}}
    root.create_array("measurements/x", shape=(4, 4), dtype="f4")
    with pytest.raises(StackError, match=kind) as caught:
        index_stack(path)
    assert "GRD" in caught.value.message()


def test_a_plain_store_is_no_product_and_opens_as_before(tmp_path):
    values = np.random.default_rng(0).gamma(4.4, 0.1, (2, 64, 64)).astype(np.float32)
    times = np.array(["2021-01-04", "2021-01-16"], "datetime64[ns]")
    dataset = xr.Dataset({"vv": (("time", "y", "x"), values)}, {"time": times})
    for version in (2, 3):
        path = tmp_path / f"plain{version}.zarr"
        dataset.to_zarr(path, zarr_format=version)
        assert not eopf.matches(str(path))
        assert plain.matches(str(path))
        assert index_stack(path).n_dates == 2
    assert eopf.matches(
        "https://host/S1A_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.zarr"
    )
    assert not eopf.matches("https://host/stack.zarr")


def test_several_stores_keep_their_own_grids(copy, tmp_path):
    first = copy(to="many")
    second = Path(shutil.copytree(first, first.with_name(first.name.replace("1223T", "1224T"))))
    root = zarr.open_group(second, mode="r+")
    for pol in ("VV", "VH"):
        times = root[f"{GROUP}_{pol}/measurements/azimuth_time"]
        times[:] = times[:] + 86_400_000_000  # a day later
    stack = index_stack(tmp_path / "many")
    assert [date.timestamp[:10] for date in stack.dates] == ["2021-12-23", "2021-12-24"]
    assert stack.grids == 2 * index_stack(first).grids
    assert not stack.is_coregistered


def test_a_moved_store_is_the_same_and_changed_tables_are_not(copy, tmp_path):
    path = copy()

    def identity(place):
        return fingerprint(index_stack(place).rasters["vv"][0].identity())

    before = identity(path)
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / path.name)
    assert identity(moved) == before
    table = zarr.open_group(moved, mode="r+")[f"{GROUP}_VV/quality/calibration/sigma_nought"]
    table[0, 0] = 700
    assert identity(moved) != before


def test_rows_of_full_width_chunks_are_decoded_about_once(tmp_path, monkeypatch):
    """A chunk is 11 tiles wide: without a cache of rows, each tile would decode all of it."""
    scene, tile_px, halo = Shape(800, 1300), 128, 8
    numbers = simulate_numbers(3, scene)
    written = write_safe(tmp_path / "safe", {"vv": numbers}, one_axis=True)
    path = write_eopf(tmp_path, written, chunks=(403, scene.x))
    cache, decoded = BlockCache(max_bytes=2**16), Counter()
    monkeypatch.setattr(block_cache, "CACHE", cache)
    decode_part = eopf_raster.decode_part

    def count(chunk, start, stop):
        decoded["bytes"] += stop - start
        return decode_part(chunk, start, stop)

    raster = index_stack(path, calibration="dn").rasters["vv"][0]
    monkeypatch.setattr(eopf_raster, "decode_part", count)
    for tile in order_in_row_pairs(tile_grid(scene, tile_px)):
        window = tile.window.expand(halo, scene)
        power = numbers[window.slices].astype(np.float32) ** 2
        expected = np.where(power == 0, np.nan, power)
        np.testing.assert_array_equal(raster.read(window), expected)
    assert decoded["bytes"] < 2.0 * numbers.nbytes  # bands of 128 rows, pairs of tiles of 256
    side = tile_px + 2 * halo
    assert cache.n_bytes <= cache.max_bytes <= raster.cache_bytes(Shape(side, side))
    needed = block_cache.sweep_bytes(scene, Shape(128, scene.x), 2, Shape(side, side))
    assert cache.max_bytes == needed < numbers.nbytes


def test_the_name_decides_the_time_if_the_store_has_another(copy):
    path = copy()
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    for pol in ("VV", "VH"):
        array = root[f"{GROUP}_{pol}/measurements/azimuth_time"]
        array.attrs["units"] = "microseconds since 1970-01-01 00:00:00"
    zarr.consolidate_metadata(str(path))
    assert index_stack(path).dates[0].timestamp == "2021-12-23T05:11:22Z"


def test_unreadable_metadata_is_no_product(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / ".zattrs").write_text("{")
    assert not eopf.matches(str(path))
    (path / ".zattrs").write_text(json.dumps([1]))
    assert not eopf.matches(str(path))
    with warnings.catch_warnings(), pytest.raises(SarstackError):
        index_stack(path)


@pytest.mark.parametrize("name", ["zarr.json", ".zmetadata", ".zattrs"])
@pytest.mark.parametrize(
    "text", ["1.5", "[1]", '{"attributes": 3}', '{"metadata": {".zattrs": "a"}}', "[" * 100_000]
)
def test_metadata_of_another_structure_is_no_product(tmp_path, name, text):
    (tmp_path / ".zgroup").write_text("{}")
    (tmp_path / name).write_text(text)
    assert not eopf.matches(str(tmp_path))


@pytest.mark.parametrize("codec", ["zstd", "lz4", "blosclz", "zlib"])
@pytest.mark.parametrize("n", [1, 900, 300_001])
def test_a_part_of_a_chunk_equals_that_part_of_its_data(codec, n):
    data = np.random.default_rng(0).gamma(4, 40, n).astype(np.uint16)
    whole = data.tobytes()
    for shuffle in (Blosc.NOSHUFFLE, Blosc.SHUFFLE, Blosc.BITSHUFFLE):
        for block_bytes in (0, 16384):
            chunk = Blosc(codec, 5, shuffle, block_bytes).encode(data)
            for start, stop in ((0, len(whole)), (0, 2), (len(whole) // 3, len(whole))):
                assert bytes(decode_part(chunk, start, stop)) == whole[start:stop]
    with pytest.raises(ValueError, match="truncated"):
        decode_part(chunk[:-1], 0, 2)
    with pytest.raises(ValueError, match="header"):
        decode_part(b"", 0, 2)
