"""Describe a stack as a table, for ``sarstack info``."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from sarstack.conventions import NODATA_NUMBERS
from sarstack.errors import SarstackWarning, StackReadError
from sarstack.readers.grid import Grid
from sarstack.readers.image import name_file
from sarstack.readers.paths import file_name, public_path
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.slc import SlcRaster
from sarstack.readers.slices import describe_slices
from sarstack.readers.stack import Stack, find_product_looks
from sarstack.readers.virtual_raster import list_vrt_sources
from sarstack.speckle.plausibility import describe_doubt
from sarstack.speckle.samples import sample_speckle
from sarstack.speckle.statistics import (
    NOMINAL_LOOKS,
    SceneStatistics,
    choose_dates,
    combine_samples,
)
from sarstack.tiles import sample_windows

_VALID_WINDOWS_PER_AXIS = 4
_VALID_WINDOW_PX = 64


@dataclass(frozen=True)
class DateRow:
    """One row of the table of dates.

    Attributes
    ----------
    time, platform, orbit, polarisations : str
        Text to print; empty if unknown.
    size : str
        Rows and columns, if they differ between dates; else empty.
    valid : dict of str to float
        Fraction of valid pixels of each polarisation in sample windows, 0 to 1; NaN if pixels
        cannot be read.
    file : str
        Name of the first file of the date.
    """

    time: str
    platform: str
    orbit: str
    polarisations: str
    size: str
    valid: dict[str, float]
    file: str


@dataclass(frozen=True)
class SpeckleRow:
    """Looks and lag-1 correlation of one polarisation, and their source."""

    polarisation: str
    looks: float
    correlation_y: float
    correlation_x: float
    source: str


@dataclass(frozen=True)
class StackDescription:
    """Description of a stack.

    Attributes
    ----------
    facts : dict of str to str
        Grid, size, scale, nodata and other facts, in order of importance.
    dates : tuple of DateRow
        One row for each date.
    speckle : tuple of SpeckleRow
        One row for each polarisation.
    """

    facts: dict[str, str]
    dates: tuple[DateRow, ...]
    speckle: tuple[SpeckleRow, ...]

    def render(self) -> str:
        """Return the description as text in columns."""
        width = max(map(len, self.facts))
        lines = [f"{key:<{width}}  {value}" for key, value in self.facts.items()]
        lines += ["", *_align(self._date_table()), "", *_align(self._speckle_table())]
        return "\n".join(lines)

    def _date_table(self) -> list[list[str]]:
        rows = [["date (UTC)", "platform", "orbit", "polarisations", "size", "valid", "file"]]
        for row in self.dates:
            fractions = [
                f"{fraction:.0%}" if fraction >= 0 else "unreadable"
                for fraction in row.valid.values()
            ]
            valid = fractions[0] if len(set(fractions)) == 1 else " ".join(fractions)
            texts = [row.time, row.platform, row.orbit, row.polarisations, row.size]
            rows.append([*texts, valid, row.file])
        # Columns that are empty for all dates are left out.
        kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
        return [[row[i] for i in kept] for row in rows]

    def _speckle_table(self) -> list[list[str]]:
        rows = [["speckle", "looks", "lag-1 correlation y", "x", ""]]
        for row in self.speckle:
            numbers = [f"{row.looks:.1f}", f"{row.correlation_y:.2f}", f"{row.correlation_x:.2f}"]
            rows.append([row.polarisation, *numbers, row.source])
        return rows


def describe_stack(stack: Stack) -> StackDescription:
    """Describe dates, orbits, grid, scale, nodata, valid pixels, looks and correlation.

    Parameters
    ----------
    stack : Stack
        The stack.

    Returns
    -------
    StackDescription
        ``render()`` returns it as text.

    Notes
    -----
    Reads sample windows only: 16 windows of 64 x 64 pixels of each image for the valid pixels,
    36 windows of 256 x 256 pixels of up to six dates for looks and correlation. Files that
    cannot be read are marked in the table, and not used for the rest.
    """
    return StackDescription(_list_facts(stack), _list_dates(stack), _list_speckle(stack))


def _list_facts(stack: Stack) -> dict[str, str]:
    grid, first = stack.grids[0], _rasters(stack)[0]
    height, width = grid.pixel_size
    place = f"{len(grid.gcps)} ground control points" if grid.gcps else _describe_bounds(grid)
    if not stack.is_coregistered:
        place = "radar geometry: the dates are not co-registered, each is despeckled alone"
    facts = {
        "stack": public_path(stack.path),
        "dates": _describe_dates(stack),
        "polarisations": ", ".join(p.upper() for p in stack.polarisations),
        "size": _describe_size(stack),
        "CRS": grid.crs_name,
        "pixel": f"{height:.6g} x {width:.6g}" if grid.crs_wkt and not grid.gcps else "",
        "place": place,
        "scale": f"{first.scale} {stack.calibration}".strip(),
        "gain": f"{first.gain_db:+.6g} dB, the calibration factor" if first.gain_db else "",
        "nodata": _describe_nodata(_rasters(stack)),
    }
    facts["mask of product"] = _describe_product_masks(_rasters(stack))
    facts["sources of VRT"] = _describe_vrt_sources(stack)
    facts["pixels"] = "; ".join(dict.fromkeys(map(_describe_pixels, _rasters(stack))))
    facts["joined"] = describe_slices(_rasters(stack))
    facts = {key: value for key, value in facts.items() if value}
    if stack.skipped:
        names = ", ".join(file_name(path) for path, _ in stack.skipped)
        facts["left out"] = f"{len(stack.skipped)} unreadable: {names}"
    return facts


def _describe_pixels(raster: Raster) -> str:
    """Return what becomes of complex numbers, empty if there are none."""
    if isinstance(raster, SlcRaster):
        return raster.describe_pixels()
    return "complex numbers (single look complex), used as intensity" if raster.complex_as else ""


def _describe_size(stack: Stack) -> str:
    shapes = [raster.shape for raster in _rasters(stack)]
    mebibytes = sum(4 * shape.y * shape.x for shape in shapes) / 2**20
    first = stack.grids[0].shape
    size = f"{first.y} rows x {first.x} columns, " if stack.is_coregistered else ""
    return f"{size}{len(shapes)} images, {mebibytes:.1f} MiB as float32"


def _describe_nodata(rasters: Sequence[Raster]) -> str:
    """Return which numbers are taken for nodata, and why."""
    declared = sorted({f"{number:g}" for r in rasters for number in r.nodata})
    parts = ["NaN"] + [f"{number} (declared)" for number in declared]
    if rasters[0].scale != "db":
        parts.append("0 (no backscatter)")
    found: dict[float, int] = {}
    for number in (number for raster in rasters for number in raster.undeclared):
        found[number] = found.get(number, 0) + 1
    parts += [
        f"{number:g} (not declared; found in {count} of {len(rasters)} images)"
        for number, count in sorted(found.items())
    ]
    if not all(raster.declared_nodata for raster in rasters):
        usual = " ".join(f"{number:g}" for number in NODATA_NUMBERS)
        parts.append(f"{usual} (usual, where none is declared)")
    masked = sum(raster.is_masked for raster in rasters)
    if masked:
        parts.append(f"masked pixels ({masked} of {len(rasters)} images have a mask)")
    return ", ".join(parts)


def _describe_product_masks(rasters: Sequence[Raster]) -> str:
    """Return which mask files are used, and which of their parts are nodata; empty without."""
    files = list(dict.fromkeys(file for raster in rasters for file in raster.layer_files))
    if not files:
        return ""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    parts = " and ".join(dict.fromkeys(part for r in rasters for part in r.masked_parts))
    told = f"nodata: {parts}" if parts else "nodata: only its fill value, see --mask"
    return f"{file_name(files[0])}{more}; {told}"


def _describe_vrt_sources(stack: Stack) -> str:
    """Return the files that the VRT files of the stack read, all of them: they may be anywhere."""
    views = sorted({r.path for r in _rasters(stack) if r.path.lower().endswith(".vrt")})
    return ", ".join(dict.fromkeys(s for view in views for s in list_vrt_sources(view)))


def _describe_bounds(grid: Grid) -> str:
    if not grid.is_georeferenced:
        return "no georeference"
    if grid.rpcs:
        return "rational polynomial coefficients (RPC)"
    xmin, ymin, xmax, ymax = grid.bounds
    return f"x {xmin:.10g} to {xmax:.10g}, y {ymin:.10g} to {ymax:.10g}"


def _describe_dates(stack: Stack) -> str:
    first, last = _show(stack.dates[0].time), _show(stack.dates[-1].time)
    return first if stack.n_dates == 1 else f"{stack.n_dates}, {first} to {last}"


def _list_dates(stack: Stack) -> tuple[DateRow, ...]:
    rasters = _rasters(stack)
    # Threads, because opening and reading files is mostly waiting for the disk.
    with ThreadPoolExecutor(8) as pool:
        fractions = dict(zip(rasters, pool.map(_valid_fraction, rasters), strict=True))
    rows = []
    for i, date in enumerate(stack.dates):
        rasters_of_date = {
            p: r for p in stack.polarisations if (r := stack.rasters[p][i]) is not None
        }
        number = "" if date.relative_orbit is None else str(date.relative_orbit)
        rows.append(
            DateRow(
                _show(date.time),
                date.platform,
                f"{number} {date.orbit_direction}".strip(),
                " ".join(p.upper() for p in rasters_of_date),
                "" if stack.is_coregistered else "{} x {}".format(*stack.grid_at(i).shape),
                {p: fractions[r] for p, r in rasters_of_date.items()},
                name_file(next(iter(rasters_of_date.values()))),
            )
        )
    return tuple(rows)


def _valid_fraction(raster: Raster) -> float:
    windows = sample_windows(raster.shape, _VALID_WINDOW_PX, _VALID_WINDOWS_PER_AXIS)
    valid = total = 0
    try:
        for pixels in raster.read_each(windows, cache_blocks=False):
            valid += int(np.isfinite(pixels).sum())
            total += pixels.size
    except StackReadError:
        return float("nan")
    return valid / max(total, 1)


def _list_speckle(stack: Stack) -> tuple[SpeckleRow, ...]:
    rows = []
    for polarisation in stack.polarisations:
        statistics = _measure_speckle(stack, polarisation)
        y, x = statistics.correlation
        looks, source = statistics.looks, statistics.looks_source
        told = find_product_looks(stack.rasters[polarisation])
        if told is not None:
            looks, source = told, f"product (from pixels: {looks:.1f}, {source})"
        rows.append(SpeckleRow(polarisation.upper(), looks, y, x, source))
    return tuple(rows)


def _measure_speckle(stack: Stack, polarisation: str) -> SceneStatistics:
    """Measure looks and correlation, the same for all dates, on readable dates.

    Of dates that are not co-registered: those of the date with the median looks.
    """
    rasters = [r for r in stack.rasters[polarisation] if r is not None]
    samples = []
    for date in choose_dates(len(rasters)):
        with suppress(StackReadError):
            windows = sample_windows(rasters[date].shape)
            pixels = rasters[date].read_each(windows, cache_blocks=False)
            samples.append(sample_speckle(pixels))
    if not samples:
        return SceneStatistics(NOMINAL_LOOKS, looks_source="nominal")
    if warning := describe_doubt(polarisation.upper(), samples):
        warnings.warn(SarstackWarning(warning), stacklevel=2)
    if stack.is_coregistered:
        return combine_samples(samples)[0]
    alone = sorted((combine_samples([s])[0] for s in samples), key=lambda found: found.looks)
    return alone[len(alone) // 2]


def _rasters(stack: Stack) -> list[Raster]:
    return [r for p in stack.polarisations for r in stack.rasters[p] if r is not None]


def _show(time: np.datetime64) -> str:
    return "undated" if np.isnat(time) else str(time.astype("datetime64[s]"))


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
