"""Thermal noise of a SAFE product: reads the noise annotation of an image."""

from functools import lru_cache
from xml.etree import ElementTree as ET

from sarstack.readers.sentinel1.annotation import (
    parse_xml,
    read_numbers,
    read_processor_version,
    read_vectors,
    text_of,
)
from sarstack.readers.sentinel1.look_up_table import Vector, check_axis
from sarstack.readers.sentinel1.noise_table import (
    FIRST_VERSION,
    NoiseBlock,
    NoiseTable,
    make_block,
    make_noise_table,
)
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.tiles import Window


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
    if version < FIRST_VERSION:
        raise ValueError(
            f"noise of processor version {version:.2f} is not in squared digital numbers"
        )
    root = parse_xml(product, member)
    old = list(root.iter("noiseVector"))
    if old:
        return make_noise_table([], read_vectors(old, "noiseLut", member))
    vectors = read_vectors(root.iter("noiseRangeVector"), "noiseRangeLut", member)
    blocks = [_read_block(e, vectors, member) for e in root.iter("noiseAzimuthVector")]
    return make_noise_table(blocks, vectors)


def _read_block(element: ET.Element, vectors: tuple[Vector, ...], member: str) -> NoiseBlock:
    names = ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
    if element.find(names[0]) is None:  # SLC: the whole image
        y0, y1, x0, x1 = -(2**31), 2**31, -(2**31), 2**31
    else:
        y0, y1, x0, x1 = (int(text_of(element, name, member)) for name in names)
    lines, factors = (read_numbers(element, n, member) for n in ("line", "noiseAzimuthLut"))
    check_axis(lines, factors, f"noiseAzimuthLut in {member}")
    return make_block(Window(y0, y1 + 1, x0, x1 + 1), vectors, lines, factors)
