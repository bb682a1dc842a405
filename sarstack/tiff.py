"""The bytes of a Cloud-Optimized GeoTIFF around blocks that are compressed already.

TIFF 6.0 (1992), its 64-bit sibling BigTIFF, and the order of parts that GDAL's COG driver
describes: header, directories, then blocks, the smallest overview first and the full image
last. Only little-endian files of one float32 band are read and written.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape

OFFSETS, SIZES = 324, 325
_NODATA = 42113
_SHORT, _LONG, _LONG8 = 3, 4, 16
_ITEM_BYTES = {1: 1, 2: 1, _SHORT: 2, _LONG: 4, 5: 8, 12: 8, _LONG8: 8}
# What a directory says of sizes, blocks and coding; all else is what GDAL has to say.
_STRUCTURE = frozenset({254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323,
                        OFFSETS, SIZES, 339})  # fmt: skip
_LARGEST_CLASSIC = 2**32 - 2**20
# With this behind the header, GDAL knows the order of the file, and needs one request a block.
_LAYOUT = b"""LAYOUT=IFDS_BEFORE_DATA
BLOCK_ORDER=ROW_MAJOR
BLOCK_LEADER=SIZE_AS_UINT4
BLOCK_TRAILER=LAST_4_BYTES_REPEATED
KNOWN_INCOMPATIBLE_EDITION=NO
 """
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n%s" % (len(_LAYOUT), _LAYOUT)
_GHOST += b"\0" * (len(_GHOST) % 2)  # directories begin at even bytes


class Field(NamedTuple):
    """One entry of a directory: TIFF's number of the type, and its values as bytes."""

    kind: int
    content: bytes

    @property
    def n_values(self) -> int:
        """Number of values."""
        return len(self.content) // _ITEM_BYTES[self.kind]


@dataclass(frozen=True)
class Level:
    """The image or an overview.

    Attributes
    ----------
    shape : Shape
    block_px : int
        Edge of a block, the same for all levels.
    sizes : ndarray, shape (rows, columns), uint64
        Bytes of each compressed block.
    """

    shape: Shape
    block_px: int
    sizes: NDArray[np.uint64]


def read_fields(file: bytes | memoryview) -> dict[int, Field]:
    """Return the first directory of a classic TIFF, by tag."""
    (at,) = struct.unpack_from("<I", file, 4)
    (n_fields,) = struct.unpack_from("<H", file, at)
    fields = {}
    for i in range(n_fields):
        place = at + 2 + 12 * i
        tag, kind, count = struct.unpack_from("<HHI", file, place)
        size = count * _ITEM_BYTES[kind]
        start = place + 8 if size <= 4 else struct.unpack_from("<I", file, place + 8)[0]
        fields[tag] = Field(kind, bytes(file[start : start + size]))
    return fields


def cut_blocks(file: memoryview) -> list[bytes]:
    """Return the compressed blocks of a classic TIFF, row by row."""
    fields = read_fields(file)
    starts, sizes = (_integers(fields[tag]) for tag in (OFFSETS, SIZES))
    return [bytes(file[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


def _integers(field: Field) -> list[int]:
    kind = {_SHORT: "<u2", _LONG: "<u4", _LONG8: "<u8"}[field.kind]
    found: list[int] = np.frombuffer(field.content, kind).tolist()
    return found


def make_header(
    levels: Sequence[Level], described: Mapping[int, Field], *, big: bool | None = None
) -> bytes:
    """Return all that stands before the blocks.

    Parameters
    ----------
    levels : sequence of Level
        The image, then its overviews, each half the size.
    described : mapping of Field
        Of a GeoTIFF that GDAL has written with the georeference and the tags of the image;
        sizes and coding are not taken from it.
    big : bool, optional
        BigTIFF; by default where 4 GB do not suffice.

    Returns
    -------
    bytes
        The blocks follow, the last level first, each row by row and wrapped: see
        :func:`wrap_block`.
    """
    n_bytes = sum(int(level.sizes.sum()) + 8 * level.sizes.size for level in levels)
    if big is None:
        big = n_bytes + 64 * sum(level.sizes.size for level in levels) > _LARGEST_CLASSIC
    kept = {tag: field for tag, field in described.items() if tag not in _STRUCTURE}
    start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + len(_GHOST)) if big else struct.pack(
        "<2sHI", b"II", 42, 8 + len(_GHOST))  # fmt: skip
    # The length of a directory does not depend on what it says.
    places = [_fields(level, 0, kept, i, big=big) for i, level in enumerate(levels)]
    length = sum(len(_directory(fields, 0, last=True, big=big)) for fields in places)
    begins, at = [0] * len(levels), len(start) + len(_GHOST) + length
    for i in reversed(range(len(levels))):
        begins[i] = at
        at += int(levels[i].sizes.sum()) + 8 * levels[i].sizes.size
    header = start + _GHOST
    for i, (level, begin) in enumerate(zip(levels, begins, strict=True)):
        fields = _fields(level, begin, kept, i, big=big)
        header += _directory(fields, len(header), last=i == len(levels) - 1, big=big)
    return header


def wrap_block(block: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a block with its size before and its end repeated behind it, as announced."""
    return struct.pack("<I", len(block)), block, block[-4:]


def _fields(
    level: Level, begin: int, described: Mapping[int, Field], index: int, *, big: bool
) -> dict[int, Field]:
    """List what a directory says, by tag."""
    sizes = level.sizes.ravel().astype(np.uint64)
    starts = begin + 4 + np.cumsum(sizes + np.uint64(8)) - sizes - np.uint64(8)

    def short(value: int) -> Field:
        return Field(_SHORT, struct.pack("<H", value))

    def long(value: int) -> Field:
        return Field(_LONG, struct.pack("<I", value))

    structure = {
        254: long(0 if index == 0 else 1),  # an overview is a smaller version
        256: long(level.shape.x),
        257: long(level.shape.y),
        258: short(32),
        259: short(8),  # deflate
        262: short(1),  # black is zero
        277: short(1),
        284: short(1),
        317: short(3),  # differences of floating-point numbers
        322: short(level.block_px),
        323: short(level.block_px),
        OFFSETS: Field(_LONG8, starts.astype("<u8").tobytes()) if big
        else Field(_LONG, starts.astype("<u4").tobytes()),
        SIZES: Field(_LONG, sizes.astype("<u4").tobytes()),
        339: short(3),  # floating point
    }  # fmt: skip
    own = described if index == 0 else {t: f for t, f in described.items() if t == _NODATA}
    return dict(sorted((structure | dict(own)).items()))


def _directory(fields: Mapping[int, Field], at: int, *, last: bool, big: bool) -> bytes:
    """Return a directory that begins at byte `at`, with all long values behind it."""
    head, entry, word = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    room = struct.calcsize(word)
    values_at = at + struct.calcsize(head) + len(fields) * (struct.calcsize(entry) + room) + room
    entries, values = struct.pack(head, len(fields)), b""
    for tag, field in fields.items():
        entries += struct.pack(entry, tag, field.kind, field.n_values)
        if len(field.content) <= room:
            entries += field.content.ljust(room, b"\0")
        else:
            entries += struct.pack(word, values_at + len(values))
            values += field.content + b"\0" * (len(field.content) % 2)
    following = 0 if last else values_at + len(values)
    return entries + struct.pack(word, following) + values
