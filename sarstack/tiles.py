"""Where tiles lie: windows, halos and grids as plain integers, no pixels and no files.

All windows are half-open, row before column, in pixels of the scene.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

ALIGNMENT_PX = 4
"""Side of the coarsest pixel of a network; its blocks begin at multiples of it."""


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
        """Grow by `halo` pixels on each side, clipped at the scene edge.

        Clipped, never padded: a despeckler meets the true border of the scene
        exactly as it would on the whole image. With `alignment`, it begins a little
        earlier, at a multiple of that many pixels from the scene's origin.
        """
        y0, x0 = max(self.y0 - halo, 0), max(self.x0 - halo, 0)
        return type(self)(
            y0 - y0 % alignment,
            min(self.y1 + halo, scene.y),
            x0 - x0 % alignment,
            min(self.x1 + halo, scene.x),
        )

    def overlap(self, other: "Window") -> Self | None:
        """Return the part that both have in common, if any."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return type(self)(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None

    def inside(self, outer: "Window") -> tuple[slice, slice]:
        """Index of this window in an array that covers `outer`."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


class Tile(NamedTuple):
    """One unit of work: its place in the tile grid and the window it writes."""

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
    """Return how many tiles :func:`tile_grid` yields."""
    return -(-scene.y // size_px) * -(-scene.x // size_px)


def pair_rows(tiles: Iterable[Tile]) -> list[Tile]:
    """Order tiles so that those beside and below come soon: they share blocks of the input.

    Two rows at once, to and fro: where two rows end, the next two begin.
    """

    def place(tile: Tile) -> tuple[int, int, int]:
        pair = tile.row // 2
        return pair, -tile.column if pair % 2 else tile.column, tile.row

    return sorted(tiles, key=place)


def cut(tiles: Sequence[Tile], n_parts: int) -> Iterator[Sequence[Tile]]:
    """Cut tiles into parts of neighbours, one at least, equal to a tile; none of them is empty."""
    n_parts = min(max(n_parts, 1), len(tiles))
    for part in range(n_parts):
        yield tiles[part * len(tiles) // n_parts : (part + 1) * len(tiles) // n_parts]


def cells(window: Window, size_px: int) -> Iterator[Window]:
    """Cut `window` along the lines of a grid that is fixed to the scene's origin.

    Because the lines do not depend on the window, every tile size that is a
    multiple of `size_px` computes the very same cells, and so the same bits.
    """
    for y0 in range(window.y0 - window.y0 % size_px, window.y1, size_px):
        for x0 in range(window.x0 - window.x0 % size_px, window.x1, size_px):
            yield Window(
                max(y0, window.y0),
                min(y0 + size_px, window.y1),
                max(x0, window.x0),
                min(x0 + size_px, window.x1),
            )


def strips(shape: Sequence[int], strip_px: int = 2**17) -> Iterator[slice]:
    """Yield the rows of an image in strips of about `strip_px` pixels, one row at least.

    Intermediate arrays of a strip stay near the processor, and each pass over one is so long
    that threads seldom wait for Python's lock: with an eighth of it, two are as slow as one.
    """
    rows = max(strip_px // max(shape[1], 1), 1)
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def sample_windows(scene: Shape, size_px: int = 256, per_axis: int = 6) -> list[Window]:
    """Choose evenly spread windows from which scene statistics are measured.

    A small scene is covered completely; a large one is sampled by at most
    ``per_axis**2`` windows, so the cost does not grow with the scene. The choice
    depends on the shape alone: every tiling and every worker count measures the
    same pixels. Windows begin at multiples of their size, so that each lies in one block of
    a tiled file and in one tile.
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
