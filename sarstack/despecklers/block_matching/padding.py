"""Surround an image by mirrored pixels, and fill holes in the same way."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.block_matching.compiler import BLOCK_PX, STEP_PX, compiled

# Pixels before the first row and column: blocks start up to 6 px outside of the image.
MARGIN_PX = 6
AFTER_PX = BLOCK_PX - 1


class Blocks(NamedTuple):
    """The positions of blocks in a padded image.

    Attributes
    ----------
    valid : ndarray, shape (y, x), bool
        Pixels of the padded image that have data.
    rows, columns : ndarray of int64
        First row and column of the reference blocks.
    used : ndarray, shape (rows, columns), bool
        Reference blocks with at least one valid pixel.
    complete : ndarray, shape (y, x), bool
        Whether the block that starts at a pixel has valid pixels only.
    sources : ndarray, shape (y, x), int64
        Flat index of the pixel whose value each pixel of the padded image takes; -1: none.
    """

    valid: NDArray[np.bool_]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    used: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    sources: NDArray[np.int64]


def place_blocks(usable: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> Blocks:
    """Place reference blocks at each third row and column, counted from the origin of the scene.

    Parameters
    ----------
    usable : ndarray, shape (y, x), bool
        Pixels with data.
    origin : tuple of int
        Row and column of the first pixel in the scene.

    Returns
    -------
    Blocks
        Of the image with 6 px more before and 7 px more after it. Every usable pixel is in a
        reference block. A pixel without data within a block of one with data takes the value of
        the pixel that mirrors it at the nearest pixel with data.
    """
    valid = np.pad(usable, (MARGIN_PX, AFTER_PX))
    first = [-(start - MARGIN_PX) % STEP_PX for start in origin]
    rows, columns = (np.arange(start, size - AFTER_PX, STEP_PX, dtype=np.int64)
                     for start, size in zip(first, valid.shape, strict=True))  # fmt: skip
    sums = np.pad(np.cumsum(np.cumsum(valid, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
    n = BLOCK_PX
    counts = sums[n:, n:] - sums[n:, :-n] - sums[:-n, n:] + sums[:-n, :-n]
    used = counts[np.ix_(rows, columns)] > 0
    complete = np.zeros(valid.shape, bool)
    complete[: counts.shape[0], : counts.shape[1]] = counts == n * n
    return Blocks(valid, rows, columns, used, complete, _find_sources(valid, *_OFFSETS))


def pad_image(image: NDArray[np.float32], blocks: Blocks) -> NDArray[np.float32]:
    """Return the image with margins and filled holes; 0 where no block with data comes."""
    padded = np.pad(image, (MARGIN_PX, AFTER_PX)).ravel()
    filled = padded[np.maximum(blocks.sources, 0)]
    return np.where(blocks.sources >= 0, filled, np.float32(0)).astype(np.float32)


def crop_image(padded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the padded image without its margins."""
    return padded[MARGIN_PX:-AFTER_PX, MARGIN_PX:-AFTER_PX]


def _sort_offsets(reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all offsets up to a reach along both axes, the nearest first."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    order = np.lexsort((x, y, y**2 + x**2))
    return y[order].astype(np.int64), x[order].astype(np.int64)


_OFFSETS = _sort_offsets(BLOCK_PX - 1)


@compiled
def _find_sources(valid: Any, offsets_y: Any, offsets_x: Any) -> Any:
    height, width = valid.shape
    sources = np.full((height, width), -1, np.int64)
    for y in range(height):
        for x in range(width):
            if valid[y, x]:
                sources[y, x] = y * width + x
                continue
            for k in range(1, len(offsets_y)):
                dy, dx = offsets_y[k], offsets_x[k]
                ny, nx = y + dy, x + dx
                if not (0 <= ny < height and 0 <= nx < width and valid[ny, nx]):
                    continue
                my, mx = ny + dy - np.sign(dy), nx + dx - np.sign(dx)
                mirrored = 0 <= my < height and 0 <= mx < width and valid[my, mx]
                sources[y, x] = my * width + mx if mirrored else ny * width + nx
                break
    return sources
