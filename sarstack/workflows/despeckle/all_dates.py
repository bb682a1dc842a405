"""Stages of a run that need all dates before an image is despeckled: sums, and the first pass."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sarstack.cluster.dispatch import Task, run_groups
from sarstack.cluster.workers import Workers
from sarstack.errors import StackReadError
from sarstack.tiles import Tile, order_in_row_pairs, split_evenly, tile_grid
from sarstack.workflows.despeckle import summary as summary_store
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.state import Run
from sarstack.workflows.despeckle.tile_input import Date, DateSums
from sarstack.workflows.disk import BYTES_PER_PX
from sarstack.workflows.progress import show_progress

LOGGER = logging.getLogger("sarstack")


def read_all_dates(run: Run, workers: Workers) -> None:
    """Compute what a multi-temporal method needs of all dates: sums, then its first pass.

    Raises
    ------
    StackReadError
        If an image changed in the meantime.
    """
    if not run.plan.despeckler.n_summary:
        return
    _summarise(run, workers)
    _check_unchanged(run)
    if run.plan.despeckler.first_pass:
        _compute_first_pass(run, workers)
        _check_unchanged(run)


def first_pass_bytes(run: Run) -> int:
    """Return an upper limit of the bytes of the first pass, which are deleted at the end."""
    if not run.plan.despeckler.first_pass:
        return 0
    shape = run.plan.stack.grid.shape
    n_images = len(run.polarisations) * len(run.plan.stack.dates)
    return n_images * shape.y * shape.x * BYTES_PER_PX


def find_sums(run: Run, image: Image) -> DateSums | None:
    """Return where the sums over dates for an image are; None for methods of single dates."""
    if not image.despeckler.n_summary:
        return None
    summary = run.summary(image.polarisation)
    if not image.despeckler.first_pass:
        return DateSums(summary)
    own = run.first_pass(image.polarisation, image.layer)
    return DateSums(summary, own, tuple(_list_dates(run, image.polarisation).values()))


def _list_dates(run: Run, polarisation: str) -> dict[int, Date]:
    """Return the readable dates of a polarisation by their index."""
    statistics = run.statistics[polarisation]
    return {
        layer: Date(raster, statistics[layer], run.first_pass(polarisation, layer))
        for layer, raster in enumerate(run.plan.stack.rasters[polarisation])
        if raster and layer in statistics
    }


def _summarise(run: Run, workers: Workers) -> None:
    """Sum over all dates tile by tile."""
    despeckler, scene = run.plan.despeckler, run.plan.stack.grid.shape

    def jobs(path: str, dates: tuple[Date, ...], tiles: Sequence[Tile]) -> Iterator[Task]:
        for tile in tiles:
            yield Task(tasks.summarise_tile, (despeckler, dates, scene, tile, path), tile)

    def groups() -> Iterator[Iterator[Task]]:
        for polarisation in run.polarisations:
            path = run.summary(polarisation)
            dates = tuple(_list_dates(run, polarisation).values())
            n_images = len(run.polarisations)
            for tiles in _open_store(run, workers, path, despeckler.n_summary, n_images):
                yield jobs(path, dates, tiles)

    _carry_out(workers, "summing dates", scene.y * scene.x * len(run.polarisations), groups())


def _compute_first_pass(run: Run, workers: Workers) -> None:
    """Despeckle all dates a first time."""
    first_pass, scene = run.plan.despeckler.first_pass, run.plan.stack.grid.shape
    dates = [(p, date) for p in run.polarisations for date in _list_dates(run, p).values()]

    # A function, not an expression: several groups are open at a time, each with its own date.
    def jobs(date: Date, sums: DateSums, tiles: Sequence[Tile]) -> Iterator[Task]:
        for tile in tiles:
            yield Task(tasks.first_pass_tile, (first_pass, date, scene, tile, sums), tile)

    def groups() -> Iterator[Iterator[Task]]:
        for polarisation, date in dates:
            sums = DateSums(run.summary(polarisation))
            for tiles in _open_store(run, workers, date.first_pass, 1, len(dates)):
                yield jobs(date, sums, tiles)

    _carry_out(workers, "first pass", scene.y * scene.x * len(dates), groups())


def _open_store(
    run: Run, workers: Workers, path: str, depth: int, n_images: int
) -> Iterator[Sequence[Tile]]:
    """Create an array unless it exists, and return its missing tiles in groups for workers."""
    scene, tile_px = run.plan.stack.grid.shape, run.plan.config.tile_px
    summary_store.create_array(path, depth, scene, tile_px)
    tiles = order_in_row_pairs(tile_grid(scene, tile_px))
    missing = [tile for tile in tiles if not summary_store.has_tile(path, tile)]
    return split_evenly(missing, -(-len(workers.processes()) // n_images))


def _carry_out(
    workers: Workers, title: str, total_px: int, groups: Iterator[Iterator[Task]]
) -> None:
    """Carry out tasks that return the reasons why parts are missing."""
    with show_progress(title, total_px) as progress:
        for task, outcome in run_groups(workers, groups):
            if isinstance(outcome, Exception):
                raise outcome
            for problem in outcome:
                LOGGER.warning("a part is missing (%s): %s", title, problem)
            progress.advance(task.key.window.shape.y * task.key.window.shape.x)


def _check_unchanged(run: Run) -> None:
    if changed := run.changed_inputs(run.inputs):
        shutil.rmtree(run.folder, ignore_errors=True)
        raise StackReadError(
            f"{len(changed)} images changed while they were read",
            where=[Path(path).name for path in changed],
            do="run the command again when no other program writes the images",
        )
