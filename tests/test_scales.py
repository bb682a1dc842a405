"""Linear, amplitude and decibel files give the same intensity; an unknown scale is an error."""

import numpy as np
import pytest
import rasterio
from written_images import SHAPE, read_whole, speckle, write_tif

from sarstack.errors import (
    SarstackWarning,
    ScaleError,
    UsageError,
)
from sarstack.readers import index_stack


@pytest.mark.parametrize("nodata", [-9999.0, -99.0, -32768.0, 0.0, np.nan, np.inf, -3.4028235e38])
@pytest.mark.parametrize("is_tagged", [True, False])
def test_nodata_of_every_kind_becomes_nan_and_other_pixels_stay(tmp_path, nodata, is_tagged):
    scene = speckle()
    scene[3:9, 5:30] = nodata
    tag = {"nodata": nodata} if is_tagged and np.isfinite(nodata) else {}
    write_tif(tmp_path / "a_20210104_vv.tif", scene, **tag)
    read = read_whole(index_stack(tmp_path))
    hole = np.zeros(SHAPE, bool)
    hole[3:9, 5:30] = True
    np.testing.assert_array_equal(np.isnan(read), hole)
    np.testing.assert_array_equal(read[~hole], scene[~hole])


def test_a_nodata_tag_is_compared_at_the_precision_of_the_file(tmp_path):
    scene = speckle()
    scene[0, 0] = 1e-7
    write_tif(tmp_path / "a_20210104_vv.tif", scene, nodata=1e-7)
    assert np.isnan(read_whole(index_stack(tmp_path))).sum() == 1


@pytest.mark.parametrize("scale", ["db", "amplitude", "linear"])
@pytest.mark.parametrize("source", ["unit", "tag", "name", "argument"])
def test_every_declared_scale_gives_the_same_intensity(tmp_path, scale, source):
    scene = speckle()
    forms = {"db": 10 * np.log10(scene), "amplitude": np.sqrt(scene), "linear": scene}
    tags = {"BACKSCATTER_SCALE": {"db": "decibel", "linear": "power"}.get(scale, scale)}
    name = f"a_20210104_vv_{scale}.tif" if source == "name" else "a_20210104_vv.tif"
    path = write_tif(tmp_path / name, forms[scale], tags=tags if source == "tag" else None)
    if source == "unit":
        with rasterio.open(path, "r+") as out:
            out.set_band_unit(1, {"db": "dB"}.get(scale, scale))
    stack = index_stack(tmp_path, scale=scale if source == "argument" else None)
    assert stack.rasters["vv"][0].scale == scale
    np.testing.assert_allclose(read_whole(stack), scene, rtol=3e-6)


def test_undeclared_decibel_is_recognised_and_its_zero_border_is_nodata(tmp_path):
    values_db = 10 * np.log10(speckle())
    values_db[:30] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", values_db)
    with pytest.warns(SarstackWarning, match="no tag declares"):
        stack = index_stack(tmp_path)
    assert stack.rasters["vv"][0].scale == "db"
    assert np.isnan(read_whole(stack)[:30]).all()
    assert np.isfinite(read_whole(stack)[30:]).all()


def test_digital_numbers_need_a_declared_scale(tmp_path):
    numbers = (np.sqrt(speckle(mean=4e4)) + 1).astype(np.uint16)
    numbers[:5] = 0
    write_tif(tmp_path / "a_20210104_vv.tif", numbers)
    with pytest.raises(ScaleError, match=r"digital numbers[\s\S]*--scale amplitude"):
        index_stack(tmp_path)
    read = read_whole(index_stack(tmp_path, scale="amplitude"))
    assert np.isnan(read[:5]).all()
    np.testing.assert_array_equal(read[5:], numbers[5:].astype(np.float32) ** 2)


def test_a_declared_scale_that_the_numbers_contradict_is_an_error(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", 10 * np.log10(speckle()), tags={"UNITS": "linear"})
    with pytest.raises(ScaleError, match="looks like decibel"):
        index_stack(tmp_path)
    with pytest.raises(ScaleError, match="looks like decibel"):
        index_stack(tmp_path, scale="linear")
    with pytest.raises(UsageError, match="scale = 'loud'"):
        index_stack(tmp_path, scale="loud")


def test_one_date_on_another_scale_is_an_error(tmp_path):
    for month in range(1, 6):
        write_tif(tmp_path / f"a_2021{month:02}04_vv.tif", speckle(month))
    write_tif(tmp_path / "a_20210604_vv.tif", 10 * np.log10(speckle()))
    with pytest.raises(ScaleError, match=r"1 with values typical of db: a_20210604_vv"):
        index_stack(tmp_path)


def test_undeclared_amplitude_gives_a_warning(tmp_path):
    write_tif(tmp_path / "a_20210104_vv.tif", np.sqrt(speckle()))
    with pytest.warns(SarstackWarning, match="--scale amplitude"):
        index_stack(tmp_path)
