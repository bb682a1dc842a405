"""What a worker does for labels: statistics of a tile and samples of its speckle, then its mask.

Which pixels are stable depends on the looks of the whole scene. They are measured on pixels
that are read for the statistics anyway, so the mask is made in a second round, from the
statistics that were written: no image is read twice.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.labels import STATISTICS, VARIATION, add_dates, mark_stable, multilook, statistics
from sarstack.readers.raster import Raster
from sarstack.speckle import SpeckleSample, join_windows, sample_window
from sarstack.tasks import worker_settings
from sarstack.tiles import Shape, Tile, Window, sample_windows

# Dates that are read before they are added up: more save little, and cost memory.
DATES_AT_ONCE = 4


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
        The labels store.
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
            dates = [read_smoothed(r, tile.window, scene, multilook_px) for r in some]
            add_dates(moments, dates)
            for number, (raster, date) in enumerate(zip(some, dates, strict=True), first):
                if number in sampled:
                    found = _sample_tile(raster, date, scene, tile.window, multilook_px)
                    samples |= {(number, place): sample for place, sample in found.items()}
    _write(store, statistics(moments), layer, tile)
    return samples


def read_smoothed(
    raster: Raster, window: Window, scene: Shape, multilook_px: int
) -> NDArray[np.float32]:
    """Read a window of one date, multilooked or not; shape of `window`."""
    outer = window.expand(multilook_px // 2, scene)
    return multilook(raster.read(outer), multilook_px)[window.inside(outer)]


def _sample_tile(
    raster: Raster, date: NDArray[np.float32], scene: Shape, tile: Window, multilook_px: int
) -> dict[int, SpeckleSample]:
    """Measure the sample windows that begin in a tile; those that reach out of it are read."""
    windows, found = sample_windows(scene), {}
    for place, window in enumerate(windows):
        if not (tile.y0 <= window.y0 < tile.y1 and tile.x0 <= window.x0 < tile.x1):
            continue
        if window.y1 <= tile.y1 and window.x1 <= tile.x1:
            pixels = date[window.inside(tile)]
        else:
            pixels = read_smoothed(raster, window, scene, multilook_px)
        found[place] = sample_window(pixels, len(windows))
    return found


def sample_date(raster: Raster, scene: Shape, multilook_px: int) -> SpeckleSample:
    """Measure all sample windows of one date: for runs that go on with tiles of an earlier one."""
    windows = sample_windows(scene)
    with worker_settings():
        return join_windows(
            [
                sample_window(read_smoothed(raster, window, scene, multilook_px), len(windows))
                for window in windows
            ]
        )


def mark_tile(
    store: str, layer: int, tile: Tile, looks: float, rule: str, threshold: float, quantile: float
) -> None:
    """Write the mask of stable pixels of one tile; see :func:`sarstack.labels.mark_stable`."""
    place = (layer, *tile.window.slices)
    variation, count = (np.asarray(_open(store, n)[place]) for n in (VARIATION[rule], "count"))
    stable = mark_stable(
        variation, count, looks=looks, rule=rule, threshold=threshold, quantile=quantile
    )
    _write(store, {"stable": stable}, layer, tile)


def _write(store: str, labels: dict[str, NDArray[np.generic]], layer: int, tile: Tile) -> None:
    import zarr

    # A tile without data must leave its mark as well, or it would be computed again.
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, values in labels.items():
            _open(store, name)[(layer, *tile.window.slices)] = values


def _open(store: str, name: str) -> Any:
    import zarr

    return zarr.open_array(f"{store}/{name}", mode="r+")
