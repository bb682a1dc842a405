"""Unfinished images: a file for each computed tile, with its overviews.

A piece that exists is complete (it is renamed into place), so the pieces are the ledger from
which an interrupted run continues.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.output.pyramid import choose_blocks
from sarstack.tiles import Shape, Tile, Window, tile_grid


@dataclass(frozen=True)
class Pieces:
    """The pieces of one image.

    Attributes
    ----------
    folder : Path
    scene : Shape
        Size of the image.
    tile_px : int
        Edge of a tile.
    """

    folder: Path
    scene: Shape
    tile_px: int

    def path(self, tile: Tile) -> Path:
        """Return where a tile's piece is, or will be."""
        return self.folder / f"{tile.row}_{tile.column}.tif"

    @property
    def n_overviews(self) -> int:
        """Coarser levels of the image, as many as whole tiles can be halved to."""
        halves = (self.tile_px & -self.tile_px).bit_length() - 1
        return min(choose_blocks(self.scene).n_overviews, halves)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, row by row."""
        return tile_grid(self.scene, self.tile_px)


def write_piece(pieces: Pieces, tile: Tile, image: NDArray[np.float32]) -> None:
    """Write one tile and its overviews, averages of valid pixels; all of it appears or nothing.

    Parameters
    ----------
    pieces : Pieces
    tile : Tile
    image : ndarray, shape of the tile, float32
        Linear intensity, NaN = nodata.
    """
    import rasterio
    from rasterio.enums import Resampling

    path = pieces.path(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a cluster may give a tile to two workers.
    unfinished = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    levels = [2**level for level in range(1, pieces.n_overviews + 1)]
    # Whole pixels on every level: where they are averaged does not depend on the tile.
    rest = [(0, -length % max([1, *levels])) for length in image.shape]
    padded = np.pad(image, rest, constant_values=np.nan) if np.any(rest) else image
    profile = {"driver": "GTiff", "height": padded.shape[0], "width": padded.shape[1], "count": 1,
               "dtype": "float32", "nodata": np.nan}  # fmt: skip
    try:
        with without_georeference_warning(), rasterio.open(unfinished, "w", **profile) as raster:
            raster.write(padded, 1)
            if levels:
                raster.build_overviews(levels, Resampling.average)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_pieces(pieces: Pieces, window: Window) -> NDArray[np.float32]:
    """Read a window of the image, shape of `window`, from the tiles in which it lies."""
    import rasterio

    image = np.empty(window.shape, np.float32)
    for tile in pieces.tiles():
        common = tile.window.overlap(window)
        if common is not None:
            with without_georeference_warning(), rasterio.open(pieces.path(tile)) as raster:
                part = raster.read(1, window=common.inside(tile.window))
            image[common.inside(window)] = part
    return image


@contextmanager
def without_georeference_warning() -> Iterator[None]:
    """Silence rasterio where an image without georeference is what the user has."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
