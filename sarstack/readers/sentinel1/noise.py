"""Thermal noise: its power at each pixel, by the noise tables of the annotation.

Since version 2.90 of the processor, the power is the product of a table over the range and a
factor along the azimuth, in blocks of sub-swaths. Older products, and stripmap products, have one
list of vectors. Before version 2.50 its numbers are not in the unit of squared digital numbers.
"""

from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree as ET

import numpy as np

from sarstack.readers.sentinel1.annotation import parse_xml, read_processor_version, text_of
from sarstack.readers.sentinel1.look_up_table import (
    Array,
    LookUpTable,
    Vector,
    check_axis,
    read_numbers,
    read_vectors,
)
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.tiles import Window

_FIRST_VERSION = 2.50


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


def read_noise(product: SafeProduct, member: str) -> NoiseTable:
    """Read the noise table of an image.

    Parameters
    ----------
    product : SafeProduct
    member : str
        The noise annotation of the image.

    Returns
    -------
    NoiseTable

    Raises
    ------
    OSError, KeyError, ValueError
        If it is missing or damaged, has zeros only, or is of a processor before version 2.50.

    Notes
    -----
    A process keeps the last tables that it read; one has about 400 kB.
    """
    return _read_noise(product, member, product.modified_ns(member))


@lru_cache(maxsize=16)
def _read_noise(product: SafeProduct, member: str, _modified_ns: int) -> NoiseTable:
    version = read_processor_version(product)
    if version < _FIRST_VERSION:
        raise ValueError(
            f"noise of processor version {version:.2f} is not in squared digital numbers"
        )
    root = parse_xml(product, member)
    old = list(root.iter("noiseVector"))
    if old:
        table = LookUpTable(read_vectors(old, "noiseLut", member))
        blocks = [_whole_image(table)]
    else:
        vectors = read_vectors(root.iter("noiseRangeVector"), "noiseRangeLut", member)
        blocks = [_read_block(e, vectors, member) for e in root.iter("noiseAzimuthVector")]
        # Stripmap products have no factors.
        blocks = blocks or [_whole_image(LookUpTable(vectors))]
    powers = [vector.values for block in blocks for vector in block.over_range.vectors]
    if not any((values > 0).any() for values in powers):
        raise ValueError(f"all noise in {member} is zero")
    return NoiseTable(tuple(blocks))


def _whole_image(table: LookUpTable) -> NoiseBlock:
    everywhere = Window(0, 2**31, 0, 2**31)
    return NoiseBlock(everywhere, table, np.zeros(1), np.ones(1))


def _read_block(element: ET.Element, vectors: tuple[Vector, ...], member: str) -> NoiseBlock:
    names = ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
    y0, y1, x0, x1 = (int(text_of(element, name, member)) for name in names)
    lines, factors = (read_numbers(element, n, member) for n in ("line", "noiseAzimuthLut"))
    check_axis(lines, factors, f"noiseAzimuthLut in {member}")
    inside = tuple(v for v in vectors if y0 <= v.line <= y1)
    nearest = min(vectors, key=lambda vector: abs(vector.line - (y0 + y1) / 2))
    table = LookUpTable(inside or (nearest,))
    return NoiseBlock(Window(y0, y1 + 1, x0, x1 + 1), table, lines, factors)
