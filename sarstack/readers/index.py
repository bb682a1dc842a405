"""From a path to a stack: find the files, read their headers, check that they fit together."""

import glob
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sarstack.conventions import AUXILIARY_NAME, IMAGE_SUFFIXES, Scale
from sarstack.errors import SarstackError, StackReadError
from sarstack.readers.consistency import (
    check_same_grid,
    settle_dates,
    settle_duplicates,
    settle_polarisations,
    settle_times,
)
from sarstack.readers.formats.gdal import read_headers
from sarstack.readers.formats.stores import is_zarr
from sarstack.readers.image import Image
from sarstack.readers.problems import Findings
from sarstack.readers.raster import Raster
from sarstack.readers.scales import parse_scale, settle_scale
from sarstack.readers.stack import Stack

_UNREADABLE = " cannot be read"
_ACCEPTED = "a folder of GeoTIFF/COG, ENVI, npy or netCDF images, one such file, or a Zarr store"


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
    findings = Findings(str(path))
    files = [absolute_path(file) for file in find_files(str(path))]
    images = _read_all_headers(files, bands, findings)
    skipped = _skip_unreadable(findings) if skip_unreadable else ()
    stack = _assemble(str(path), images, wanted, findings, skipped, skip_unreadable=skip_unreadable)
    findings.report()
    return stack


def absolute_path(path: str) -> str:
    """Return a path as workers and later runs find it, who may start in another folder."""
    return path if "://" in path or path.startswith("/vsi") else str(Path(path).absolute())


def find_files(path: str) -> list[str]:
    """List the image files of a stack in the order of their names.

    Raises
    ------
    StackReadError
        If the path does not exist, or holds no image.
    """
    if "://" in path or path.startswith("/vsi") or is_zarr(path):
        return [path]
    place, suffixes = Path(path), IMAGE_SUFFIXES
    if place.is_file():
        return [_image_of_header(place)]
    if place.is_dir():
        if path.rstrip("/\\").upper().endswith(".SAFE"):
            raise _refuse_safe(path)
        candidates = [p for p in place.iterdir() if p.is_file()]
    elif any(c in path for c in "*?["):
        suffixes += (".vrt",)  # in a folder it is a view of other files; here it was asked for
        candidates = [Path(p) for p in glob.glob(path, recursive=True)]  # noqa: PTH207
    else:
        raise StackReadError(f"{path} does not exist", expected=_ACCEPTED, do="check the path")
    images = [p for p in candidates if _is_image(p, suffixes)]
    if not images:
        folders = [p.name for p in place.iterdir() if p.is_dir()] if place.is_dir() else []
        raise StackReadError(
            f"{path} holds no image",
            expected=f"files ending in {', '.join(IMAGE_SUFFIXES)}",
            where=[f"sub-folder {name}" for name in sorted(folders)]
            or [f"only {p.name}" for p in sorted(candidates)],
            do=f"give one of its sub-folders, or a pattern such as '{path}/*/*.tif'"
            if folders
            else "check the path; unpack archives",
        )
    return sorted(str(p) for p in images)


def _is_image(path: Path, suffixes: Sequence[str]) -> bool:
    if is_zarr(str(path)):
        return True
    return (
        path.suffix.lower() in suffixes
        and not path.name.startswith(".")
        and not AUXILIARY_NAME.search(path.stem)
    )


def _image_of_header(path: Path) -> str:
    """Return the pixels' file when the user gave the ENVI header."""
    if path.suffix.lower() != ".hdr":
        return str(path)
    beside = [path.with_suffix(s) for s in (".img", ".dat", ".bin", "")]
    return str(next((p for p in beside if p.is_file()), path))


def _refuse_safe(path: str) -> StackReadError:
    return StackReadError(
        f"{path} is a SAFE product, which is neither calibrated nor on a map grid",
        expected=_ACCEPTED,
        do="make co-registered backscatter GeoTIFFs first (HyP3 RTC, pyroSAR, SNAP, S1Tiling)",
    )


def _read_all_headers(
    files: Sequence[str], bands: Sequence[str] | None, findings: Findings
) -> list[Image]:
    def read(file: str) -> list[Image] | SarstackError:
        try:
            return read_headers(file, bands)
        except SarstackError as err:
            return err

    # Headers on a network drive wait for the disk, not for the processor.
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, files))
    images: list[Image] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, SarstackError):
            findings.add(result, file)
        else:
            images += result
    return images


def _names_a_file(error: SarstackError) -> bool:
    return isinstance(error, StackReadError) and _UNREADABLE in error.what


def _skip_unreadable(findings: Findings) -> tuple[tuple[str, str], ...]:
    """Take the errors of damaged files out of the findings, and make one warning of them."""
    bad = [e for e in findings.errors if _names_a_file(e)]
    findings.errors = [e for e in findings.errors if not _names_a_file(e)]
    skipped = []
    for error in bad:
        path, _, reason = error.what.partition(_UNREADABLE)
        skipped.append((path, reason.strip(" :()") or error.what))
    if skipped:
        findings.warn(
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
    findings: Findings,
    skipped: tuple[tuple[str, str], ...],
    *,
    skip_unreadable: bool,
) -> Stack:
    """Fit the images together; again without those whose pixels turn out to be damaged."""
    told = len(findings.warnings), len(findings.errors)
    stack = _fit_together(path, images, wanted, findings, skipped)
    late = _skip_unreadable(findings) if skip_unreadable else ()
    if not late:
        return stack
    lost = {damaged for damaged, _ in late}
    kept = [image for image in images if image.raster.path not in lost]
    del findings.warnings[told[0] : -1], findings.errors[told[1] :]
    return _assemble(path, kept, wanted, findings, skipped + late, skip_unreadable=skip_unreadable)


def _fit_together(
    path: str,
    images: Sequence[Image],
    wanted: Scale | None,
    findings: Findings,
    skipped: tuple[tuple[str, str], ...],
) -> Stack:
    if not images:
        findings.report()
        raise _nothing_left(path, skipped)
    images = settle_polarisations(images, findings)
    images = settle_times(images, findings)
    found = settle_duplicates(images, findings)
    images = [image for own in found.values() for image in own.values()]
    if not images:
        findings.report()
    grid = check_same_grid(images, findings)
    scale, nodata = settle_scale(images, wanted, findings)
    dates = settle_dates(found, findings)
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
