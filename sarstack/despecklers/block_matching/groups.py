"""Copy groups of blocks out of an image, add their estimates up, and take the mean."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def divide_sums(
    total: NDArray[np.float32], weights: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the weighted mean of the estimates at each pixel; 0 where no block comes."""
    quotient = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    return quotient.reshape(shape)
