"""Tasks of `build-labels` on a worker: the statistics of a tile, then its mask of stable pixels.

The mask depends on the looks of the whole scene. These are measured on pixels that are read for
the statistics. So the mask follows in a second round, from the written statistics, and no image
is read twice.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.cluster.process import worker_settings
from sarstack.errors import StackReadError
from sarstack.labels.statistics import (
    DTYPES,
    STATISTICS,
    VARIATION,
    add_dates,
    mark_stable,
    multilook,
    statistics,
)
from sarstack.output.complete_file import complete_file
from sarstack.readers.raster import Raster
from sarstack.speckle.samples import SpeckleSample, join_windows, sample_window
from sarstack.tiles import Shape, Tile, Window, sample_windows
from sarstack.workflows.disk import check_free, explain_disk_errors

# Number of dates that are read before they are summed: more need memory and save little time.
DATES_AT_ONCE = 8
CHECKSUM_BYTES = 4
# Statistics of one pixel: three of 4 bytes and the count of 2, uncompressed.
TILE_BYTES_PER_PX = 14
# Speckle does not compress well: zstd takes 15 times as long for 2 % smaller files.
CHECKSUM_ATTRIBUTE, CHECKSUM = "chunk_checksum", "crc32c"
"""Attribute of stores whose chunks end with a checksum; those of older versions have none."""
COMPRESSION: dict[str, Any] = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}


def has_statistics(store: str, layer: int, tile: Tile) -> bool:
    """Return whether the statistics of a tile are complete (the variation is written last)."""
    return _chunk(store, STATISTICS[-1], layer, tile).exists()


def is_written(store: str, name: str, layer: int, tile: Tile) -> bool:
    """Return whether the chunk of a variable at a tile is written."""
    return _chunk(store, name, layer, tile).exists()


def has_mask(store: str, layer: int, tile: Tile) -> bool:
    """Return whether the mask of a tile is written."""
    return _chunk(store, "stable", layer, tile).exists()


def _chunk(store: str, name: str, layer: int, tile: Tile) -> Path:
    return Path(store, name, "c", str(layer), str(tile.row), str(tile.column))


def label_tile(
    rasters: tuple[Raster, ...],
    scene: Shape,
    tile: Tile,
    layer: int,
    store: str,
    tile_px: int,
    multilook_px: int,
    sampled: tuple[int, ...] = (),
) -> dict[tuple[int, int], SpeckleSample]:
    """Compute the temporal statistics of one tile and polarisation, some dates at a time.

    Parameters
    ----------
    rasters : tuple of Raster
        All dates.
    scene : Shape
        Rows and columns of the scene.
    tile : Tile
        Place of the pixels.
    layer : int
        Index of the polarisation in the store.
    store : str
        Zarr store of the labels.
    tile_px : int
        Width of a tile, equal to the chunk size of the store.
    multilook_px : int
        Width of the spatial mean of each date.
    sampled : tuple of int
        Dates whose speckle is measured.

    Returns
    -------
    dict of (int, int) to SpeckleSample
        Samples of the windows that begin in this tile, by date and number of the window.
    """
    rows, columns = (min(length, tile_px) for length in scene)
    check_free(Path(store), TILE_BYTES_PER_PX * rows * columns)
    moments = np.zeros((3, *tile.window.shape))
    samples: dict[tuple[int, int], SpeckleSample] = {}
    with worker_settings():
        for first in range(0, len(rasters), DATES_AT_ONCE):
            some = rasters[first : first + DATES_AT_ONCE]
            dates = [
                date
                for raster in some
                for date in _read_smoothed(raster, [tile.window], scene, multilook_px)
            ]
            add_dates(moments, dates)
            for number, date in enumerate(dates, first):
                if number in sampled:
                    found = _sample_tile(date, scene, tile.window)
                    samples |= {(number, place): sample for place, sample in found.items()}
    with explain_disk_errors(Path(store)):
        for name, values in statistics(moments).items():
            _write(_chunk(store, name, layer, tile), values, tile_px)
    return samples


def _read_smoothed(
    raster: Raster, windows: Sequence[Window], scene: Shape, multilook_px: int
) -> Iterator[NDArray[np.float32]]:
    """Read windows of one date, multilooked or not; each of its window's shape."""
    outer = [window.expand(multilook_px // 2, scene) for window in windows]
    images = raster.read_each(outer, cache_blocks=False)
    for window, around, pixels in zip(windows, outer, images, strict=True):
        yield multilook(pixels, multilook_px)[window.slices_in(around)]


def _sample_tile(date: NDArray[np.float32], scene: Shape, tile: Window) -> dict[int, SpeckleSample]:
    """Measure the sample windows of a tile; none lies in two, both begin at multiples of 256."""
    windows = sample_windows(scene)
    return {
        place: sample_window(date[window.slices_in(tile)], len(windows))
        for place, window in enumerate(windows)
        if window.overlap(tile)
    }


def sample_date(raster: Raster, scene: Shape, multilook_px: int) -> SpeckleSample:
    """Measure all sample windows of one date, for a run that continues an interrupted one."""
    windows = sample_windows(scene)
    with worker_settings():
        images = _read_smoothed(raster, windows, scene, multilook_px)
        return join_windows([sample_window(image, len(windows)) for image in images])


def mark_tile(
    store: str,
    layer: int,
    tile: Tile,
    tile_px: int,
    looks: float,
    rule: str,
    threshold: float,
    quantile: float,
) -> None:
    """Write the mask of stable pixels of one tile; see `sarstack.labels.statistics.mark_stable`."""
    variation, count = (
        _read(_chunk(store, name, layer, tile), tile_px, tile.window.shape, DTYPES[name])
        for name in (VARIATION[rule], "count")
    )
    stable = mark_stable(
        variation, count, looks=looks, rule=rule, threshold=threshold, quantile=quantile
    )
    with explain_disk_errors(Path(store)):
        _write(_chunk(store, "stable", layer, tile), stable, tile_px)


def _write(path: Path, values: NDArray[Any], tile_px: int) -> None:
    """Write a chunk in the format of Zarr; the file gets its name when it is complete.

    The zarr library is not used: its threads wait for each other in one event loop, and it copies
    each chunk (24 dates: 8 % more time, 70 MB more). It also writes no chunk without data, and
    such a tile would be computed again.
    """
    rest = [(0, tile_px - length) for length in values.shape]
    empty = np.nan if values.dtype.kind == "f" else 0
    chunk = np.pad(values, rest, constant_values=empty) if np.any(rest) else values
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = _codec().encode(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False))
    with complete_file(path) as unfinished:
        unfinished.write_bytes(stored + _checksum(stored))


def _read(path: Path, tile_px: int, shape: Shape, dtype: str) -> NDArray[Any]:
    stored = path.read_bytes()
    data, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
    if checksum != _checksum(data):
        raise StackReadError(
            "a chunk of unfinished labels is damaged",
            where=str(path),
            do="run the same command with --overwrite",
        )
    chunk = np.frombuffer(_codec().decode(data), f"<{dtype}")
    return chunk.reshape(tile_px, tile_px)[: shape.y, : shape.x]


def _checksum(data: bytes) -> bytes:
    """Return the bytes that the codec crc32c of Zarr appends."""
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(CHECKSUM_BYTES, "little")


def _codec() -> Any:
    from numcodecs import Blosc

    return Blosc(**COMPRESSION | {"shuffle": Blosc.BITSHUFFLE})
