"""Cache of decoded blocks, for tiles that share blocks of a compressed image.

A compressed block can only be decoded whole. A tile with its halo overlaps blocks of its
neighbours: at 1024 px it overlaps four times as many blocks as its own area has. All threads of
a process share the cache. If two threads need a block at once, one decodes it and the other waits.
"""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape, Window

CACHE_BYTES = 64 * 2**20
"""Memory for each process: two tiles of 2048 px, one above the other, and blocks of their halos."""

MIN_BLOCK_BYTES = 2**14
"""Smaller blocks are not cached: they decode fast, and each would take whole memory pages."""

Key = tuple[Any, ...]
Block = NDArray[Any]


class BlockCache:
    """Decoded blocks by key; the least recently used are dropped first.

    Parameters
    ----------
    max_bytes : int
        Limit for the blocks kept. Blocks that are being decoded do not count.

    Attributes
    ----------
    n_bytes : int
        Size of the blocks kept.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._blocks: OrderedDict[Key, Future[Block]] = OrderedDict()
        self.n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key, decode: Callable[[], Block]) -> Block:
        """Return a block, read-only; decode it if it is not in the cache.

        An error of `decode` is raised in all threads that wait for the block. It is not cached:
        the next call tries again.
        """
        new: Future[Block] = Future()
        with self._lock:
            kept = self._blocks.setdefault(key, new)
            self._blocks.move_to_end(key)
        if kept is not new:
            return kept.result()
        try:
            block = decode()
        except BaseException as failure:
            with self._lock:
                self._blocks.pop(key, None)
            new.set_exception(failure)
            raise
        block.flags.writeable = False
        with self._lock:
            new.set_result(block)
            if self._blocks.get(key) is new:  # not if clear() was called meanwhile
                self.n_bytes += block.nbytes
                self._drop_oldest()
        return block

    def _drop_oldest(self) -> None:
        for key in [key for key, kept in self._blocks.items() if kept.done()]:
            if self.n_bytes <= self.max_bytes:
                return
            self.n_bytes -= self._blocks.pop(key).result().nbytes

    def clear(self) -> None:
        """Drop all blocks."""
        with self._lock:
            self._blocks.clear()
            self.n_bytes = 0


CACHE = BlockCache()
"""The cache of this process."""


def read_blocks(dataset: Any, path: str, band: int, place: Window) -> Block:
    """Read a window of an open raster by whole blocks, which are cached.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    path : str
        Path of the file. Together with its time and size it identifies the blocks.
    band : int
        From 1.
    place : Window
        In pixels of the file.

    Returns
    -------
    ndarray, shape of `place`, of the type of the file

    Notes
    -----
    Some files are read without the cache: uncompressed files, files without tiles or with tiny
    blocks, and URLs, where a change of the file cannot be seen.
    """
    identity = _identify(path)
    within = place.y1 <= dataset.height and place.x1 <= dataset.width
    if not (identity and within and _is_worth_caching(dataset, band)):
        return np.asarray(dataset.read(band, window=_bounds(place)))
    values = np.empty(place.shape, dataset.dtypes[band - 1])
    for block in _list_blocks(dataset, band, place):

        def decode(block: Window = block) -> Block:
            pixels = _empty_array(block.shape, values.dtype)
            return np.asarray(dataset.read(band, out=pixels, window=_bounds(block)))

        common = block.overlap(place)
        if common is not None:
            pixels = CACHE.get((*identity, band, block.y0, block.x0), decode)
            values[common.slices_in(place)] = pixels[common.slices_in(block)]
    return values


def _is_worth_caching(dataset: Any, band: int) -> bool:
    height, width = dataset.block_shapes[band - 1]
    n_bytes = height * width * np.dtype(dataset.dtypes[band - 1]).itemsize
    return bool(dataset.compression) and width < dataset.width and n_bytes >= MIN_BLOCK_BYTES


def _empty_array(shape: Shape, dtype: np.dtype[Any]) -> Block:
    """Make an array in memory pages of its own.

    Cached blocks stay longer than tiles. On the heap they would be between freed tiles, and
    that memory could not be returned to the system.
    """
    pages = mmap.mmap(-1, max(shape.y * shape.x, 1) * dtype.itemsize)
    return np.frombuffer(pages, dtype).reshape(shape)


def _list_blocks(dataset: Any, band: int, place: Window) -> Iterator[Window]:
    height, width = dataset.block_shapes[band - 1]
    for y0 in range(place.y0 - place.y0 % height, place.y1, height):
        for x0 in range(place.x0 - place.x0 % width, place.x1, width):
            yield Window(y0, min(y0 + height, dataset.height), x0, min(x0 + width, dataset.width))


def _bounds(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.y0, window.y1), (window.x0, window.x1)


def _identify(path: str) -> Key:
    """Return a key that changes with the file; empty if there is no local file."""
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return path, status.st_mtime_ns, status.st_size, status.st_ino
