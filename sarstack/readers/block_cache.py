"""Decoded blocks of the images that are being read, kept for the tile next door.

A compressed block can only be decoded whole, and a tile with its halo touches blocks that its
neighbours touch as well: at 1024 px four times its own number of them. Threads of a process
share what is kept; of two that want the same block at once, one decodes it.
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
"""For each process: two tiles of 2048 px above each other, and what the next ones share."""

MIN_BLOCK_BYTES = 2**14
"""Of smaller blocks little is decoded in vain, and each would take a page of its own."""

Key = tuple[Any, ...]
Block = NDArray[Any]


class BlockCache:
    """Blocks by name, the least recently used going first.

    Parameters
    ----------
    max_bytes : int
        Blocks kept; those that are being decoded are not counted.

    Attributes
    ----------
    n_bytes : int
        Of the blocks kept.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._blocks: OrderedDict[Key, Future[Block]] = OrderedDict()
        self.n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key, decode: Callable[[], Block]) -> Block:
        """Return a block, which cannot be written to; decode it if it is not kept.

        An error of `decode` is raised wherever the block was waited for, and not kept.
        """
        mine: Future[Block] = Future()
        with self._lock:
            kept = self._blocks.setdefault(key, mine)
            self._blocks.move_to_end(key)
        if kept is not mine:
            return kept.result()
        try:
            block = decode()
        except BaseException as failure:
            with self._lock:
                self._blocks.pop(key, None)
            mine.set_exception(failure)
            raise
        block.flags.writeable = False
        with self._lock:
            mine.set_result(block)
            if self._blocks.get(key) is mine:  # nobody cleared it meanwhile
                self.n_bytes += block.nbytes
                self._make_room()
        return block

    def _make_room(self) -> None:
        for key in [key for key, kept in self._blocks.items() if kept.done()]:
            if self.n_bytes <= self.max_bytes:
                return
            self.n_bytes -= self._blocks.pop(key).result().nbytes

    def clear(self) -> None:
        """Forget all blocks."""
        with self._lock:
            self._blocks.clear()
            self.n_bytes = 0


CACHE = BlockCache()


def read_blocks(dataset: Any, path: str, band: int, place: Window) -> Block:
    """Read a window of an open raster by whole blocks, which are kept in this process.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    path : str
        Of the file; with its time and size it is the name of what is kept.
    band : int
        From 1.
    place : Window
        In pixels of the file.

    Returns
    -------
    ndarray, shape of `place`, of the type of the file

    Notes
    -----
    What need not be decoded (no compression) or is not cut into tiles is read as it is: so are
    tiny blocks, and files that cannot be told from what they were before (URLs).
    """
    identity = _identify(path)
    within = place.y1 <= dataset.height and place.x1 <= dataset.width
    if not (identity and within and _is_worth_keeping(dataset, band)):
        return np.asarray(dataset.read(band, window=_bounds(place)))
    values = np.empty(place.shape, dataset.dtypes[band - 1])
    for block in _blocks_of(dataset, band, place):

        def decode(block: Window = block) -> Block:
            pixels = _empty_pages(block.shape, values.dtype)
            return np.asarray(dataset.read(band, out=pixels, window=_bounds(block)))

        common = block.overlap(place)
        if common is not None:
            pixels = CACHE.get((*identity, band, block.y0, block.x0), decode)
            values[common.inside(place)] = pixels[common.inside(block)]
    return values


def _is_worth_keeping(dataset: Any, band: int) -> bool:
    height, width = dataset.block_shapes[band - 1]
    n_bytes = height * width * np.dtype(dataset.dtypes[band - 1]).itemsize
    return bool(dataset.compression) and width < dataset.width and n_bytes >= MIN_BLOCK_BYTES


def _empty_pages(shape: Shape, dtype: np.dtype[Any]) -> Block:
    """Make an array with pages of its own: on the heap, what stays would lie between tiles."""
    pages = mmap.mmap(-1, max(shape.y * shape.x, 1) * dtype.itemsize)
    return np.frombuffer(pages, dtype).reshape(shape)


def _blocks_of(dataset: Any, band: int, place: Window) -> Iterator[Window]:
    height, width = dataset.block_shapes[band - 1]
    for y0 in range(place.y0 - place.y0 % height, place.y1, height):
        for x0 in range(place.x0 - place.x0 % width, place.x1, width):
            yield Window(y0, min(y0 + height, dataset.height), x0, min(x0 + width, dataset.width))


def _bounds(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.y0, window.y1), (window.x0, window.x1)


def _identify(path: str) -> Key:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return path, status.st_mtime_ns, status.st_size, status.st_ino
