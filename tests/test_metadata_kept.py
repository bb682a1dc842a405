"""What a provider wrote into an image is in the result: tags, coefficients, CRS, band names."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.rpc import RPC
from written_images import SHAPE, speckle, write_tif

from sarstack.errors import GridMismatchError, SarstackWarning, StackError
from sarstack.output.quicklook import draw_panels
from sarstack.readers import index_stack
from sarstack.readers.bands import name_bands
from sarstack.readers.source_tags import MAX_TAGS, make_tags
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.despeckle.tags import keep_source_tags
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig


def run_boxcar(stack, folder, **settings):
    config = DespeckleConfig.make(stack=str(stack), output=str(folder), method="boxcar", **settings)
    despeckle(config)
    return sorted(folder.glob("*.tif"))


def coefficients(line=48.0):
    one, first, second = ([0.0] * 20 for _ in range(3))
    one[0], first[2], second[1] = 1.0, -1.0, 1.0
    return RPC(
        height_off=0, height_scale=500, lat_off=45, lat_scale=0.1, long_off=9, long_scale=0.1,
        line_off=line, line_scale=48, samp_off=40, samp_scale=40, err_bias=None, err_rand=None,
        line_num_coeff=first, line_den_coeff=one, samp_num_coeff=second, samp_den_coeff=one,
    )  # fmt: skip


def test_tags_of_the_source_are_in_the_result_unless_they_would_be_wrong_there(tmp_path):
    given = {
        "BURST_ID": "t064_135514_iw2",
        "LOOK_DIRECTION": "Right",
        "odd": 'a<b>&"ü',
        "AREA_OR_POINT": "Point",
    }
    untrue = {"UNITS": "dB", "STATISTICS_MEAN": "-10", "SPECKLE_FILTER": "lee", "Enl_After": "9"}
    source = tmp_path / "a_20210104_vv.tif"
    write_tif(source, 10 * np.log10(speckle()), tags=given | untrue | {"platform": "S1A"})
    [result] = run_boxcar(source, tmp_path / "out")
    with rasterio.open(source) as before, rasterio.open(result) as file:
        assert file.transform == before.transform
        kept = file.tags()
    assert given.items() <= kept.items()
    assert keep_source_tags({"a": "\x01b", "PLATFORM": "x"}, {"platform": "y"}) == {"a": " b"}
    assert kept["SPECKLE_FILTER"] == "boxcar"
    assert kept["PLATFORM"] == "sentinel-1a"
    assert not {"UNITS", "STATISTICS_MEAN", "platform"} & set(kept)
    assert kept.get("ENL_AFTER", kept.get("Enl_After")) != "9"
    assert index_stack(result).rasters["vv"][0].scale == "linear"


@pytest.mark.parametrize("form", ["zarr 2", "zarr 3", "netCDF-4", "netCDF-3"])
def test_attributes_of_stores_and_netcdf_files_are_tags_of_the_result(tmp_path, form):
    about = {"processor": "GAMMA 2026", "orbit:file": "POEORB", "dem_px": 30.5, "beams": [1, 2]}
    untrue = {"crs": "EPSG:32632", "spec": "RasterSpec(...)", "history": "x", "text": "y" * 600}
    attributes = {"units": "1", "rtc": "applied", "valid_max": 1e9}
    vv = ("y", "x"), speckle(), attributes
    dataset = xr.Dataset({"vv": vv}, {"y": np.arange(96.0), "x": np.arange(80.0)}, about | untrue)
    if form.startswith("zarr"):
        path = tmp_path / "a_20210304.zarr"
        dataset.to_zarr(path, zarr_format=int(form[-1]))
    else:
        path = tmp_path / "a_20210304.nc"
        engine, layout = ("scipy", None) if form[-1] == "3" else ("h5netcdf", "NETCDF4")
        dataset.to_netcdf(path, engine=engine, format=layout)
    [result] = run_boxcar(path, tmp_path / "out")
    with rasterio.open(result) as file:
        kept = file.tags()
    expected = {"processor": "GAMMA 2026", "orbit_file": "POEORB", "dem_px": "30.5",
                "beams": "1, 2", "rtc": "applied"}  # fmt: skip
    assert expected.items() <= kept.items()
    assert not {*untrue, "units", "valid_max", "_ARRAY_DIMENSIONS", "DIMENSION_LIST"} & set(kept)


def test_the_number_and_length_of_tags_are_bounded():
    many = {f"name{i}": "x" * 500 for i in range(500)} | {"n" * 70: 1, "nested": {"a": 1}}
    tags = make_tags({"first": b"1"}, many, {"first": np.float32(2.5), "list": np.arange(99)})
    assert len(tags) == MAX_TAGS
    assert tags["first"] == "2.5"
    assert not {"n" * 70, "nested", "list"} & set(tags)


def test_rational_polynomial_coefficients_move_with_a_crop(tmp_path):
    source = tmp_path / "a_20210104_vv.tif"
    write_tif(source, speckle(), crs=None, transform=None, rpcs=coefficients())
    assert "RPC" in describe_stack(index_stack(source)).facts["place"]
    for name, bbox, line, sample in (("all", None, 48, 40), ("part", (10, 20, 60, 80), 28, 30)):
        [result] = run_boxcar(source, tmp_path / name, bbox=bbox)
        with rasterio.open(result) as file:
            kept = file.rpcs
        assert (kept.line_off, kept.samp_off) == (line, sample)
        assert kept.line_num_coeff == coefficients().line_num_coeff


def test_images_with_other_coefficients_are_not_one_stack_unless_they_have_an_affine(tmp_path):
    for place, crs in ((None, None), (rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32632")):
        for day, line in ((1, 48.0), (2, 50.0)):
            path = tmp_path / f"a_2021010{day}_vv.tif"
            write_tif(path, speckle(), crs=crs, transform=place, rpcs=coefficients(line))
        if place is None:
            with pytest.raises(GridMismatchError, match="RPC"):
                index_stack(tmp_path)
    results = run_boxcar(tmp_path, tmp_path / "out")
    lines = []
    for result in results:
        with rasterio.open(result) as file:
            lines.append(file.rpcs.line_off)
    assert lines == [48, 50]


@pytest.mark.parametrize("crs", ["+proj=rhealpix +datum=WGS84", "EPSG:32632"])
def test_a_crs_that_needs_a_side_car_has_it_under_the_name_of_the_result(tmp_path, crs):
    source = write_tif(tmp_path / "a_20210104_vv.tif", speckle(), crs=crs)
    [result] = run_boxcar(source, tmp_path / "out")
    side_car = result.with_name(f"{result.name}.aux.xml")
    assert side_car.exists() is ("rhealpix" in crs)
    with rasterio.open(source) as before, rasterio.open(result) as after:
        assert after.crs == before.crs
        assert after.crs is not None
    assert not list(result.parent.glob(".*"))


@pytest.mark.parametrize("name", ["VV gamma0 [m2/m2]", 'VV "a\\b": *?|<c>', "VV " + "long " * 60])
def test_any_band_name_gives_a_result_in_the_output_folder(tmp_path, name):
    source = tmp_path / "20210304.tif"
    write_tif(source, np.stack([speckle(), speckle(1)]), names=(name, name.replace("VV", "VH")))
    results = run_boxcar(source, tmp_path / "out")
    assert len(results) == 2
    assert all(len(result.name) < 200 for result in results)


def test_a_long_file_name_gives_a_result(tmp_path):
    source = write_tif(tmp_path / ("a_20210104_vv_" + "x" * 230 + ".tif"), speckle())
    assert len(run_boxcar(source, tmp_path / "out")) == 1


@pytest.mark.parametrize("shape", [(512, 1), (1, 512), (512, 20), (300, 400)])
def test_a_quicklook_of_any_shape_has_few_pixels(tmp_path, shape):
    """A picture in true proportions of 512 x 1 pixels would need gigabytes."""
    panels = [("a", np.ones(shape, np.float32), 0.0, 1.0)] * 3
    with rasterio.open(draw_panels(panels, tmp_path / "a.png")) as picture:
        assert picture.width * picture.height < 4e6
        assert min(picture.shape) > 200


def test_bands_that_are_no_backscatter_are_ignored_with_a_notice(tmp_path):
    bands = np.stack([speckle(), speckle(1), np.full(SHAPE, 38.5, np.float32)])
    write_tif(tmp_path / "20210304.tif", bands, names=("VV", "VH", "angle"))
    with pytest.warns(SarstackWarning, match=r"20210304\.tif: angle"):
        stack = index_stack(tmp_path)
    assert stack.polarisations == ("vv", "vh")


def test_files_that_are_left_out_by_their_names_are_told(tmp_path):
    for name in ("20210304_vv", "20210304_vv_study_area", "20210304_angle"):
        write_tif(tmp_path / f"{name}.tif", speckle())
    with pytest.warns(SarstackWarning, match=r"2 files are left out[\s\S]*20210304_vv_study_area"):
        assert index_stack(tmp_path).n_dates == 1


@pytest.mark.parametrize(
    ("names", "given", "chosen"),
    [
        (["VV", "VH", "angle"], None, ["VV", "VH", None]),
        (["VV", "localIncidenceAngle", "dataMask"], None, ["VV", None, None]),
        (["sigma0", "shadowMask"], None, ["sigma0", None]),
        (["VV", "VH", "B3", ""], None, ["VV", "VH", None, None]),
        (["VV 20210104", "VV 20210116", "angle"], None, ["VV 20210104", "VV 20210116", None]),
        (["", "", ""], ["vv", "vh", "-"], ["vv", "vh", None]),
        (["", "", ""], ["-", "hh", "datamask"], [None, "hh", None]),
        (["VV", "angle"], ["vh"], ["vh", None]),
        (["", "", "", "", ""], None, ["", "", "", "", ""]),
    ],
)
def test_images_among_bands_are_recognised(names, given, chosen):
    assert name_bands("a.tif", names, given) == chosen


@pytest.mark.parametrize(
    ("names", "given"),
    [(["B1", "B2"], None), (["VV", "VV"], None), (["", ""], ["-", "-"]), (["angle", "mask"], None),
     (["", "", ""], ["vv", "vh"])],
)  # fmt: skip
def test_bands_without_a_recognisable_image_are_refused(names, given):
    with pytest.raises(StackError, match=r"--bands VV,VH"):
        name_bands("a.tif", names, given)
