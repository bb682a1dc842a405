"""Tasks of a despeckling run on a worker, one function for each kind of task.

Each function is idempotent, takes small picklable arguments (paths, windows, numbers), reads and
writes its own pixels, and returns a small record. The same functions run in threads and on the
workers of a cluster.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sarstack.cluster.process import arithmetic_slots, peak_memory_bytes, worker_settings
from sarstack.conventions import SUPPORT, UNCERTAINTY, Extra, describe_content
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import StackReadError
from sarstack.output.cog import Compression, finish_cog
from sarstack.output.pieces import Pieces, read_pieces, sum_notes, write_piece
from sarstack.output.vrt import write_db_view
from sarstack.readers.grid import Grid
from sarstack.readers.raster import IntensityReader, Raster
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.samples import SpeckleSample, sample_speckle
from sarstack.speckle.statistics import SceneStatistics, combine_samples
from sarstack.tiles import Shape, Tile, sample_windows
from sarstack.workflows.despeckle import summary as summary_store
from sarstack.workflows.despeckle.results import Record, write_result_record
from sarstack.workflows.despeckle.seen_dates import describe_seen
from sarstack.workflows.despeckle.tile_input import Date, DateSums, read_input, read_parts
from sarstack.workflows.disk import check_free, check_room, explain_disk_errors, image_bytes
from sarstack.workflows.fingerprint import FINGERPRINT_TAG


@dataclass(frozen=True)
class TileRecord:
    """Record of a finished tile."""

    peak_bytes: int


@dataclass(frozen=True)
class ImageRecord:
    """Records of a finished image: what run.json says of its COGs."""

    records: tuple[Record, ...]
    peak_bytes: int


@dataclass(frozen=True)
class ExtraOutput:
    """A further COG of an image.

    Attributes
    ----------
    extra : Extra
        What it shows.
    pieces : Pieces
    output : str
        Path of the COG.
    description : str
        Name of the band.
    """

    extra: Extra
    pieces: Pieces
    output: str
    description: str


class ImageSpeckle(NamedTuple):
    """Speckle of an image.

    Attributes
    ----------
    alone : SceneStatistics
        Statistics from this image alone.
    sample : SpeckleSample or None
        Samples of 450 kB, only of images that are compared with others.
    """

    alone: SceneStatistics
    sample: SpeckleSample | None


def sample_image(raster: IntensityReader, scene: Shape) -> SpeckleSample:
    """Measure the speckle of an image in its sample windows."""
    with worker_settings():
        return sample_speckle(raster.read_each(sample_windows(scene)))


def measure_image(
    raster: IntensityReader,
    scene: Shape,
    looks: float | None,
    product_looks: float | None,
    keep_sample: bool,  # noqa: FBT001 (tasks have positional arguments)
) -> ImageSpeckle:
    """Measure the speckle of an image, and return its sample only if it is needed.

    Parameters
    ----------
    raster : IntensityReader
        The input image.
    scene : Shape
        Its rows and columns.
    looks, product_looks : float, optional
        See :func:`sarstack.speckle.statistics.combine_samples`.
    keep_sample : bool
        Whether the sample is returned.
    """
    sample = sample_image(raster, scene)
    [alone] = combine_samples([sample], looks=looks, product_looks=product_looks)
    return ImageSpeckle(alone, sample if keep_sample else None)


def despeckle_tile(
    despeckler: Despeckler,
    raster: Raster,
    statistics: SceneStatistics,
    tile: Tile,
    pieces: Pieces,
    sums: DateSums | None = None,
    extras: tuple[ExtraOutput, ...] = (),
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
    sums : DateSums, optional
        Sums over dates, for multi-temporal methods.
    extras : tuple of ExtraOutput
        Further outputs.
    """
    start = time.perf_counter()
    scene, window = pieces.scene, tile.window
    check_room(pieces)
    with worker_settings(despeckler), explain_disk_errors(pieces.folder):
        result, sum_before = np.empty(window.shape, np.float32), 0.0
        others = {output.extra: np.empty(window.shape, np.float32) for output in extras}
        spread, support = others.get(UNCERTAINTY), others.get(SUPPORT)
        for part in read_parts(despeckler, raster, window, scene, sums):
            inside = part.window.slices_in(window)
            with arithmetic_slots(on_gpu=despeckler.on_gpu):
                result[inside] = despeckle_window(
                    part.block, part.outer, part.window, scene, despeckler, statistics, part.sums,
                    *([] if spread is None else [spread[inside]]),
                )  # fmt: skip
            if support is not None and part.support is not None:
                support[inside] = part.support[part.window.slices_in(part.outer)]
            power = to_power(part.block[part.window.slices_in(part.outer)])
            sum_before += float(np.nansum(power, dtype=np.float64))
        notes = {"valid_px": float(np.isfinite(result).sum())}
        if not despeckler.returns_speckle:
            sum_after = float(np.nansum(result, dtype=np.float64))
            notes |= {"sum_before": sum_before, "sum_after": sum_after}
            intensity, result = result, raster.subtract_noise(result, window)
            if spread is not None:  # the same error, in a smaller signal
                spread *= intensity / result
        notes["seconds"] = time.perf_counter() - start
        for output in extras:
            write_piece(output.pieces, tile, others[output.extra])
        write_piece(pieces, tile, result, notes)
    return TileRecord(peak_memory_bytes())


def summarise_tile(
    despeckler: Despeckler,
    dates: tuple[Date, ...],
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
    check_free(Path(target), total.size * 4)
    with worker_settings(despeckler), explain_disk_errors(Path(target)):
        outer = despeckler.contribution_window(tile.window, scene)
        for date in dates:
            try:
                block = read_input(despeckler, date.raster, outer, cache_blocks=False)
            except StackReadError as failure:
                problems.append(str(failure))
                continue
            total += contribute_window(
                block, outer, tile.window, scene, despeckler, date.statistics
            )
        summary_store.write_tile(target, tile, total.astype(np.float32))
    return problems


def first_pass_tile(
    first_pass: Despeckler, date: Date, scene: Shape, tile: Tile, sums: DateSums
) -> list[str]:
    """Compute the first pass of one tile of one date; nodata if it cannot be read.

    Returns
    -------
    list of str
        Reason why the date is missing in this tile, if it is.
    """
    window, target, problems = tile.window, Path(date.first_pass), []
    image = np.full((1, *window.shape), np.nan, np.float32)
    check_free(target, image.nbytes)
    with worker_settings(first_pass), explain_disk_errors(target):
        try:
            for part in read_parts(first_pass, date.raster, window, scene, sums):
                with arithmetic_slots(on_gpu=first_pass.on_gpu):
                    image[(0, *part.window.slices_in(window))] = despeckle_window(
                        part.block, part.outer, part.window, scene, first_pass, date.statistics,
                        part.sums,
                    )  # fmt: skip
        except StackReadError as failure:
            problems.append(str(failure))
        summary_store.write_tile(date.first_pass, tile, image)
    return problems


def finish_image(
    pieces: Pieces,
    grid: Grid,
    output: str,
    description: str,
    tags: dict[str, str],
    compress: Compression = "zstd",
    extras: tuple[ExtraOutput, ...] = (),
) -> ImageRecord:
    """Write the COG, the dB view and the record of an image from its pieces.

    View, record and further COGs are complete before the COG gets its name: an image that has its
    name lacks nothing, whenever the run is killed. The pieces stay, so the task can be repeated.
    """
    path = Path(output)
    record: Record = {}
    others = [_finish_extra(output, grid, tags, compress) for output in extras]

    def write_companions(complete: Path) -> None:
        write_db_view(path, grid, description)
        # The record describes the new image only, so an image that it replaces goes first.
        path.unlink(missing_ok=True)
        mark = {"fingerprint": tags.get(FINGERPRINT_TAG), "enl_after": enl_after}
        if seen := describe_seen(tags):
            mark["seen_dates"] = seen
        record.update(write_result_record(path, complete, mark | _describe_pixels(pieces)))

    windows = sample_windows(pieces.scene)
    largest = image_bytes(*pieces.scene)
    check_free(path.parent, largest)
    with worker_settings(), explain_disk_errors(path.parent, file_bytes=largest):
        enl_after = None
        if "CONTENT" not in tags:  # an image of intensity
            after = combine_samples([sample_speckle(read_pieces(pieces, w) for w in windows)])[0]
            enl_after = after.looks if after.looks_source == "estimated" else None
        looks_tag = {} if enl_after is None else {"ENL_AFTER": f"{enl_after:.1f}"}
        finish_cog(path, pieces, grid, description=description, tags=tags | looks_tag,
                   compress=compress, before_naming=write_companions)  # fmt: skip
    return ImageRecord((record, *others), peak_memory_bytes())


def _finish_extra(
    image: ExtraOutput, grid: Grid, tags: dict[str, str], compress: Compression
) -> Record:
    """Write a further COG of an image and its record."""
    path, largest = Path(image.output), image_bytes(*image.pieces.scene)
    tags = describe_content(tags, image.extra.content)
    record: Record = {"fingerprint": tags.get(FINGERPRINT_TAG)}

    def write_companions(complete: Path) -> None:
        path.unlink(missing_ok=True)
        record.update(write_result_record(path, complete, dict(record)))

    check_free(path.parent, largest)
    with worker_settings(), explain_disk_errors(path.parent, file_bytes=largest):
        finish_cog(path, image.pieces, grid, description=image.description, tags=tags,
                   unit=image.extra.unit, compress=compress,
                   before_naming=write_companions)  # fmt: skip
    return record


def _describe_pixels(pieces: Pieces) -> Record:
    notes = sum_notes(pieces)
    if not notes:
        return {}
    described: Record = {"valid_px": int(notes["valid_px"]), "seconds": round(notes["seconds"], 3)}
    if notes.get("sum_before"):
        described["mean_ratio"] = notes["sum_after"] / notes["sum_before"]
    return described
