"""Stacks on disk: every convention opens to the truth that was written, every fault is told."""

import pickle
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

from sarstack.errors import (
    GridMismatchError,
    SarstackWarning,
    ScaleError,
    StackError,
    StackReadError,
    UsageError,
)
from sarstack.readers import index_stack, open_stack
from sarstack.readers.cube import build_cube
from sarstack.readers.grid import Grid
from sarstack.readers.selection import select_part
from sarstack.tiles import Shape, Window
from sarstack.workflows.info import describe_stack

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="real data are not here")

SHAPE = (96, 80)
PLACE = Affine(10, 0, 500000, 0, -10, 5000000)


def speckle(seed=0, mean=0.1, shape=SHAPE):
    scene = np.random.default_rng(seed).gamma(4.4, mean / 4.4, shape)
    return scene.astype(np.float32)


def write_tif(path, bands, *, crs="EPSG:32632", transform=PLACE, names=(), tags=None, **profile):
    bands = np.asarray(bands)
    bands = bands[None] if bands.ndim == 2 else bands
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "dtype": bands.dtype.name, "crs": crs, **profile}
    if transform is not None:
        profile["transform"] = transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as out:
            out.update_tags(**(tags or {}))
            for i, name in enumerate(names, 1):
                out.set_band_description(i, name)
            out.write(bands)
    return path


def whole(stack, polarisation="vv", date=0):
    raster = stack.rasters[polarisation][date]
    return raster.read(Window(0, raster.shape.y, 0, raster.shape.x))


@pytest.fixture
def plain(tmp_path):
    """Three dates, VV and VH, and the truth."""
    truth = {}
    for i, day in enumerate(("20210104", "20210116", "20210128")):
        for polarisation in ("vv", "vh"):
            scene = speckle(10 * i + len(truth), 0.1 if polarisation == "vv" else 0.02)
            write_tif(tmp_path / f"farm_{day}T053412_{polarisation}.tif", scene)
            truth[polarisation, i] = scene
    return tmp_path, truth


CONVENTIONS = {
    "opera": (
        "OPERA_L2_RTC-S1_T137-292318-IW1_2021{m}04T015854Z_20250830T120333Z_S1A_30_v1.0_{P}.tif",
        ["OPERA_L2_RTC-S1_T137-292318-IW1_20210104T015854Z_20250830T120333Z_S1A_30_v1.0_mask.tif"],
    ),
    "hyp3": (
        "S1A_IW_2021{m}04T053020_DVP_RTC30_G_gpuned_AB1{d}_{P}.tif",
        ["S1A_IW_20210104T053020_DVP_RTC30_G_gpuned_AB11_" + s + ".tif"
         for s in ("inc_map", "ls_map", "rgb", "dem", "area")],
    ),
    "planetary computer": (
        "S1A_IW_GRDH_1SDV_2021{m}04T053030_2021{m}04T053055_041265_04E7A3_rtc_{p}.tif", [],
    ),
    "s1tiling": (
        "s1a_33NWB_{p}_DES_007_2021{m}04t044150_GammaNaughtRTC.tif",
        ["s1a_33NWB_vv_DES_007_20210104t044150_BorderMask.tif"],
    ),
    "pyrosar": ("S1A__IW___A_2021{m}04T173017_{P}_gamma0-rtc.tif", []),
    "alos": ("ALOS2_2021{m}04_{Q}.tif", []),
    "plain": ("my farm é_2021{m}04_{p}.tif", []),
}  # fmt: skip


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_opens_to_the_written_pixels(tmp_path, convention):
    pattern, companions = CONVENTIONS[convention]
    truth = {}
    for month in (2, 1, 3):
        for p, q in (("vv", "hh"), ("vh", "hv")):
            name = pattern.format(m=f"{month:02}", d=month, p=p, P=p.upper(), Q=q.upper())
            truth[q if convention == "alos" else p, month - 1] = scene = speckle(month)
            write_tif(tmp_path / name, scene)
    for name in companions:
        write_tif(tmp_path / name, np.ones((3, 5), np.uint8))
    (tmp_path / "deeper").mkdir()
    write_tif(tmp_path / "deeper" / "x_20210104_vv.tif", speckle())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = index_stack(tmp_path)
    assert stack.polarisations == (("hh", "hv") if convention == "alos" else ("vv", "vh"))
    assert [str(d.time)[:10] for d in stack.dates] == ["2021-01-04", "2021-02-04", "2021-03-04"]
    for (polarisation, date), scene in truth.items():
        np.testing.assert_array_equal(whole(stack, polarisation, date), scene)


def test_the_cube_is_lazy_georeferenced_and_equal_to_the_files(plain):
    folder, truth = plain
    cube = open_stack(folder, chunk_px=32)
    assert cube.vv.dims == ("time", "y", "x")
    assert cube.vv.chunks == ((1, 1, 1), (32, 32, 32), (32, 32, 16))
    assert cube.vv.dtype == np.float32
    assert cube.rio.crs.to_epsg() == 32632
    assert cube.rio.transform() == PLACE
    assert cube.x.values[0] == 500005
    assert cube.y.values[0] == 4999995
    assert cube.time.dtype == "datetime64[ns]"
    assert str(cube.time.values[0])[:19] == "2021-01-04T05:34:12"
    computed = cube.compute()
    for (polarisation, date), scene in truth.items():
        np.testing.assert_array_equal(computed[polarisation][date], scene)


def test_the_cube_knows_its_orbits_and_platforms(tmp_path):
    for name in ("s1a_33NWB_vv_DES_007_20200108t044150", "s1b_33NWB_vv_DES_007_20200114t044110"):
        write_tif(tmp_path / f"{name}.tif", speckle())
    cube = open_stack(tmp_path)
    assert cube.platform.values.tolist() == ["sentinel-1a", "sentinel-1b"]
    assert cube.relative_orbit.values.tolist() == [7, 7]
    assert cube.orbit_direction.values.tolist() == ["descending"] * 2


def test_the_index_is_picklable_and_reads_the_same_from_many_threads(plain):
    folder, truth = plain
    stack = pickle.loads(pickle.dumps(index_stack(folder)))
    window = Window(10, 50, 20, 70)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(stack.rasters["vh"][1].read, [window] * 40))
    for part in parts:
        np.testing.assert_array_equal(part, truth["vh", 1][window.slices])


@pytest.mark.parametrize("nodata", [-9999.0, -99.0, -32768.0, 0.0, np.nan, np.inf, -3.4028235e38])
@pytest.mark.parametrize("is_tagged", [True, False])
def test_nodata_of_every_kind_becomes_nan_and_nothing_else_does(tmp_path, nodata, is_tagged):
    scene = speckle()
    scene[3:9, 5:30] = nodata
    tag = {"nodata": nodata} if is_tagged and np.isfinite(nodata) else {}
    write_tif(tmp_path / "a_20210104_vv.tif", scene, **tag)
    read = whole(index_stack(tmp_path))
    hole = np.zeros(SHAPE, bool)
    hole[3:9, 5:30] = True
    np.testing.assert_array_equal(np.isnan(read), hole)
    np.testing.assert_array_equal(read[~hole], scene[~hole])


def test_a_declared_nodata_number_becomes_nan_at_the_precision_of_the_file(tmp_path):
    scene = speckle()
    scene[0, 0] = 1e-7
    write_tif(tmp_path / "a_20210104_vv.tif", scene, nodata=1e-7)
    assert np.isnan(whole(index_stack(tmp_path))).sum() == 1


@pytest.mark.parametrize("scale", ["db", "amplitude", "linear"])
@pytest.mark.parametrize("source", ["unit", "tag", "name", "argument"])
def test_a_declared_scale_gives_the_same_intensity(tmp_path, scale, source):
    scene = speckle()
    forms = {"db": 10 * np.log10(scene), "amplitude": np.sqrt(scene), "linear": scene}
    tags = {"BACKSCATTER_SCALE": {"db": "decibel", "linear": "power"}.get(scale, scale)}
    name = f"a_20210104_vv_{scale}.tif" if source == "name" else "a_20210104_vv.tif"
    path = write_tif(tmp_path / name, forms[scale], tags=tags if source == "tag" else None)
    if source == "unit":
        with rasterio.open(path, "r+") as out:
            out.set_band_unit(1, {"db": "dB"}.get(scale, scale))
    stack = index_stack(tmp_path, scale=scale if source == "argument" else None)
    assert stack.rasters["vv"][0].scale == scale
    np.testing.assert_allclose(whole(stack), scene, rtol=3e-6)


def test_undeclared_decibel_is_recognised_and_its_zero_border_is_nodata(tmp_path):
    values_db = 10 * np.log10(speckle())
    values_db[:30] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", values_db)
    with pytest.warns(SarstackWarning, match="exactly 0"):
        stack = index_stack(tmp_path)
    assert stack.rasters["vv"][0].scale == "db"
    assert np.isnan(whole(stack)[:30]).all()
    assert np.isfinite(whole(stack)[30:]).all()


def test_digital_numbers_are_refused_until_their_scale_is_told(tmp_path):
    numbers = (np.sqrt(speckle(mean=4e4)) + 1).astype(np.uint16)
    numbers[:5] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", numbers)
    with pytest.raises(ScaleError, match=r"digital numbers[\s\S]*--scale amplitude"):
        index_stack(tmp_path)
    read = whole(index_stack(tmp_path, scale="amplitude"))
    assert np.isnan(read[:5]).all()
    np.testing.assert_array_equal(read[5:], numbers[5:].astype(np.float32) ** 2)


def test_a_scale_against_the_numbers_is_refused(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", 10 * np.log10(speckle()), tags={"UNITS": "linear"})
    with pytest.raises(ScaleError, match="looks like decibel"):
        index_stack(tmp_path)
    with pytest.raises(ScaleError, match="looks like decibel"):
        index_stack(tmp_path, scale="linear")
    with pytest.raises(UsageError, match="scale = 'loud'"):
        index_stack(tmp_path, scale="loud")


def test_one_date_on_another_scale_is_found(tmp_path):
    for month in range(1, 6):
        write_tif(tmp_path / f"a_2021{month:02}04_vv.tif", speckle(month))
    write_tif(tmp_path / "a_20210604_vv.tif", 10 * np.log10(speckle()))
    with pytest.raises(ScaleError, match=r"1 look db: a_20210604_vv"):
        index_stack(tmp_path)


def test_amplitude_without_a_word_is_warned_of(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", np.sqrt(speckle()))
    with pytest.warns(SarstackWarning, match="--scale amplitude"):
        index_stack(tmp_path)


def test_all_faults_of_a_stack_are_told_at_once_in_files(tmp_path):
    for day in ("20210104", "20210116", "20210128"):
        write_tif(tmp_path / f"a_{day}_vv.tif", speckle())
    write_tif(
        tmp_path / "shifted_20210209_vv.tif",
        speckle(),
        transform=PLACE @ Affine.translation(0.001, 0),
    )
    write_tif(tmp_path / "again_20210104_vv.tif", speckle())
    (tmp_path / "words_20210221_vv.tif").write_text("not an image")
    write_tif(tmp_path / "a_20210305_vv.tif", 10 * np.log10(speckle()))
    with pytest.raises(StackReadError) as caught:
        index_stack(tmp_path)
    message = str(caught.value)
    assert "4 problems" in message
    for word in ("words_20210221_vv.tif", "origin x off by 0.01", "2021-01-04 VV", "decibel"):
        assert word in message
    assert caught.value.exit_code == 3


def test_a_grid_off_by_a_hair_or_a_lot_is_an_error_with_numbers(tmp_path):
    for month in range(1, 5):
        write_tif(tmp_path / f"a_2021{month:02}04_vv.tif", speckle())
    odd = tmp_path / "odd_20210604_vv.tif"
    for change, words in (
        ({"transform": PLACE @ Affine.translation(0.001, 0)}, "origin x off by 0.01 = 0.001 px"),
        ({"transform": PLACE @ Affine.scale(1.001)}, "pixel x 10.01 instead of 10"),
        ({"crs": "EPSG:32633"}, "CRS EPSG:32633"),
    ):
        write_tif(odd, speckle(), **change)
        with pytest.raises(GridMismatchError, match="gdalwarp") as caught:
            index_stack(tmp_path)
        assert words in str(caught.value)
        assert "odd_20210604_vv.tif" in str(caught.value)
    write_tif(odd, speckle(shape=(90, 80)))
    with pytest.raises(GridMismatchError, match="90 x 80 pixels"):
        index_stack(tmp_path)


def test_rounding_of_coordinates_is_no_other_grid(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    moved = PLACE @ Affine.translation(1e-9, 1e-9)
    write_tif(tmp_path / "a_20210116_vv.tif", speckle(), transform=moved)
    assert len(index_stack(tmp_path).dates) == 2


@pytest.mark.parametrize(
    "options", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}]
)
def test_a_truncated_file_is_found_before_any_pixel_is_read(plain, options):
    folder, _ = plain
    path = write_tif(folder / "a_20210304_vv.tif", speckle(), **options)
    whole_file = path.read_bytes()
    path.write_bytes(whole_file[:-500])
    with pytest.raises(StackReadError, match=r"a_20210304_vv\.tif"):
        index_stack(folder)
    with pytest.warns(SarstackWarning, match=r"a_20210304_vv\.tif"):
        stack = index_stack(folder, skip_unreadable=True)
    assert stack.n_dates == 3
    assert [Path(p).name for p, _ in stack.skipped] == ["a_20210304_vv.tif"]


def test_damage_inside_a_file_is_found_while_sampling_and_can_be_left_out(plain):
    folder, truth = plain
    path = write_tif(folder / "a_20210304_vv.tif", speckle(), compress="deflate", tiled=True,
                     blockxsize=32, blockysize=32)  # fmt: skip
    content = bytearray(path.read_bytes())
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content[offset : offset + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    with pytest.raises(StackReadError, match=r"a_20210304_vv\.tif") as refusal:
        index_stack(folder)
    assert "See previous exception" not in str(refusal.value), "GDAL's own reason is told"
    with pytest.warns(SarstackWarning, match="left out"):
        stack = index_stack(folder, skip_unreadable=True)
    assert len(stack.skipped) == 1
    np.testing.assert_array_equal(whole(stack, "vh", 2), truth["vh", 2])


@pytest.mark.parametrize("shape", [(5, 7), (1, 60), (60, 3)])
def test_images_too_small_for_a_local_estimate_open(tmp_path, shape):
    truth = speckle(shape=shape)
    write_tif(tmp_path / "a_20210104_vv.tif", truth)
    np.testing.assert_array_equal(whole(index_stack(tmp_path)), truth)


def test_when_nothing_can_be_read_leaving_out_is_no_way(tmp_path):
    for i in range(2):
        (tmp_path / f"a_2021010{i + 1}_vv.tif").write_text("words")
    with pytest.raises(StackReadError, match="2 files have the same problem"):
        index_stack(tmp_path)
    with (
        pytest.raises(StackReadError, match=r"no file can be read[\s\S]*a_20210102_vv"),
        pytest.warns(SarstackWarning),
    ):
        index_stack(tmp_path, skip_unreadable=True)


def test_an_empty_missing_or_useless_path_is_told_plainly(tmp_path):
    with pytest.raises(StackReadError, match="does not exist"):
        index_stack(tmp_path / "nowhere")
    with pytest.raises(StackReadError, match="holds no image"):
        index_stack(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(StackReadError, match="sub-folder inner"):
        index_stack(tmp_path)
    (tmp_path / "a_20210104_vv.tif").touch()
    with pytest.raises(StackReadError, match="empty"):
        index_stack(tmp_path)


def test_a_file_that_vanishes_is_named_when_its_pixels_are_read(plain):
    folder, _ = plain
    stack = index_stack(folder)
    Path(stack.rasters["vv"][0].path).unlink()
    with pytest.raises(StackReadError, match=r"farm_20210104T053412_vv\.tif"):
        whole(stack)


def test_the_last_processing_of_a_date_is_kept(tmp_path):
    name = "OPERA_L2_RTC-S1_T137-292318-IW1_20211119T015854Z_{}T120333Z_S1A_30_v1.0_VV.tif"
    write_tif(tmp_path / name.format("20250830"), speckle(1))
    write_tif(tmp_path / name.format("20240830"), speckle(2))
    with pytest.warns(SarstackWarning, match=r"processed 2 times[\s\S]*left out: .*20240830T"):
        stack = index_stack(tmp_path)
    np.testing.assert_array_equal(whole(stack), speckle(1))


def test_the_same_date_twice_is_an_error(tmp_path):
    for name in ("a_20210104_vv.tif", "b_20210104_vv.tif"):
        write_tif(tmp_path / name, speckle())
    with pytest.raises(StackError, match=r"a_20210104_vv\.tif, b_20210104_vv\.tif"):
        index_stack(tmp_path)


def test_two_passes_of_one_day_are_two_dates(tmp_path):
    for hour in ("05", "17"):
        write_tif(tmp_path / f"a_20210104T{hour}3412_vv.tif", speckle())
    assert index_stack(tmp_path).n_dates == 2


def test_mixed_orbits_missing_polarisations_and_slices_are_warned_of(tmp_path):
    for name in ("s1a_33NWB_vv_DES_007_20200108t044150", "s1a_33NWB_vh_DES_007_20200108t044150",
                 "s1a_33NWB_vv_ASC_030_20200109t174110",
                 "s1a_33NWB_vv_ASC_030_20200109t174135"):  # fmt: skip
        write_tif(tmp_path / f"{name}.tif", speckle())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cube = open_stack(tmp_path)
    text = "\n".join(str(w.message) for w in caught)
    assert all(issubclass(w.category, SarstackWarning) for w in caught)
    assert "2 of 3 dates lack VH" in text
    assert "2 orbits" in text
    assert "slices of one pass" in text
    assert bool(cube.vh.isel(time=slice(1, None)).isnull().all())
    assert bool(cube.vh.isel(time=0).notnull().all())


def test_undated_images_of_one_series_get_days_in_their_order(tmp_path):
    for i in (10, 2, 1):
        np.save(tmp_path / f"site_{i}.npy", np.sqrt(speckle(i)) * 100)
    np.save(tmp_path / "other_1.npy", speckle())
    with pytest.raises(StackError, match="2 series"), pytest.warns(SarstackWarning):
        index_stack(tmp_path, scale="amplitude")
    with pytest.warns(SarstackWarning, match="1970-01-01"):
        stack = index_stack(str(tmp_path / "site_*.npy"), scale="amplitude", bands=["vh"])
    assert stack.polarisations == ("vh",)
    days = [int((d.time - np.datetime64("1970-01-01", "ns")) / np.timedelta64(1, "D"))
            for d in stack.dates]  # fmt: skip
    assert days == [1, 2, 10]
    np.testing.assert_allclose(whole(stack, "vh", 2), speckle(10) * 1e4, rtol=1e-5)


def test_some_undated_images_among_dated_ones_are_an_error(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    write_tif(tmp_path / "extra_vv.tif", speckle())
    with pytest.raises(StackError, match=r"1 of 2 images have no date[\s\S]*extra_vv.tif"):
        index_stack(tmp_path)


def test_a_single_undated_image_has_no_time(tmp_path):
    path = write_tif(tmp_path / "scene.tif", speckle())
    with pytest.warns(SarstackWarning, match="called vv"):
        cube = open_stack(path)
    assert np.isnat(cube.time.values).all()


def test_the_tag_beats_the_name_but_never_the_time_of_processing(tmp_path):
    tags = {
        "ACQUISITION_DATETIME": "2020:01:08 04:41:50",
        "TIFFTAG_DATETIME": "2024:01:01 00:00:00",
    }
    write_tif(tmp_path / "a_20230101_vv.tif", speckle(), tags=tags)
    assert index_stack(tmp_path).dates[0].time == np.datetime64("2020-01-08T04:41:50")
    write_tif(
        tmp_path / "a_20230101_vv.tif",
        speckle(),
        tags={"TIFFTAG_DATETIME": tags["TIFFTAG_DATETIME"]},
    )
    assert index_stack(tmp_path).dates[0].time == np.datetime64("2023-01-01")


def test_bands_are_polarisations_or_dates_by_their_names(tmp_path):
    bands = np.stack([speckle(i) for i in range(4)])
    write_tif(tmp_path / "a_20210104.tif", bands[:2], names=["VV", "VH"])
    write_tif(tmp_path / "a_20210116.tif", bands[2:], names=["VV", "VH"])
    stack = index_stack(tmp_path)
    np.testing.assert_array_equal(whole(stack, "vh", 1), bands[3])
    assert len({r.stem for own in stack.rasters.values() for r in own}) == 4
    names = ["VV 2021-01-04", "VH 2021-01-04", "VV 2021-01-16", "VH 2021-01-16"]
    stack = index_stack(write_tif(tmp_path / "series.tif", bands, names=names))
    np.testing.assert_array_equal(whole(stack, "vh", 1), bands[3])


def test_bands_without_names_are_refused_or_named_by_the_user(tmp_path):
    path = write_tif(tmp_path / "a_20210104.tif", np.stack([speckle(1), speckle(2)]))
    with pytest.raises(StackError, match=r"2 bands[\s\S]*bands=\['VV', 'VH'\]"):
        index_stack(path)
    np.testing.assert_array_equal(whole(index_stack(path, bands=["VV", "VH"]), "vh"), speckle(2))
    with pytest.raises(StackError, match="names 3"):
        index_stack(path, bands=["VV", "VH", "HH"])


def test_many_bands_without_names_are_dates_in_order(tmp_path):
    bands = np.stack([speckle(i) for i in range(12)])
    path = write_tif(tmp_path / "rice_vh.tif", bands, crs=None, transform=None)
    with pytest.warns(SarstackWarning, match="in the order of their numbers"):
        stack = index_stack(path)
    assert stack.n_dates == 12
    np.testing.assert_array_equal(whole(stack, "vh", 7), bands[7])


def test_complex_data_are_refused_with_the_way_out(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", (speckle() + 1j).astype(np.complex64))
    with pytest.raises(StackError, match="complex"):
        index_stack(tmp_path)


def test_ground_control_points_stay_with_the_stack(tmp_path):
    path = write_tif(tmp_path / "a_20210104_hv.tif", speckle(), crs=None, transform=None)
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100, 5.0)
              for r in (0, 90) for c in (0, 40, 80)]  # fmt: skip
    with rasterio.open(path, "r+") as out:
        out.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    stack = index_stack(path)
    assert len(stack.grid.gcps) == 6
    cube = build_cube(stack)
    assert cube.rio.crs.to_epsg() == 4326
    read = [(p.row, p.col, p.x, p.y, p.z) for p in cube.rio.get_gcps()]
    assert read == [(p.row, p.col, p.x, p.y, p.z) for p in points]
    with pytest.raises(UsageError, match="ground control points"):
        select_part(stack, bbox=(10, 49, 11, 50))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_store_opens_to_what_was_written(tmp_path, plain, zarr_format):
    folder, truth = plain
    cube = open_stack(folder)
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=zarr_format, consolidated=False)
    stack = index_stack(tmp_path / "cube.zarr")
    assert stack.grid == index_stack(str(folder / "farm_*.tif")).grid
    assert [d.time for d in stack.dates] == list(cube.time.values)
    for (polarisation, date), scene in truth.items():
        np.testing.assert_array_equal(whole(stack, polarisation, date), scene)


def test_orbits_and_platforms_survive_a_zarr_store(tmp_path):
    for name in ("s1a_33NWB_vv_DES_007_20200108t044150", "a_20200120_vv"):
        write_tif(tmp_path / f"{name}.tif", speckle())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_stack(tmp_path).to_zarr(tmp_path / "cube.zarr", consolidated=False)
        stack = index_stack(tmp_path / "cube.zarr")
    assert stack.dates == index_stack(tmp_path).dates
    assert stack.dates[0].relative_orbit == 7
    assert stack.dates[1].relative_orbit is None


def test_packed_netcdf_opens_to_what_was_packed(tmp_path):
    scenes = np.stack([speckle(i) for i in range(3)])
    scenes[1, 4:8] = np.nan
    ds = xr.Dataset(
        {"VV": (("t", "y", "x"), 10 * np.log10(scenes), {"units": "dB"})},
        {"t": np.array(["2021-01-04", "2021-01-16", "2021-01-28"], "datetime64[ns]"),
         "y": 5000000.0 - 10 * np.arange(96) - 5, "x": 500005 + 10.0 * np.arange(80)},
        {"crs": "EPSG:32632"},
    )  # fmt: skip
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": -20.0, "_FillValue": -32768}
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding={"VV": packing})
    stack = index_stack(tmp_path / "a.nc")
    assert stack.grid.transform == tuple(PLACE)[:6]
    assert stack.grid.crs_name == "EPSG:32632"
    for i in range(3):
        np.testing.assert_allclose(whole(stack, "vv", i), scenes[i], rtol=2e-3)
        np.testing.assert_array_equal(np.isnan(whole(stack, "vv", i)), np.isnan(scenes[i]))


def test_classic_netcdf_opens_too(tmp_path):
    ds = xr.Dataset({"vv": (("time", "y", "x"), speckle()[None])},
                    {"time": np.array(["2021-01-04"], "datetime64[ns]")})  # fmt: skip
    ds.to_netcdf(tmp_path / "a.nc", engine="scipy")
    np.testing.assert_array_equal(whole(index_stack(tmp_path / "a.nc")), speckle())


def test_a_store_without_backscatter_is_told_so(tmp_path):
    xr.Dataset({"ndvi": (("y", "x"), speckle())}).to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(StackError, match=r"no variable of backscatter[\s\S]*ndvi"):
        index_stack(tmp_path / "a.zarr")
    xr.Dataset({"vv": (("x", "y"), speckle())}).to_zarr(tmp_path / "b.zarr", consolidated=False)
    with pytest.raises(StackError, match="transpose"):
        index_stack(tmp_path / "b.zarr")


def test_envi_big_endian_opens_and_a_short_one_does_not(tmp_path):
    header = ("ENVI\nsamples = 80\nlines = 96\nbands = 1\nheader offset = 0\ndata type = 4\n"
              "interleave = bsq\nbyte order = 1\nband names = { Intensity_VH }\n")  # fmt: skip
    (tmp_path / "Intensity_VH.hdr").write_text(header)
    (tmp_path / "Intensity_VH.img").write_bytes((speckle(mean=2e4)).astype(">f4").tobytes())
    for path in (tmp_path, tmp_path / "Intensity_VH.img", tmp_path / "Intensity_VH.hdr"):
        np.testing.assert_array_equal(whole(index_stack(path), "vh"), speckle(mean=2e4))
    (tmp_path / "Intensity_VH.img").write_bytes(bytes(100))
    with pytest.raises(StackReadError, match="truncated"):
        index_stack(tmp_path)


def test_a_selection_keeps_every_pixel_in_its_place(plain):
    folder, truth = plain
    stack = index_stack(folder)
    box = (500103.0, 4999500.0, 500400.0, 4999750.0)
    part = select_part(stack, bbox=box, dates=("2021-01-10", None), polarisations=["VH"])
    assert part.polarisations == ("vh",)
    assert [str(d.time)[:10] for d in part.dates] == ["2021-01-16", "2021-01-28"]
    assert part.grid.bounds == (500100, 4999500, 500400, 4999750)
    np.testing.assert_array_equal(whole(part, "vh", 0), truth["vh", 1][25:50, 10:40])
    again = select_part(part, bbox=part.grid.bounds, max_dates=1)
    assert again.grid == part.grid
    cube, chosen = build_cube(stack).compute(), build_cube(part, chunk_px=7).compute()
    expected = cube.vh.sel(x=chosen.x, y=chosen.y, time=chosen.time)
    np.testing.assert_array_equal(chosen.vh, expected)


@given(
    st.floats(-50, 900), st.floats(-50, 900), st.floats(0.01, 900), st.floats(0.01, 900),
    st.sampled_from([1.0, -1.0]),
)  # fmt: skip
def test_a_box_keeps_exactly_the_pixels_it_touches(x, y, width, height, up):
    grid = Grid(Shape(96, 80), "", (10.0, 0.0, 500.0, 0.0, up * 10.0, 3000.0))
    xmin, ymin = 500 + x, min(3000, 3000 + up * 960) + y
    box = (xmin, ymin, xmin + width, ymin + height)
    rows, columns = grid.pixel_centres()
    touched = [
        np.flatnonzero((centres + 5 > low + 1e-4) & (centres - 5 < high - 1e-4))
        for centres, low, high in ((rows, box[1], box[3]), (columns, box[0], box[2]))
    ]
    if min(map(len, touched)) == 0:
        return
    window = grid.find_window(box)
    assert window.y0 <= touched[0][0]
    assert touched[0][-1] < window.y1 <= touched[0][-1] + 2
    assert window.x0 <= touched[1][0]
    assert touched[1][-1] < window.x1 <= touched[1][-1] + 2
    cropped_rows, cropped_columns = grid.crop(window).pixel_centres()
    np.testing.assert_allclose(cropped_rows, rows[window.y0 : window.y1])
    np.testing.assert_allclose(cropped_columns, columns[window.x0 : window.x1])


@pytest.mark.parametrize(
    ("dates", "left"),
    [
        (("2021-01-04", "2021-01-16"), 2),
        (("2021-01-16", "2021-01-16"), 1),
        (("2021-01", "2021-01"), 3),
        ((None, "20210104"), 1),
        (["2021-01-28"], 1),
        (["20210104T053412", "2021-01-28T05:34:12"], 2),
    ],
)
def test_a_day_means_all_of_it(plain, dates, left):
    assert select_part(index_stack(plain[0]), dates=dates).n_dates == left


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"dates": ("2022-01-01", "2022-02-01")}, "2021-01-04T05:34:12 to 2021-01-28"),
        ({"dates": ["the fourth"]}, "is not a date"),
        ({"bbox": (0, 0, 10, 10)}, "holds no pixel"),
        ({"bbox": (500100, 4999750, 500400, 4999500)}, "smallest values first"),
        ({"polarisations": ["hh"]}, "some of vv, vh"),
        ({"max_dates": 0}, "at least 1"),
    ],
)
def test_a_selection_of_nothing_is_told(plain, choice, words):
    with pytest.raises(UsageError, match=words):
        select_part(index_stack(plain[0]), **choice)


def test_the_description_tells_the_truth(tmp_path):
    truth = 6.0
    for i, day in enumerate(("20210104", "20210116")):
        scene = np.random.default_rng(i).gamma(truth, 0.1 / truth, (300, 320)).astype(np.float32)
        scene[:, :160] = np.nan
        write_tif(tmp_path / f"S1A__IW___A_{day}T173017_VV_gamma0.tif", scene, nodata=np.nan)
    description = describe_stack(index_stack(tmp_path))
    text = description.render()
    assert description.dates[0].valid["vv"] == pytest.approx(0.5, abs=0.01)
    assert description.speckle[0].looks == pytest.approx(truth, rel=0.1)
    assert abs(description.speckle[0].correlation_x) < 0.05
    for word in (
        "sentinel-1a",
        "ascending",
        "EPSG:32632",
        "300 rows x 320",
        "linear gamma0",
        "50%",
    ):
        assert word in text


@needs_data
def test_real_stacks_open():
    opera = index_stack(DATA / "stacks" / "opera-rtc-10date-nodata")
    assert (opera.n_dates, opera.polarisations) == (10, ("vh",))
    assert np.isnan(whole(opera, "vh", 3)).mean() == pytest.approx(0.65, abs=0.05)
    burst = index_stack(DATA / "stacks" / "opera-rtc-21date" / "T137-292318-IW1")
    assert (burst.n_dates, burst.polarisations) == (21, ("vv", "vh"))
    netcdf = index_stack(DATA / "stacks" / "openeo-98date-netcdf" / "snap-series.nc")
    assert (netcdf.n_dates, netcdf.rasters["vv"][0].scale) == (98, "db")
    swath = index_stack(DATA / "scenes" / "ew-grdm-gcp-only")
    assert len(swath.grid.gcps) == 104
    envi = index_stack(DATA / "scenes" / "grd-dualpol-9sites" / "Berlin")
    assert envi.polarisations == ("vv", "vh")


@needs_data
def test_what_is_unclear_in_real_data_is_refused():
    with pytest.raises(ScaleError, match="--scale amplitude"), pytest.warns(SarstackWarning):
        index_stack(DATA / "stacks" / "s1slc-amplitude-5date" / "marais1_*.npy")
    with pytest.raises(StackError, match="complex"):
        index_stack(DATA / "slc" / "s1-decimated-white")
    with pytest.raises(StackError, match="bands="):
        index_stack(DATA / "scenes" / "rtc-5sites-db")


@needs_data
def test_real_pixels_are_those_that_other_readers_see():
    folder = DATA / "stacks" / "opera-rtc-10date-nodata"
    cube = open_stack(folder, chunk_px=100).compute()
    for date in cube.time:
        file = folder / str(cube.source_file.sel(time=date).item())
        expected = rioxarray.open_rasterio(file, masked=True).squeeze("band")
        np.testing.assert_array_equal(cube.vh.sel(time=date), expected)
        np.testing.assert_array_equal(cube.x, expected.x)
        np.testing.assert_array_equal(cube.y, expected.y)
    file = DATA / "stacks" / "openeo-98date-netcdf" / "shub-series.nc"
    cube = open_stack(file).compute()
    with xr.open_dataset(file) as expected:
        np.testing.assert_array_equal(cube.time, expected.t)
        np.testing.assert_allclose(cube.vv, 10 ** (expected.VV / 10), rtol=1e-6)
        np.testing.assert_array_equal(cube.vh.isnull(), expected.VH.isnull())


_OPEN_AND_MEASURE = """
import resource, sys, rasterio, rioxarray, dask.array, pyproj
from sarstack.readers import open_stack
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cube = open_stack(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(cube.nbytes, (after - before) * 1024)
"""


@pytest.mark.slow
def test_opening_sixty_full_scenes_reads_headers_only(tmp_path):
    first = tmp_path / "S1A__IW___A_20200101T173017_VV_gamma0.tif"
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "tiled": True,
               "blockxsize": 512, "blockysize": 512, "sparse_ok": True,
               "crs": "EPSG:32632", "transform": PLACE}  # fmt: skip
    with rasterio.open(first, "w", height=17000, width=25000, **profile) as out:
        block = speckle(shape=(512, 512))
        for y, x in ((4096, 6144), (8192, 12288), (12288, 18432)):
            out.write(block, 1, window=rasterio.windows.Window(x, y, 512, 512))
    for day in range(1, 60):
        date = str(np.datetime64("2020-01-01") + 12 * day).replace("-", "")
        (tmp_path / first.name.replace("20200101", date)).hardlink_to(first)
    started = time.monotonic()
    command = [sys.executable, "-c", _OPEN_AND_MEASURE, str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) == pytest.approx(60 * 17000 * 25000 * 4, rel=0.01)
    assert int(told[1]) < 200e6
    assert time.monotonic() - started < 60
