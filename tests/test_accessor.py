"""The accessor: any xarray object of intensities, the same pixels as the methods themselves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from pyproj import CRS
from small_networks import save_small_network

import sarstack  # noqa: F401 - registers the accessor
from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.errors import ScaleError, UsageError
from sarstack.labels.statistics import add_dates, finish_labels
from sarstack.networks.model_file import read_card


def cube(n_dates: int = 3, shape: tuple[int, int] = (60, 70)) -> xr.Dataset:
    rng = np.random.default_rng(0)
    times = np.datetime64("2024-01-01", "ns") + np.arange(n_dates) * np.timedelta64(12, "D")
    pixels = 0.1 * rng.gamma(4.4, 1 / 4.4, (n_dates, *shape)).astype(np.float32)
    pixels[:, :5, :9] = np.nan
    y, x = 5000.0 - 10 * np.arange(shape[0]), 300.0 + 10 * np.arange(shape[1])
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"vv": (dims, pixels, {"units": "1", "note": "kept"}), "vh": (dims, 0.2 * pixels)},
        {"time": times, "y": y, "x": x, "orbit": ("time", [44] * n_dates)},
        {"title": "kept too"},
    )


UTM = CRS.from_epsg(32632)


def with_crs(array: xr.DataArray, where: str) -> xr.DataArray:
    """Store the CRS at one of the places where people have it."""
    if where == "attribute":
        return array.assign_attrs(crs="EPSG:32632")
    if where == "nowhere":
        return array
    variable = xr.Variable((), 0, {"crs_wkt": UTM.to_wkt()})
    return array.assign_coords({where: variable}).assign_attrs(grid_mapping=where)


@pytest.mark.parametrize("kind", ["array", "dataset", "lazy"])
@pytest.mark.parametrize("y_step", [-10, 10])
@pytest.mark.parametrize("axes", [("y", "x"), ("lat", "lon"), ("northing", "easting")])
@pytest.mark.parametrize("where", ["spatial_ref", "utm_zone", "attribute", "nowhere"])
def test_to_raster_writes_grid_pixels_and_nodata(
    where: str, axes: tuple[str, str], y_step: int, kind: str, tmp_path: Path
) -> None:
    """Without a further import: `apply` makes rioxarray ready."""
    ds = cube(n_dates=2, shape=(40, 50))
    y, x = 5_300_000 + y_step * (np.arange(40) + 0.5), 600_000 + 10 * (np.arange(50) + 0.5)
    ds = ds.assign_coords(y=y, x=x).rename(y=axes[0], x=axes[1])
    array = with_crs(ds["vv"], where)
    given = {
        "array": array,
        "dataset": xr.Dataset({"vv": array, "vh": 0.2 * array}, attrs=array.attrs),
        "lazy": array.chunk({axes[0]: 16, axes[1]: 20}),
    }[kind]
    result = given.despeck.apply("boxcar").isel(time=1)
    result.rio.to_raster(tmp_path / "written.tif")
    with rasterio.open(tmp_path / "written.tif") as raster:
        assert (raster.crs is None) == (where == "nowhere")
        assert raster.crs is None or raster.crs.to_epsg() == 32632
        assert raster.transform.almost_equals(Affine(10, 0, 600_000, 0, y_step, 5_300_000))
        assert np.isnan(raster.nodata)
        bands = raster.read()
    expected = [result[name] for name in result] if kind == "dataset" else [result]
    np.testing.assert_array_equal(bands, np.stack([band.values for band in expected]))


def test_labels_can_be_written_as_rasters(tmp_path: Path) -> None:
    array = with_crs(cube(n_dates=4)["vv"], "spatial_ref")
    array.despeck.labels()["std"].isel(polarisation=0).rio.to_raster(tmp_path / "std.tif")
    with rasterio.open(tmp_path / "std.tif") as raster:
        assert raster.crs.to_epsg() == 32632
        assert np.isnan(raster.nodata)
        assert np.isnan(raster.read(1)[0, 0])


def test_apply_takes_an_object_of_a_class() -> None:
    """As somebody writes it in a notebook."""

    class Half(Despeckler):
        name = "half"
        halo = 0

        def despeckle(self, intensity, statistics, summary=None):
            return intensity / 2

    result = cube().despeck.apply(Half())
    np.testing.assert_array_equal(result["vv"], cube()["vv"] / 2)


def test_undeclared_lazy_decibel_is_refused_when_computed() -> None:
    in_db = (10 * np.log10(cube())).chunk(y=20, x=20)
    in_db["vv"].attrs = in_db["vh"].attrs = {}
    with pytest.raises(ScaleError, match="looks like decibel"):
        in_db.despeck.apply("boxcar").compute()
    in_db["vv"].attrs["units"] = in_db["vh"].attrs["units"] = "dB"
    np.testing.assert_allclose(
        in_db.despeck.apply("boxcar")["vv"], cube().despeck.apply("boxcar")["vv"], rtol=1e-4
    )


@pytest.mark.parametrize("method", ["lee", "quegan-yu", "despecknet", "despecknet-mt"])
def test_apply_equals_the_method_and_keeps_what_surrounds_the_pixels(method: str) -> None:
    ds = cube()
    before = ds.copy(deep=True)
    result = ds.despeck.apply(method)
    expected = make_despeckler(method).apply(ds["vv"].values)
    np.testing.assert_allclose(result["vv"], expected, rtol=1e-5)
    assert result["vv"].attrs["note"] == "kept"
    assert result["vv"].attrs["speckle_filter"] == method
    assert result.attrs["title"] == "kept too"
    assert set(result.coords) == set(ds.coords)
    xr.testing.assert_identical(ds, before)


def test_a_lazy_cube_gives_a_lazy_result_with_the_same_pixels() -> None:
    ds = cube()
    lazy = ds.chunk(time=1, y=25, x=40).despeck.apply("lee-sigma")
    assert lazy["vv"].chunks == ds.chunk(time=1, y=25, x=40)["vv"].chunks
    xr.testing.assert_allclose(lazy.compute(), ds.despeck.apply("lee-sigma"), rtol=1e-5)


def test_lazy_networks_give_the_pixels_of_eager_ones(tmp_path: Path) -> None:
    ds = cube(shape=(130, 140))
    for variant in ("despecknet", "despecknet-mt"):
        model = str(save_small_network(tmp_path, variant))
        lazy = ds.chunk(time=1, y=51, x=70).despeck.apply(model, precision="float32")
        assert lazy["vv"].chunks is not None
        eager = ds.despeck.apply(model, precision="float32")
        np.testing.assert_allclose(lazy["vh"].values, eager["vh"].values, rtol=1e-5)
        assert eager["vv"].attrs["speckle_filter"] == variant


def test_one_image_without_time_or_crs_keeps_its_shape_and_name() -> None:
    image = cube()["vv"].isel(time=0, drop=True).drop_vars(["y", "x"])
    result = image.despeck.apply("boxcar", window_px=5)
    assert result.dims == ("y", "x")
    assert result.name == "vv"
    expected = make_despeckler("boxcar", window_px=5).apply(image.values[np.newaxis])[0]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_looks_are_measured_or_given() -> None:
    ds = cube(shape=(300, 300))
    known = ds.despeck.looks()
    assert 4 < float(known["looks"].sel(polarisation="vv")) < 4.9
    assert abs(float(known["correlation_x"].sel(polarisation="vh"))) < 0.05
    smooth = ds["vv"].despeck.apply("lee", looks=1.0)
    assert float(smooth.var()) < float(ds["vv"].despeck.apply("lee", looks=50.0).var())


def test_labels_have_one_layer_per_polarisation_and_are_lazy_if_the_cube_is() -> None:
    ds = cube(n_dates=5)
    labels = ds.despeck.labels(looks=4.4)
    moments = np.zeros((3, 60, 70))
    for date in ds["vh"].values:
        add_dates(moments, [date])
    for name, expected in finish_labels(moments, looks=4.4).items():
        np.testing.assert_allclose(labels[name].sel(polarisation="vh"), expected, rtol=1e-6)
    assert labels["mean"].attrs["cell_methods"] == "time: mean"
    assert "time" not in labels.coords
    lazy = ds.chunk(time=2, y=30, x=30).despeck.labels(looks=4.4, multilook_px=3)
    assert lazy["mean"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), ds.despeck.labels(looks=4.4, multilook_px=3))


def test_impossible_looks_are_refused_before_anything_is_computed() -> None:
    lazy = cube().chunk(y=20)
    for use in (lazy.despeck.apply, lazy.despeck.labels):
        with pytest.raises(UsageError, match="looks = -1"):
            use(looks=-1)


def test_mistakes_are_refused_with_an_explanation() -> None:
    with pytest.raises(UsageError, match="'lees' is not known"):
        cube().despeck.apply("lees")
    with pytest.raises(UsageError, match="has no parameter windows_px"):
        cube().despeck.apply("lee", windows_px=3)
    with pytest.raises(UsageError, match="1 date"):
        cube(n_dates=1).despeck.labels()


def test_finetune_writes_a_model_that_apply_takes(tmp_path: Path) -> None:
    ds = cube(n_dates=2, shape=(96, 96))[["vv"]]
    adapted = ds.despeck.finetune(str(tmp_path / "tuned.safetensors"), steps=2, batch_size=2)
    assert adapted.model.exists()
    assert adapted.message
    assert read_card(adapted.model).variant == "despecknet"
    result = ds.despeck.apply(str(adapted.model))
    assert np.isfinite(result["vv"].values[0, 20:, 20:]).all()


def test_the_accessor_is_there_also_after_a_search_for_xarray():
    # As torch does: it looks whether xarray is installed, and does not import it.
    code = (
        "import importlib.util, sarstack; importlib.util.find_spec('xarray'); import xarray; "
        "print(hasattr(xarray.Dataset, 'despeck'), hasattr(xarray.DataArray, 'despeck'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
