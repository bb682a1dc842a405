"""The coarser levels of an image, for viewers that show it whole: each half as high and wide."""

from typing import NamedTuple

from sarstack.tiles import Shape

BLOCKS_PX = (512, 256, 128)


class Blocks(NamedTuple):
    """How an image is cut into blocks.

    Attributes
    ----------
    block_px : int
        Edge of a block.
    n_overviews : int
        Coarser levels.
    """

    block_px: int
    n_overviews: int


def coarsen(shape: Shape, level: int) -> Shape:
    """Return the size of a level, 0 being the image; pixels at the edge may be parts."""
    return Shape(-(-shape.y // 2**level), -(-shape.x // 2**level))


def choose_blocks(shape: Shape) -> Blocks:
    """Choose blocks, and overviews until the image fits into 512 px.

    Validators take a level that is exactly as wide as its block, and higher, for an untiled
    one: other blocks where there is such a level, and no overview so narrow where that
    cannot be.
    """
    levels = [shape]
    while max(levels[-1]) > BLOCKS_PX[0]:
        levels.append(coarsen(shape, len(levels)))

    def count_overviews(block_px: int) -> int:
        narrow = [i for i, level in enumerate(levels) if level.x == block_px < level.y]
        return narrow[0] - 1 if narrow else len(levels) - 1

    block_px = max(BLOCKS_PX, key=lambda edge: (count_overviews(edge), edge))
    return Blocks(block_px, count_overviews(block_px))
