"""From a path to a stack: find the files, read their headers, check that they fit together."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

from sarstack.conventions import Scale
from sarstack.errors import SarstackError, StackReadError, UsageError
from sarstack.networks.memory_pages import return_freed_memory
from sarstack.readers.consistency import (
    choose_latest,
    complete_polarisations,
    complete_times,
    list_dates,
    list_grids,
)
from sarstack.readers.digital_numbers import add_gain
from sarstack.readers.files import find_files, list_auxiliary
from sarstack.readers.fill_values import FillValues
from sarstack.readers.image import Found, Image, calibrate, use_layers
from sarstack.readers.paths import absolute_path, file_name, shorten_name
from sarstack.readers.problems import Problems, UnreadableFileError
from sarstack.readers.product_layers import list_folder, parse_mask
from sarstack.readers.raster import Raster
from sarstack.readers.registry import list_images
from sarstack.readers.scales import GivenScale, decide_scale, parse_scale
from sarstack.readers.slices import join_slices
from sarstack.readers.stack import Stack
from sarstack.readers.unclear_times import find_missing_times

_N_THREADS = 8

# Path of a file that was left out, and the reason.
Skipped = tuple[tuple[str, str], ...]


def index_stack(
    path: str | Path,
    *,
    scale: str | GivenScale | None = None,
    bands: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    calibration: str | None = None,
    remove_noise: bool = False,
    separate_slices: bool = False,
    mask: str | Sequence[str] | None = None,
    gain_db: float | None = None,
) -> Stack:
    """Index a stack: dates, polarisations, grid and scale, without reading all pixels.

    Parameters
    ----------
    path : str or Path
        A folder (its sub-folders are not searched), a file, a pattern such as
        ``'folder/site1_*.npy'``, a Zarr store, or a JSON file or URL of STAC items, a folder or
        pattern of object storage, or a text file with one path or URL in each line.
    scale : str or GivenScale, optional
        ``linear``, ``amplitude`` or ``db`` (or ``power``, ``decibel``, ...). Needed if
        tags, names and pixel values do not show it.
    bands : sequence of str, optional
        Names of the bands of multi-band files without band descriptions, for example
        ``['VV', 'VH', '-']``; ``-`` leaves out a band. A single polarisation names images
        without polarisation.
    skip_unreadable : bool, optional
        Leave out damaged files with a warning instead of raising an error; they are
        listed in ``Stack.skipped``.
    calibration : str, optional
        ``sigma0`` (default), ``beta0``, ``gamma0`` or ``dn`` (squared digital numbers). Only for
        SAFE and EOPF products: all other inputs are used as they are.
    remove_noise : bool, optional
        Subtract the thermal noise from despeckled pixels. Only for SAFE and EOPF products.
    separate_slices : bool, optional
        Do not join SAFE products whose lines follow each other.
    mask : str or sequence of str, optional
        ``shadow``, ``layover`` or both (``'shadow,layover'``): what the mask file of the product
        makes nodata. Only for OPERA RTC-S1 and HyP3 RTC images with their mask files. Codes of
        pixels without data are nodata in any case.
    gain_db : float, optional
        Decibels that are added to the backscatter: the calibration factor of digital numbers, for
        example -83 for PALSAR-2. Replaces the factor that the product tells.

    Returns
    -------
    Stack
        Small, frozen and picklable.

    Raises
    ------
    StackReadError
        If nothing is found, or a file is missing, truncated or not an image.
    GridMismatchError, ScaleError, StackError
        If the images do not fit together. One error lists all problems.

    Warns
    -----
    SarstackWarning
        For reprocessed duplicates, mixed orbits, missing polarisations, undated images.

    Notes
    -----
    Reads headers, and a few windows of 64 x 64 pixels of each image to check the scale.
    """
    given_scale = scale if isinstance(scale, GivenScale) else GivenScale(parse_scale(scale))
    wanted, folders = parse_mask(mask), cache(list_folder)
    if gain_db is not None and remove_noise:
        raise UsageError(
            "gain_db cannot be used with remove_noise: both calibrate the pixels",
            do="leave out one of them",
        )
    problems = Problems(str(path))
    files = [absolute_path(file) for file in find_files(str(path))]
    if auxiliary := list_auxiliary(str(path)):
        problems.warn(
            f"{len(auxiliary)} files are left out: by the ends of their names they are masks, "
            "angles or other layers beside images",
            where=auxiliary,
            do="if they are images, rename them, for example with _vv at the end",
        )

    def list_calibrated(file: str) -> list[Found]:
        return [
            found
            if isinstance(found, SarstackError)
            else use_layers(
                calibrate(add_gain(found, gain_db), calibration, remove_noise=remove_noise),
                wanted,
                folders,
            )
            for found in list_images(file, bands)
        ]

    images = _read_headers(files, list_calibrated, problems)
    if separate_slices:
        images = [replace(image, slice=None) for image in images]
    skipped = _skip_unreadable(problems) if skip_unreadable else ()
    stack = _assemble(
        str(path), images, given_scale, problems, skipped, skip_unreadable=skip_unreadable
    )
    return_freed_memory()  # of the samples, before a run that may take hours
    problems.report()
    return stack


def _read_headers(
    files: Sequence[str], list_file: Callable[[str], list[Found]], problems: Problems
) -> list[Image]:
    def read(file: str) -> list[Found]:
        try:
            return list_file(file)
        except SarstackError as err:
            return [err]

    # Threads, because on a network drive reading a header is waiting.
    with ThreadPoolExecutor(_N_THREADS) as pool:
        results = list(pool.map(read, files))
    images: list[Image] = []
    for file, result in zip(files, results, strict=True):
        for found in result:
            if isinstance(found, SarstackError):
                problems.add(found, getattr(found, "path", file))
            else:
                images.append(found)
    _tell_notices(images, problems)
    return images


def _tell_notices(images: Sequence[Image], problems: Problems) -> None:
    """Add one warning for each notice, with all files that have it."""
    files: dict[tuple[str, str], dict[str, str]] = {}
    for image in images:
        for notice in image.notices:
            files.setdefault((notice.what, notice.do), {})[image.raster.path] = notice.detail
    for (what, do), details in files.items():
        where = [file_name(p) + (f": {detail}" if detail else "") for p, detail in details.items()]
        number = f"{len(where)} file{'s' if len(where) > 1 else ''}"
        problems.warn(f"{number}: {what}", where=where, do=do)


def _skip_unreadable(problems: Problems) -> Skipped:
    """Replace the errors of unreadable files by one warning, and return the files."""
    unreadable = [e for e in problems.errors if isinstance(e, UnreadableFileError)]
    problems.errors = [e for e in problems.errors if not isinstance(e, UnreadableFileError)]
    if unreadable:
        problems.warn(
            f"{len(unreadable)} files cannot be read and are left out",
            where=dict.fromkeys(f"{file_name(e.path)}: {e.reason}" for e in unreadable),
            do="copy or download them again, then run the same command",
        )
    return tuple((e.path, e.reason) for e in unreadable)


def _assemble(
    path: str,
    images: Sequence[Image],
    scale: GivenScale,
    problems: Problems,
    skipped: Skipped,
    *,
    skip_unreadable: bool,
) -> Stack:
    """Fit the images together; repeat without those whose pixels cannot be read.

    A header may be readable and the pixels damaged: that shows when the scale is checked.
    """
    n_warnings, n_errors = len(problems.warnings), len(problems.errors)
    stack = _fit_together(path, images, scale, problems, skipped)
    newly_skipped = _skip_unreadable(problems) if skip_unreadable else ()
    if not newly_skipped:
        return stack
    unreadable = {file for file, _ in newly_skipped}
    readable = [image for image in images if image.raster.path not in unreadable]
    # Keep the warning of the files left out. The next attempt finds all other problems again.
    del problems.warnings[n_warnings:-1], problems.errors[n_errors:]
    return _assemble(
        path, readable, scale, problems, skipped + newly_skipped, skip_unreadable=skip_unreadable
    )


def _fit_together(
    path: str, images: Sequence[Image], scale: GivenScale, problems: Problems, skipped: Skipped
) -> Stack:
    if not images:
        problems.report()  # raises if there are errors; files left out by the user's wish are none
        raise _nothing_readable_error(path, skipped)
    images = complete_polarisations(images, problems)
    images = complete_times(find_missing_times(images, problems), problems)
    images = join_slices(images, problems)
    by_polarisation = choose_latest(images, problems)
    images = [image for by_time in by_polarisation.values() for image in by_time.values()]
    if not images:
        # Each check that leaves out an image adds an error. So this raises.
        problems.report()
    grids = list_grids(by_polarisation, problems)
    common_scale, fill_values = decide_scale(images, scale, problems)
    fills = {image.raster: fill for image, fill in zip(images, fill_values, strict=True)}
    dates = list_dates(by_polarisation, problems)
    stems = _unique_stems(images)
    rasters = {
        polarisation: tuple(
            _complete_raster(by_time[date.time].raster, common_scale, fills, stems)
            if date.time in by_time
            else None
            for date in dates
        )
        for polarisation, by_time in by_polarisation.items()
    }
    calibrations = {image.metadata.calibration for image in images}
    calibration = calibrations.pop() if len(calibrations) == 1 else ""
    return Stack(path, grids, dates, rasters, calibration, skipped)


def _nothing_readable_error(path: str, skipped: Skipped) -> StackReadError:
    return StackReadError(
        f"{path}: no file can be read",
        where=[f"{name}: {reason}" for name, reason in skipped],
        do="copy or download them again",
    )


def _complete_raster(
    raster: Raster, scale: Scale, fills: dict[Raster, FillValues], stems: dict[Raster, str]
) -> Raster:
    fill = fills[raster]
    return replace(
        raster, scale=scale, undeclared=fill.undeclared, lowest=fill.lowest, stem=stems[raster]
    )


def _unique_stems(images: Sequence[Image]) -> dict[Raster, str]:
    """Name outputs after inputs; add date and polarisation where two inputs share a name."""
    counts = Counter(image.raster.stem.lower() for image in images)
    stems: dict[Raster, str] = {}
    for image in images:
        stem = image.raster.stem
        if counts[stem.lower()] > 1:
            time = str(image.metadata.time.astype("datetime64[s]"))
            time = time.replace("-", "").replace(":", "")
            stem = f"{stem}_{time}_{image.metadata.polarisation}"
        stems[image.raster] = shorten_name(stem)
    return stems
