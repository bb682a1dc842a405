"""Pieces: files with the pixels of finished tiles and their overviews, before the COG is made.

A piece gets its name when it is complete. So an interrupted run continues with the tiles that
have no piece.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.output.complete_file import complete_file
from sarstack.output.rounding import ALL_BITS, round_mantissa
from sarstack.tiles import Shape, Tile, Window, row_strips, tile_grid

BLOCKS_PX = (512, 256, 128)
_NOTES = "SARSTACK_NOTES"


class Blocks(NamedTuple):
    """Blocks and overviews of a COG.

    Attributes
    ----------
    block_px : int
        Width of a block.
    n_overviews : int
        Number of overviews; each has half of the rows and columns of the one before.
    """

    block_px: int
    n_overviews: int


def coarsen(shape: Shape, level: int) -> Shape:
    """Return the size of overview `level` (0: the image); partial pixels at the edge count."""
    return Shape(-(-shape.y // 2**level), -(-shape.x // 2**level))


def choose_blocks(shape: Shape) -> Blocks:
    """Choose the width of blocks, and overviews until the image fits into 512 px.

    COG validators read a level that is exactly one block wide and higher than that as untiled. If
    a block width leads to such a level, another width is chosen; if all do, the narrow overviews
    are left out.
    """
    levels = [shape]
    while max(levels[-1]) > BLOCKS_PX[0]:
        levels.append(coarsen(shape, len(levels)))

    def count_overviews(block_px: int) -> int:
        narrow = [i for i, level in enumerate(levels) if level.x == block_px < level.y]
        return narrow[0] - 1 if narrow else len(levels) - 1

    block_px = max(BLOCKS_PX, key=lambda edge: (count_overviews(edge), edge))
    return Blocks(block_px, count_overviews(block_px))


@dataclass(frozen=True)
class Pieces:
    """Where the pieces of one image are.

    Attributes
    ----------
    folder : Path
        Folder of the pieces.
    scene : Shape
        Rows and columns of the image.
    tile_px : int
        Width of a tile.
    keep_bits : int
        Bits of the mantissa that pixels are rounded to.
    """

    folder: Path
    scene: Shape
    tile_px: int
    keep_bits: int = ALL_BITS

    def path(self, tile: Tile, level: int = 0) -> Path:
        """Return the path of the piece of a tile, or of its overview, written or not."""
        overview = f".overview-{level}" if level else ""
        return self.folder / f"{tile.row}_{tile.column}{overview}.tif"

    @property
    def n_overviews(self) -> int:
        """Number of overviews: those of the COG, as far as a tile can be halved."""
        halves = (self.tile_px & -self.tile_px).bit_length() - 1
        return min(choose_blocks(self.scene).n_overviews, halves)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, row by row."""
        return tile_grid(self.scene, self.tile_px)


def write_piece(
    pieces: Pieces,
    tile: Tile,
    image: NDArray[np.float32],
    notes: Mapping[str, float] | None = None,
) -> None:
    """Write one tile and its overviews (means of valid pixels), rounded to the bits that are kept.

    The file of the tile appears when all is complete.

    Parameters
    ----------
    pieces : Pieces
        Pieces of the image.
    tile : Tile
        Place of the pixels.
    image : ndarray, shape of the tile, float32
        Linear intensity, NaN = nodata.
    notes : dict of float, optional
        Numbers that are stored with the piece; see :func:`sum_notes`.
    """
    path = pieces.path(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = [image]
    for _ in range(pieces.n_overviews):
        levels.append(halve(levels[-1]))
    # The image comes last: a tile whose file is there has its overviews.
    for level in reversed(range(len(levels))):
        rounded = round_mantissa(levels[level], pieces.keep_bits)
        _write_image(pieces.path(tile, level), rounded, notes or {})


def halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the valid pixels of each 2 x 2 pixels; NaN where none is valid.

    Partial blocks at the bottom and at the right count, so the size is rounded up.
    """
    means = np.empty(coarsen(Shape(*image.shape), 1), np.float32)
    for rows in row_strips(means.shape):
        means[rows] = _halve_strip(image[2 * rows.start : 2 * rows.stop])
    return means


def _halve_strip(image: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.zeros(coarsen(Shape(*image.shape), 1), np.float32)
    count = np.zeros(total.shape, np.float32)
    for y, x in np.ndindex(2, 2):
        part = image[y::2, x::2]
        valid = np.isfinite(part)
        inside = tuple(slice(size) for size in part.shape)
        np.add(total[inside], part, out=total[inside], where=valid)
        count[inside] += valid
    with np.errstate(invalid="ignore"):
        return total / count


def _write_image(path: Path, image: NDArray[np.float32], notes: Mapping[str, float]) -> None:
    from rasterio.io import MemoryFile

    profile = {"driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": 1,
               "dtype": "float32", "nodata": np.nan}  # fmt: skip
    # In memory first: GDAL hides the reason why a file cannot be written, and finds some failures
    # only when it closes the file, where nobody is told.
    with MemoryFile() as memory:
        with without_georeference_warning(), memory.open(**profile) as raster:
            raster.write(image, 1)
            raster.update_tags(ns=_NOTES, **{name: repr(v) for name, v in notes.items()})
        with complete_file(path) as unfinished:
            unfinished.write_bytes(memory.getbuffer())


def sum_notes(pieces: Pieces) -> dict[str, float]:
    """Return the sums over all pieces of the numbers that are stored with them.

    Empty if a piece has none.
    """
    import rasterio

    sums: dict[str, float] = {}
    for tile in pieces.tiles():
        with without_georeference_warning(), rasterio.open(pieces.path(tile)) as raster:
            notes = raster.tags(ns=_NOTES)
        if not notes:
            return {}
        for name, value in notes.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def read_pieces(pieces: Pieces, window: Window) -> NDArray[np.float32]:
    """Read a window of the image from its pieces; shape of `window`, float32."""
    import rasterio

    image = np.empty(window.shape, np.float32)
    for tile in pieces.tiles():
        common = tile.window.overlap(window)
        if common is not None:
            with without_georeference_warning(), rasterio.open(pieces.path(tile)) as raster:
                part = raster.read(1, window=common.slices_in(tile.window))
            image[common.slices_in(window)] = part
    return image


@contextmanager
def without_georeference_warning() -> Iterator[None]:
    """Silence the warning of rasterio: images without georeference are allowed."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
