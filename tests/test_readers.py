"""Stacks on disk open to the truth that was written; problems between images are found."""

import os
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
from written_images import PLACE, read_whole, speckle, write_tif

from sarstack.errors import (
    GridMismatchError,
    SarstackWarning,
    ScaleError,
    StackError,
    StackReadError,
)
from sarstack.readers import index_stack, open_stack
from sarstack.tiles import Window
from sarstack.workflows.info import describe_stack

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="real data are not here")


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
def test_files_of_every_naming_convention_open_to_the_written_pixels(tmp_path, convention):
    pattern, companions = CONVENTIONS[convention]
    truth = {}
    for month in (2, 1, 3):
        for p, q in (("vv", "hh"), ("vh", "hv")):
            name = pattern.format(m=f"{month:02}", d=month, p=p, P=p.upper(), Q=q.upper())
            truth[q if convention == "alos" else p, month - 1] = scene = speckle(month)
            write_tif(tmp_path / name, scene)
    for name in companions:
        write_tif(tmp_path / name, np.ones_like(scene, np.uint8))
    (tmp_path / "deeper").mkdir()
    write_tif(tmp_path / "deeper" / "x_20210104_vv.tif", speckle())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = index_stack(tmp_path)
    assert stack.polarisations == (("hh", "hv") if convention == "alos" else ("vv", "vh"))
    assert [str(d.time)[:10] for d in stack.dates] == ["2021-01-04", "2021-02-04", "2021-03-04"]
    for (polarisation, date), scene in truth.items():
        np.testing.assert_array_equal(read_whole(stack, polarisation, date), scene)


def test_the_cube_is_lazy_georeferenced_and_equal_to_the_files(three_dates):
    folder, truth = three_dates
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


def test_the_cube_has_orbits_and_platforms_of_its_dates(tmp_path):
    for name in ("s1a_33NWB_vv_DES_007_20200108t044150", "s1b_33NWB_vv_DES_007_20200114t044110"):
        write_tif(tmp_path / f"{name}.tif", speckle())
    cube = open_stack(tmp_path)
    assert cube.platform.values.tolist() == ["sentinel-1a", "sentinel-1b"]
    assert cube.relative_orbit.values.tolist() == [7, 7]
    assert cube.orbit_direction.values.tolist() == ["descending"] * 2


def test_a_pickled_stack_reads_the_same_pixels_from_many_threads(three_dates):
    folder, truth = three_dates
    stack = pickle.loads(pickle.dumps(index_stack(folder)))
    window = Window(10, 50, 20, 70)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(stack.rasters["vh"][1].read, [window] * 40))
    for part in parts:
        np.testing.assert_array_equal(part, truth["vh", 1][window.slices])


def test_one_error_lists_all_problems_of_a_stack(tmp_path):
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


def test_any_difference_between_grids_is_an_error_with_numbers(tmp_path):
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


def test_rounded_coordinates_are_the_same_grid(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    moved = PLACE @ Affine.translation(1e-9, 1e-9)
    write_tif(tmp_path / "a_20210116_vv.tif", speckle(), transform=moved)
    assert len(index_stack(tmp_path).dates) == 2


@pytest.mark.parametrize("shape", [(5, 7), (1, 60), (60, 3)])
def test_images_smaller_than_a_sample_window_open(tmp_path, shape):
    truth = speckle(shape=shape)
    write_tif(tmp_path / "a_20210104_vv.tif", truth)
    np.testing.assert_array_equal(read_whole(index_stack(tmp_path)), truth)


def test_a_stack_without_readable_files_is_an_error_even_if_they_may_be_left_out(tmp_path):
    for i in range(2):
        (tmp_path / f"a_2021010{i + 1}_vv.tif").write_text("words")
    with pytest.raises(StackReadError, match="2 files have the same problem"):
        index_stack(tmp_path)
    with (
        pytest.raises(StackReadError, match=r"no file can be read[\s\S]*a_20210102_vv"),
        pytest.warns(SarstackWarning),
    ):
        index_stack(tmp_path, skip_unreadable=True)


def test_a_path_without_images_is_an_error_that_says_why(tmp_path):
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


def test_an_error_names_the_file_that_was_deleted_after_indexing(three_dates):
    folder, _ = three_dates
    stack = index_stack(folder)
    Path(stack.rasters["vv"][0].path).unlink()
    with pytest.raises(StackReadError, match=r"farm_20210104T053412_vv\.tif"):
        read_whole(stack)


def test_of_two_processings_of_a_date_the_last_is_used(tmp_path):
    name = "OPERA_L2_RTC-S1_T137-292318-IW1_20211119T015854Z_{}T120333Z_S1A_30_v1.0_VV.tif"
    write_tif(tmp_path / name.format("20250830"), speckle(1))
    write_tif(tmp_path / name.format("20240830"), speckle(2))
    with pytest.warns(SarstackWarning, match=r"processed 2 times[\s\S]*left out: .*20240830T"):
        stack = index_stack(tmp_path)
    np.testing.assert_array_equal(read_whole(stack), speckle(1))


def test_the_same_date_twice_is_an_error(tmp_path):
    for name in ("a_20210104_vv.tif", "b_20210104_vv.tif"):
        write_tif(tmp_path / name, speckle())
    with pytest.raises(StackError, match=r"a_20210104_vv\.tif, b_20210104_vv\.tif"):
        index_stack(tmp_path)


def test_two_passes_of_one_day_are_two_dates(tmp_path):
    for hour in ("05", "17"):
        write_tif(tmp_path / f"a_20210104T{hour}3412_vv.tif", speckle())
    assert index_stack(tmp_path).n_dates == 2


def test_mixed_orbits_missing_polarisations_and_slices_give_warnings(tmp_path):
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


def test_undated_images_of_one_series_get_days_in_the_order_of_their_numbers(tmp_path):
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
    np.testing.assert_allclose(read_whole(stack, "vh", 2), speckle(10) * 1e4, rtol=1e-5)


def test_undated_images_among_dated_ones_are_an_error(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    write_tif(tmp_path / "extra_vv.tif", speckle())
    with pytest.raises(StackError, match=r"1 of 2 images have no date[\s\S]*extra_vv.tif"):
        index_stack(tmp_path)


def test_a_single_undated_image_has_no_time(tmp_path):
    path = write_tif(tmp_path / "scene.tif", speckle())
    with pytest.warns(SarstackWarning, match="called vv"):
        cube = open_stack(path)
    assert np.isnat(cube.time.values).all()


def test_the_acquisition_tag_is_used_before_the_name_and_the_processing_tag_never(tmp_path):
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


def test_the_description_gives_the_true_looks_and_valid_fraction(tmp_path):
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
    assert np.isnan(read_whole(opera, "vh", 3)).mean() == pytest.approx(0.65, abs=0.05)
    burst = index_stack(DATA / "stacks" / "opera-rtc-21date" / "T137-292318-IW1")
    assert (burst.n_dates, burst.polarisations) == (21, ("vv", "vh"))
    netcdf = index_stack(DATA / "stacks" / "openeo-98date-netcdf" / "snap-series.nc")
    assert (netcdf.n_dates, netcdf.rasters["vv"][0].scale) == (98, "db")
    swath = index_stack(DATA / "scenes" / "ew-grdm-gcp-only")
    assert len(swath.grid.gcps) == 104
    envi = index_stack(DATA / "scenes" / "grd-dualpol-9sites" / "Berlin")
    assert envi.polarisations == ("vv", "vh")
    with pytest.warns(SarstackWarning, match="no polarisation"):
        slc = index_stack(DATA / "slc" / "s1-decimated-white")
    assert slc.rasters["vv"][0].complex_as == "intensity"


@needs_data
def test_real_data_of_unknown_scale_or_bands_are_an_error():
    with pytest.raises(ScaleError, match="--scale amplitude"), pytest.warns(SarstackWarning):
        index_stack(DATA / "stacks" / "s1slc-amplitude-5date" / "marais1_*.npy")
    with pytest.raises(StackError, match="bands="):
        index_stack(DATA / "scenes" / "rtc-5sites-db")


@needs_data
def test_real_pixels_equal_those_of_other_readers():
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
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    n_bytes, growth_bytes = map(int, output.split())
    assert n_bytes == pytest.approx(60 * 17000 * 25000 * 4, rel=0.01)
    assert growth_bytes < 200e6
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_a_file_that_changes_after_it_was_indexed_is_not_read(tmp_path: Path, kind: str) -> None:
    scene, path = speckle(1, 0.1), tmp_path / f"farm_20210104_vv.{kind}"
    if kind == "tif":
        write_tif(path, scene)
    else:
        times = np.array(["2021-01-04"], "datetime64[ns]")
        cube = xr.Dataset({"vv": (("time", "y", "x"), scene[None])}, {"time": times})
        cube.to_zarr(path, zarr_format=3, consolidated=False)
    [raster] = index_stack(str(path), scale="linear").rasters["vv"]
    window = Window(0, 4, 0, 4)
    raster.read(window)
    changed = path if kind == "tif" else path / "zarr.json"
    time_s = changed.stat().st_mtime + 60
    os.utime(changed, (time_s, time_s))
    with pytest.raises(StackReadError, match="another version than at the start"):
        raster.read(window)
    [again] = index_stack(str(path), scale="linear").rasters["vv"]
    again.read(window)
