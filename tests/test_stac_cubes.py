"""Cubes with the structure that odc-stac 0.5 and stackstac 0.5 give to items, in memory and Zarr.

The structure was taken down from cubes that these packages loaded from three items.
"""

from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from pyproj import CRS
from written_images import PLACE, SHAPE, read_whole, speckle

from sarstack.cube.contract import as_cube
from sarstack.errors import SarstackWarning, StackError
from sarstack.readers import index_stack

TIMES = np.array([f"2021-01-{day}T05:34:12" for day in ("04", "16")], "datetime64[ns]")
Y, X = (5_000_000 - 10.0 * np.arange(SHAPE[0]), 500_000 + 10.0 * np.arange(SHAPE[1]))


class RasterSpec(NamedTuple):
    """The attribute `spec` of stackstac, as far as it matters."""

    epsg: int
    bounds: tuple[float, ...]
    resolutions_xy: tuple[float, float]


def make_truth() -> np.ndarray:
    """Two dates of two polarisations with a corner of nodata."""
    truth = np.stack([[speckle(0), speckle(1, 0.02)], [speckle(2), speckle(3, 0.02)]])
    truth[:, :, :6, :9] = np.nan
    return truth


def make_odc_cube(truth: np.ndarray) -> xr.Dataset:
    """A Dataset whose nodata value is an attribute, and whose CRS is that of odc-geo."""
    stored = np.nan_to_num(truth, nan=-32768)
    ds = xr.Dataset(
        {name: (("time", "y", "x"), stored[:, i], {"nodata": -32768})
         for i, name in enumerate(("vv", "vh"))},
        {"y": ("y", Y - 5, {"units": "metre", "resolution": -10.0, "crs": "EPSG:32632"}),
         "x": ("x", X + 5, {"units": "metre", "resolution": 10.0, "crs": "EPSG:32632"}),
         "time": TIMES, "spatial_ref": np.int32(32632)},
    )  # fmt: skip
    wkt = CRS.from_epsg(32632).to_wkt()
    ds.spatial_ref.attrs = {
        "spatial_ref": wkt, "crs_wkt": wkt, "grid_mapping_name": "transverse_mercator",
        "GeoTransform": "500000 10 0 5000000 0 -10",
    }  # fmt: skip
    for array in ds.data_vars.values():
        array.encoding["grid_mapping"] = "spatial_ref"
    return ds


def make_stackstac_cube(truth: np.ndarray) -> xr.DataArray:
    """A DataArray of float64 with corner coordinates, and objects as coordinates and attributes."""
    objects = {"sar:polarizations": {"VV", "VH"}, "raster:bands": {"nodata": -32768}}
    spec = RasterSpec(32632, (500000, 4999040, 500800, 5000000), (10, 10))
    return xr.DataArray(
        truth.astype(np.float64),
        {
            "time": TIMES, "id": ("time", ["a", "b"]), "band": ["vv", "vh"], "y": Y, "x": X,
            "platform": "SENTINEL-1A", "sat:orbit_state": "descending", "sat:relative_orbit": 66,
            "epsg": 32632, **{name: ((), np.array(o, object)) for name, o in objects.items()},
        },
        ("time", "band", "y", "x"), "stackstac-8b2d",
        {"spec": spec, "crs": "epsg:32632", "transform": Affine(*PLACE), "resolution": 10},
    )  # fmt: skip


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("package", ["odc-stac", "odc-stac array", "stackstac"])
@pytest.mark.filterwarnings("ignore:.*half a pixel:sarstack.errors.SarstackWarning")
def test_the_accessor_takes_cubes_of_stac_loaders(package: str, lazy: bool) -> None:
    truth = make_truth()
    cube = make_stackstac_cube(truth) if package == "stackstac" else make_odc_cube(truth)
    if package == "odc-stac array":
        assert isinstance(cube, xr.Dataset)
        cube = cube.to_array("band")
    cube = cube.chunk(y=40, x=40) if lazy else cube
    checked, _ = as_cube(cube)
    for i, name in enumerate(("vv", "vh")):
        np.testing.assert_array_equal(checked[name].values, truth[:, i])
    result = cube.despeck.apply("boxcar").compute()
    assert (
        result.dims == cube.dims if isinstance(cube, xr.DataArray) else result.sizes == cube.sizes
    )
    assert result.rio.crs.to_epsg() == 32632


def test_labels_with_a_polarisation_in_them_are_used_and_others_are_named_in_an_error() -> None:
    truth = make_truth()
    cube = make_stackstac_cube(truth).assign_coords(band=["gamma0_vv", "gamma0_vh"])
    cube.attrs = {}
    np.testing.assert_array_equal(as_cube(cube)[0]["vh"].values, truth[:, 1])
    with pytest.warns(SarstackWarning, match="may be"):
        result = cube.despeck.apply("boxcar")
    assert list(result.band.values) == ["gamma0_vv", "gamma0_vh"]
    with pytest.raises(StackError, match=r"band: gamma0_vv, angle[\s\S]*array\.sel\(band"):
        as_cube(cube.assign_coords(band=["gamma0_vv", "angle"]))


@pytest.mark.parametrize("package", ["odc-stac", "stackstac"])
@pytest.mark.parametrize("form", ["Dataset", "DataArray"])
def test_stores_of_cubes_of_stac_loaders_open_at_their_place(tmp_path, package, form) -> None:
    truth = make_truth()
    path = tmp_path / "cube.zarr"
    if package == "odc-stac":
        ds = make_odc_cube(truth)
        stored = ds if form == "Dataset" else ds.to_array("band").to_dataset(name="data")
    else:
        array = make_stackstac_cube(truth)
        # Zarr stores no objects: users drop such coordinates, and make text of attributes.
        array = array.drop_vars([name for name in array.coords if array[name].dtype == object])
        array.attrs = {name: str(value) for name, value in array.attrs.items()}
        stored = array.to_dataset("band") if form == "Dataset" else array.to_dataset(name="data")
    stored.to_zarr(path, consolidated=False)
    stack = index_stack(path)
    assert stack.grid.transform == tuple(PLACE)[:6]
    assert stack.grid.crs_name == "EPSG:32632"
    for date in range(2):
        for i, name in enumerate(("vv", "vh")):
            np.testing.assert_array_equal(read_whole(stack, name, date), truth[date, i])
    if package == "stackstac":
        first = stack.dates[0]
        assert (first.platform, first.orbit_direction) == ("sentinel-1a", "descending")
        assert first.relative_orbit == 66
