"""Unfinished images: each tile as blocks of the finished file, compressed by who computed it.

A piece holds one tile: its blocks, in full resolution and in the overviews of which it has
whole blocks; the pixels of the next overview, of which it has but a part of a block; and
arrays its maker adds. A piece that exists is complete (it is renamed into place), and the
pieces are the ledger from which an interrupted run continues. To finish an image is to copy
blocks: the larger overviews are pieces as well, put together from the parts.
"""

import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.tiff import Level, cut_blocks
from sarstack.tiles import Shape, Tile, Window, strips, tile_grid

BLOCK_PX = 512
DEFLATE_LEVEL = 1
"""Level 6 takes twice as long for 2 % less, and compressing is most of what writing takes."""

_REST = "rest"
# A piece of overviews covers this many tiles along each axis: never more pixels than two.
_GATHERED = 4


def overview_shapes(scene: Shape) -> list[Shape]:
    """Return the shapes of the image and its overviews, down to one block."""
    shapes = [scene]
    while max(shapes[-1]) > BLOCK_PX:
        shapes.append(halved(shapes[-1], 1))
    return shapes


def halved(shape: Shape, times: int) -> Shape:
    """Return the shape of an overview; a last odd row or column makes a pixel of its own."""
    return Shape(-(-shape.y // 2**times), -(-shape.x // 2**times))


def choose_block_px(scene: Shape, tile_px: int) -> int:
    """Return the edge of a block: 512, or less where tiles are no multiple of it.

    Less as well where a level is exactly one block wide: validators take an image as wide as
    its block for an untiled one.
    """
    narrow = {shape.x for shape in overview_shapes(scene) if shape.y > BLOCK_PX}
    return next(BLOCK_PX >> i for i in range(6) if tile_px % (BLOCK_PX >> i) == 0
                and BLOCK_PX >> i not in narrow)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A grid of pieces: which levels of an image they hold, and where they are.

    Attributes
    ----------
    folder : Path
    scene : Shape
        Size of the first of these levels.
    tile_px, block_px : int
        Edges of a tile of that level, and of a block of any; tiles are multiples of blocks.
    """

    folder: Path
    scene: Shape
    tile_px: int
    block_px: int

    @property
    def n_levels(self) -> int:
        """Levels of which a piece has whole blocks; overviews as large as a block are enough."""
        blocks = self.tile_px // self.block_px
        whole = (blocks & -blocks).bit_length()
        return min(whole, len(overview_shapes(self.scene)))

    def above(self, folder: Path) -> "Layout | None":
        """Return the pieces of the overviews that these pieces have only parts of, if any."""
        shapes = overview_shapes(self.scene)[self.n_levels :]
        tile_px = _GATHERED * self.tile_px >> self.n_levels
        return Layout(folder, shapes[0], tile_px, self.block_px) if shapes else None

    def path(self, tile: Tile) -> Path:
        """Return where a tile's piece is, or will be."""
        return self.folder / str(tile.row) / str(tile.column)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, row by row."""
        return tile_grid(self.scene, self.tile_px)


def write_piece(
    layout: Layout,
    tile: Tile,
    image: NDArray[np.float32],
    extra: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Compress a tile and its overviews; the piece appears complete or not at all.

    Parameters
    ----------
    layout : Layout
    tile : Tile
    image : ndarray, shape of the tile, float32
        Linear intensity, NaN = nodata.
    extra : dict of ndarray
        Kept beside; see :func:`read_extra`.
    """
    path = layout.path(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a cluster may give a tile to two workers.
    unfinished = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(unfinished, "w") as piece:
            for level in range(layout.n_levels):
                image = halve(image) if level else image
                for (row, column), block in compress(image, layout.block_px):
                    piece.writestr(f"{level}/{row}/{column}", block)
            arrays = dict(extra or {})
            if len(overview_shapes(layout.scene)) > layout.n_levels:
                arrays[_REST] = halve(image)
            for name, array in arrays.items():
                with piece.open(name, "w") as file:
                    np.save(file, array)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_extra(layout: Layout, tile: Tile) -> dict[str, NDArray[np.float32]]:
    """Return the arrays that were given to :func:`write_piece`, by name."""
    with zipfile.ZipFile(layout.path(tile)) as piece:
        names = [n for n in piece.namelist() if "/" not in n and n != _REST]
        return {name: _read_array(piece, name) for name in names}


def _read_array(piece: zipfile.ZipFile, name: str) -> NDArray[np.float32]:
    with piece.open(name) as file:
        array: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return array


def compress(image: NDArray[np.float32], block_px: int) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield place and content of each block; those at the edge are filled up with NaN."""
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    rows, columns = (-(-n // block_px) for n in image.shape)
    missing = rows * block_px - image.shape[0], columns * block_px - image.shape[1]
    if any(missing):
        image = np.pad(image, [(0, n) for n in missing], constant_values=np.nan)
    profile = {
        "driver": "GTiff", "height": rows * block_px, "width": columns * block_px, "count": 1,
        "dtype": "float32", "tiled": True, "blockxsize": block_px, "blockysize": block_px,
        "compress": "DEFLATE", "zlevel": DEFLATE_LEVEL, "predictor": 3, "bigtiff": "NO",
        "transform": from_origin(1, 1, 1, 1),
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(image, 1)
        blocks = cut_blocks(memory.getbuffer())
    for i, block in enumerate(blocks):
        yield divmod(i, columns), block


def halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 2 x 2 pixels, those that are valid; an odd last row or column stands alone.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        Linear intensity, NaN = nodata.

    Returns
    -------
    ndarray, shape (ceil(y / 2), ceil(x / 2)), float32
    """
    if image.shape[0] % 2 or image.shape[1] % 2:
        image = np.pad(image, [(0, n % 2) for n in image.shape], constant_values=np.nan)
    half = np.empty((image.shape[0] // 2, image.shape[1] // 2), np.float32)
    for rows in strips(half.shape):
        double = image[2 * rows.start : 2 * rows.stop]
        four = [double[i::2, j::2] for i in (0, 1) for j in (0, 1)]
        mean = (four[0] + four[1] + four[2] + four[3]) / np.float32(4)
        if np.isnan(mean).any():
            valid = [np.isfinite(one) for one in four]
            total = sum(np.where(v, one, np.float32(0)) for v, one in zip(valid, four, strict=True))
            n_valid = np.sum(valid, axis=0, dtype=np.float32)
            mean = np.where(n_valid > 0, total / np.maximum(n_valid, 1), np.float32(np.nan))
        half[rows] = mean
    return half


def gather(below: Layout, above: Layout) -> None:
    """Make the pieces of larger overviews out of the parts that the pieces below hold."""
    part_px = below.tile_px >> below.n_levels
    known = {(tile.row, tile.column): tile for tile in below.tiles()}
    for tile in above.tiles():
        window = tile.window
        image = np.empty(window.shape, np.float32)
        for row in range(window.y0 // part_px, -(-window.y1 // part_px)):
            for column in range(window.x0 // part_px, -(-window.x1 // part_px)):
                with zipfile.ZipFile(below.path(known[row, column])) as piece:
                    part = _read_array(piece, _REST)
                y0, x0 = row * part_px, column * part_px
                place = Window(y0, y0 + part.shape[0], x0, x0 + part.shape[1])
                image[place.inside(window)] = part
        write_piece(above, tile, image)


def measure_levels(layout: Layout) -> list[Level]:
    """Return the levels that pieces hold, with the size of each block."""
    shapes = overview_shapes(layout.scene)[: layout.n_levels]
    sizes = [np.zeros([-(-n // layout.block_px) for n in shape], np.uint64) for shape in shapes]
    blocks = layout.tile_px // layout.block_px
    for tile in layout.tiles():
        with zipfile.ZipFile(layout.path(tile)) as piece:
            for found in piece.infolist():
                if "/" in found.filename:
                    level, row, column = map(int, found.filename.split("/"))
                    y, x = ((i * blocks) >> level for i in (tile.row, tile.column))
                    sizes[level][y + row, x + column] = found.file_size
    return [Level(s, layout.block_px, n) for s, n in zip(shapes, sizes, strict=True)]


def read_blocks(layout: Layout, level: int) -> Iterator[bytes]:
    """Yield the compressed blocks of one of the levels of :func:`measure_levels`, row by row."""
    for _, tiles in groupby(layout.tiles(), lambda tile: tile.row):
        with ExitStack() as opened:
            row_of_tiles = [
                (opened.enter_context(zipfile.ZipFile(layout.path(tile))), tile) for tile in tiles
            ]
            shape = halved(row_of_tiles[0][1].window.shape, level)
            for row in range(-(-shape.y // layout.block_px)):
                for piece, tile in row_of_tiles:
                    n_columns = -(-halved(tile.window.shape, level).x // layout.block_px)
                    for column in range(n_columns):
                        yield piece.read(f"{level}/{row}/{column}")
