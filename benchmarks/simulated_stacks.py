"""Simulated stacks of COGs of any size, as input of the speed benchmark.

They have what costs time (noise, detail, nodata), not realistic landscapes: those are in
``sarstack.speckle.landscapes``.
"""

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
N_DISTINCT_DATES = 2


def write_stack(folder: Path, side_px: int, n_dates: int) -> Path:
    """Write a stack of one polarisation, unless it exists.

    Parameters
    ----------
    folder : Path
        Parent of the folder that is written.
    side_px : int
        Height and width of the images.
    n_dates : int
        Number of images. The first two differ, the others are hard links to them: reading and
        decoding cost the same, and 24 dates of a large scene need little disk.

    Returns
    -------
    Path
        Folder of COGs, written by the same function as results of sarstack.
    """
    from rasterio.crs import CRS

    affine = (PIXEL_M, 0.0, 4e5, 0.0, -PIXEL_M, 5.4e6)
    grid = Grid(Shape(side_px, side_px), CRS.from_epsg(32632).to_wkt(), affine)

    def write(path: Path, date: int) -> None:
        parts = simulate_image(grid.shape, date)
        write_cog(path, parts, grid, tile_px=PART_PX, description="gamma0 vv")

    names = [_file_name(date) for date in range(n_dates)]
    return _write_folder(folder / f"{n_dates}x{side_px}", names, write)


def write_uncompressed(stack: Path) -> Path:
    """Write the images of a stack as uncompressed tiled GeoTIFFs, unless they exist.

    Parameters
    ----------
    stack : Path
        Folder that `write_stack` returned.

    Returns
    -------
    Path
        Folder beside `stack`, with the same pixels and file names.
    """
    from rasterio.shutil import copy

    sources = sorted(stack.iterdir())

    def write(path: Path, date: int) -> None:
        copy(str(sources[date]), str(path), driver="GTiff",
             tiled=True, blockxsize=512, blockysize=512)  # fmt: skip

    folder = stack.with_name(f"{stack.name}-uncompressed")
    return _write_folder(folder, [path.name for path in sources], write)


def _write_folder(folder: Path, names: Sequence[str], write: Callable[[Path, int], None]) -> Path:
    """Write the first images of a folder and link the others to them, unless it exists.

    The folder gets its name when it is complete.
    """
    if folder.exists():
        return folder
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for date, name in enumerate(names):
        if date < N_DISTINCT_DATES:
            write(unfinished / name, date)
        else:
            _link(unfinished / names[date % N_DISTINCT_DATES], unfinished / name)
    unfinished.rename(folder)
    return folder


def _file_name(date: int) -> str:
    day = str(np.datetime64("2023-01-01") + 12 * date).replace("-", "")
    return f"S1A_IW_{day}T054321_gamma0_vv.tif"


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, path)


def simulate_image(scene: Shape, date: int) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Simulate an image in parts: fields between -18 and -6 dB, roads, a tilted swath edge.

    Speckle is white, with 4.4 looks, and differs between dates; the fields do not.

    Parameters
    ----------
    scene : Shape
        Shape of the image.
    date : int
        Seed of the speckle.

    Yields
    ------
    window : Window
        Place of the part, at most 1024 x 1024 px.
    pixels : ndarray of float32, shape (y, x)
        Intensity (linear power); NaN left of the swath edge.
    """
    for tile in tile_grid(scene, PART_PX):
        window = tile.window
        height, width = window.shape
        fields_rng = np.random.default_rng([tile.row, tile.column])
        fields_db = fields_rng.uniform(-18, -6, (height // FIELD_PX + 1, width // FIELD_PX + 1))
        fields = np.kron(fields_db, np.ones((FIELD_PX, FIELD_PX)))[:height, :width]
        intensity = 10 ** (fields / 10)
        intensity[:, width // 2 : width // 2 + 2] = 0.5  # a road
        speckle_rng = np.random.default_rng([tile.row, tile.column, date])
        pixels = intensity * speckle_rng.gamma(LOOKS, 1 / LOOKS, window.shape)
        y, x = np.mgrid[window.slices]
        pixels[x < scene.x * 0.05 - y * 0.04] = np.nan
        yield window, pixels.astype(np.float32)
