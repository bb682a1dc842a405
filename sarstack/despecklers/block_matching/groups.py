"""Copy groups of blocks out of an image, and add their estimates up."""

from typing import Any

from sarstack.despecklers.block_matching.compiler import BLOCK_PX, compiled


@compiled
def count_blocks(places: Any) -> int:
    """Return the number of blocks of a group."""
    n = 0
    while n < len(places) and places[n] >= 0:
        n += 1
    return n


@compiled
def copy_blocks(image: Any, places: Any, width: int, group: Any) -> None:
    """Copy blocks out of a flat image into an array of shape (blocks, 64)."""
    for g in range(len(group)):
        for y in range(BLOCK_PX):
            start = places[g] + y * width
            for x in range(BLOCK_PX):
                group[g, BLOCK_PX * y + x] = image[start + x]


@compiled
def add_blocks(group: Any, places: Any, width: int, weight: Any, window: Any, total: Any,
               weights: Any) -> None:  # fmt: skip
    """Add blocks and their weights to two flat images.

    The order of the additions to a pixel is that of the reference blocks, then of the positions in
    the group, so it does not depend on tiles.
    """
    for g in range(len(group)):
        for y in range(BLOCK_PX):
            start = places[g] + y * width
            for x in range(BLOCK_PX):
                w = weight * window[BLOCK_PX * y + x]
                total[start + x] += w * group[g, BLOCK_PX * y + x]
                weights[start + x] += w
