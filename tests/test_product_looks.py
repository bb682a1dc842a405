"""The number of looks that a product tells of its images reaches each job."""

from dataclasses import replace

import pytest
import zarr
from click.testing import CliRunner
from written_images import speckle, write_tif

from sarstack.cli.commands import cli
from sarstack.readers import index_stack
from sarstack.readers.formats import gdal
from sarstack.readers.stack import find_product_looks

SHAPE = (200, 180)


@pytest.fixture
def told_stack(tmp_path, monkeypatch):
    """Two dates of a format that tells 7 and 8 looks."""
    folder = tmp_path / "stack"
    folder.mkdir()
    for day in (1, 2):
        path = folder / f"s1a_2021030{day}T054213_gamma0_linear_vv.tif"
        write_tif(path, speckle(day, shape=SHAPE))
    list_images = gdal.list_images

    def tell(path, bands):
        looks = 7.0 if "20210301" in path else 8.0
        return [replace(i, raster=replace(i.raster, looks=looks)) for i in list_images(path, bands)]

    monkeypatch.setattr(gdal, "list_images", tell)
    return folder


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_looks_of_a_product_are_the_median_and_those_of_all_images_or_none(told_stack):
    rasters = index_stack(told_stack).rasters["vv"]
    assert find_product_looks(rasters) == 7.5
    assert find_product_looks([*rasters, None]) == 7.5
    assert find_product_looks([*rasters, replace(rasters[0], looks=None)]) is None
    assert find_product_looks([None]) is None


def test_every_job_uses_the_looks_of_the_product(told_stack, tmp_path):
    import rasterio

    shown = run("info", told_stack)
    assert "7.5" in shown
    assert "product" in shown
    result = "s1a_20210301T054213_gamma0_linear_vv_lee.tif"
    run("despeckle", told_stack, "-o", tmp_path / "told", "--method", "lee")
    with rasterio.open(tmp_path / "told" / result) as image:
        assert image.tags()["ENL_BEFORE"] == "7.50"
        assert image.tags()["ENL_SOURCE"] == "product"
    run("build-labels", told_stack, "-o", tmp_path / "labels.zarr")
    assert zarr.open_group(tmp_path / "labels.zarr").attrs["looks"] == {"vv": 7.5}


def test_the_looks_of_the_user_replace_those_of_the_product(told_stack, tmp_path):
    run("build-labels", told_stack, "-o", tmp_path / "labels.zarr", "--looks", 3)
    assert zarr.open_group(tmp_path / "labels.zarr").attrs["looks"] == {"vv": 3.0}
