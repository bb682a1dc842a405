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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.paths import split_zip_path
from sarstack.readers.remote import is_server_file, read_object_version
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
        while self.n_bytes > self.max_bytes:
            # One of them is done: only blocks that are done count.
            key = next(key for key, kept in self._blocks.items() if kept.done())
            self.n_bytes -= self._blocks.pop(key).result().nbytes

    def reserve(self, n_bytes: int) -> None:
        """Raise the limit to at least this size, for images of large blocks."""
        with self._lock:
            self.max_bytes = max(self.max_bytes, n_bytes)

    def clear(self) -> None:
        """Drop all blocks."""
        with self._lock:
            self._blocks.clear()
            self.n_bytes = 0


CACHE = BlockCache()
"""The cache of this process."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of one image: how it is cut, and how a block is decoded.

    Attributes
    ----------
    image : Shape
        Rows and columns of the image.
    size : Shape
        Of a block; those at the lower and right edges may be smaller.
    dtype : numpy.dtype
    decode : callable
        Returns the pixels of a block, given its window.
    identify : callable
        Returns a key that changes with the stored bytes of a block, given its window; empty if
        the block must not be kept.
    """

    image: Shape
    size: Shape
    dtype: np.dtype[Any]
    decode: Callable[[Window], Block]
    identify: Callable[[Window], Key]

    def read(self, place: Window) -> Block:
        """Read a window by whole blocks, which are cached.

        Parameters
        ----------
        place : Window
            In pixels of the image.

        Returns
        -------
        ndarray, shape of `place`
        """
        values = np.empty(place.shape, self.dtype)
        for block in self._overlapping(place):
            key = self.identify(block)

            def decode(block: Window = block) -> Block:
                return self.decode(block)

            common = block.overlap(place)
            if common is not None:
                pixels = CACHE.get(key, decode) if key else decode()
                values[common.slices_in(place)] = pixels[common.slices_in(block)]
        return values

    def _overlapping(self, place: Window) -> Iterator[Window]:
        height, width = self.size
        for y0 in range(place.y0 - place.y0 % height, place.y1, height):
            for x0 in range(place.x0 - place.x0 % width, place.x1, width):
                yield Window(y0, min(y0 + height, self.image.y), x0, min(x0 + width, self.image.x))


def sweep_bytes(image: Shape, block: Shape, pixel_bytes: int, tile: Shape) -> int:
    """Return the size of the blocks that are needed while tiles are read in pairs of rows.

    Parameters
    ----------
    image, block : Shape
        Rows and columns of the image and of a block.
    pixel_bytes : int
        Of a decoded pixel.
    tile : Shape
        A tile with its halo.
    """
    rows = min((-(-2 * tile.y // block.y) + 1) * block.y, image.y)
    columns = min((-(-tile.x // block.x) + 1) * block.x, image.x)
    return rows * columns * pixel_bytes


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
    identity = identify_file(path)
    within = place.y1 <= dataset.height and place.x1 <= dataset.width
    if not (identity and within and _is_worth_caching(dataset, band)):
        return np.asarray(dataset.read(band, window=_bounds(place)))
    dtype = _decoded_type(dataset, band)

    def decode(block: Window) -> Block:
        pixels = empty_array(block.shape, dtype)
        return np.asarray(dataset.read(band, out=pixels, window=_bounds(block)))

    def identify(block: Window) -> Key:
        return (*identity, band, block.y0, block.x0)

    size = Shape(*dataset.block_shapes[band - 1])
    return Blocks(Shape(dataset.height, dataset.width), size, dtype, decode, identify).read(place)


def _is_worth_caching(dataset: Any, band: int) -> bool:
    height, width = dataset.block_shapes[band - 1]
    n_bytes = height * width * _decoded_type(dataset, band).itemsize
    return bool(dataset.compression) and width < dataset.width and n_bytes >= MIN_BLOCK_BYTES


def _decoded_type(dataset: Any, band: int) -> np.dtype[Any]:
    """Return the type of decoded pixels: NumPy has no complex integers."""
    name = dataset.dtypes[band - 1]
    return np.dtype("complex64" if name.startswith("complex_int") else name)


def empty_array(shape: Shape, dtype: np.dtype[Any]) -> Block:
    """Make an array in memory pages of its own.

    Cached blocks stay longer than tiles. On the heap they would be between freed tiles, and
    that memory could not be returned to the system.
    """
    pages = mmap.mmap(-1, max(shape.y * shape.x, 1) * dtype.itemsize)
    return np.frombuffer(pages, dtype).reshape(shape)


def _bounds(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.y0, window.y1), (window.x0, window.x1)


def identify_file(path: str) -> Key:
    """Return a key that changes with the file, or its zip file; empty if nothing tells it."""
    if is_server_file(path):
        version = read_object_version(path)
        return (path, *version) if version.etag or version.modified else ()
    try:
        status = Path(split_zip_path(path)[0] or path).stat()
    except OSError:
        return ()
    return path, status.st_mtime_ns, status.st_size, status.st_ino
