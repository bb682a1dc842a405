"""Finished files: valid, exactly on the input grid, complete or absent."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint as GCP
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from sarstack.output.cog import write_cog
from sarstack.output.pieces import Pieces, read_pieces, write_piece
from sarstack.output.vrt import write_db_view
from sarstack.readers.grid import Grid, GroundControlPoint
from sarstack.tiles import Shape, Window, tile_grid

WKT = CRS.from_epsg(32631).to_wkt()


def image_of(shape: Shape) -> np.ndarray:
    image = np.random.default_rng(0).gamma(4.4, 0.02, shape).astype(np.float32)
    image[: shape.y // 3, : shape.x // 2] = np.nan
    return image


def parts(image: np.ndarray, size_px: int) -> list:
    return [(t.window, image[t.window.slices]) for t in tile_grid(Shape(*image.shape), size_px)]


@pytest.mark.parametrize(
    "shape", [Shape(1, 1), Shape(37, 900), Shape(1030, 1025), Shape(600, 512), Shape(1500, 2)]
)
def test_a_cog_is_valid_and_keeps_grid_pixels_and_tags(tmp_path: Path, shape: Shape) -> None:
    image = image_of(shape)
    grid = Grid(shape, WKT, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_800_000.0))
    path = tmp_path / "image.tif"
    write_cog(path, parts(image, 256), grid, tile_px=256, description="gamma0 vv",
              tags={"PLATFORM": "S1A"})  # fmt: skip
    valid, errors, _ = cog_validate(str(path), strict=True)
    assert valid, errors
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), image)
        assert raster.shape == shape
        assert raster.crs.to_epsg() == 32631
        assert tuple(raster.transform)[:6] == grid.transform
        assert np.isnan(raster.nodata)
        assert raster.descriptions == ("gamma0 vv",)
        assert raster.tags()["PLATFORM"] == "S1A"
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]


@pytest.mark.parametrize("shape", [Shape(1024, 1024), Shape(1029, 1031)])
def test_overviews_average_valid_intensities(tmp_path: Path, shape: Shape) -> None:
    image = image_of(shape)
    image[0, 600] = np.nan
    path = tmp_path / "image.tif"
    grid = Grid(shape, WKT, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0))
    write_cog(path, parts(image, 512), grid, tile_px=512)
    with rasterio.open(path, overview_level=0) as raster:
        half = raster.read(1)
    whole = np.pad(image, [(0, length % 2) for length in shape], constant_values=np.nan)
    blocks = whole.reshape(whole.shape[0] // 2, 2, whole.shape[1] // 2, 2)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    expected = np.nansum(blocks, axis=(1, 3)) / np.where(count, count, np.nan)
    np.testing.assert_allclose(half, expected, rtol=1e-5)
    assert np.isfinite(half[0, 300]), "one nodata pixel must not poison its overview pixel"


@pytest.mark.parametrize("shape", [Shape(1100, 2300), Shape(1029, 515), Shape(4200, 1024)])
def test_overviews_do_not_depend_on_the_tile(tmp_path: Path, shape: Shape) -> None:
    """Where an overview block is made of many tiles and where of a part of one."""
    image = image_of(shape)
    found = []
    for tile_px in (256, 512, 768, 1024, 2048):
        path = tmp_path / f"{tile_px}.tif"
        write_cog(path, parts(image, tile_px), Grid(shape, WKT), tile_px=tile_px)
        assert cog_validate(str(path), strict=True)[0]
        levels = []
        for level in (None, 0, 1):
            with rasterio.open(path, overview_level=level) as raster:
                levels.append(raster.read(1))
        found.append(levels)
    for levels in found[1:]:
        for one, other in zip(found[0], levels, strict=True):
            np.testing.assert_array_equal(one, other)


def test_reading_a_piece_that_was_not_written_is_an_error(tmp_path: Path) -> None:
    shape = Shape(300, 500)
    image, grid = image_of(shape), Grid(shape, WKT)
    with pytest.raises(Exception, match=r"1_1\.tif"):
        write_cog(tmp_path / "image.tif", parts(image, 256)[:-1], grid, tile_px=256)
    assert list(tmp_path.iterdir()) == []


def test_windows_of_an_unfinished_image_are_read_across_pieces(tmp_path: Path) -> None:
    shape = Shape(300, 700)
    image, pieces = image_of(shape), Pieces(tmp_path / "pieces", shape, 256)
    for tile in pieces.tiles():
        write_piece(pieces, tile, image[tile.window.slices])
    for window in (Window(0, 300, 0, 700), Window(200, 290, 250, 520), Window(5, 6, 699, 700)):
        np.testing.assert_array_equal(read_pieces(pieces, window), image[window.slices])


def test_tags_of_any_letters_survive(tmp_path: Path) -> None:
    tags = {"METHOD": 'a "model" <of> mine & yours', "PLACE": "Malmö"}
    path = tmp_path / "image & co.tif"
    image = image_of(Shape(40, 50))
    write_cog(path, parts(image, 256), Grid(Shape(40, 50), WKT), tile_px=256, tags=tags,
              description="<vv>")  # fmt: skip
    with rasterio.open(path) as raster:
        assert tags.items() <= raster.tags().items()
        assert raster.descriptions == ("<vv>",)
        assert raster.units == ("1",)


def test_ground_control_points_survive(tmp_path: Path) -> None:
    points = tuple(
        GroundControlPoint(float(r), float(c), 10 + c / 100, 50 - r / 100, 5.0 * r)
        for r in (0, 20, 40)
        for c in (0, 30, 60)
    )
    grid = Grid(Shape(41, 61), CRS.from_epsg(4326).to_wkt(), gcps=points)
    path = tmp_path / "swath.tif"
    write_cog(path, parts(image_of(grid.shape), 256), grid, tile_px=256)
    assert cog_validate(str(path), strict=True)[0]
    with rasterio.open(path) as raster:
        found, crs = raster.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y, p.z) for p in found] == [
            (p.row, p.column, p.x, p.y, p.z) for p in points
        ]
    assert isinstance(found[0], GCP)


def test_the_db_view_shows_decibels_on_the_same_grid(tmp_path: Path) -> None:
    image = image_of(Shape(300, 200))
    grid = Grid(Shape(300, 200), WKT, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_800_000.0))
    path = tmp_path / "image.tif"
    write_cog(path, parts(image, 256), grid, tile_px=256, description="gamma0 vv")
    view = write_db_view(path, grid, "gamma0 vv")
    assert view.name == "image_db.vrt"
    with rasterio.open(view) as raster:
        shown = raster.read(1)
        assert tuple(raster.transform)[:6] == grid.transform
        assert raster.crs.to_epsg() == 32631
        assert raster.descriptions == ("gamma0 vv dB",)
        assert np.isnan(raster.nodata)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(shown, 10 * np.log10(image), atol=1e-4)


def test_a_failure_leaves_neither_a_file_nor_leftovers(tmp_path: Path) -> None:
    def broken() -> object:
        yield parts(image_of(Shape(300, 300)), 256)[0]
        raise RuntimeError("the disk is gone")

    old = tmp_path / "image.tif"
    old.write_bytes(b"finished before")
    with pytest.raises(RuntimeError, match="disk is gone"):
        write_cog(old, broken(), Grid(Shape(300, 300), WKT), tile_px=256)
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]
    assert old.read_bytes() == b"finished before"
