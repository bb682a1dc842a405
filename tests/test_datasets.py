"""Zarr stores and netCDF files as people write them open to the numbers and places they mean."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 (registers the accessor ``rio``)
import xarray as xr
import zarr
from pyproj import CRS
from written_images import SHAPE, read_whole, speckle

from sarstack.errors import SarstackWarning, StackError
from sarstack.readers import index_stack

DAYS = np.array(["2021-03-28", "2021-03-04", "2021-03-16"], "M8[ns]")  # appended out of order
Y = 4999995 - 10.0 * np.arange(SHAPE[0])
X = 500005 + 10.0 * np.arange(SHAPE[1])
PLACE = (10, 0, 500000, 0, -10, 5000000)


def make_cube(dtype=np.float32, attributes=None, gain=1.0, offset=0.0, **coordinates) -> xr.Dataset:
    """Three dates of speckle, packed by gain and offset."""
    pixels = np.stack([speckle(i) for i in range(3)])
    if np.dtype(dtype).kind in "iu":
        pixels = np.round((pixels - offset) / gain).clip(0, np.iinfo(dtype).max)
    coordinates = {"time": DAYS, "y": Y, "x": X} | coordinates
    return xr.Dataset(
        {"vv": (("time", "y", "x"), pixels.astype(dtype), attributes or {})}, coordinates
    )


def write(cube: xr.Dataset, folder: Path, kind: str = "zarr") -> Path:
    path = folder / f"cube.{kind}"
    if kind == "zarr":
        cube.to_zarr(path, consolidated=False, zarr_format=2)
    else:
        cube.to_netcdf(path, engine="scipy" if kind == "classic.nc" else "h5netcdf")
    return path


def seconds(days: np.ndarray) -> np.ndarray:
    return days.astype("M8[s]").astype(np.int64)


TIMES = {
    "nanoseconds": DAYS.astype("M8[ns]").astype(np.int64),
    "milliseconds": seconds(DAYS) * 1000,
    "seconds as float": seconds(DAYS).astype(float),
    "YYYYMMDD": np.array([20210328, 20210304, 20210316]),
    "YYYYMMDD as float": np.array([20210328.0, 20210304.0, 20210316.0]),
    "YYYYMMDDHHMMSS": np.array([20210328000000, 20210304000000, 20210316000000]),
    "year and day of year": np.array([2021087, 2021063, 2021075]),
    "text": np.array(["2021-03-28T00:00:00Z", "20210304", "2021-03-16 00:00:00"], object),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_a_time_axis_without_units_gives_its_dates_in_order(tmp_path, times):
    stack = index_stack(write(make_cube(time=times), tmp_path))
    assert [date.time for date in stack.dates] == sorted(DAYS)
    np.testing.assert_array_equal(read_whole(stack, date=0), speckle(1))


def test_nanoseconds_keep_the_second(tmp_path):
    times = (DAYS + np.timedelta64(20052, "s")).astype("M8[ns]")
    stack = index_stack(write(make_cube(time=times.astype(np.int64)), tmp_path))
    assert stack.dates[0].timestamp == "2021-03-04T05:34:12Z"


@pytest.mark.parametrize(
    "times",
    [
        np.array([18690, 18700, 18710]),  # days since what?
        np.array([20211304, 20210304, 20210316]),  # there is no month 13
        np.array(["summer", "autumn", "winter"], object),
        np.array(["1970-03-04", "1970-03-16", "1970-03-28"], "M8[ns]"),
        np.array(["2221-03-04", "2221-03-16", "2221-03-28"], "M8[ns]"),
    ],
)
def test_a_time_axis_outside_1978_to_2100_is_refused(tmp_path, times):
    with pytest.raises(StackError, match="between 1978 and 2100"):
        index_stack(write(make_cube(time=times), tmp_path))


@pytest.mark.parametrize("first", [0, 1])
def test_a_time_axis_that_counts_is_a_series_without_dates(tmp_path, first):
    with pytest.warns(SarstackWarning, match="in the order of their numbers"):
        stack = index_stack(write(make_cube(time=np.arange(3) + first), tmp_path))
    assert all(date.is_numbered for date in stack.dates)


PACKINGS = {
    "_Unsigned": (np.uint16, 2e-6, {"_Unsigned": "true", "scale_factor": 2e-6}),
    "valid_range": (np.int16, 1e-4, {"scale_factor": 1e-4, "valid_range": np.int16([1, 3000])}),
    "valid_min and valid_max": (
        np.int16, 1e-4,
        {"scale_factor": 1e-4, "valid_min": np.int16(1), "valid_max": np.int16(3000)},
    ),
    "valid_range of unpacked numbers": (
        np.int16, 1e-4, {"scale_factor": 1e-4, "valid_range": [1e-4, 0.3]},
    ),
    "a list of missing_value": (
        np.int16, 1e-4, {"scale_factor": 1e-4, "missing_value": np.int16([3001, 3002])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["zarr", "classic.nc", "nc"])
@pytest.mark.parametrize(("dtype", "gain", "attributes"), PACKINGS.values(), ids=PACKINGS)
def test_packed_numbers_open_to_what_cf_says(tmp_path, kind, dtype, gain, attributes):
    cube = make_cube(dtype, attributes, gain)
    stored = cube.vv.values
    stored[:, :4], stored[:, 4:6] = 3001, 3002
    if "_Unsigned" in attributes:
        assert (stored > 32767).any()
        cube["vv"] = cube.vv.copy(data=stored.view("int16"))
        expected = stored * gain
    else:
        is_nodata = (stored == 3001) | (stored == 3002)
        if any(key.startswith("valid") for key in attributes):
            is_nodata |= (stored > 3000) | (stored < 1)
        expected = np.where(is_nodata | (stored == 0), np.nan, stored * gain)
    stack = index_stack(write(cube, tmp_path, kind), scale="linear")
    for date, day in enumerate(np.argsort(DAYS)):
        np.testing.assert_allclose(read_whole(stack, date=date), expected[day], rtol=1e-6)


def test_a_negative_fill_value_of_unsigned_numbers_is_their_highest(tmp_path):
    cube = make_cube(np.uint8, gain=0.01)
    cube.vv.values[:, :4] = 255
    cube["vv"] = cube.vv.copy(data=cube.vv.values.view(np.int8))
    cube.vv.attrs = {"_Unsigned": "true", "scale_factor": 0.01, "_FillValue": np.int8(-1)}
    path = write(cube, tmp_path, "classic.nc")
    stack = index_stack(path, scale="linear")
    with xr.open_dataset(path, engine="scipy") as decoded:
        expected = decoded.vv.sortby("time").values[0]
    assert np.isnan(expected).any()
    found = read_whole(stack)
    np.testing.assert_allclose(found, np.where(expected == 0, np.nan, expected), rtol=1e-6)


@pytest.mark.parametrize("rows", [slice(None), slice(7, 50)])
@pytest.mark.parametrize("centre_px", [0, 0.5])
def test_the_coordinates_of_stackstac_give_place_polarisation_and_crs(tmp_path, rows, centre_px):
    """A dimension of bands, the CRS as scalar coordinate, x and y of corners or centres."""
    pixels = np.stack([[speckle(i), speckle(i + 10)] for i in range(2)])
    cube = xr.DataArray(
        pixels,
        {
            "time": DAYS[1:],
            "band": ["vv", "vh"],
            "y": 5000000 - 10.0 * (np.arange(SHAPE[0]) + centre_px),
            "x": 500000 + 10.0 * (np.arange(SHAPE[1]) + centre_px),
            "epsg": 32632,
            "sat:relative_orbit": 44,
        },
        ("time", "band", "y", "x"),
        "stackstac-7d2",
        {"transform": [*map(float, PLACE), 0.0, 0.0, 1.0], "resolution": 10.0},
    ).isel(y=rows)
    stack = index_stack(write(cube.to_dataset(), tmp_path))
    assert stack.polarisations == ("vv", "vh")
    assert stack.grid.crs_name == "EPSG:32632"
    assert stack.grid.transform[2] == 500000
    assert stack.grid.transform[5] == 5000000 - 10 * (rows.start or 0)
    assert stack.dates[0].relative_orbit == 44
    np.testing.assert_array_equal(read_whole(stack, "vh", 1), pixels[1, 1, rows])


@pytest.mark.parametrize(
    "attributes",
    [
        {"transform": "Affine(10.0, 0.0, 500000.0,\n       0.0, -10.0, 5000000.0)"},
        {"transform": "| 10.00, 0.00, 500000.00|\n| 0.00,-10.00, 5000000.00|\n| 0.00, 0.00, 1.00|"},
        {"spec": "RasterSpec(epsg=32632, bounds=(500000, 4999040, np.float64(500800.0), 5000000), "
                 "resolutions_xy=(10, 10))"},
        {},
    ],
)  # fmt: skip
def test_attributes_that_became_text_still_tell_corner_coordinates(tmp_path, attributes):
    """Users make text of the attributes of stackstac, or drop them: Zarr cannot store them."""
    cube = xr.DataArray(
        np.stack([speckle()]),
        {
            "time": DAYS[:1],
            "y": 5000000 - 10.0 * np.arange(SHAPE[0]),
            "x": 500000 + 10.0 * np.arange(SHAPE[1]),
            "epsg": 32632,
        },
        ("time", "y", "x"),
        "vv",
        attributes,
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        grid = index_stack(write(cube.to_dataset(), tmp_path)).grid
        cube.despeck.apply("boxcar")
    texts = [str(w.message) for w in seen]
    if attributes:
        assert grid.transform == PLACE
        assert not any("may be" in text for text in texts)
    else:
        assert grid.transform[2] == 499995
        assert sum("may be the upper left corners" in text for text in texts) == 2


@pytest.mark.parametrize("registration", ["pixel", "node"])
def test_geozarr_attributes_give_place_and_crs_without_coordinates(tmp_path, registration):
    a, b, c, d, e, f = PLACE
    shift = 5 if registration == "node" else 0
    cube = make_cube().drop_vars(["y", "x"])
    cube.attrs = {
        "proj:code": "EPSG:32632",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [a, b, c + shift, d, e, f - shift],
        "spatial:registration": registration,
        "spatial:shape": list(SHAPE),
    }
    grid = index_stack(write(cube, tmp_path)).grid
    assert grid.transform == PLACE
    assert grid.crs_name == "EPSG:32632"
    part = cube.isel(y=slice(3, None))
    part.to_zarr(tmp_path / "part.zarr", consolidated=False)
    with pytest.raises(StackError, match="spatial:shape"):
        index_stack(tmp_path / "part.zarr")


@pytest.mark.parametrize(
    "attributes",
    [
        {"proj:wkt2": CRS.from_epsg(32632).to_wkt()},
        {"proj:projjson": CRS.from_epsg(32632).to_json_dict()},
        {"proj:epsg": 32632},
        {"crs": "epsg:32632"},
    ],
)
def test_a_crs_in_attributes_is_read(tmp_path, attributes):
    cube = make_cube().assign_attrs(attributes)
    assert index_stack(write(cube, tmp_path)).grid.crs_name == "EPSG:32632"


@pytest.mark.parametrize("flip", [False, True])
def test_a_flipped_cube_keeps_its_place(tmp_path, flip):
    cube = make_cube().rio.write_crs(32632)
    cube = cube.rio.write_transform(cube.rio.transform(recalc=True))
    cube = cube.isel(y=slice(None, None, -1)) if flip else cube
    grid = index_stack(write(cube, tmp_path)).grid
    edge = 5000000 - 10 * SHAPE[0] if flip else 5000000
    assert grid.transform == (10, 0, 500000, 0, 10 if flip else -10, edge)


@pytest.mark.parametrize(
    ("left", "top", "step"), [(-122.41941, 48.123456, 1e-4), (500000.25, 5438536.25, 1.5)]
)
def test_coordinates_kept_as_float32_are_a_regular_grid(tmp_path, left, top, step):
    y = (top - step * (np.arange(SHAPE[0]) + 0.5)).astype(np.float32)
    x = (left + step * (np.arange(SHAPE[1]) + 0.5)).astype(np.float32)
    transform = index_stack(write(make_cube(y=y, x=x), tmp_path, "nc")).grid.transform
    assert abs(transform[2] - left) < 0.1 * step
    assert abs(transform[5] - top) < 0.35 * step
    assert transform[0] == pytest.approx(step, rel=1e-2)


def test_coordinates_too_coarse_for_their_grid_are_refused(tmp_path):
    y = (5e6 - 0.25 * np.arange(SHAPE[0])).astype(np.float32)
    with pytest.raises(StackError, match="not evenly spaced"):
        index_stack(write(make_cube(y=y), tmp_path, "nc"))


def test_a_date_that_was_never_written_is_nodata_and_not_zero_decibel(tmp_path):
    decibel = np.round(1000 * np.log10(make_cube().vv.values)).astype(np.int16)
    group = zarr.open_group(tmp_path / "cube.zarr", mode="w", zarr_format=3)
    array = group.create_array(
        "vv", shape=decibel.shape, chunks=(1, 40, 40), dtype=np.int16, fill_value=0,
        dimension_names=("time", "y", "x"),
        attributes={"scale_factor": 0.01, "_FillValue": -32768, "units": "dB"},
    )  # fmt: skip
    decibel[:2, 5, 7] = 0
    array[:2] = decibel[:2]
    times = group.create_array("time", shape=(3,), dtype=np.int64, dimension_names=("time",))
    times[:] = [20210304, 20210316, 20210328]
    stack = index_stack(tmp_path / "cube.zarr")
    assert np.isnan(read_whole(stack, date=2)).all()
    assert read_whole(stack, date=0)[5, 7] == 1
