"""Products of digital numbers: factors of products, and the gain of the user."""

import json
import math

import numpy as np
import pytest
import rasterio
from written_images import read_whole, speckle, write_tif

from sarstack import open_stack
from sarstack.cli.commands import run as run_cli
from sarstack.errors import SarstackWarning, ScaleError, UsageError
from sarstack.readers import index_stack
from sarstack.readers.digital_numbers import find_factor
from sarstack.workflows.info import describe_stack

FACTOR = 3.4e-4
CAPELLA = {"collect": {"image": {"scale_factor": FACTOR, "radiometry": "sigma_nought"}}}
PRODUCTS = {
    "palsar-2 scene": ("IMG-HH-ALOS2146686640-170209-FBDR1.5GUA", {}, -83, "sigma0", "alos-2"),
    "palsar-2 mosaic": ("N36W119_20_sl_HH_F02DAR", {}, -83, "gamma0", "alos-2"),
    "palsar mosaic": ("N36W119_07_sl_HV", {}, -83, "gamma0", "alos-1"),
    "iceye": (
        "ICEYE_X6_GRD_SM_153426_20211026T060946",
        {"calibration_factor": "5.04e-07", "POLARIZATION": "VV"},
        10 * math.log10(5.04e-7), "sigma0", "iceye-x6",
    ),
    "capella": (
        "CAPELLA_C03_SP_GEO_HH_20210201120000_20210201120005",
        {"TIFFTAG_IMAGEDESCRIPTION": json.dumps(CAPELLA)},
        20 * math.log10(FACTOR), "sigma0", "capella-3",
    ),
}  # fmt: skip


def write_numbers(path, tags=None, gain_db=-83.0, nodata=0):
    """Write the digital numbers of simulated backscatter, with nodata rows; return the truth."""
    numbers = np.sqrt(speckle() / 10 ** (gain_db / 10)).round().clip(1, 65535).astype(np.uint16)
    numbers[:5] = nodata
    write_tif(path, numbers, tags=tags)
    with rasterio.open(path) as image:
        stored = image.read(1).astype(np.float64)
    return np.where(stored == 0, np.nan, stored**2 * 10 ** (gain_db / 10))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.filterwarnings("error")
def test_products_with_a_known_factor_open_as_backscatter(tmp_path, product):
    name, tags, gain_db, calibration, platform = PRODUCTS[product]
    truth = write_numbers(tmp_path / f"{name}.tif", tags, gain_db)
    stack = index_stack(tmp_path / f"{name}.tif")
    [polarisation] = stack.polarisations
    np.testing.assert_allclose(read_whole(stack, polarisation), truth, rtol=1e-6)
    if "scene" in product:
        assert str(stack.dates[0].time)[:10] == "2017-02-09"
    assert (stack.calibration, stack.dates[0].platform) == (calibration, platform)
    assert f"{gain_db:+.6g} dB" in describe_stack(stack).facts["gain"]


def test_capella_metadata_can_lie_in_a_side_car(tmp_path):
    name = PRODUCTS["capella"][0]
    (tmp_path / f"{name}_extended.json").write_text(json.dumps(CAPELLA))
    truth = write_numbers(tmp_path / f"{name}.tif", gain_db=20 * math.log10(FACTOR))
    stack = index_stack(tmp_path)
    np.testing.assert_allclose(read_whole(stack, "hh"), truth, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "tags"),
    [("ICEYE_X6_SLC_SM_1_20211026T060946.tif", {"CALIBRATION_FACTOR": "1e-7"}),
     ("ICEYE_X6_GRD_SM_1_20211026T060946.tif", {"CALIBRATION_FACTOR": "-1"}),
     ("other_20211026.tif", {"CALIBRATION_FACTOR": "1e-7"}),
     ("N36W119_96_sl_HH.tif", {}),
     ("CAPELLA_C03_SP_GEO_HH_1.tif", {"TIFFTAG_IMAGEDESCRIPTION": '{"collect": []}'}),
     ("2023-05-01-02-03-04_UMBRA-05_GEC.tif", {})],
)  # fmt: skip
def test_a_factor_that_is_not_certain_is_not_used(name, tags):
    assert find_factor(name, tags) is None


def test_results_and_converted_files_are_not_calibrated_twice(tmp_path):
    name = PRODUCTS["iceye"][0]
    write_tif(tmp_path / f"{name}.tif", speckle(), tags=PRODUCTS["iceye"][1])
    np.testing.assert_array_equal(read_whole(index_stack(tmp_path)), speckle())


def test_digital_numbers_without_a_factor_are_told(tmp_path):
    write_numbers(tmp_path / "20211026_vv.tif")
    with pytest.raises(ScaleError, match="the numbers are whole"):
        index_stack(tmp_path)
    with pytest.warns(SarstackWarning, match="1 images hold digital numbers, and are used without"):
        index_stack(tmp_path, scale="amplitude")


@pytest.mark.filterwarnings("error")
def test_the_gain_of_the_user_is_added_and_replaces_that_of_the_product(tmp_path):
    truth = write_numbers(tmp_path / "20211026_vv.tif")
    stack = index_stack(tmp_path, scale="amplitude", gain_db=-83)
    np.testing.assert_allclose(read_whole(stack), truth, rtol=1e-6)
    cube = open_stack(tmp_path, scale="amplitude", gain_db=-83)
    np.testing.assert_array_equal(cube.vv[0].values, read_whole(stack))
    linear, iceye = tmp_path / "linear", tmp_path / "iceye"
    linear.mkdir()
    iceye.mkdir()
    write_tif(linear / "20211026_gamma0_vv.tif", speckle())
    doubled = index_stack(linear, gain_db=10 * math.log10(2))
    np.testing.assert_allclose(read_whole(doubled), 2 * speckle(), rtol=1e-6)
    name, tags, own, *_ = PRODUCTS["iceye"]
    numbers = write_numbers(iceye / f"{name}.tif", tags, own) / 10 ** (own / 10)
    stack = index_stack(iceye, gain_db=-60)
    np.testing.assert_allclose(read_whole(stack), numbers * 1e-6, rtol=1e-6)
    assert stack.calibration == ""


def test_the_gain_is_checked(tmp_path):
    write_numbers(tmp_path / "20211026_vv.tif")
    for gain_db in (math.nan, math.inf, 201):
        with pytest.raises(UsageError, match="out of range"):
            index_stack(tmp_path, scale="amplitude", gain_db=gain_db)
    with pytest.raises(UsageError, match="cannot be used with remove_noise"):
        index_stack(tmp_path, gain_db=-83, remove_noise=True)


def test_the_gain_is_part_of_a_result(tmp_path):
    write_numbers(tmp_path / "20211026_vv.tif", {"CALIBRATION_FACTOR": "1"})
    arguments = ["-q", "despeckle", tmp_path / "20211026_vv.tif", "-o", tmp_path / "out",
                 "--scale", "amplitude", "--method", "boxcar"]  # fmt: skip

    def despeckle(*options):
        return run_cli([str(a) for a in (*arguments, *options)])

    assert despeckle("--gain-db", "-83") == 0
    with rasterio.open(tmp_path / "out" / "20211026_vv_boxcar.tif") as image:
        assert image.tags()["GAIN_DB"] == "-83"
        assert "CALIBRATION_FACTOR" not in image.tags()
        assert np.nanmean(image.read(1)) == pytest.approx(0.1, rel=0.05)
    assert despeckle("--gain-db", "-83") == 0
    assert despeckle("--gain-db", "-80") == 5
    assert despeckle() == 5
