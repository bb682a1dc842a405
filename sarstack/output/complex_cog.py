"""Write one complex image as a Cloud-Optimized GeoTIFF.

Overviews show every second pixel of the level before: the mean of complex numbers is no brightness.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.output.cog import LEVEL, Compression, check_cog
from sarstack.output.complete_file import complete_file
from sarstack.output.pieces import choose_blocks, without_georeference_warning
from sarstack.readers.grid import Grid
from sarstack.tiles import Window


def write_complex_cog(
    path: Path,
    pixels: Iterable[tuple[Window, NDArray[np.complex64]]],
    grid: Grid,
    *,
    description: str = "",
    tags: dict[str, str] | None = None,
    compress: Compression = "zstd",
) -> None:
    """Write one band of complex numbers.

    Parameters
    ----------
    path : Path
        Name of the finished file. It appears when it is complete.
    pixels : iterable of (Window, ndarray of complex64)
        All pixels of the image; NaN in both parts = nodata.
    grid : Grid
        Size, CRS and affine or ground control points.
    description : str
        Name of the band.
    tags : dict of str, optional
        Metadata of the file.
    compress : {"zstd", "deflate"}, optional

    Raises
    ------
    SarstackError
        If the file is not a valid COG; it is removed.
    """
    import rasterio
    from rasterio.shutil import copy

    block_px = choose_blocks(grid.shape).block_px
    profile = {
        "driver": "GTiff", "height": grid.shape.y, "width": grid.shape.x, "count": 1,
        "dtype": "complex64", "nodata": np.nan, "tiled": True, "blockxsize": block_px,
        "blockysize": block_px, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    plain = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with without_georeference_warning(), complete_file(path) as complete:
            with rasterio.open(plain, "w", **profile) as file:
                _place(file, grid)
                file.set_band_description(1, description)
                file.update_tags(**(tags or {}))
                for window, numbers in pixels:
                    rows, columns = (window.y0, window.y1), (window.x0, window.x1)
                    file.write(numbers, 1, window=(rows, columns))
            copy(
                str(plain), str(complete), driver="COG", compress=compress, level=str(LEVEL),
                blocksize=block_px, overviews="IGNORE_EXISTING", overview_resampling="nearest",
                num_threads="ALL_CPUS", bigtiff="IF_SAFER",
            )  # fmt: skip
            check_cog(complete)
    finally:
        plain.unlink(missing_ok=True)


def _place(file: Any, grid: Grid) -> None:
    """Write the place of the pixels on the ground into an open file."""
    from rasterio.control import GroundControlPoint

    if grid.gcps:
        points = [GroundControlPoint(p.row, p.column, p.x, p.y, p.z) for p in grid.gcps]
        file.gcps = (points, grid.crs)
    elif grid.is_georeferenced:
        file.transform = grid.affine
        if grid.crs is not None:
            file.crs = grid.crs
    if grid.rpcs:
        file.update_tags(ns="RPC", **dict(grid.rpcs))
