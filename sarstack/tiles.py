"""Windows, tiles and cells of a scene as whole numbers.

Windows are half-open, rows before columns, in pixels of the scene.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

ALIGNMENT_PX = 4
"""Size of a pixel on the coarse grid of a network. Its blocks start at multiples of this number."""


class Shape(NamedTuple):
    """Height and width in pixels."""

    y: int
    x: int


class Window(NamedTuple):
    """A rectangle ``[y0, y1) x [x0, x1)`` of a scene."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> Shape:
        """Height and width of the window."""
        return Shape(self.y1 - self.y0, self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array of the whole scene."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def expand(self, halo: int, scene: Shape, alignment: int = 1) -> Self:
        """Return the window with a halo on each side, clipped at the edge of the scene.

        The window is not padded beyond the scene: a method gets the same pixels at the edge as with
        the whole image. With `alignment` the window starts at a multiple of this number of pixels
        from the origin of the scene.
        """
        y0, x0 = max(self.y0 - halo, 0), max(self.x0 - halo, 0)
        return type(self)(
            y0 - y0 % alignment,
            min(self.y1 + halo, scene.y),
            x0 - x0 % alignment,
            min(self.x1 + halo, scene.x),
        )

    def overlap(self, other: "Window") -> Self | None:
        """Return the intersection with another window; None if empty."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return type(self)(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None

    def slices_in(self, outer: "Window") -> tuple[slice, slice]:
        """Index of this window in an array that covers `outer`."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


class Tile(NamedTuple):
    """The pixels that one task writes: row and column in the grid of tiles, and window."""

    row: int
    column: int
    window: Window


def tile_grid(scene: Shape, size_px: int) -> Iterator[Tile]:
    """Yield the tiles that cover `scene`, row by row; the last ones may be smaller."""
    for row, y0 in enumerate(range(0, scene.y, size_px)):
        for column, x0 in enumerate(range(0, scene.x, size_px)):
            window = Window(y0, min(y0 + size_px, scene.y), x0, min(x0 + size_px, scene.x))
            yield Tile(row, column, window)


def n_tiles(scene: Shape, size_px: int) -> int:
    """Return the number of tiles of :func:`tile_grid`."""
    return -(-scene.y // size_px) * -(-scene.x // size_px)


def order_in_row_pairs(tiles: Iterable[Tile]) -> list[Tile]:
    """Order tiles by pairs of rows: left to right in the first pair, right to left in the next.

    Tiles that share blocks of the input then follow each other.
    """

    def place(tile: Tile) -> tuple[int, int, int]:
        pair = tile.row // 2
        return pair, -tile.column if pair % 2 else tile.column, tile.row

    return sorted(tiles, key=place)


def split_evenly(tiles: Sequence[Tile], n_parts: int) -> Iterator[Sequence[Tile]]:
    """Yield `n_parts` parts of consecutive tiles; their sizes differ by one tile at most.

    There are fewer parts if there are fewer tiles.
    """
    n_parts = min(max(n_parts, 1), len(tiles))
    for part in range(n_parts):
        yield tiles[part * len(tiles) // n_parts : (part + 1) * len(tiles) // n_parts]


def cells(window: Window, size_px: int) -> Iterator[Window]:
    """Cut `window` along the lines of a grid that is fixed to the origin of the scene.

    The lines do not depend on the window. So all tile sizes that are multiples of `size_px` have
    the same cells, and give the same bits.
    """
    for y0 in range(window.y0 - window.y0 % size_px, window.y1, size_px):
        for x0 in range(window.x0 - window.x0 % size_px, window.x1, size_px):
            yield Window(
                max(y0, window.y0),
                min(y0 + size_px, window.y1),
                max(x0, window.x0),
                min(x0 + size_px, window.x1),
            )


def row_strips(shape: Sequence[int], strip_px: int = 2**17) -> Iterator[slice]:
    """Yield the rows of an image in strips of about `strip_px` pixels, at least one row.

    Intermediate arrays of a strip fit into the cache. A pass over a strip takes long enough that
    threads rarely wait for the interpreter lock: with strips of an eighth, two threads are as slow
    as one.
    """
    rows = max(strip_px // max(shape[1], 1), 1)
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def sample_windows(scene: Shape, size_px: int = 256, per_axis: int = 6) -> list[Window]:
    """Choose evenly spread windows in which scene statistics are measured.

    The windows cover a small scene completely. A large one has ``per_axis**2`` windows, so the
    cost does not grow with the scene. The choice depends on the shape only: every tile size and
    number of workers measures the same pixels. Windows start at multiples of their size, so
    each lies in one block of a tiled file and in one tile.
    """

    def starts(length: int) -> list[int]:
        count = -(-length // size_px)
        if count <= per_axis:
            return [i * size_px for i in range(count)]
        last = length // size_px - 1
        return [round(i * last / (per_axis - 1)) * size_px for i in range(per_axis)]

    return [
        Window(y0, min(y0 + size_px, scene.y), x0, min(x0 + size_px, scene.x))
        for y0 in starts(scene.y)
        for x0 in starts(scene.x)
    ]
