"""Time, polarisation, platform, orbit and scale are found in names of every product."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarstack.conventions import AUXILIARY_NAME
from sarstack.readers.names import (
    find_polarisation,
    parse_name,
    product_folder,
)
from sarstack.readers.times import find_times, parse_time


def stamp(text):
    return np.datetime64(text, "ns")


CONVENTIONS = [
    (
        "OPERA_L2_RTC-S1_T137-292318-IW1_20211119T015854Z_20250830T120333Z_S1A_30_v1.0_VH.tif",
        "2021-11-19T01:58:54", "vh", "sentinel-1a", "", 137, "linear", "gamma0",
    ),
    (
        "S1B_IW_20200101T053020_DVP_RTC30_G_gpuned_AB12_VV.tif",
        "2020-01-01T05:30:20", "vv", "sentinel-1b", "", None, "linear", "gamma0",
    ),
    (
        "S1A_IW_20200101T053020_DVP_RTC20_G_sdufem_AB12_VH.tif",
        "2020-01-01T05:30:20", "vh", "sentinel-1a", "", None, "db", "sigma0",
    ),
    (
        "S1A_IW_20200101T053020_DHP_RTC10_G_gaufem_0B12_HH.tif",
        "2020-01-01T05:30:20", "hh", "sentinel-1a", "", None, "amplitude", "gamma0",
    ),
    (
        "S1A_IW_GRDH_1SDV_20220102T053030_20220102T053055_041265_04E7A3_rtc_vv.tif",
        "2022-01-02T05:30:30", "vv", "sentinel-1a", "", (41265 - 73) % 175 + 1, "linear", "gamma0",
    ),
    (
        "s1a_33NWB_vv_DES_007_20200108t044150_GammaNaughtRTC.tif",
        "2020-01-08T04:41:50", "vv", "sentinel-1a", "descending", 7, "linear", "gamma0",
    ),
    (
        "s1b_31TCH_vh_ASC_030_20200107txxxxxx.tif",
        "2020-01-07", "vh", "sentinel-1b", "ascending", 30, "linear", "",
    ),
    (
        "S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif",
        "2015-03-09T17:30:17", "vv", "sentinel-1a", "ascending", None, "db", "",
    ),
    (
        "S1C__IW___D_20260309T173017_VH_gamma0-rtc.tif",
        "2026-03-09T17:30:17", "vh", "sentinel-1c", "descending", None, None, "gamma0",
    ),
    ("farm_20210304_vv.tif", "2021-03-04", "vv", "", "", None, None, ""),
    ("farm-20210304T051015-VH.tif", "2021-03-04T05:10:15", "vh", "", "", None, None, ""),
    ("2021-03-04_hh.tif", "2021-03-04", "hh", "", "", None, None, ""),
    ("Sigma0_HV_04Mar2021.img", "2021-03-04", "hv", "", "", None, None, "sigma0"),
]  # fmt: skip


@pytest.mark.parametrize("row", CONVENTIONS, ids=[row[0] for row in CONVENTIONS])
def test_names_of_every_convention_are_parsed(row):
    name, time, polarisation, platform, direction, orbit, scale, calibration = row
    metadata = parse_name(name)
    assert metadata.time == stamp(time)
    assert metadata.polarisation == polarisation
    assert metadata.platform == platform
    assert metadata.orbit_direction == direction
    assert metadata.relative_orbit == orbit
    assert metadata.scale == scale
    assert metadata.calibration == calibration


def test_the_second_time_of_an_opera_name_is_the_processing_time():
    metadata = parse_name(CONVENTIONS[0][0])
    assert metadata.processed == stamp("2025-08-30T12:03:33")
    assert metadata.burst == "T137-292318-IW1"


def test_a_hyp3_name_shows_whether_a_filter_was_applied():
    assert parse_name("S1A_IW_20200101T053020_DVP_RTC30_G_gpufed_AB12_VV.tif").filtered
    assert not parse_name("S1A_IW_20200101T053020_DVP_RTC30_G_gpuned_AB12_VV.tif").filtered


@given(st.datetimes(min_value=datetime(1991, 1, 1), max_value=datetime(2099, 12, 31)))
def test_every_time_is_found_in_every_notation(moment):
    second = moment.replace(microsecond=0)
    for layout in ("x_%Y%m%dT%H%M%S_vv", "x_%Y%m%dt%H%M%SZ_vv", "a%Y-%m-%dT%H:%M:%Sb"):
        assert find_times(second.strftime(layout)) == [np.datetime64(second, "ns")]
    assert find_times(second.strftime("x_%Y%m%d_vv")) == [np.datetime64(second.date(), "ns")]


@pytest.mark.parametrize("name", ["orbit_041265", "id_99999999", "20211340_vv", "v120210304999"])
def test_numbers_that_are_not_dates_give_no_time(name):
    assert np.isnat(parse_time(name))


@pytest.mark.parametrize("name", ["dvp_scene", "vvh", "stack_vv_vh", "naivvety"])
def test_no_or_several_polarisations_give_an_empty_text(name):
    assert find_polarisation(name) == ""


@pytest.mark.parametrize(
    "stem",
    ["OPERA_x_S1A_30_v1.0_mask", "S1A_x_AB12_inc_map", "S1A_x_ls_map", "S1A_x_rgb", "S1A_x_dem",
     "S1A_x_area", "s1a_33NWB_vv_DES_007_20200108txxxxxx_BorderMask"],
)  # fmt: skip
def test_auxiliary_files_are_recognised(stem):
    assert AUXILIARY_NAME.search(stem)
    assert not AUXILIARY_NAME.search(stem + "_vv")


def test_the_product_folder_of_a_planetary_computer_image_is_found():
    folder = "S1A_IW_GRDH_1SDV_20220102T053030_20220102T053055_041265_04E7A3_rtc"
    assert product_folder(f"data/{folder}/measurement/iw-vv.rtc.tiff") == folder
    assert product_folder("data/20220102/measurement/iw-vv.rtc.tiff") == ""
