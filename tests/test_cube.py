"""Conversion of xarray objects to a checked cube and back: names, order and coordinates stay."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from sarstack.cube.contract import as_cube, check_cube
from sarstack.errors import ScaleError, StackError

SHAPE = (3, 40, 30)
TIMES = np.array(["2021-01-04", "2021-01-16", "2021-01-28"], "datetime64[ns]")


def speckle(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).gamma(4.4, 0.1 / 4.4, shape).astype(np.float32)


def make_cube(**kwargs):
    coords = {
        "time": TIMES,
        "y": 100.0 - np.arange(SHAPE[1]),
        "x": 10.0 + np.arange(SHAPE[2]),
        "spatial_ref": ((), 0, {"crs_wkt": "some"}),
        "platform": ("time", ["a", "b", "c"]),
    }
    data = {p: (("time", "y", "x"), speckle(i), {"note": p}) for i, p in enumerate(("vv", "vh"))}
    return xr.Dataset(data, coords, {"title": "mine"}, **kwargs)


def test_a_valid_cube_is_returned_unchanged():
    ds = make_cube()
    cube = check_cube(ds)
    xr.testing.assert_equal(cube, ds)
    assert cube.vv.attrs["note"] == "vv"
    assert cube.attrs == ds.attrs


@pytest.mark.parametrize("order", [("x", "y", "time"), ("y", "time", "x"), ("time", "y", "x")])
def test_restore_gives_back_dimension_order_and_names(order):
    names = {"y": "lat", "x": "lon", "time": "t", "vv": "VV"}
    ds = make_cube().transpose(*order).rename(names)
    cube, restore = as_cube(ds)
    assert set(cube.data_vars) == {"vv", "vh"}
    assert cube.vv.dims == ("time", "y", "x")
    np.testing.assert_array_equal(cube.vv, speckle(0))
    back = restore(cube * 2)
    assert back.VV.dims == ds.VV.dims
    xr.testing.assert_allclose(back, ds * 2)


def test_conversion_does_not_change_the_input_object():
    ds = make_cube()
    ds["vv"].values[0, 0, 0] = 0
    before = ds.copy(deep=True)
    cube, restore = as_cube(ds)
    restore(cube * 0)
    xr.testing.assert_identical(ds, before)
    assert np.isnan(cube.vv.values[0, 0, 0])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint16, np.int32])
def test_any_dtype_becomes_float32_and_zero_becomes_nan(dtype, lazy):
    numbers = (speckle() * (1 if np.issubdtype(dtype, np.floating) else 1e4)).astype(dtype)
    numbers[:, :3] = 0
    array = xr.DataArray(numbers, dims=("time", "y", "x"), name="vv", attrs={"scale": "linear"})
    if lazy:
        array = array.chunk(time=1, y=16)
    cube, restore = as_cube(array)
    assert isinstance(cube.vv.data, da.Array) == lazy
    assert cube.vv.dtype == np.float32
    assert cube.vv.chunks == array.chunks
    expected = np.where(numbers == 0, np.nan, numbers.astype(np.float32))
    np.testing.assert_array_equal(cube.vv, expected)
    assert restore(cube).name == "vv"


@pytest.mark.parametrize("lazy", [False, True])
def test_declared_decibel_and_amplitude_become_linear_with_new_units(lazy):
    ds = make_cube()
    ds["vv"] = 10 * np.log10(ds.vv)
    ds["vv"].attrs = {"units": "dB", "long_name": "backscatter in dB", "note": "kept"}
    ds["vh"] = np.sqrt(ds.vh)
    ds["vh"].attrs = {"scale": "amplitude"}
    cube, restore = as_cube(ds.chunk(y=7) if lazy else ds)
    for i, name in enumerate(("vv", "vh")):
        np.testing.assert_allclose(cube[name], speckle(i), rtol=3e-6)
        assert cube[name].attrs["units"] == "1"
    assert cube.vv.attrs["note"] == "kept"
    assert "dB" not in str(restore(cube).vv.attrs)


@pytest.mark.parametrize("number", [-9999.0, -99.0, -32768.0, 7.5])
def test_nodata_numbers_become_nan(number):
    ds = make_cube()
    ds["vv"].values[1, 5:9] = number
    ds["vv"].attrs["_FillValue"] = number
    cube = check_cube(ds)
    assert int(cube.vv.isnull().sum()) == 4 * SHAPE[2]
    assert "_FillValue" not in cube.vv.attrs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: 10 * np.log10(ds), "looks like decibel"),
        (lambda ds: (10 * np.log10(ds)).assign(vv=ds.vv.assign_attrs(units="dB")), "dB"),
        (lambda ds: ds.assign(vv=ds.vv.assign_attrs(units="dB", scale="linear")), "contradict"),
        (lambda ds: ds + 1j, "complex"),
    ],
)
def test_values_that_contradict_the_declared_scale_are_refused(change, words):
    with pytest.raises(ScaleError, match=words):
        as_cube(change(make_cube()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.rename(vv="a", vh="b"), "variables are a, b"),
        (lambda ds: ds.rename(y="u"), "in any order"),
        (lambda ds: ds.expand_dims("band"), "band=0"),
        (lambda ds: ds.assign(VV=ds.vv), "two variables of one polarisation"),
    ],
)
def test_an_object_that_is_not_a_cube_is_refused_and_the_error_names_why(change, words):
    with pytest.raises(StackError, match=words):
        as_cube(change(make_cube()))


@pytest.mark.parametrize("with_coord", [True, False])
def test_an_image_without_time_dimension_is_restored_without_it(with_coord):
    ds = make_cube().isel(time=0, drop=not with_coord)
    cube, restore = as_cube(ds)
    assert cube.vv.shape == (1, *SHAPE[1:])
    xr.testing.assert_identical(restore(cube)["vv"].drop_attrs(), ds["vv"].drop_attrs())


def test_a_cube_without_coordinates_is_restored_without_them():
    ds = make_cube().drop_vars(["time", "y", "x", "spatial_ref", "platform"])
    cube, restore = as_cube(ds)
    assert restore(cube).coords.equals(ds.coords)
    np.testing.assert_array_equal(restore(cube).vh, ds.vh)


def test_restore_gives_back_variables_that_are_not_polarisations():
    ds = make_cube().assign(angle=(("y", "x"), np.ones(SHAPE[1:])))
    cube, restore = as_cube(ds)
    assert set(cube.data_vars) == {"vv", "vh"}
    xr.testing.assert_equal(restore(cube), ds)


@pytest.mark.parametrize("name", ["vh", "gamma0", None, "time_mean"])
def test_a_data_array_is_restored_with_its_name(name):
    array = make_cube().vh.rename(name)
    cube, restore = as_cube(array)
    assert list(cube.data_vars) == ["vh" if name == "vh" else "vv"]
    back = restore(cube)
    assert back.name == name
    xr.testing.assert_equal(back, array)


def test_an_image_without_name_and_coordinates_is_accepted_and_restored():
    image = xr.DataArray(speckle()[0], dims=("y", "x"))
    cube, restore = as_cube(image)
    assert cube.vv.shape == (1, *SHAPE[1:])
    back = restore(cube)
    assert back.dims == ("y", "x")
    assert not back.coords
    np.testing.assert_array_equal(back, image)


def test_a_band_dimension_of_length_one_is_restored():
    array = xr.DataArray(speckle()[:1], dims=("band", "y", "x"), coords={"band": [1]})
    cube, restore = as_cube(array)
    assert cube.vv.dims == ("time", "y", "x")
    xr.testing.assert_identical(restore(cube).drop_attrs(), array)


@pytest.mark.parametrize("labels", [["VV", "VH"], ["vh", "vv"]])
def test_a_dimension_of_polarisations_becomes_variables_and_is_restored(labels):
    array = xr.DataArray(
        np.stack([speckle(0), speckle(1)], axis=1),
        dims=("time", "band", "y", "x"),
        coords={"time": TIMES, "band": labels},
        name="backscatter",
        attrs={"mine": 1},
    )
    cube, restore = as_cube(array)
    np.testing.assert_array_equal(cube[labels[1].lower()], speckle(1))
    back = restore(cube)
    xr.testing.assert_equal(back, array)
    assert back.name == "backscatter"
    assert back.attrs["mine"] == 1
