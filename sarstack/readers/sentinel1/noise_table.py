"""Thermal noise: its power at each pixel, by the noise tables of a product.

Since version 2.90 of the processor, the power is the product of a table over the range and a
factor along the azimuth, in blocks of sub-swaths. Older products, and stripmap products, have one
list of vectors. Before version 2.50 its numbers are not in the unit of squared digital numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sarstack.readers.sentinel1.look_up_table import Array, LookUpTable, Vector
from sarstack.tiles import Window

FIRST_VERSION = 2.50
"""First version of the processor whose noise is in squared digital numbers."""


@dataclass(frozen=True)
class NoiseBlock:
    """A part of the image with its own azimuth factors.

    Attributes
    ----------
    window : Window
        In pixels of the image.
    over_range : LookUpTable
        Noise power over the range.
    lines, factors : ndarray, shape (n,)
        Factor along the azimuth at some lines, interpolated linearly.
    """

    window: Window
    over_range: LookUpTable
    lines: Array
    factors: Array


@dataclass(frozen=True)
class NoiseTable:
    """The noise power of one image."""

    blocks: tuple[NoiseBlock, ...]

    def interpolate(self, window: Window) -> Array:
        """Return the noise power in a window of the image.

        Parameters
        ----------
        window : Window
            In pixels of the image.

        Returns
        -------
        ndarray, shape of `window`, float64
            In squared digital numbers; zero outside all blocks.
        """
        power = np.zeros(window.shape)
        for block in self.blocks:
            common = block.window.overlap(window)
            if common is not None:
                rows = np.arange(common.y0, common.y1, dtype=np.float64)
                factors = np.interp(rows, block.lines, block.factors)[:, np.newaxis]
                part = block.over_range.interpolate(common) * factors
                power[common.slices_in(window)] = part
        return power


def make_noise_table(blocks: Iterable[NoiseBlock], vectors: tuple[Vector, ...]) -> NoiseTable:
    """Make the table of an image from its blocks; without any, `vectors` hold everywhere.

    Raises
    ------
    ValueError
        If all noise is zero.
    """
    found = tuple(blocks)
    if not found:
        # Old products and stripmap products have no factors.
        everywhere = Window(0, 2**31, 0, 2**31)
        found = (NoiseBlock(everywhere, LookUpTable(vectors), np.zeros(1), np.ones(1)),)
    if not any((v.values > 0).any() for block in found for v in block.over_range.vectors):
        raise ValueError("all noise is zero")
    return NoiseTable(found)


def make_block(
    window: Window, vectors: tuple[Vector, ...], lines: Array, factors: Array
) -> NoiseBlock:
    """Make a block from the vectors of the whole image: those at its lines, or the nearest one."""
    inside = tuple(v for v in vectors if window.y0 <= v.line < window.y1)
    middle = (window.y0 + window.y1 - 1) / 2
    nearest = min(vectors, key=lambda vector: abs(vector.line - middle))
    return NoiseBlock(window, LookUpTable(inside or (nearest,)), lines, factors)
