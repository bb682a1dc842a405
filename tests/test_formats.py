"""Each format opens to the pixels that were written, and damaged files are found."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 (registers the accessor ``rio``)
import xarray as xr
from pyproj import CRS
from rasterio.control import GroundControlPoint
from written_images import PLACE, read_whole, speckle, write_tif

from sarstack.errors import (
    SarstackWarning,
    StackError,
    StackReadError,
    UsageError,
)
from sarstack.readers import formats, index_stack, open_stack, registry
from sarstack.readers.cube import build_cube
from sarstack.readers.selection import select_part

PAGE = (Path(__file__).parents[1] / "docs" / "inputs.md").read_text(encoding="utf-8")
INPUTS = "\n".join(line for line in PAGE.splitlines() if line.startswith("| "))

# A format that sarstack does not have: numbers as text, one row of the image a line.
TEXT_FORMAT = """
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sarstack.readers.grid import Grid
from sarstack.readers.image import describe_image
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape

TITLE = "text"
SUFFIXES = (".txt",)


def matches(path):
    return path.endswith(SUFFIXES)


def list_images(path, bands):
    shape = Shape(*np.loadtxt(path).shape)
    raster = TextRaster(path, Path(path).stem, shape=shape)
    return [describe_image(raster, Grid(shape), [Path(path).name], {})]


@dataclass(frozen=True)
class TextRaster(Raster):
    def decode(self, windows, *, cache_blocks):
        for window in windows:
            yield np.loadtxt(self.path, dtype=np.float32)[window.slices]
"""


def test_a_format_is_added_by_one_file(tmp_path, monkeypatch):
    folder = tmp_path / "formats"
    folder.mkdir()
    (folder / "as_text.py").write_text(TEXT_FORMAT)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])
    monkeypatch.setattr(registry, "find_formats", registry.find_formats.__wrapped__)
    np.savetxt(tmp_path / "farm_20210104_vv.txt", speckle())
    write_tif(tmp_path / "farm_20210116_vv.tif", speckle(1), crs=None, transform=None)
    stack = index_stack(tmp_path)
    assert stack.n_dates == 2
    np.testing.assert_array_equal(read_whole(stack, date=0), speckle())
    np.testing.assert_array_equal(read_whole(stack, date=1), speckle(1))


@pytest.mark.parametrize("known", registry.find_formats(), ids=lambda known: known.TITLE)
def test_every_format_is_in_the_readme(known):
    assert known.TITLE in INPUTS


def test_gdal_is_asked_after_all_other_formats():
    assert registry.find_formats()[-1].__name__.endswith(".gdal")


@pytest.mark.parametrize(
    "options", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}]
)
def test_a_truncated_file_is_found_from_its_header(three_dates, options):
    folder, _ = three_dates
    path = write_tif(folder / "a_20210304_vv.tif", speckle(), **options)
    whole_file = path.read_bytes()
    path.write_bytes(whole_file[:-500])
    with pytest.raises(StackReadError, match=r"a_20210304_vv\.tif"):
        index_stack(folder)
    with pytest.warns(SarstackWarning, match=r"a_20210304_vv\.tif"):
        stack = index_stack(folder, skip_unreadable=True)
    assert stack.n_dates == 3
    assert [Path(p).name for p, _ in stack.skipped] == ["a_20210304_vv.tif"]


def test_a_file_with_damaged_pixels_is_found_and_can_be_left_out(three_dates):
    folder, truth = three_dates
    path = write_tif(folder / "a_20210304_vv.tif", speckle(), compress="deflate", tiled=True,
                     blockxsize=32, blockysize=32)  # fmt: skip
    content = bytearray(path.read_bytes())
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content[offset : offset + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    with pytest.raises(StackReadError, match=r"a_20210304_vv\.tif") as refusal:
        index_stack(folder)
    assert "See previous exception" not in str(refusal.value), "the reason is that of GDAL"
    with pytest.warns(SarstackWarning, match="left out"):
        stack = index_stack(folder, skip_unreadable=True)
    assert len(stack.skipped) == 1
    np.testing.assert_array_equal(read_whole(stack, "vh", 2), truth["vh", 2])


def test_band_names_give_polarisations_and_dates(tmp_path):
    bands = np.stack([speckle(i) for i in range(4)])
    write_tif(tmp_path / "a_20210104.tif", bands[:2], names=["VV", "VH"])
    write_tif(tmp_path / "a_20210116.tif", bands[2:], names=["VV", "VH"])
    stack = index_stack(tmp_path)
    np.testing.assert_array_equal(read_whole(stack, "vh", 1), bands[3])
    assert len({r.stem for own in stack.rasters.values() for r in own}) == 4
    names = ["VV 2021-01-04", "VH 2021-01-04", "VV 2021-01-16", "VH 2021-01-16"]
    stack = index_stack(write_tif(tmp_path / "series.tif", bands, names=names))
    np.testing.assert_array_equal(read_whole(stack, "vh", 1), bands[3])


def test_bands_without_names_need_names_from_the_user(tmp_path):
    path = write_tif(tmp_path / "a_20210104.tif", np.stack([speckle(1), speckle(2)]))
    with pytest.raises(StackError, match=r"2 bands[\s\S]*bands=\['VV', 'VH'\]"):
        index_stack(path)
    stack = index_stack(path, bands=["VV", "VH"])
    np.testing.assert_array_equal(read_whole(stack, "vh"), speckle(2))
    with pytest.raises(StackError, match="names 3"):
        index_stack(path, bands=["VV", "VH", "HH"])


def test_many_bands_without_names_are_dates_in_order(tmp_path):
    bands = np.stack([speckle(i) for i in range(12)])
    path = write_tif(tmp_path / "rice_vh.tif", bands, crs=None, transform=None)
    with pytest.warns(SarstackWarning, match="in the order of their numbers"):
        stack = index_stack(path)
    assert stack.n_dates == 12
    np.testing.assert_array_equal(read_whole(stack, "vh", 7), bands[7])


def test_complex_arrays_are_an_error(tmp_path):
    np.save(tmp_path / "a_20210104_vv.npy", (speckle() + 1j).astype(np.complex64))
    with pytest.raises(StackError, match="complex"):
        index_stack(tmp_path)


def test_ground_control_points_reach_the_cube_unchanged(tmp_path):
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
def test_a_zarr_store_opens_to_the_written_cube(tmp_path, three_dates, zarr_format):
    folder, truth = three_dates
    cube = open_stack(folder)
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=zarr_format, consolidated=False)
    stack = index_stack(tmp_path / "cube.zarr")
    assert stack.grid == index_stack(str(folder / "farm_*.tif")).grid
    assert [d.time for d in stack.dates] == list(cube.time.values)
    for (polarisation, date), scene in truth.items():
        np.testing.assert_array_equal(read_whole(stack, polarisation, date), scene)


def test_a_zarr_store_keeps_orbits_and_platforms(tmp_path):
    for name in ("s1a_33NWB_vv_DES_007_20200108t044150", "a_20200120_vv"):
        write_tif(tmp_path / f"{name}.tif", speckle())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_stack(tmp_path).to_zarr(tmp_path / "cube.zarr", consolidated=False)
        stack = index_stack(tmp_path / "cube.zarr")
    assert stack.dates == index_stack(tmp_path).dates
    assert stack.dates[0].relative_orbit == 7
    assert stack.dates[1].relative_orbit is None


def test_packed_netcdf_opens_to_the_values_before_packing(tmp_path):
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
        np.testing.assert_allclose(read_whole(stack, "vv", i), scenes[i], rtol=2e-3)
        np.testing.assert_array_equal(np.isnan(read_whole(stack, "vv", i)), np.isnan(scenes[i]))


def test_a_crs_given_only_by_cf_attributes_is_read(tmp_path):
    cf = CRS.from_epsg(32632).to_cf()
    ds = xr.Dataset(
        {"vv": (("y", "x"), speckle(), {"grid_mapping": "utm"}),
         "utm": ((), 0, {key: value for key, value in cf.items() if key != "crs_wkt"})},
        {"y": 5000000.0 - 10 * np.arange(96) - 5, "x": 500005 + 10.0 * np.arange(80)},
    )  # fmt: skip
    ds.to_netcdf(tmp_path / "a_20210104.nc", engine="h5netcdf")
    grid = index_stack(tmp_path / "a_20210104.nc").grid
    assert grid.crs_name == "EPSG:32632"
    assert grid.transform == tuple(PLACE)[:6]


def test_classic_netcdf_opens(tmp_path):
    ds = xr.Dataset({"vv": (("time", "y", "x"), speckle()[None])},
                    {"time": np.array(["2021-01-04"], "datetime64[ns]")})  # fmt: skip
    ds.to_netcdf(tmp_path / "a.nc", engine="scipy")
    np.testing.assert_array_equal(read_whole(index_stack(tmp_path / "a.nc")), speckle())


def test_a_store_without_backscatter_variables_is_an_error(tmp_path):
    xr.Dataset({"ndvi": (("y", "x"), speckle())}).to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(StackError, match=r"no variable of backscatter[\s\S]*ndvi"):
        index_stack(tmp_path / "a.zarr")
    xr.Dataset({"vv": (("x", "y"), speckle())}).to_zarr(tmp_path / "b.zarr", consolidated=False)
    with pytest.raises(StackError, match="transpose"):
        index_stack(tmp_path / "b.zarr")


def test_big_endian_envi_opens_and_a_truncated_one_is_an_error(tmp_path):
    header = ("ENVI\nsamples = 80\nlines = 96\nbands = 1\nheader offset = 0\ndata type = 4\n"
              "interleave = bsq\nbyte order = 1\nband names = { Intensity_VH }\n")  # fmt: skip
    (tmp_path / "Intensity_VH.hdr").write_text(header)
    (tmp_path / "Intensity_VH.img").write_bytes((speckle(mean=2e4)).astype(">f4").tobytes())
    for path in (tmp_path, tmp_path / "Intensity_VH.img", tmp_path / "Intensity_VH.hdr"):
        np.testing.assert_array_equal(read_whole(index_stack(path), "vh"), speckle(mean=2e4))
    (tmp_path / "Intensity_VH.img").write_bytes(bytes(100))
    with pytest.raises(StackReadError, match="truncated"):
        index_stack(tmp_path)
