"""Times in names, folders and tags: right, or refused with the reason."""

import numpy as np
import pytest
from written_images import speckle, write_tif

from sarstack.errors import SarstackWarning, StackError
from sarstack.readers import index_stack
from sarstack.readers.times import find_times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RCM1_OK12_PK34_1_SC50MB_20210304_053412_HH_GRD", ["2021-03-04T05:34:12"]),
        ("2021-03-04-05-34-12_UMBRA-04_GEC_HH", ["2021-03-04T05:34:12"]),
        ("2021_03_04_05_34_12", ["2021-03-04T05:34:12"]),
        ("2021-03-04T05:34:12.5+02:00", ["2021-03-04T03:34:12"]),
        ("20210304T053412-0130", ["2021-03-04T07:04:12"]),
        ("04-MAR-2021 05:34:12.123", ["2021-03-04T05:34:12"]),
        ("2021-03-04T05:34", ["2021-03-04T05:34:00"]),
        ("20210304T0534", ["2021-03-04T05:34:00"]),
        ("20210304_20210316", ["2021-03-04", "2021-03-16"]),
        ("2021-03-04-2021-03-16", ["2021-03-04", "2021-03-16"]),
        ("20210304_041265", ["2021-03-04"]),
        ("19700101", []),
        ("1970-01-01T00:00:00", []),
        ("20210230_1", []),
    ],
)
def test_clear_times_of_every_form_are_found(text, expected):
    assert find_times(text) == [np.datetime64(time, "ns") for time in expected]


def times_of(folder, names):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tif(path, speckle(i))
    pattern = f"{folder}/*/*.tif" if "/" in names[0] else str(folder)
    return [str(date.time.astype("datetime64[s]")) for date in index_stack(pattern).dates]


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["04032021_vv.tif", "16032021_vv.tif"], "2021-03-04"),
        (["s1_2021063_vv.tif", "s1_2021075_vv.tif"], "2021-03-04"),
        (["210304_vv.tif", "210316_vv.tif", "210328_vv.tif"], "2021-03-04"),
        (["s1_1614836052_vv.tif", "s1_1615872852_vv.tif"], "2021-03-04T05:34:12"),
        (["2021-03-04/vv.tif", "2021-03-16/vv.tif"], "2021-03-04"),
        (["25122021_vv.tif"], "2021-12-25"),
    ],
)
def test_less_clear_dates_are_read_where_all_names_allow_one_layout(tmp_path, names, first):
    with pytest.warns(SarstackWarning, match="no clear date"):
        assert times_of(tmp_path / "in", names)[0].startswith(first)


@pytest.mark.parametrize("names", [["04032021_vv.tif"], ["03040506_x_210304_vv.tif"]])
def test_an_ambiguous_date_is_refused_with_its_meanings(tmp_path, names):
    with pytest.raises(StackError, match=r"ambiguous[\s\S]*as (DDMMYYYY|YYMMDD)"):
        times_of(tmp_path / "in", names)


def test_the_date_of_a_vrt_is_that_of_its_sources(tmp_path):
    import rasterio
    import rasterio.shutil

    source = write_tif(tmp_path / "a_20210304T053412_vv.tif", speckle())
    with rasterio.open(source) as file:
        rasterio.shutil.copy(file, str(tmp_path / "mosaic.vrt"), driver="VRT")
    with pytest.warns(SarstackWarning, match="sources of the VRT"):
        stack = index_stack(tmp_path / "mosaic.vrt")
    assert stack.dates[0].time == np.datetime64("2021-03-04T05:34:12", "ns")
