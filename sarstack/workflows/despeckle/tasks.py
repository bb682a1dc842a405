"""Tasks of a despeckling run on a worker, one function for each kind of task.

Each function is idempotent, takes small picklable arguments (paths, windows, numbers), reads and
writes its own pixels, and returns a small record. The same functions run in threads and on the
workers of a cluster.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sarstack.cluster.process import arithmetic_slots, peak_memory_bytes, worker_settings
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import StackReadError
from sarstack.output.cog import finish_cog
from sarstack.output.pieces import Pieces, read_pieces, write_piece
from sarstack.output.vrt import write_db_view
from sarstack.readers.grid import Grid
from sarstack.readers.raster import IntensityReader, Raster
from sarstack.speckle.samples import SpeckleSample, sample_speckle
from sarstack.speckle.statistics import SceneStatistics, combine_samples
from sarstack.tiles import Shape, Tile, sample_windows
from sarstack.workflows.despeckle import summary as summary_store


@dataclass(frozen=True)
class TileRecord:
    """Record of a finished tile."""

    n_valid: int
    sum_before: float
    sum_after: float
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class ImageRecord:
    """Record of a finished image."""

    output: str
    enl_after: float | None
    seconds: float
    peak_bytes: int


def sample_image(raster: IntensityReader, scene: Shape) -> SpeckleSample:
    """Measure the speckle of an image in its sample windows."""
    with worker_settings():
        return sample_speckle(raster.read_each(sample_windows(scene)))


def despeckle_tile(
    despeckler: Despeckler,
    raster: Raster,
    statistics: SceneStatistics,
    tile: Tile,
    pieces: Pieces,
    summary: str = "",
) -> TileRecord:
    """Read one tile of one date with its halo, despeckle it, and write its piece.

    Parameters
    ----------
    despeckler : Despeckler
        The method. It has the path of its model, not the weights.
    raster : Raster
        The input image.
    statistics : SceneStatistics
        Statistics of the whole scene at this date.
    tile : Tile
        Place of the pixels.
    pieces : Pieces
        Pieces of the result.
    summary : str
        Path of the sums over dates, if any.
    """
    start = time.perf_counter()
    scene, window = pieces.scene, tile.window
    with worker_settings(despeckler):
        outer = despeckler.input_window(window, scene)
        block = raster.read(outer)
        known = summary_store.read_window(summary, outer) if summary else None
        with arithmetic_slots(on_gpu=despeckler.on_gpu):
            result = despeckle_window(block, outer, window, scene, despeckler, statistics, known)
        write_piece(pieces, tile, result)
    before = block[window.slices_in(outer)]
    return TileRecord(
        n_valid=int(np.isfinite(result).sum()),
        sum_before=float(np.nansum(before, dtype=np.float64)),
        sum_after=float(np.nansum(result, dtype=np.float64)),
        seconds=time.perf_counter() - start,
        peak_bytes=peak_memory_bytes(),
    )


def summarise_tile(
    despeckler: Despeckler,
    images: tuple[tuple[Raster, SceneStatistics], ...],
    scene: Shape,
    tile: Tile,
    target: str,
) -> list[str]:
    """Sum the contributions of all dates to one tile of the temporal summary.

    Dates are read one after the other, so memory does not depend on their number.

    Returns
    -------
    list of str
        Reasons why dates are missing in this tile (unreadable parts).
    """
    problems = []
    total = np.zeros((despeckler.n_summary, *tile.window.shape))
    with worker_settings(despeckler):
        outer = tile.window.expand(despeckler.summary_halo, scene)
        for raster, statistics in images:
            try:
                block = raster.read(outer, cache_blocks=False)
            except StackReadError as failure:
                problems.append(str(failure))
                continue
            total += contribute_window(block, outer, tile.window, scene, despeckler, statistics)
        summary_store.write_tile(target, tile, total.astype(np.float32))
    return problems


def finish_image(
    pieces: Pieces, grid: Grid, output: str, description: str, tags: dict[str, str]
) -> ImageRecord:
    """Write the COG and the dB view of an image from its pieces.

    The pieces are deleted after the COG has its name.
    """
    start = time.perf_counter()
    path = Path(output)
    windows = sample_windows(pieces.scene)
    with worker_settings():
        after = combine_samples([sample_speckle(read_pieces(pieces, w) for w in windows)])[0]
        enl_after = after.looks if after.looks_source == "estimated" else None
        known = {} if enl_after is None else {"ENL_AFTER": f"{enl_after:.1f}"}
        finish_cog(path, pieces, grid, description=description, tags=tags | known)
        write_db_view(path, grid, description)
    shutil.rmtree(pieces.folder, ignore_errors=True)
    seconds = time.perf_counter() - start
    return ImageRecord(output, enl_after, seconds, peak_memory_bytes())
