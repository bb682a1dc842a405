"""Stacks of COGs of any size, made for measurements of speed."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.output.cog import write_cog
from sarstack.readers.grid import Grid
from sarstack.tiles import Shape, Window, tile_grid

LOOKS = 4.4
PIXEL_M = 10.0
FIELD_PX = 64
PART_PX = 1024
N_DIFFERENT = 2


def write_stack(folder: Path, side_px: int, n_dates: int) -> Path:
    """Write a stack of one polarisation, fields under speckle; keep it if it is there.

    Parameters
    ----------
    folder : Path
        Where the folder of the stack is made.
    side_px : int
        Height and width.
    n_dates : int
        Only the first two differ, the others are links to them: to read and decode them costs
        the same, and 24 dates of a large scene need little disk.

    Returns
    -------
    Path
        Folder of COGs, as sarstack itself writes them.
    """
    from rasterio.crs import CRS

    affine = (PIXEL_M, 0.0, 4e5, 0.0, -PIXEL_M, 5.4e6)
    grid = Grid(Shape(side_px, side_px), CRS.from_epsg(32632).to_wkt(), affine)

    def write(path: Path, number: int) -> None:
        pixels = draw_parts(grid.shape, number)
        write_cog(path, pixels, grid, tile_px=PART_PX, description="gamma0 vv")

    return _fill(folder / f"{n_dates}x{side_px}", [_name(date) for date in range(n_dates)], write)


def decompress_stack(stack: Path) -> Path:
    """Write the same images as tiled GeoTIFFs that are not compressed, into a folder beside."""
    from rasterio.shutil import copy

    def write(path: Path, number: int) -> None:
        source = sorted(stack.iterdir())[number]
        copy(str(source), str(path), driver="GTiff", tiled=True, blockxsize=512, blockysize=512)

    names = [path.name for path in sorted(stack.iterdir())]
    return _fill(stack.with_name(f"{stack.name}-plain"), names, write)


def _fill(folder: Path, names: Sequence[str], write: Callable[[Path, int], None]) -> Path:
    """Write the first images of a folder and link the others to them; keep it if it is there."""
    if folder.exists():
        return folder
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, name in enumerate(names):
        if number < N_DIFFERENT:
            write(unfinished / name, number)
        else:
            _link(unfinished / names[number % N_DIFFERENT], unfinished / name)
    unfinished.rename(folder)
    return folder


def _name(date: int) -> str:
    day = str(np.datetime64("2023-01-01") + 12 * date).replace("-", "")
    return f"S1A_IW_{day}T054321_gamma0_vv.tif"


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # a disk without hard links
        shutil.copyfile(source, path)


def draw_parts(scene: Shape, date: int) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Draw an image part by part: fields of 12 dB, a road, white speckle, a tilted swath edge.

    Yields
    ------
    window : Window
    pixels : ndarray, shape of the window, float32
        Linear power, NaN left of the edge.
    """
    for tile in tile_grid(scene, PART_PX):
        window = tile.window
        height, width = window.shape
        land = np.random.default_rng([tile.row, tile.column])
        fields = land.uniform(-18, -6, (height // FIELD_PX + 1, width // FIELD_PX + 1))
        power = 10 ** (np.kron(fields, np.ones((FIELD_PX, FIELD_PX)))[:height, :width] / 10)
        power[:, width // 2 : width // 2 + 2] = 0.5
        speckle = np.random.default_rng([tile.row, tile.column, date])
        pixels = power * speckle.gamma(LOOKS, 1 / LOOKS, window.shape)
        y, x = np.mgrid[window.slices]
        pixels[x < scene.x * 0.05 - y * 0.04] = np.nan
        yield window, pixels.astype(np.float32)
