"""From a path to a stack: find the files, read their headers, check that they fit together."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sarstack.conventions import Scale
from sarstack.errors import SarstackError, StackReadError
from sarstack.readers.consistency import (
    check_same_grid,
    settle_dates,
    settle_duplicates,
    settle_polarisations,
    settle_times,
)
from sarstack.readers.files import find_files
from sarstack.readers.image import Image
from sarstack.readers.paths import absolute_path
from sarstack.readers.problems import Problems
from sarstack.readers.raster import Raster
from sarstack.readers.registry import list_images
from sarstack.readers.scales import parse_scale, settle_scale
from sarstack.readers.stack import Stack

_UNREADABLE = " cannot be read"


def index_stack(
    path: str | Path,
    *,
    scale: str | None = None,
    bands: Sequence[str] | None = None,
    skip_unreadable: bool = False,
) -> Stack:
    """Find out everything about a stack that can be known without reading its pixels.

    Parameters
    ----------
    path : str or Path
        A folder (its sub-folders are not entered), a file, a pattern such as
        ``'folder/site1_*.npy'``, or a Zarr store.
    scale : str, optional
        ``linear``, ``amplitude`` or ``db`` (or ``power``, ``decibel``, ...); needed when
        neither tags nor numbers tell.
    bands : sequence of str, optional
        Names of the bands of multi-band files that do not say what they are, for example
        ``['VV', 'VH']``; a single polarisation names images that do not tell theirs.
    skip_unreadable : bool, optional
        Leave out damaged files with a warning instead of refusing the stack; they are
        listed in ``Stack.skipped``.

    Returns
    -------
    Stack
        Small, frozen and picklable.

    Raises
    ------
    StackReadError
        If nothing is found, or a file is missing, truncated or not an image.
    GridMismatchError, ScaleError, StackError
        If the images do not fit together. All problems are listed at once.

    Warns
    -----
    SarstackWarning
        For reprocessed duplicates, mixed orbits, missing polarisations, undated images.

    Notes
    -----
    Reads headers, and a few windows of 64x64 pixels to check the scale.
    """
    wanted = parse_scale(scale)
    problems = Problems(str(path))
    files = [absolute_path(file) for file in find_files(str(path))]
    images = _read_all_headers(files, bands, problems)
    skipped = _skip_unreadable(problems) if skip_unreadable else ()
    stack = _assemble(str(path), images, wanted, problems, skipped, skip_unreadable=skip_unreadable)
    problems.report()
    return stack


def _read_all_headers(
    files: Sequence[str], bands: Sequence[str] | None, problems: Problems
) -> list[Image]:
    def read(file: str) -> list[Image] | SarstackError:
        try:
            return list_images(file, bands)
        except SarstackError as err:
            return err

    # Headers on a network drive wait for the disk, not for the processor.
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, files))
    images: list[Image] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, SarstackError):
            problems.add(result, file)
        else:
            images += result
    return images


def _names_a_file(error: SarstackError) -> bool:
    return isinstance(error, StackReadError) and _UNREADABLE in error.what


def _skip_unreadable(problems: Problems) -> tuple[tuple[str, str], ...]:
    """Take the errors of damaged files out of the problems, and make one warning of them."""
    bad = [e for e in problems.errors if _names_a_file(e)]
    problems.errors = [e for e in problems.errors if not _names_a_file(e)]
    skipped = []
    for error in bad:
        path, _, reason = error.what.partition(_UNREADABLE)
        skipped.append((path, reason.strip(" :()") or error.what))
    if skipped:
        problems.warn(
            f"{len(skipped)} files cannot be read and are left out",
            where=[f"{Path(path).name}: {reason}" for path, reason in skipped],
            do="copy or download them again, then run the same command",
        )
    return tuple(skipped)


def _nothing_left(path: str, skipped: Sequence[tuple[str, str]]) -> StackReadError:
    return StackReadError(
        f"{path}: no file can be read",
        where=[f"{name}: {reason}" for name, reason in skipped],
        do="copy or download them again",
    )


def _assemble(
    path: str,
    images: Sequence[Image],
    wanted: Scale | None,
    problems: Problems,
    skipped: tuple[tuple[str, str], ...],
    *,
    skip_unreadable: bool,
) -> Stack:
    """Fit the images together; again without those whose pixels turn out to be damaged."""
    told = len(problems.warnings), len(problems.errors)
    stack = _fit_together(path, images, wanted, problems, skipped)
    late = _skip_unreadable(problems) if skip_unreadable else ()
    if not late:
        return stack
    lost = {damaged for damaged, _ in late}
    kept = [image for image in images if image.raster.path not in lost]
    del problems.warnings[told[0] : -1], problems.errors[told[1] :]
    return _assemble(path, kept, wanted, problems, skipped + late, skip_unreadable=skip_unreadable)


def _fit_together(
    path: str,
    images: Sequence[Image],
    wanted: Scale | None,
    problems: Problems,
    skipped: tuple[tuple[str, str], ...],
) -> Stack:
    if not images:
        problems.report()
        raise _nothing_left(path, skipped)
    images = settle_polarisations(images, problems)
    images = settle_times(images, problems)
    found = settle_duplicates(images, problems)
    images = [image for own in found.values() for image in own.values()]
    if not images:
        problems.report()
    grid = check_same_grid(images, problems)
    scale, nodata = settle_scale(images, wanted, problems)
    dates = settle_dates(found, problems)
    stems = _unique_stems(images)
    rasters = {
        polarisation: tuple(
            _settle_raster(own[d.time], scale, nodata, stems) if d.time in own else None
            for d in dates
        )
        for polarisation, own in found.items()
    }
    calibrations = {image.facts.calibration for image in images}
    calibration = calibrations.pop() if len(calibrations) == 1 else ""
    return Stack(path, grid, dates, rasters, calibration, skipped)


def _settle_raster(
    image: Image, scale: Scale, nodata: tuple[float, ...], stems: dict[Raster, str]
) -> Raster:
    raster = image.raster
    both = tuple(dict.fromkeys((*raster.nodata, *nodata)))
    return replace(raster, scale=scale, nodata=both, stem=stems[raster])


def _unique_stems(images: Sequence[Image]) -> dict[Raster, str]:
    """Name outputs after inputs; where two inputs share a name, add date and polarisation."""
    counts = Counter(image.raster.stem.lower() for image in images)
    stems: dict[Raster, str] = {}
    for image in images:
        stem = image.raster.stem
        if counts[stem.lower()] > 1:
            time = str(image.facts.time.astype("datetime64[s]"))
            time = time.replace("-", "").replace(":", "")
            stem = f"{stem}_{time}_{image.facts.polarisation}"
        stems[image.raster] = stem
    return stems
