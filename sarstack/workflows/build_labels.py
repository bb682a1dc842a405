"""Compute the labels of a stack into a Zarr store, tile by tile, in one pass over the dates."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sarstack import __version__
from sarstack.cluster.check import check_workers
from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import Workers, open_workers
from sarstack.errors import DiskError, ResumeMismatchError, StackReadError, UsageError
from sarstack.labels.statistics import ATTRIBUTES, DTYPES, LABELS
from sarstack.readers.paths import public_path
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Stack, find_product_looks
from sarstack.speckle.samples import SpeckleSample, join_windows
from sarstack.speckle.statistics import choose_dates, combine_samples
from sarstack.tiles import sample_windows, tile_grid
from sarstack.workflows import label_tasks
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.disk import explain_disk_errors
from sarstack.workflows.fingerprint import fingerprint, identity, stamp_files
from sarstack.workflows.folder import check_space, make_folder
from sarstack.workflows.label_places import (
    created_store,
    label_lock,
    list_leftovers,
    replaced_store,
    unfinished_store,
)
from sarstack.workflows.lock import claim
from sarstack.workflows.places import check_places, local_output
from sarstack.workflows.progress import now_utc, show_progress
from sarstack.workflows.remote_folder import (
    RemoteFolder,
    choose_work_folder,
    is_writable_url,
    upload_store,
)
from sarstack.workflows.settings import LabelsConfig

LOGGER = logging.getLogger("sarstack")

Samples = dict[tuple[int, int], SpeckleSample]
"""Speckle samples by date and number of the sample window."""


def build_labels(config: LabelsConfig, *, overwrite: bool = False) -> Path | str:
    """Compute temporal mean, standard deviation, count, variation and stable mask.

    Parameters
    ----------
    config : LabelsConfig
        Stack, rule of the stable mask, tile size, workers.
    overwrite : bool
        Replace an existing store.

    Returns
    -------
    Path or str
        Path or URL of a Zarr v3 store with variables ``mean std count cv stable`` of dims
        ``(polarisation, y, x)``, coordinates and CRS of the stack.

    Raises
    ------
    StackReadError
        If an image cannot be read: labels of fewer dates would be other labels.
    ResumeMismatchError
        If the store exists, or an unfinished one, with other settings or inputs. Complete labels
        of the same settings and inputs are success.

    Notes
    -----
    Memory depends on the tile size, not on the number of dates or the scene. The store gets its
    name when it is complete. An interrupted run continues.
    """
    remote, output = _find_output(config)
    check_places([], [output.parent], own_folders=[output, unfinished_store(output)])
    stack = select_stack(config)
    if config.multilook_px % 2 == 0:
        raise UsageError(f"multilook_px = {config.multilook_px} is even", expected="1, 3, 5, ...",
                         do="choose an odd width: an even one shifts the label")  # fmt: skip
    _refuse_single_dates(stack)
    make_folder(output.parent)
    lock = claim(label_lock(output), output)
    with explain_disk_errors(output.parent), lock:
        mark = _fingerprint(config, stack)
        if remote and not overwrite and _is_uploaded(remote, mark):
            LOGGER.info("the labels were finished before")
            return remote.url
        if output.exists() and not overwrite and _is_finished(output, config, stack, mark):
            LOGGER.info("the labels were finished before")
        else:
            _compute(config, stack, output, mark, overwrite=overwrite)
        for leftover in list_leftovers(output):
            shutil.rmtree(leftover, ignore_errors=True)
        if remote:
            upload_store(output, remote)
            shutil.rmtree(output)
    return remote.url if remote else output


def _find_output(config: LabelsConfig) -> tuple[RemoteFolder | None, Path]:
    """Return the store in object storage, if any, and the local store."""
    if config.output and is_writable_url(config.output):
        remote = RemoteFolder.at(config.output)
        return remote, choose_work_folder(remote.url, config.work_folder) / "labels.zarr"
    return None, local_output(config.output or "labels.zarr")


def _is_uploaded(remote: RemoteFolder, mark: str) -> bool:
    """Return whether labels of the same settings and inputs are at a URL.

    Raises
    ------
    ResumeMismatchError
        If there are others.
    """
    if "zarr.json" not in remote.list_sizes():
        return False
    if _read_attributes(remote.url).get("fingerprint") != mark:
        raise _other_labels_error(remote.url)
    return True


def _other_labels_error(place: str) -> ResumeMismatchError:
    return ResumeMismatchError(
        "the labels exist already, with other settings or inputs, or damaged",
        where=place,
        do="name another -o, or --overwrite",
    )


def _fingerprint(config: LabelsConfig, stack: Stack) -> str:
    rasters = [r for p in stack.polarisations for r in stack.rasters[p]]
    public = config.without_secrets()
    kept = public.model_dump(exclude={"cluster", "workers", "output", "work_folder"}, mode="json")
    return fingerprint(kept, __version__, stack.grid, *(identity(raster) for raster in rasters))


def _is_finished(output: Path, config: LabelsConfig, stack: Stack, mark: str) -> bool:
    """Return whether labels of the same settings and inputs are complete.

    Raises
    ------
    ResumeMismatchError
        If they have other settings or inputs, or are not labels.
    """
    if _read_attributes(output).get("fingerprint") != mark:
        raise _other_labels_error(str(output))
    missing = sum(
        not label_tasks.is_written(str(output), name, layer, tile)
        for name in LABELS
        for layer in range(len(stack.polarisations))
        for tile in tile_grid(stack.grid.shape, config.tile_px)
    )
    if missing:
        LOGGER.warning("%s is made again: it lacks %d chunks", output, missing)
    return not missing


def _read_attributes(store: Path | str) -> dict[str, Any]:
    import zarr

    try:
        return dict(zarr.open_group(str(store), mode="r").attrs)
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _compute(
    config: LabelsConfig, stack: Stack, output: Path, mark: str, *, overwrite: bool
) -> None:
    """Compute the labels into an unfinished store, which then gets the name `output`."""
    shape = stack.grid.shape
    needed_bytes = 15 * shape.y * shape.x * len(stack.polarisations)
    check_space(output.parent, needed_bytes)
    unfinished = unfinished_store(output)
    with explain_disk_errors(output.parent, needed_bytes):
        _open_store(unfinished, config, stack, mark, overwrite=overwrite)
        _fill_store(unfinished, config, stack)
        # Renamed, not deleted: a store that is half deleted would look like a finished one.
        shutil.rmtree(replaced_store(output), ignore_errors=True)
        if output.exists():
            output.replace(replaced_store(output))
        unfinished.replace(output)


def _fill_store(unfinished: Path, config: LabelsConfig, stack: Stack) -> None:
    """Compute the labels that an open store lacks."""
    with open_workers(config.cluster, config.workers, on_gpu=False) as workers:
        if workers.dashboard:
            LOGGER.info("dashboard: %s", workers.dashboard)
        check_workers(workers, stack, unfinished)
        samples = _compute_statistics(config, stack, workers, unfinished)
        looks = {p: _find_looks(config, stack, p, samples[p], workers) for p in samples}
        _compute_masks(config, stack, workers, unfinished, looks)
    _finish(unfinished, looks)
    # Temporary files of killed runs: ours, and those of zarr.
    for part in (*unfinished.rglob(".*.part"), *unfinished.rglob("*.partial")):
        part.unlink()


def _refuse_single_dates(stack: Stack) -> None:
    few = [p.upper() for p in stack.polarisations if len(_rasters(stack, p)) < 2]
    if few:
        raise UsageError(
            f"the stack has one date of {', '.join(few)}",
            expected="two dates or more: labels are statistics over dates",
            where=stack.path,
            do="use the whole stack, a longer --dates, or --pol with more dates",
        )


def _open_store(
    path: Path, config: LabelsConfig, stack: Stack, mark: str, *, overwrite: bool
) -> None:
    """Create a store without pixels, or continue the one of an interrupted run."""
    inputs = fingerprint({public_path(p): stamp for p, stamp in stamp_files(stack).items()})
    found = _read_attributes(path)
    same = found.get("fingerprint") == mark and label_tasks.CHECKSUM_ATTRIBUTE in found
    if same and found.get("inputs") == inputs:
        LOGGER.info("continuing unfinished labels")
        return
    if same:
        LOGGER.warning("images may have changed since the interruption: the labels start again")
    elif path.exists() and not overwrite:
        raise ResumeMismatchError(
            "the folder has unfinished labels of other settings or inputs",
            where=str(path),
            do="repeat the earlier command, or --overwrite to start again",
        )
    # Under another name first: a run that is killed here leaves no half store.
    new = created_store(path)
    _create_store(new, config, stack, {"fingerprint": mark, "inputs": inputs})
    shutil.rmtree(path, ignore_errors=True)
    new.replace(path)


def _create_store(path: Path, config: LabelsConfig, stack: Stack, marks: dict[str, str]) -> None:
    """Write the metadata of the store, without pixels."""
    import dask.array as da
    import zarr

    from sarstack.readers.cube import build_cube

    template = build_cube(stack, config.tile_px)
    shape = (len(stack.polarisations), *stack.grid.shape)
    size = config.tile_px
    # One chunk for each tile: no two tasks write the same chunk, and an existing chunk is complete.
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
        "source": public_path(stack.path),
        "dates": [str(date.time) for date in stack.dates],
        "calibration": stack.calibration,
        "settings": config.without_secrets().model_dump_json(),
        **marks,
        label_tasks.CHECKSUM_ATTRIBUTE: label_tasks.CHECKSUM,
    }
    labels = xr.Dataset(variables, coords, attributes)
    # Variable-length strings are the only ones in the Zarr v3 specification.
    names = np.array(stack.polarisations, dtype=object)
    labels = labels.assign_coords(polarisation=("polarisation", names))
    codecs = (zarr.codecs.BloscCodec(**label_tasks.COMPRESSION), zarr.codecs.Crc32cCodec())
    encoding: dict[str, dict[str, Any]] = {
        name: {"chunks": chunks, "compressors": codecs}
        | ({"_FillValue": np.nan} if DTYPES[name] == "f4" else {})
        for name in LABELS
    }
    labels.to_zarr(path, mode="w", compute=False, encoding=encoding, consolidated=False,
                   zarr_format=3)  # fmt: skip


def _compute_statistics(
    config: LabelsConfig, stack: Stack, workers: Workers, store: Path
) -> dict[str, Samples]:
    """Compute the statistics of all tiles, and return the speckle samples."""
    scene = stack.grid.shape
    samples: dict[str, Samples] = {polarisation: {} for polarisation in stack.polarisations}

    def jobs() -> Iterator[Task]:
        for layer, polarisation in enumerate(stack.polarisations):
            rasters = tuple(_rasters(stack, polarisation))
            for tile in tile_grid(scene, config.tile_px):
                if not label_tasks.has_statistics(str(store), layer, tile):
                    arguments = (rasters, scene, tile, layer, str(store), config.tile_px,
                                 config.multilook_px, _sampled_dates(config, rasters))  # fmt: skip
                    yield Task(label_tasks.label_tile, arguments, (polarisation, tile))

    failures: list[Exception] = []
    with show_progress("labels", scene.y * scene.x * len(stack.polarisations)) as progress:
        for task, outcome in run_tasks(workers, jobs()):
            polarisation, tile = task.key
            if isinstance(outcome, Exception):
                failures.append(outcome)
                break
            samples[polarisation] |= outcome
            progress.advance(tile.window.shape.y * tile.window.shape.x)
    _raise_failures(failures)
    return samples


def _known_looks(config: LabelsConfig, rasters: Sequence[Raster]) -> float | None:
    """Return the looks of the user, or of the product unless a multilook changes them."""
    if config.looks is not None or config.multilook_px > 1:
        return config.looks
    return find_product_looks(rasters)


def _sampled_dates(config: LabelsConfig, rasters: Sequence[Raster]) -> tuple[int, ...]:
    """Choose the dates from which looks are measured; none if the looks are known."""
    is_known = _known_looks(config, rasters) is not None
    return () if is_known else tuple(choose_dates(len(rasters)))


def _find_looks(
    config: LabelsConfig, stack: Stack, polarisation: str, found: Samples, workers: Workers
) -> float:
    """Return the looks of a polarisation, after the multilook."""
    rasters = _rasters(stack, polarisation)
    if (known := _known_looks(config, rasters)) is not None:
        return known
    dates = _sampled_dates(config, rasters)
    places = range(len(sample_windows(stack.grid.shape)))
    if len(found) == len(dates) * len(places):
        samples = [join_windows([found[date, place] for place in places]) for date in dates]
    else:  # an interrupted run computed some tiles, and its samples are lost
        arguments = (stack.grid.shape, config.multilook_px)
        jobs = [Task(label_tasks.sample_date, (rasters[date], *arguments), date) for date in dates]
        outcomes = {task.key: outcome for task, outcome in run_tasks(workers, jobs)}
        _raise_failures(outcomes.values())
        samples = [outcomes[date] for date in dates]
    return combine_samples(samples)[0].looks


def _compute_masks(
    config: LabelsConfig, stack: Stack, workers: Workers, store: Path, looks: dict[str, float]
) -> None:
    """Compute the masks of stable pixels."""
    jobs = (
        Task(label_tasks.mark_tile, (str(store), layer, tile, config.tile_px, looks[polarisation],
                                     config.rule, config.threshold, config.quantile), tile)
        for layer, polarisation in enumerate(stack.polarisations)
        for tile in tile_grid(stack.grid.shape, config.tile_px)
        if not label_tasks.has_mask(str(store), layer, tile)
    )  # fmt: skip
    _raise_failures(outcome for _, outcome in run_tasks(workers, jobs))


def _rasters(stack: Stack, polarisation: str) -> list[Raster]:
    return [raster for raster in stack.rasters[polarisation] if raster is not None]


def _raise_failures(outcomes: Iterable[object]) -> None:
    failures = []
    for outcome in outcomes:
        if isinstance(outcome, DiskError):
            raise outcome
        if isinstance(outcome, Exception):
            failures.append(outcome)
    if not failures:
        return
    unreadable = [f for f in failures if isinstance(f, StackReadError)]
    if len(unreadable) < len(failures):
        raise next(f for f in failures if not isinstance(f, StackReadError))
    raise StackReadError(
        f"{len(unreadable)} image(s) of the stack cannot be read",
        where=[failure.summary() for failure in unreadable],
        do="repair or remove these files: labels need all dates of the stack",
    )


def _finish(path: Path, looks: dict[str, float]) -> None:
    import zarr

    zarr.open_group(str(path), mode="r+").attrs["looks"] = looks
