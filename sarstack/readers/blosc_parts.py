"""A part of a chunk that Blosc compressed, decoded without the rest of it.

Own code, because numcodecs decodes whole chunks only. A Blosc chunk is a header, the starts of its
blocks, and blocks that are compressed one by one. From the blocks that are needed a smaller chunk
is made, which numcodecs decodes. The format is that of C-Blosc 1 (README_CHUNK_FORMAT).
"""

import struct
from typing import Any

import numpy as np

# Versions of format and codec, flags, bytes of a number, of the data, of a block, of the chunk.
_HEADER = struct.Struct("<BBBBIII")
_FORMAT_VERSION = 2
_IS_RAW = 0x2


def decode_part(chunk: Any, start: int, stop: int) -> memoryview:
    """Decode some bytes of the data in a chunk.

    Parameters
    ----------
    chunk : bytes, memoryview or mmap
        The whole chunk. Only the parts that are needed are read.
    start, stop : int
        First byte of the data, and the one after the last.

    Returns
    -------
    memoryview
        ``stop - start`` bytes.

    Raises
    ------
    ValueError
        If the chunk is damaged, or is not of C-Blosc 1.
    """
    from numcodecs import blosc

    if len(chunk) < _HEADER.size:
        raise ValueError("a chunk is shorter than its header")
    version, codec, flags, item, n_bytes, block, size = _HEADER.unpack_from(chunk)
    if version != _FORMAT_VERSION or size > len(chunk) or stop > n_bytes or not block:
        raise ValueError("a chunk is truncated, or was not compressed by C-Blosc 1")
    if flags & _IS_RAW:
        raw = memoryview(chunk)[_HEADER.size + start : _HEADER.size + stop]
        return memoryview(bytes(raw))
    n_blocks = -(-n_bytes // block)
    # The last block may be shorter. Alone, it would be a chunk smaller than its block size.
    first = max(min(start // block, n_blocks - 2), 0)
    last = -(-stop // block)
    starts = np.frombuffer(chunk, "<u4", n_blocks, _HEADER.size).astype(np.int64)
    # Several threads may have written the blocks in any order.
    bounds = np.append(np.sort(starts), size)
    ends = bounds[np.searchsorted(bounds, starts, side="right")]
    parts = [bytes(chunk[a:b]) for a, b in zip(starts[first:last], ends[first:last], strict=True)]
    offset = _HEADER.size + 4 * len(parts)
    places = offset + np.cumsum([0, *map(len, parts)])
    data = min(last * block, n_bytes) - first * block
    header = _HEADER.pack(version, codec, flags, item, data, block, int(places[-1]))
    decoded = blosc.decompress(b"".join([header, places[:-1].astype("<u4").tobytes(), *parts]))
    return memoryview(decoded)[start - first * block : stop - first * block]
