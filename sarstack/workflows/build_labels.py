"""Build the labels of a stack into a Zarr store: one pass over the dates, tile by tile."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sarstack import __version__, tasks
from sarstack.cluster import Task, Workers, open_workers, run_tasks
from sarstack.config import LabelsConfig
from sarstack.errors import ResumeMismatchError, StackReadError, UsageError
from sarstack.labels import ATTRIBUTES, DTYPES, LABELS
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Stack
from sarstack.runlog import claim_folder, now_utc, show_progress
from sarstack.speckle import combine_samples, spread_dates
from sarstack.tiles import Tile, tile_grid
from sarstack.workflows.plan import (
    check_space,
    fingerprint,
    identity,
    make_folder,
    select_stack,
)

LOGGER = logging.getLogger("sarstack")
INNER_CHUNK_PX = 512


def build_labels(config: LabelsConfig, *, overwrite: bool = False) -> Path:
    """Compute temporal mean, standard deviation, count, variation and stable mask.

    Parameters
    ----------
    config : LabelsConfig
        Stack, rule of the stable mask, tile size, workers; see its fields.
    overwrite : bool
        Replace an existing store.

    Returns
    -------
    Path
        A Zarr v3 store with variables ``mean std count cv stable`` of dims
        ``(polarisation, y, x)``, coordinates and CRS of the stack.

    Raises
    ------
    StackReadError
        If an image cannot be read: labels over fewer dates than asked for would be
        silently different ones.
    ResumeMismatchError
        If the store exists, or an unfinished one of other settings.

    Notes
    -----
    Memory follows the tile, not the number of dates or the scene. The store appears
    under its name when it is complete; an interrupted run continues where it stopped.
    """
    output = Path(config.output or "labels.zarr").absolute()
    if output.exists() and not overwrite:
        raise ResumeMismatchError(
            "the labels exist already", where=str(output), do="name another -o, or --overwrite"
        )
    stack = select_stack(config)
    if config.multilook_px % 2 == 0:
        raise UsageError(f"multilook_px = {config.multilook_px} is even", expected="1, 3, 5, ...",
                         do="choose an odd width, so that the label is not shifted")  # fmt: skip
    _refuse_single_dates(stack)
    shape = stack.grid.shape
    check_space(make_folder(output.parent), 15 * shape.y * shape.x * len(stack.polarisations))
    unfinished = output.with_name(f"{output.name}.unfinished")
    _open_store(unfinished, config, stack, overwrite=overwrite)
    with (
        claim_folder(unfinished),
        open_workers(config.cluster, config.workers) as workers,
    ):
        if workers.dashboard:
            LOGGER.info("dashboard: %s", workers.dashboard)
        paths = [r.path for r in _rasters(stack, stack.polarisations[0])][:1]
        workers.check_paths([*paths, str(unfinished)])
        looks = _measure_looks(config, stack, workers)
        _compute(config, stack, workers, unfinished, looks)
    _finish(unfinished, looks)
    if output.exists():
        shutil.rmtree(output)
    unfinished.replace(output)
    return output


def _refuse_single_dates(stack: Stack) -> None:
    few = [p.upper() for p in stack.polarisations if len(_rasters(stack, p)) < 2]
    if few:
        raise UsageError(
            f"there is one date of {', '.join(few)} in the stack",
            expected="two dates or more: labels are statistics over time",
            where=stack.path,
            do="give the whole stack, wider --dates, or --pol to choose what has more dates",
        )


def _open_store(path: Path, config: LabelsConfig, stack: Stack, *, overwrite: bool) -> None:
    rasters = [r for p in stack.polarisations for r in stack.rasters[p]]
    kept = config.model_dump(exclude={"cluster", "workers", "output"}, mode="json")
    mark = fingerprint(kept, __version__, *(identity(raster) for raster in rasters))
    if path.exists() and not overwrite:
        import zarr

        try:
            found = zarr.open_group(str(path), mode="r").attrs.get("fingerprint")
        except (OSError, ValueError):
            found = None
        if found == mark:
            LOGGER.info("continuing unfinished labels")
            return
        raise ResumeMismatchError(
            "unfinished labels of other settings or inputs lie here",
            where=str(path),
            do="repeat the earlier command, or --overwrite to start anew",
        )
    shutil.rmtree(path, ignore_errors=True)
    _create_store(path, config, stack, mark)


def _create_store(path: Path, config: LabelsConfig, stack: Stack, mark: str) -> None:
    """Write the template: all metadata, no pixels."""
    import dask.array as da
    import zarr

    from sarstack.readers.lazy import build_cube

    template = build_cube(stack, config.tile_px)
    shape = (len(stack.polarisations), *stack.grid.shape)
    size = config.tile_px
    chunks = (1, size, size)
    coords = {n: template.coords[n] for n in ("y", "x", "spatial_ref") if n in template.coords}
    variables = {
        name: xr.Variable(
            ("polarisation", "y", "x"),
            da.zeros(shape, chunks=chunks, dtype=DTYPES[name]),
            ATTRIBUTES[name] | {"grid_mapping": "spatial_ref"},
        )
        for name in LABELS
    }
    attributes = {
        "Conventions": "CF-1.11",
        "title": "temporal labels of a Sentinel-1 stack",
        "history": f"{now_utc()} sarstack {__version__} build-labels",
        "source": stack.path,
        "dates": [str(date.time) for date in stack.dates],
        "calibration": stack.calibration,
        "settings": config.model_dump_json(),
        "fingerprint": mark,
    }
    labels = xr.Dataset(variables, coords, attributes)
    # Variable-length text: the only kind of string that Zarr v3 specifies.
    names = np.array(stack.polarisations, dtype=object)
    labels = labels.assign_coords(polarisation=("polarisation", names))
    inner = min(INNER_CHUNK_PX, size)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")
    encoding: dict[str, dict[str, Any]] = {
        name: {"chunks": (1, inner, inner), "shards": chunks, "compressors": (codec,)}
        | ({"_FillValue": np.nan} if DTYPES[name] == "f4" else {})
        for name in LABELS
    }
    labels.to_zarr(path, mode="w", compute=False, encoding=encoding, consolidated=False,
                   zarr_format=3)  # fmt: skip


def _measure_looks(config: LabelsConfig, stack: Stack, workers: Workers) -> dict[str, float]:
    """Estimate the looks of each polarisation after the multilook, from evenly spread dates."""
    if config.looks is not None:
        return dict.fromkeys(stack.polarisations, config.looks)
    looks = {}
    for polarisation in stack.polarisations:
        rasters = _rasters(stack, polarisation)
        rasters = [rasters[i] for i in spread_dates(len(rasters))]
        jobs = (
            Task(tasks.sample_image, (raster, stack.grid.shape, config.multilook_px), raster)
            for raster in rasters
        )
        outcomes = {task.key: outcome for task, outcome in run_tasks(workers, jobs)}
        _raise_failures(outcomes.values())
        samples = [outcomes[raster] for raster in rasters]
        looks[polarisation] = combine_samples(samples)[0].looks
    return looks


def _rasters(stack: Stack, polarisation: str) -> list[Raster]:
    return [raster for raster in stack.rasters[polarisation] if raster is not None]


def _raise_failures(outcomes: Any) -> None:
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if not failures:
        return
    unreadable = [f for f in failures if isinstance(f, StackReadError)]
    if len(unreadable) < len(failures):
        raise next(f for f in failures if not isinstance(f, StackReadError))
    raise StackReadError(
        f"{len(unreadable)} image(s) of the stack cannot be read",
        where=[failure.summary() for failure in unreadable],
        do="mend or remove these files: labels need every date they are said to have",
    )


def _compute(
    config: LabelsConfig, stack: Stack, workers: Workers, store: Path, looks: dict[str, float]
) -> None:
    scene = stack.grid.shape

    def jobs() -> Iterator[Task]:
        for layer, polarisation in enumerate(stack.polarisations):
            rasters = tuple(_rasters(stack, polarisation))
            for tile in tile_grid(scene, config.tile_px):
                if not tasks.has_label(str(store), layer, tile):
                    arguments = (rasters, scene, tile, layer, str(store), looks[polarisation],
                                 config.rule, config.threshold, config.quantile,
                                 config.multilook_px)  # fmt: skip
                    yield Task(tasks.label_tile, arguments, tile)

    failures: list[Exception] = []
    with show_progress("labels", scene.y * scene.x * len(stack.polarisations)) as progress:
        for task, outcome in run_tasks(workers, jobs()):
            tile: Tile = task.key
            if isinstance(outcome, Exception):
                failures.append(outcome)
                break
            progress.advance(tile.window.shape.y * tile.window.shape.x)
    _raise_failures(failures)


def _finish(path: Path, looks: dict[str, float]) -> None:
    import zarr

    zarr.open_group(str(path), mode="r+").attrs["looks"] = looks
