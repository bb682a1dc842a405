"""Which pixels are nodata: declared numbers, masks, and fill values that no tag declares."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from written_images import SHAPE, read_whole, speckle, write_tif

from sarstack.errors import SarstackWarning
from sarstack.readers import index_stack
from sarstack.workflows.info import describe_stack

HOLE = (slice(20, 50), slice(0, 30))


def write_masked(path, scene, valid, *, inside):
    write_tif(path, scene)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
        file.write_mask(valid)


def holes():
    valid = np.ones(SHAPE, bool)
    valid[HOLE] = False
    return valid


@pytest.mark.parametrize("kind", ["inside", "beside", "vrt", "alpha", "band", "float alpha"])
def test_masked_pixels_are_nodata_and_all_others_stay(tmp_path, kind):
    valid, scene = holes(), speckle()
    hidden = np.where(valid, scene, np.float32(50))
    path = tmp_path / "a_20210104_vv.tif"
    if kind in ("inside", "beside"):
        write_masked(path, hidden, valid, inside=kind == "inside")
        assert path.with_name(f"{path.name}.msk").exists() is (kind == "beside")
    elif kind == "vrt":
        write_masked(path, hidden, valid, inside=True)
        with rasterio.open(path) as file:
            rasterio.shutil.copy(file, str(tmp_path / "a_20210104_vv.vrt"), driver="VRT")
        path = tmp_path / "a_20210104_vv.vrt"
        assert "MaskBand" in path.read_text()
    else:
        dtype = "uint16" if kind == "alpha" else "float32"
        names = ("VV", "dataMask") if kind == "band" else ("VV", "")
        bands = np.stack([hidden * 1000 if dtype == "uint16" else hidden, valid]).astype(dtype)
        scene = bands[0].astype(np.float32)
        if kind == "alpha":
            bands[1] *= 65535
        write_tif(path, bands, names=names, interleave="band")
        if kind != "band":
            with rasterio.open(path, "r+") as file:
                grey, alpha = rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha
                file.colorinterp = (grey, alpha)
    stack = index_stack(path, scale="linear")
    assert stack.polarisations == ("vv",)
    read = read_whole(stack)
    np.testing.assert_array_equal(np.isfinite(read), valid)
    np.testing.assert_array_equal(read[valid], scene[valid])
    assert "masked pixels (1 of 1" in describe_stack(stack).facts["nodata"]


def test_a_mask_file_that_is_no_geotiff_is_refused(tmp_path):
    path = write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    path.with_name(f"{path.name}.msk").write_text("<GDAL_WMS></GDAL_WMS>")
    with pytest.raises(Exception, match=r"mask a_20210104_vv\.tif\.msk is no GeoTIFF"):
        index_stack(tmp_path)


@pytest.mark.parametrize("number", [-9999, -99, -32768])
def test_a_usual_nodata_number_is_data_where_the_file_declares_another(tmp_path, number):
    """-9.9 dB, packed as -99, is a pixel like any other."""
    stored = np.round(100 * np.log10(speckle())).astype(np.int16)
    stored[HOLE] = -7777
    stored[60:62] = number
    path = write_tif(tmp_path / "a_20210104_vv.tif", stored, nodata=-7777)
    with rasterio.open(path, "r+") as file:
        file.scales, file.units = [0.001], ["dB"]
    read = read_whole(index_stack(tmp_path))
    np.testing.assert_array_equal(np.isnan(read), stored == -7777)
    np.testing.assert_allclose(read[60], 10 ** (number / 1e4), rtol=1e-5)


@pytest.mark.parametrize("is_declared", [True, False])
def test_usual_nodata_numbers_are_compared_after_gain_and_offset(tmp_path, is_declared):
    stored = np.round(speckle() * 1000).astype(np.int16)
    stored[0, :5], stored[1, :5] = -9949, 0  # -99.0 and 0.5 after gain and offset
    tag = {"nodata": -32768} if is_declared else {}
    path = write_tif(tmp_path / "a_20210104_vv.tif", stored, **tag)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = [0.01], [0.49], ["linear"]
    read = read_whole(index_stack(tmp_path))
    expected = stored * 0.01 + 0.49
    expected[0, :5] = np.nan  # without a declaration a usual number; else below all backscatter
    np.testing.assert_allclose(read, expected, rtol=1e-5)


@pytest.mark.parametrize("number", [-999.0, -1.0, -50.0, -9999.0])
@pytest.mark.parametrize("declared", ["name", "argument", "nothing"])
def test_a_repeated_number_far_below_all_others_is_nodata(tmp_path, number, declared):
    scene = speckle()
    scene[:, :20] = number
    suffix = "_linear" if declared == "name" else ""
    write_tif(tmp_path / f"a_20210104_vv{suffix}.tif", scene)
    stack = index_stack(tmp_path, scale="linear" if declared == "argument" else None)
    read = read_whole(stack)
    assert np.isnan(read[:, :20]).all()
    np.testing.assert_array_equal(read[:, 20:], scene[:, 20:])


@pytest.mark.parametrize("number", [0.0, -999.0, -60.0])
def test_a_decibel_border_of_one_date_is_nodata_in_that_date_only(tmp_path, number):
    """The first, middle and last date are read most: the border must be found in any other."""
    for day in range(1, 7):
        values_db = 10 * np.log10(speckle(day))
        if day == 3:
            values_db[:2] = number
        write_tif(tmp_path / f"a_2021030{day}_vv.tif", values_db)
    with pytest.warns(SarstackWarning, match=r"a_20210303_vv\.tif: -?\d+ in"):
        stack = index_stack(tmp_path)
    for date in range(6):
        is_border = np.zeros(SHAPE, bool)
        is_border[:2] = date == 2
        np.testing.assert_array_equal(np.isnan(read_whole(stack, date=date)), is_border)


@pytest.mark.parametrize("has_border", [True, False])
def test_zero_decibel_in_whole_numbers_is_nodata_only_at_a_zero_border(tmp_path, has_border):
    values_db = np.round(10 * np.log10(speckle(mean=0.9))).astype(np.int16)
    assert (values_db == 0).mean() > 0.1
    if has_border:
        values_db[:, :25] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", values_db)
    read = read_whole(index_stack(tmp_path, scale="db"))
    np.testing.assert_array_equal(np.isnan(read), (values_db == 0) & has_border)


def test_a_border_that_may_be_backscatter_is_kept_and_reported(tmp_path):
    values_db = 10 * np.log10(speckle())
    values_db[:30] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", values_db, nodata=-9999)
    with pytest.warns(SarstackWarning, match="used as backscatter"):
        stack = index_stack(tmp_path)
    np.testing.assert_array_equal(read_whole(stack)[:30], 1)


def test_negative_intensity_of_noise_subtracted_data_stays(tmp_path):
    scene = speckle() - np.float32(0.1)
    write_tif(tmp_path / "a_20210104_vv.tif", scene)
    np.testing.assert_array_equal(read_whole(index_stack(tmp_path, scale="linear")), scene)


def test_info_says_what_is_nodata_and_why(tmp_path):
    scene = speckle()
    scene[:, :9] = -999
    write_tif(tmp_path / "a_20210104_vv.tif", scene)
    write_tif(tmp_path / "a_20210116_vv.tif", speckle(), nodata=-7)
    with pytest.warns(SarstackWarning, match="-999"):
        told = describe_stack(index_stack(tmp_path)).facts["nodata"]
    for part in ("-7 (declared)", "-999 (not declared; found in 1 of 2 images)", "-32768 (usual"):
        assert part in told
