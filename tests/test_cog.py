"""Finished files: valid, exactly on the input grid, complete or absent."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint as GCP
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from sarstack.cog import finish_cog, layout_of, write_cog, write_db_view
from sarstack.pieces import halve, halved, read_extra, write_piece
from sarstack.readers.grid import Grid, GroundControlPoint
from sarstack.tiles import Shape, tile_grid

WKT = CRS.from_epsg(32631).to_wkt()


def image_of(shape: Shape) -> np.ndarray:
    image = np.random.default_rng(0).gamma(4.4, 0.02, shape).astype(np.float32)
    image[: shape.y // 3, : shape.x // 2] = np.nan
    return image


def parts(image: np.ndarray, size_px: int) -> list:
    return [(t.window, image[t.window.slices]) for t in tile_grid(Shape(*image.shape), size_px)]


@pytest.mark.parametrize("shape", [Shape(1, 1), Shape(37, 900), Shape(1030, 1025), Shape(600, 512)])
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


def test_overviews_average_valid_intensities(tmp_path: Path) -> None:
    image = image_of(Shape(1024, 1024))
    image[0, 600] = np.nan
    path = tmp_path / "image.tif"
    grid = Grid(Shape(1024, 1024), WKT, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0))
    write_cog(path, parts(image, 512), grid, tile_px=512)
    with rasterio.open(path, overview_level=0) as raster:
        half = raster.read(1)
    blocks = image.reshape(512, 2, 512, 2)
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
                assert raster.shape == halved(shape, 0 if level is None else level + 1)
        found.append(levels)
    for levels in found[1:]:
        for one, other in zip(found[0], levels, strict=True):
            np.testing.assert_array_equal(one, other)


def test_halves_are_means_of_valid_pixels_whatever_lies_beside() -> None:
    rng = np.random.default_rng(0)
    image = rng.gamma(2.0, 1.0, (1030, 41)).astype(np.float32)
    clean = halve(image)
    image[600, 3], image[601] = np.nan, np.nan
    holed = halve(image)
    assert clean.shape == holed.shape == (515, 21)
    assert holed[300, 1] == image[600, 2]
    assert np.isfinite(holed).all()
    # The same bits where nothing is missing, in a strip with holes as well.
    np.testing.assert_array_equal(np.delete(clean, 300, 0), np.delete(holed, 300, 0))
    assert np.isnan(halve(np.full((3, 3), np.nan, np.float32))).all()


def test_files_beyond_four_gigabytes_are_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(Shape(1500, 1500))
    grid = Grid(Shape(1500, 1500), WKT, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_800_000.0))
    small, big = tmp_path / "small.tif", tmp_path / "big.tif"
    write_cog(small, parts(image, 512), grid, tile_px=512, tags={"PLATFORM": "S1A"})
    monkeypatch.setattr("sarstack.tiff._LARGEST_CLASSIC", 2**20)
    write_cog(big, parts(image, 512), grid, tile_px=512, tags={"PLATFORM": "S1A"})
    assert (small.read_bytes()[2], big.read_bytes()[2]) == (42, 43)
    assert cog_validate(str(big), strict=True)[0]
    with rasterio.open(small) as one, rasterio.open(big) as other:
        np.testing.assert_array_equal(other.read(1), image)
        assert one.tags() == other.tags()
        assert one.transform == other.transform
        assert one.tags(ns="IMAGE_STRUCTURE") == other.tags(ns="IMAGE_STRUCTURE")


def test_gdal_finds_the_layout_it_knows(tmp_path: Path) -> None:
    """Every block has its size before it and its last bytes twice, as the header promises."""
    path = tmp_path / "image.tif"
    write_cog(path, parts(image_of(Shape(1100, 700)), 512), Grid(Shape(1100, 700), WKT),
              tile_px=512)  # fmt: skip
    content = path.read_bytes()
    with rasterio.open(path) as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        for row in range(3):
            for column in range(2):
                start, size = (
                    int(raster.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1))
                    for what in ("OFFSET", "SIZE")
                )
                assert int.from_bytes(content[start - 4 : start], "little") == size
                end = start + size
                assert content[end : end + 4] == content[end - 4 : end]


def test_a_damaged_piece_is_noticed(tmp_path: Path) -> None:
    grid = Grid(Shape(512, 512), WKT)
    layout = layout_of(tmp_path / "pieces", grid, 512)
    (tile,) = layout.tiles()
    write_piece(layout, tile, image_of(grid.shape), {"seen": np.ones(3, np.float32)})
    np.testing.assert_array_equal(read_extra(layout, tile)["seen"], np.ones(3))
    content = bytearray(layout.path(tile).read_bytes())
    content[5000] ^= 1
    layout.path(tile).write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        finish_cog(tmp_path / "image.tif", layout, grid)
    assert [p.name for p in tmp_path.iterdir()] == ["pieces"]


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
