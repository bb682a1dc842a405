"""A finished result is recognised by all that decides its pixels, and by nothing else."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from written_images import SHAPE, speckle, write_tif

from sarstack.readers import index_stack
from sarstack.readers.cube import build_cube
from sarstack.workflows.fingerprint import fingerprint, identity, stamp_files

NAME = "farm_20210104_vv"


def marks(path: Path) -> list[str]:
    """Fingerprints of the images of a stack."""
    stack = index_stack(path, scale="linear")
    return [fingerprint(stack.grid, identity(raster)) for raster in stack.rasters["vv"]]


def keys(path: Path) -> str:
    """Name of the Dask array of a lazy cube."""
    return str(build_cube(index_stack(path, scale="linear"), 64).vv.data.name)


def write_auxiliary(path: Path, text: str) -> None:
    path.write_text(f'<PAMDataset><PAMRasterBand band="1">{text}</PAMRasterBand></PAMDataset>')


def write_envi(folder: Path) -> Path:
    return write_tif(folder / f"{NAME}.img", speckle(), driver="ENVI")


def make_view(folder: Path) -> Path:
    source = write_tif(folder / "source.tif", speckle())
    view = folder / f"{NAME}.vrt"
    with rasterio.open(source) as file:
        rasterio.shutil.copy(file, view, driver="VRT")
    return view


CHANGES = {
    "the file": lambda path: os.utime(path, ns=(1, 1)),
    "a nodata value beside it": lambda path: write_auxiliary(
        path.with_name(f"{path.name}.aux.xml"), "<NoDataValue>7</NoDataValue>"
    ),
    "a gain beside it": lambda path: write_auxiliary(
        path.with_name(f"{path.name}.aux.xml"), "<Scale>2</Scale>"
    ),
    "a mask": lambda path: write_tif(
        path.with_name(f"{path.name}.msk"), np.full(SHAPE, 255, np.uint8)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_decides_the_pixels_of_a_file_changes_its_mark(tmp_path, change):
    path = write_tif(tmp_path / f"{NAME}.tif", speckle())
    before = marks(path), keys(path)
    assert (marks(path), keys(path)) == before
    change(path)
    assert marks(path) != before[0]
    assert keys(path) != before[1]


def test_statistics_that_a_viewer_writes_change_no_mark(tmp_path):
    path = write_tif(tmp_path / f"{NAME}.tif", speckle())
    before = marks(path)
    statistics = '<Metadata><MDI key="STATISTICS_MEAN">0.1</MDI></Metadata>'
    write_auxiliary(tmp_path / f"{NAME}.tif.aux.xml", statistics)
    assert marks(path) == before


def test_the_place_of_an_image_is_part_of_its_mark(tmp_path):
    path = write_tif(tmp_path / f"{NAME}.tif", speckle())
    status, before = path.stat(), marks(path)
    with rasterio.open(path, "r+") as file:
        file.crs = "EPSG:32633"
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert marks(path) != before


def test_a_changed_envi_header_changes_the_mark(tmp_path):
    path = write_envi(tmp_path)
    before, stamps = marks(path), stamp_files(index_stack(path))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text() + "comment = {new}\n")
    assert marks(path) != before
    assert stamp_files(index_stack(path)) != stamps


def test_a_changed_source_changes_the_mark_of_a_virtual_raster(tmp_path):
    view = make_view(tmp_path)
    before = marks(view), keys(view)
    write_tif(tmp_path / "source.tif", speckle(1), compress="deflate")
    assert marks(view) != before[0]
    assert keys(view) != before[1]


def test_a_folder_that_was_moved_keeps_its_marks(tmp_path):
    (tmp_path / "a").mkdir()
    write_tif(tmp_path / "a" / f"{NAME}.tif", speckle())
    before = marks(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert marks(tmp_path / "b") == before


@pytest.mark.parametrize(
    ("zarr_format", "options"), [(2, {}), (3, {}), (3, {"shards": (1, *SHAPE)})]
)
def test_a_date_that_arrives_in_a_store_changes_its_own_mark_only(tmp_path, zarr_format, options):
    store, days = tmp_path / "cube.zarr", np.array(["2021-01-04", "2021-01-16"], "M8[ns]")
    encoding = {"vv": {"chunks": (1, 48, 40), **options}}
    pixels = np.stack([speckle(0), np.full(SHAPE, np.nan, np.float32)])
    cube = xr.Dataset({"vv": (("time", "y", "x"), pixels)}, {"time": days})
    cube.to_zarr(store, zarr_format=zarr_format, encoding=encoding, consolidated=False)
    before, name = marks(store), keys(store)
    arrived = xr.Dataset({"vv": (("time", "y", "x"), speckle(1)[None])}, {"time": days[1:]})
    arrived.to_zarr(store, region={"time": slice(1, 2)}, consolidated=False)
    filled = marks(store)
    assert filled[0] == before[0]
    assert filled[1] != before[1]
    assert keys(store) != name
    arrived.assign_coords(time=days[1:] + np.timedelta64(12, "D")).to_zarr(
        store, append_dim="time", consolidated=False
    )
    assert marks(store)[:2] == filled


def test_objects_that_a_server_lists_are_part_of_the_mark_of_a_remote_store():
    store = "memory://marks/cube.zarr"
    days = np.array(["2021-01-04", "2021-01-16"], "M8[ns]")
    pixels = np.stack([speckle(0), speckle(1)])
    cube = xr.Dataset({"vv": (("time", "y", "x"), pixels)}, {"time": days})
    cube.to_zarr(store, encoding={"vv": {"chunks": (1, *SHAPE)}}, zarr_format=2)
    rasters = index_stack(store).rasters["vv"]
    assert all(len(raster.stamp()) == 1 for raster in rasters)
    assert rasters[0].stamp() != rasters[1].stamp()
