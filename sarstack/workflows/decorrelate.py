"""Decorrelate single look complex images into complex COGs."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack import __version__
from sarstack.cluster.layout import n_cores
from sarstack.cluster.process import worker_settings
from sarstack.errors import (
    ResumeMismatchError,
    SomeDatesFailedError,
    StackReadError,
    UsageError,
)
from sarstack.output.complex_cog import write_complex_cog
from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.decorrelated import DecorrelatedRaster, decorrelate_stack, find_decorrelator
from sarstack.readers.grid import Grid
from sarstack.readers.image import name_file
from sarstack.readers.resampled import ResampledImage
from sarstack.readers.sentinel1.slc import SlcRaster
from sarstack.readers.stack import Stack
from sarstack.tiles import Window, tile_grid
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.despeckle.plan_checks import check_independence, refuse_input_folder
from sarstack.workflows.despeckle.tags import keep_source_tags
from sarstack.workflows.fingerprint import FINGERPRINT_TAG, fingerprint, read_tags
from sarstack.workflows.folder import make_folder
from sarstack.workflows.places import check_places, local_output
from sarstack.workflows.progress import now_utc, show_progress
from sarstack.workflows.settings import DecorrelateConfig

LOGGER = logging.getLogger("sarstack")
TILE_PX = 1024

Read = Callable[[Window], NDArray[np.complex64]]


def decorrelate_files(config: DecorrelateConfig, *, overwrite: bool = False) -> list[Path]:
    """Decorrelate all dates and polarisations of complex images.

    Parameters
    ----------
    config : DecorrelateConfig
        Images, output folder and other settings.
    overwrite : bool
        Replace finished results of other settings.

    Returns
    -------
    list of Path
        The results, NAME_decorrelated.tif or NAME_resampled.tif: complex64, because intensity
        has lost the phase that further steps need. An image whose result is finished with the
        same settings is not computed again.

    Raises
    ------
    SomeDatesFailedError
        If images could not be read, or have too few pixels; all others are finished.
    SarstackError
        If settings, or the stack as a whole, cannot be used.
    """
    stack = decorrelate_stack(select_stack(config))
    folder = local_output(config.output)
    images = _list_images(stack)
    ending = "resampled" if config.resample else "decorrelated"
    paths = [folder / f"{raster.stem}_{ending}.tif" for raster, *_ in images]
    refuse_input_folder((raster for raster, *_ in images), folder)
    _check_names(paths)
    marks = [
        fingerprint({"resample": config.resample, "version": __version__}, grid, raster.identity())
        for raster, grid, *_ in images
    ]
    todo = [
        i for i, path in enumerate(paths) if not _is_finished(path, marks[i], overwrite=overwrite)
    ]
    make_folder(folder)
    n_px = sum(images[i][1].shape.y * images[i][1].shape.x for i in todo)
    failures = []
    with worker_settings(), show_progress("decorrelating", n_px) as progress:
        for i in todo:
            raster, grid, tags = images[i]
            try:
                _write(config, paths[i], raster, grid, tags | {FINGERPRINT_TAG: marks[i]})
            except (UsageError, StackReadError) as failure:
                failures.append(f"{name_file(raster)}: {failure.what}")
                LOGGER.warning("%s failed: %s", name_file(raster), failure.what)
            progress.advance(grid.shape.y * grid.shape.x)
    if failures:
        raise SomeDatesFailedError(
            f"{len(failures)} image(s) failed; all others are finished",
            where=failures,
            do="repair or remove these files, and run the same command again",
        )
    return paths


def _list_images(stack: Stack) -> list[tuple[DecorrelatedRaster, Grid, dict[str, str]]]:
    """List the images with their grids and tags, in order of date and polarisation."""
    found = []
    for layer, date in enumerate(stack.dates):
        for polarisation in stack.polarisations:
            raster = stack.rasters[polarisation][layer]
            if isinstance(raster, DecorrelatedRaster):
                tags = {
                    "ACQUISITION_DATETIME": date.timestamp,
                    "PLATFORM": date.platform,
                    "ORBIT_DIRECTION": date.orbit_direction,
                    "POLARIZATION": polarisation.upper(),
                    "CALIBRATION": stack.calibration,
                    "INPUT_FILE": name_file(raster),
                    "DECORRELATED": "yes",
                }
                found.append((raster, stack.grid_at(layer), tags))
    return found


def _check_names(paths: list[Path]) -> None:
    check_places(paths)
    if len(set(paths)) < len(paths):
        raise UsageError("several results would have the same name", where=[p.name for p in paths],
                         do="give the input files different names")  # fmt: skip


def _is_finished(path: Path, mark: str, *, overwrite: bool) -> bool:
    if not path.exists():
        return False
    if read_tags(path).get(FINGERPRINT_TAG) == mark:
        return True
    if overwrite:
        return False
    raise ResumeMismatchError(
        f"{path.name} has other settings or another input",
        expected="the same part (--bbox), calibration, gain, mask, version and input file",
        where=str(path),
        do="choose another folder with -o, or --overwrite to replace it",
    )


def _write(
    config: DecorrelateConfig, path: Path, raster: DecorrelatedRaster, grid: Grid,
    tags: dict[str, str],
) -> None:  # fmt: skip
    check_independence(raster)
    decorrelator = find_decorrelator(raster.stored)
    axes = (decorrelator.y, decorrelator.x)
    tags = tags | {
        "BANDWIDTH": " ".join(f"{axis.bandwidth:.3f}" for axis in axes),
        "SPECTRUM_CENTRE": " ".join(f"{axis.centre:.4f}" for axis in axes),
        "BASEBAND": "yes" if config.resample and isinstance(raster.stored, SlcRaster) else "",
        "PROCESSING_DATETIME": now_utc(),
        "SARSTACK_VERSION": __version__,
        "TIFFTAG_SOFTWARE": f"sarstack {__version__}",
    }
    if config.resample:
        tags["SPECTRUM_CENTRE"] = "0 0"
    own = {name: value for name, value in tags.items() if value}
    resampled = ResampledImage(raster, grid)

    def read(window: Window) -> NDArray[np.complex64]:
        return resampled.read(window) if config.resample else read_complex(raster, window)

    new_grid = resampled.new_grid if config.resample else grid
    write_complex_cog(
        path, _read_tiles(read, new_grid, config.workers or n_cores()), new_grid,
        description=f"complex {tags['POLARIZATION'].lower()}",
        tags=keep_source_tags(raster.read_metadata().tags, own) | own, compress=config.compress,
    )  # fmt: skip
    LOGGER.info("%s: band %s of the sampling rate", path.name, tags["BANDWIDTH"])
    wide = [name for name, width in zip("yx", decorrelator.bandwidths, strict=True) if width == 1]
    if config.resample and wide:
        LOGGER.warning("%s: not resampled along %s, where the band is as wide as the sampling rate",
                       path.name, " and ".join(wide))  # fmt: skip


def _read_tiles(
    read: Read, grid: Grid, n_threads: int
) -> Iterator[tuple[Window, NDArray[np.complex64]]]:
    """Compute tiles in threads, and yield them in order; few are in memory."""
    waiting: deque[tuple[Window, Future[Any]]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        for tile in tile_grid(grid.shape, TILE_PX):
            waiting.append((tile.window, threads.submit(read, tile.window)))
            if len(waiting) > 2 * n_threads:
                window, future = waiting.popleft()
                yield window, future.result()
        for window, future in waiting:
            yield window, future.result()
