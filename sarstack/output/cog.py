"""Write one despeckled image as a Cloud-Optimized GeoTIFF.

GDAL's COG driver copies a virtual raster over the finished tiles, so memory does not depend on the
size of the scene. The file gets its name after it was checked.
"""

import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import SarstackError, UsageError
from sarstack.output.pieces import Pieces, choose_blocks, without_georeference_warning, write_piece
from sarstack.output.vrt import write_mosaic
from sarstack.readers.grid import Grid
from sarstack.tiles import Tile, Window

CACHE_MAX_BYTES = 64 * 2**20
LEVEL = 1
"""Of both compressions. Higher levels make files 2 % smaller and take twice the time or more."""
Compression = Literal["zstd", "deflate"]
"""zstd takes half of the time of deflate; GDAL without it reads deflate only."""


def write_cog(
    path: Path,
    pixels: Iterable[tuple[Window, NDArray[np.float32]]],
    grid: Grid,
    *,
    tile_px: int,
    description: str = "",
    tags: dict[str, str] | None = None,
) -> None:
    """Write one band of linear intensity as a COG on a grid.

    Parameters
    ----------
    path : Path
        Name of the finished file. It appears when it is complete.
    pixels : iterable of (Window, ndarray of float32)
        All tiles of ``tile_grid(grid.shape, tile_px)`` in any order; NaN = nodata.
    grid : Grid
        Size, CRS and affine or ground control points; written unchanged.
    tile_px : int
        Width of the tiles.
    description : str
        Name of the band, e.g. ``gamma0 vv``.
    tags : dict of str
        Metadata of the file.
    """
    pieces = Pieces(path.with_name(f".{path.name}.pieces"), grid.shape, tile_px)
    try:
        for window, values in pixels:
            tile = Tile(window.y0 // tile_px, window.x0 // tile_px, window)
            write_piece(pieces, tile, values)
        finish_cog(path, pieces, grid, description=description, tags=tags)
    finally:
        shutil.rmtree(pieces.folder, ignore_errors=True)


def finish_cog(
    path: Path,
    pieces: Pieces,
    grid: Grid,
    *,
    description: str = "",
    tags: dict[str, str] | None = None,
    unit: str = "1",
    compress: Compression = "zstd",
    before_naming: Callable[[Path], None] = lambda _complete: None,
) -> None:
    """Make a COG of the pieces of an image; parameters as for :func:`write_cog`.

    Parameters
    ----------
    path, pieces, grid, description, tags
        As for :func:`write_cog`.
    unit : str
        Unit of the pixels; default: that of linear power.
    compress : {"zstd", "deflate"}
        Compression of the file.
    before_naming : callable
        Called with the complete and checked file before it gets the name `path`.

    Raises
    ------
    SarstackError
        If the file is not a valid COG; it is removed.

    Notes
    -----
    The overviews are those of the pieces. The driver would make its own through a second compressed
    file, which takes two thirds of its time. Memory: GDAL's block cache (64 MiB) and a row of
    blocks for each thread. GDAL compresses with all cores.
    """
    import rasterio
    from rasterio.shutil import copy

    mosaic = write_mosaic(pieces, grid, description, tags, unit)
    # A unique name beside the pieces: a cluster may give an image to two workers, and the file of a
    # killed run is deleted with the pieces.
    unchecked = pieces.folder / f".{uuid.uuid4().hex}.cog.tif"
    options = {"GDAL_CACHEMAX": CACHE_MAX_BYTES, "GDAL_TIFF_INTERNAL_MASK": False}
    try:
        with without_georeference_warning(), rasterio.Env(**options):
            copy(
                str(mosaic), str(unchecked), driver="COG", compress=compress,
                level=str(LEVEL), predictor="YES", bigtiff="IF_SAFER",
                blocksize=choose_blocks(grid.shape).block_px, num_threads="ALL_CPUS",
                overviews="FORCE_USE_EXISTING",
            )  # fmt: skip
        check_cog(unchecked)
        before_naming(unchecked)
        _name_side_car(unchecked, path)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
        _side_car(unchecked).unlink(missing_ok=True)


def _name_side_car(unchecked: Path, path: Path) -> None:
    """Give the side-car of a file the name beside the file's final name.

    GDAL writes one for what a GeoTIFF cannot hold, for example the CRS of a rotated pole. Without
    a new one, that of an older result goes: it describes other pixels.
    """
    if _side_car(unchecked).exists():
        _side_car(unchecked).replace(_side_car(path))
    else:
        _side_car(path).unlink(missing_ok=True)


def _side_car(path: Path) -> Path:
    return path.with_name(f"{path.name}.aux.xml")


def check_compression(compress: Compression) -> None:
    """Raise if the GDAL of this process cannot write a compression.

    Raises
    ------
    UsageError
        With the compression to ask for.
    """
    from rasterio.io import MemoryFile

    profile = {"driver": "GTiff", "height": 1, "width": 1, "count": 1, "dtype": "float32"}
    with without_georeference_warning(), MemoryFile() as memory:
        memory.open(**profile, compress=compress).close()
        with memory.open() as raster:
            found = raster.compression  # GDAL writes without one that it does not know
    if found is None or found.name != compress:
        raise UsageError(
            f"the GDAL of this Python cannot compress with {compress}",
            expected="a GDAL that was built with it",
            where="--compress",
            do="--compress deflate",
        )


def check_cog(path: Path) -> None:
    """Raise if a file is not a valid Cloud-Optimized GeoTIFF, overviews included."""
    from rio_cogeo.cogeo import cog_validate

    with without_georeference_warning():
        valid, problems, warnings = cog_validate(str(path), strict=True, quiet=True)
    if not valid:
        raise SarstackError(
            f"{path.name} is not a valid COG",
            expected="tiles, overviews, and the header at the start",
            where=[*problems, *warnings],
            do="check the free disk space, and run the same command again",
        )
