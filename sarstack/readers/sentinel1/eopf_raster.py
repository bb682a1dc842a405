"""One image of an EOPF store: digital numbers by rows of its chunks, and the tables of the store.

A chunk can have the full width of the image (268 MB). Blosc compresses it in small blocks, so only
the rows that are needed are decoded; they are cached for the next tiles.
"""

import math
import mmap
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import Calibration
from sarstack.readers import block_cache
from sarstack.readers.block_cache import Blocks, Key, empty_array, identify_file, sweep_bytes
from sarstack.readers.blosc_parts import decode_part
from sarstack.readers.paths import file_stem, is_remote
from sarstack.readers.sentinel1 import eopf_tables
from sarstack.readers.sentinel1.border import ReadNumbers
from sarstack.readers.sentinel1.calibrated import CalibratedRaster
from sarstack.readers.sentinel1.eopf_store import (
    MEASUREMENT,
    EopfImage,
    find_entries,
    is_unknown,
    open_store,
    read_processor_version,
    read_properties,
)
from sarstack.readers.sentinel1.look_up_table import LookUpTable
from sarstack.readers.sentinel1.noise_table import NoiseTable
from sarstack.readers.source_tags import SourceMetadata, make_tags
from sarstack.readers.versions import Stamp, stamp_sources
from sarstack.tiles import Shape, Window

_NUMBER_BYTES = 2
_BAND_PX = 128  # rows that are decoded and cached together, where a part of a chunk can be decoded


@dataclass(frozen=True)
class EopfRaster(CalibratedRaster):
    """One polarisation of a store.

    Attributes
    ----------
    image : EopfImage
        Where it is in the store.
    border : EopfImage or None
        The image that shows where the edges are noise; None if they are zero.
    block : Shape
        Rows and columns that are decoded together.
    """

    image: EopfImage = field(default=EopfImage("", ""))
    border: EopfImage | None = None
    block: Shape = field(default=Shape(0, 0))

    @property
    def product_path(self) -> str:
        """Path of the store."""
        return self.path

    def place_of_table(self, kind: str) -> str:
        """Return the group with the calibration or noise of this image."""
        group = "calibration" if kind == "calibration" else "noise_range"
        return f"{self.image.group}/quality/{group}"

    def read_calibration_table(self, calibration: Calibration) -> LookUpTable:
        """Read the table of a calibration from the store."""
        return eopf_tables.read_calibration(
            self.path, self.image, self.image_shape, calibration, self.version
        )

    def read_noise_table(self) -> NoiseTable:
        """Read the noise from the store."""
        return eopf_tables.read_noise(self.path, self.image, self.image_shape, self.version)

    def lacks_noise(self) -> bool:
        """Return whether thermal noise was already subtracted, by the attributes of the product."""
        about = open_store(self.path)[self.image.group].attrs.asdict()
        about = about.get("other_metadata", {})
        about = about.get(self.image.polarisation, about) if isinstance(about, dict) else {}
        flags = find_entries(about, "thermal_noise_correction_performed")
        return any(str(flag).lower() == "true" for flag in flags)

    def has_dark_border(self) -> bool:
        """Return whether the edges of the image are noise instead of zeros."""
        return self.border is not None

    def open_numbers(self, files: ExitStack, *, of_border: bool, cache_blocks: bool) -> ReadNumbers:
        """Return the function that reads digital numbers; nothing stays open."""
        image = self.border if of_border and self.border is not None else self.image
        chunks = open_chunks(self.path, image)
        dtype = np.dtype(chunks.array.dtype)

        def identify(block: Window) -> Key:
            return chunks.identify(block) if cache_blocks else ()

        blocks = Blocks(self.image_shape, chunks.block, dtype, chunks.decode, identify)

        def read(window: Window) -> NDArray[Any]:
            if cache_blocks:
                block_cache.CACHE.reserve(self._sweep_bytes(window.shape))
            return blocks.read(window)

        return read

    def cache_bytes(self, tile: Shape) -> int:
        """Return the size of the decoded blocks that tiles of a pair of rows need."""
        return max(self._sweep_bytes(tile), super().cache_bytes(tile))

    def _sweep_bytes(self, tile: Shape) -> int:
        return sweep_bytes(self.image_shape, self.block, _NUMBER_BYTES, tile)

    def read_metadata(self) -> SourceMetadata:
        """Return the STAC properties of the store, its name and its processor version."""
        try:
            store = open_store(self.path)
            known = {k: v for k, v in read_properties(store).items() if not is_unknown(v)}
            version = read_processor_version(store)
        except (OSError, KeyError, ValueError):
            return SourceMetadata()
        own = {"PRODUCT_NAME": file_stem(self.path)}
        if version < math.inf:
            own["PROCESSOR_VERSION"] = f"{version:.2f}"
        return SourceMetadata(make_tags(own, known))

    def stamp(self) -> list[Stamp]:
        """Return sizes and times of the chunks of this image and of its tables; empty for a URL."""
        if is_remote(self.path):
            return []
        images = open_chunks(self.path, self.image).list_files()
        tables = Path(self.path, self.image.group, "quality").rglob("*")
        return stamp_sources([*images, *sorted(str(p) for p in tables if p.is_file())])


class Chunks:
    """Blocks that are whole chunks, decoded by zarr."""

    def __init__(self, path: str, array: Any, place: int | None) -> None:
        self.path, self.array, self.place = path, array, place
        self.chunk = Shape(*array.chunks[-2:])
        self.block = self.chunk

    def identify(self, block: Window) -> Key:
        """Return a key of the files that a block comes from; of a URL, only its name."""
        files = self.files(block)
        marks = [(f,) if is_remote(self.path) else identify_file(f) for f in files]
        return (*marks, block.y0, block.x0) if all(marks) else ()

    def files(self, block: Window) -> list[str]:
        """Return the files of the chunks that a block overlaps."""
        first, last = block.y0 // self.chunk.y, -(-block.y1 // self.chunk.y)
        column = block.x0 // self.chunk.x
        return [self.file(row, column) for row in range(first, last)]

    def list_files(self) -> list[str]:
        """Return the files of all chunks of the image, whether they exist or not."""
        y, x = (range(-(-n // c)) for n, c in zip(self.array.shape[-2:], self.chunk, strict=True))
        return [self.file(row, column) for row, column in product(y, x)]

    def file(self, row: int, column: int) -> str:
        """Return the file of a chunk."""
        key = (row, column) if self.place is None else (self.place, row, column)
        return f"{self.path}/{self.array.path}/{self.array.metadata.encode_chunk_key(key)}"

    def decode(self, block: Window) -> NDArray[Any]:
        """Decode a block."""
        index = block.slices if self.place is None else (self.place, *block.slices)
        return np.asarray(self.array[index])


class BloscChunks(Chunks):
    """Blocks that are some rows of chunks, of the width of the chunks."""

    def __init__(self, path: str, array: Any, place: int | None) -> None:
        super().__init__(path, array, place)
        self.block = Shape(min(_BAND_PX, self.chunk.y), self.chunk.x)

    def decode(self, block: Window) -> NDArray[Any]:
        """Decode a block from one chunk, or from two that meet in it."""
        pixels = empty_array(block.shape, np.dtype(self.array.dtype))
        row_bytes = self.chunk.x * self.array.dtype.itemsize
        for row in range(block.y0 // self.chunk.y, -(-block.y1 // self.chunk.y)):
            start = row * self.chunk.y
            y0, y1 = max(block.y0, start), min(block.y1, start + self.chunk.y)
            file = self.file(row, block.x0 // self.chunk.x)
            part = _read_rows(file, (y0 - start) * row_bytes, (y1 - start) * row_bytes)
            numbers = np.frombuffer(part, self.array.dtype) if part else np.zeros(1)
            if part:
                numbers = numbers.reshape(y1 - y0, self.chunk.x)[:, : block.shape.x]
            pixels[y0 - block.y0 : y1 - block.y0] = numbers
        return pixels


def _read_rows(file: str, start: int, stop: int) -> memoryview | None:
    """Decode some bytes of a chunk; None if the chunk was not written, so that it is zero."""
    try:
        with (
            Path(file).open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as chunk,
        ):
            return decode_part(chunk, start, stop)
    except FileNotFoundError:
        return None


def can_decode_parts(path: str, array: Any) -> bool:
    """Return whether rows of a chunk can be decoded alone: local files, compressed by Blosc."""
    if is_remote(path) or array.order != "C" or array.filters or len(array.compressors) != 1:
        return False
    is_blosc = type(array.compressors[0]).__name__ in ("Blosc", "BloscCodec")
    alone = array.ndim == 2 or array.chunks[0] == 1
    return is_blosc and alone and array.shards is None and array.dtype.isnative


def open_chunks(path: str, image: EopfImage) -> Chunks:
    """Open the digital numbers of an image."""
    array = open_store(path)[f"{image.group}/{MEASUREMENT}"]
    kind = BloscChunks if can_decode_parts(path, array) else Chunks
    return kind(path, array, image.place)
