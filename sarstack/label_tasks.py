"""What a worker does for labels: statistics of a tile and samples of its speckle, then its mask.

Which pixels are stable depends on the looks of the whole scene. They are measured on pixels
that are read for the statistics anyway, so the mask is made in a second round, from the
statistics that were written: no image is read twice.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.labels import (
    STATISTICS,
    VARIATION,
    add_dates,
    mark_stable,
    multilook,
    statistics,
)
from sarstack.readers.raster import Raster
from sarstack.speckle import SpeckleSample, join_windows, sample_window
from sarstack.tasks import worker_settings
from sarstack.tiles import Shape, Tile, Window, sample_windows

# Dates that are read before they are added up: more save little, and cost memory.
DATES_AT_ONCE = 8
# Speckle does not compress: zstd takes 15 times as long for 2 % less.
COMPRESSION: dict[str, Any] = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}


def has_statistics(store: str, layer: int, tile: Tile) -> bool:
    """Tell whether a tile is done but for its mask (the variation is written last)."""
    return _chunk(store, STATISTICS[-1], layer, tile).exists()


def has_mask(store: str, layer: int, tile: Tile) -> bool:
    """Tell whether a tile is done."""
    return _chunk(store, "stable", layer, tile).exists()


def _chunk(store: str, name: str, layer: int, tile: Tile) -> Path:
    return Path(store, name, "c", str(layer), str(tile.row), str(tile.column))


def label_tile(
    rasters: tuple[Raster, ...],
    scene: Shape,
    tile: Tile,
    layer: int,
    store: str,
    multilook_px: int,
    sampled: tuple[int, ...] = (),
) -> dict[tuple[int, int], SpeckleSample]:
    """Compute the temporal statistics of one tile and polarisation, a few dates at a time.

    Parameters
    ----------
    rasters : tuple of Raster
        All dates.
    scene : Shape
        Size of the scene.
    tile : Tile
        What to compute.
    layer : int
        Place of the polarisation in the store.
    store : str
        The labels store, whose chunks are the tiles.
    multilook_px : int
        Width of the spatial mean of each date.
    sampled : tuple of int
        Dates whose speckle is measured.

    Returns
    -------
    dict of (int, int) to SpeckleSample
        By date and number of the sample window, of those that begin in this tile.
    """
    moments = np.zeros((3, *tile.window.shape))
    samples: dict[tuple[int, int], SpeckleSample] = {}
    with worker_settings():
        for first in range(0, len(rasters), DATES_AT_ONCE):
            some = rasters[first : first + DATES_AT_ONCE]
            dates = [_read_smoothed(r, tile.window, scene, multilook_px) for r in some]
            add_dates(moments, dates)
            for number, date in enumerate(dates, first):
                if number in sampled:
                    found = _sample_tile(date, scene, tile.window)
                    samples |= {(number, place): sample for place, sample in found.items()}
    for name, values in statistics(moments).items():
        _write(store, name, layer, tile.window, values)
    return samples


def _read_smoothed(
    raster: Raster, window: Window, scene: Shape, multilook_px: int
) -> NDArray[np.float32]:
    """Read a window of one date, multilooked or not; shape of `window`."""
    outer = window.expand(multilook_px // 2, scene)
    return multilook(raster.read(outer), multilook_px)[window.inside(outer)]


def _sample_tile(date: NDArray[np.float32], scene: Shape, tile: Window) -> dict[int, SpeckleSample]:
    """Measure the sample windows of a tile; none lies in two, both begin at multiples of 256."""
    windows = sample_windows(scene)
    return {
        place: sample_window(date[window.inside(tile)], len(windows))
        for place, window in enumerate(windows)
        if window.overlap(tile)
    }


def sample_date(raster: Raster, scene: Shape, multilook_px: int) -> SpeckleSample:
    """Measure all sample windows of one date: for runs that go on with tiles of an earlier one."""
    windows = sample_windows(scene)
    with worker_settings():
        images = [_read_smoothed(raster, window, scene, multilook_px) for window in windows]
    return join_windows([sample_window(image, len(windows)) for image in images])


def mark_tile(
    store: str,
    layer: int,
    tile: Tile,
    looks: float,
    rule: str,
    threshold: float,
    quantile: float,
) -> None:
    """Write the mask of stable pixels of one tile; see :func:`sarstack.labels.mark_stable`."""
    variation, count = (
        _read(store, name, layer, tile.window) for name in (VARIATION[rule], "count")
    )
    stable = mark_stable(
        variation, count, looks=looks, rule=rule, threshold=threshold, quantile=quantile
    )
    _write(store, "stable", layer, tile.window, stable)


def _place(store: str, name: str, layer: int, window: Window) -> tuple[Any, Any]:
    """Return an array of the store, and where a window of a polarisation is in it."""
    import zarr

    # What holds no data must leave its mark too, or it would be computed again.
    array = zarr.open_array(f"{store}/{name}", mode="r+", config={"write_empty_chunks": True})
    return array, (layer, *window.slices)


def _write(store: str, name: str, layer: int, window: Window, values: NDArray[Any]) -> None:
    array, place = _place(store, name, layer, window)
    array[place] = values


def _read(store: str, name: str, layer: int, window: Window) -> NDArray[Any]:
    array, place = _place(store, name, layer, window)
    return np.asarray(array[place])
