"""Arrays of users become intensity by the rules of the file readers, in memory or lazy."""

import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from written_images import SHAPE, read_whole, speckle, write_tif

from sarstack.cube.contract import as_cube
from sarstack.errors import ScaleError, StackError
from sarstack.readers import index_stack

LAZY = pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])


def convert(obj, lazy):
    """Intensity of the first date, and the attributes that are left."""
    cube, _ = as_cube(obj.chunk(y=40, x=30) if lazy else obj)
    array = cube[next(iter(cube.data_vars))]
    return array.isel(time=0).values, array.attrs


def packings():
    """Stored numbers, nodata tag, gain, offset and unit of packed images."""
    true = speckle()
    decibel = np.round(1000 * np.log10(true)).astype(np.int16)
    decibel[:, :9] = -32768
    linear = np.round(true / 1e-4).astype(np.uint16)
    shifted = np.round((true - 0.05) / 1e-4).astype(np.int16)
    shifted[:5] = 0
    return {
        "linear": (linear, None, 1e-4, 0.0, ""),
        "linear, wide integers": (linear.astype(np.int32), 7, 1e-4, 0.0, ""),
        "linear, with offset": (shifted, 0, 1e-4, 0.05, ""),
        "decibel": (decibel, -32768, 0.01, 0.0, "dB"),
        "decibel, zeros declared": (np.where(decibel == -32768, 0, decibel), 0, 0.01, 0.0, "dB"),
    }


@LAZY
@pytest.mark.parametrize("mode", [{}, {"masked": True}, {"mask_and_scale": True}], ids=str)
@pytest.mark.parametrize("packed", packings().values(), ids=packings())
def test_a_packed_file_opened_with_rioxarray_gives_the_intensity_of_the_file(
    tmp_path, packed, mode, lazy
):
    stored, nodata, gain, offset, unit = packed
    path = write_tif(tmp_path / "a_vv.tif", stored, nodata=nodata)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [gain], [offset]
        if unit:
            file.units = [unit]
    expected = read_whole(index_stack(path, scale="db" if unit else "linear"))
    array = rioxarray.open_rasterio(path, **mode)
    array.attrs["scale"] = unit or "linear"
    found, attributes = convert(array, lazy)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not {"scale_factor", "add_offset", "_FillValue"} & set(attributes)


@LAZY
@pytest.mark.parametrize("nodata", [2147483647, 1e-7, -3.4028235e38, 16777217])
def test_declared_nodata_is_compared_at_the_precision_of_the_array(nodata, lazy):
    pixels = speckle()
    pixels[:, :20] = nodata
    array = xr.DataArray(pixels, dims=("y", "x"), attrs={"_FillValue": nodata, "scale": "linear"})
    found, _ = convert(array, lazy)
    np.testing.assert_array_equal(np.isnan(found), pixels == np.float32(nodata))


@LAZY
@pytest.mark.filterwarnings("ignore:.*fill values:sarstack.errors.SarstackWarning")
def test_a_zero_collar_in_decibel_is_nodata(lazy):
    """In each date by its own border, whatever the chunks."""
    pixels = 10 * np.log10(np.stack([speckle(0), speckle(1)]))
    pixels[0, :, :11] = 0
    array = xr.DataArray(pixels, dims=("time", "y", "x"), attrs={"units": "dB"})
    found, _ = convert(array, lazy)
    assert np.isnan(found[:, :11]).all()
    np.testing.assert_allclose(found[:, 11:], speckle(0)[:, 11:], rtol=1e-5)


@LAZY
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_whole_numbers_without_a_declared_scale_are_refused(dtype, lazy):
    numbers = np.round(np.sqrt(speckle()) * 1000).astype(dtype)
    with pytest.raises(ScaleError, match="whole"):
        convert(xr.DataArray(numbers, dims=("y", "x")), lazy)
    found, _ = convert(xr.DataArray(numbers, dims=("y", "x"), attrs={"scale": "amplitude"}), lazy)
    np.testing.assert_allclose(found, numbers.astype(np.float32) ** 2)


def test_bands_with_different_gains_are_told_apart_or_refused():
    pixels = np.stack([speckle(0), speckle(1) / 2]) * 1e4
    attributes = {"scales": (1e-4, 2e-4), "offsets": (0.0, 0.0), "scale": "linear"}
    both = xr.DataArray(pixels, {"band": [1, 2]}, ("band", "y", "x"), attrs=attributes)
    found, _ = convert(both.isel(band=1), lazy=False)
    np.testing.assert_allclose(found, speckle(1), rtol=1e-5)
    with pytest.raises(StackError, match="different packings"):
        convert(both.isel(band=1, drop=True), lazy=False)


@pytest.mark.parametrize(
    "attributes",
    [{"scale_factor": 0}, {"scale_factor": np.nan}, {"add_offset": "none"}, {"valid_range": [1]}],
)
def test_attributes_that_unpack_no_number_are_refused(attributes):
    with pytest.raises(StackError, match=next(iter(attributes))):
        convert(xr.DataArray(speckle(), dims=("y", "x"), attrs=attributes), lazy=False)


def test_limits_of_packed_numbers_hold_for_numbers_that_xarray_unpacked(tmp_path):
    stored = np.round(speckle() / 1e-4).astype(np.int16)
    stored[:4] = 30000
    attributes = {"scale_factor": 1e-4, "valid_range": np.int16([1, 20000]), "scale": "linear"}
    xr.Dataset({"vv": (("y", "x"), stored, attributes)}).to_netcdf(tmp_path / "a.nc")
    for unpacked in (True, False):
        with xr.open_dataset(tmp_path / "a.nc", mask_and_scale=unpacked) as ds:
            found, _ = convert(ds["vv"].load(), lazy=False)
        assert np.isnan(found[:4]).all()
        np.testing.assert_allclose(found[4:], stored[4:] * 1e-4, rtol=1e-5)


def test_decibel_made_lazily_of_a_cube_of_sarstack_is_refused_when_computed(tmp_path):
    """xarray can keep attributes in arithmetic: they declare linear numbers then."""
    write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    cube = index_stack(tmp_path)
    from sarstack.readers.cube import build_cube

    with xr.set_options(keep_attrs=True):
        decibel = 10 * np.log10(build_cube(cube))
    with pytest.raises(ScaleError, match="decibel"):
        as_cube(decibel)[0].compute()


@pytest.mark.parametrize("lazy_one", ["vv", "vh"])
def test_one_lazy_and_one_loaded_variable_give_the_same_results(lazy_one):
    dates = [np.stack([speckle(i + j) for i in range(3)]) for j in (0, 10)]
    whole = xr.Dataset(
        {p: (("time", "y", "x"), d) for p, d in zip(("vv", "vh"), dates, strict=True)}
    )
    half = whole.copy()
    half[lazy_one] = half[lazy_one].chunk(y=40, x=40)
    expected, result = whole.despeck.apply("boxcar"), half.despeck.apply("boxcar")
    assert all(array.chunks is not None for array in result.data_vars.values())
    xr.testing.assert_equal(result.compute(), expected)
    for measure in ("looks", "labels"):
        first, second = (getattr(ds.despeck, measure)() for ds in (half, whole))
        xr.testing.assert_allclose(first.compute(), second)


@pytest.mark.parametrize("corner_px", [0, 0.5])
def test_the_crs_of_a_stackstac_array_is_kept_and_corner_coordinates_are_told(corner_px):
    array = xr.DataArray(
        np.stack([[speckle(0), speckle(1)]]),
        {
            "time": np.array(["2021-03-04"], "M8[ns]"),
            "band": ["vv", "vh"],
            "y": 5000000 - 10.0 * (np.arange(SHAPE[0]) + corner_px),
            "x": 500000 + 10.0 * (np.arange(SHAPE[1]) + corner_px),
            "epsg": 32632,
        },
        ("time", "band", "y", "x"),
        attrs={"transform": (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)},
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = array.despeck.apply("boxcar")
    assert result.rio.crs.to_epsg() == 32632
    assert any("half a pixel off" in str(w.message) for w in seen) == (corner_px == 0)


def test_the_array_of_the_user_stays_as_it_is():
    pixels = speckle()
    pixels[:3] = 0
    before = pixels.copy()
    convert(xr.DataArray(pixels, dims=("y", "x")), lazy=False)
    np.testing.assert_array_equal(pixels, before)
