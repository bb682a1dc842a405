"""Checks that the images of a stack fit together: grids, dates, polarisations, orbits.

Problems are collected, see :class:`sarstack.readers.problems.Problems`: no function raises.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sarstack.errors import GridMismatchError, StackError
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image
from sarstack.readers.problems import Problems
from sarstack.readers.stack import Date

# Tolerance for coordinates that were rounded when written as text.
_SAME_GRID_PX = 1e-4
_DAY = np.timedelta64(1, "D")
_SAME_PASS = np.timedelta64(60, "s")


def list_grids(
    images: dict[str, dict[np.datetime64, Image]], problems: Problems
) -> tuple[Grid, ...]:
    """Return the grid that all images share; or one for each date, of images in radar geometry.

    Parameters
    ----------
    images : dict of str to dict of datetime64 to Image
        By polarisation, then by time.
    problems : Problems
        Receives an error if grids differ that must not.
    """
    everything = [image for by_time in images.values() for image in by_time.values()]
    times = sorted({time for by_time in images.values() for time in by_time})
    if len(times) == 1 or not all(image.in_radar_geometry for image in everything):
        return (check_grids(everything, problems),)
    of_dates = [[own[time] for own in images.values() if time in own] for time in times]
    return tuple(check_grids(same, problems) for same in of_dates)


def check_grids(images: Sequence[Image], problems: Problems) -> Grid:
    """Compare all grids with the most frequent one, and return that one."""
    grids = Counter(image.grid for image in images)
    reference = grids.most_common(1)[0][0]
    differing = {
        image.name: reason
        for image in images
        if image.grid is not reference and (reason := describe_difference(image.grid, reference))
    }
    if not differing:
        return reference
    count = len(images) - len(differing)
    bursts = _list_bursts(images)
    hint = f" (their names are of {len(bursts)} bursts)" if len(bursts) > 1 else ""
    problems.add(
        GridMismatchError(
            f"{len(differing)} of {len(images)} images are on another grid than the rest{hint}",
            expected=f"the grid of the other {count}: {_describe_grid(reference)}",
            where=[f"{name} ({reason})" for name, reason in differing.items()],
            do=f"despeckle each burst alone, for example sarstack despeckle '{bursts[0]}' -o OUTPUT"
            if len(bursts) > 1
            else "keep one scene in a folder, or resample them to the common grid: "
            + _warp_command(reference),
        )
    )
    return reference


def _list_bursts(images: Sequence[Image]) -> list[str]:
    """Return for each burst of OPERA RTC-S1 names the pattern that finds its images."""
    folders = {i.metadata.burst: Path(i.raster.path).parent for i in images if i.metadata.burst}
    return [str(folder / f"*{burst}*") for burst, folder in sorted(folders.items())]


def describe_difference(grid: Grid, reference: Grid) -> str:
    """Describe in numbers how a grid differs from another; empty if they are the same."""
    parts = []
    if grid.shape != reference.shape:
        parts.append(f"{grid.shape.y} x {grid.shape.x} pixels")
    if grid.crs_wkt != reference.crs_wkt and grid.crs != reference.crs:
        # Origins in different CRS cannot be compared.
        return ", ".join([*parts, f"CRS {grid.crs_name}"])
    if bool(grid.gcps) != bool(reference.gcps):
        parts.append("ground control points in one, an affine in the other")
    elif grid.gcps != reference.gcps:
        parts.append("other ground control points")
    if grid.rpcs != reference.rpcs:
        parts.append("other rational polynomial coefficients (RPC)")
    return ", ".join(parts + _transform_differences(grid, reference))


def _transform_differences(grid: Grid, reference: Grid) -> list[str]:
    height, width = reference.pixel_size
    transform, expected = grid.transform, reference.transform
    parts = []
    for name, i, size in (("x", 2, width), ("y", 5, height)):
        shift = transform[i] - expected[i]
        if abs(shift) > _SAME_GRID_PX * size:
            parts.append(f"origin {name} off by {shift:.6g} = {shift / size:.3g} px")
    # The error of the pixel size is largest at the far corner: compare it there.
    limits = (width / max(reference.shape.x, 1), height / max(reference.shape.y, 1))
    for name, indices, limit in (("x", (0, 3), limits[0]), ("y", (4, 1), limits[1])):
        if any(abs(transform[i] - expected[i]) > _SAME_GRID_PX * limit for i in indices):
            i = indices[0]
            parts.append(f"pixel {name} {transform[i]:.10g} instead of {expected[i]:.10g}")
    return parts


def _describe_grid(grid: Grid) -> str:
    height, width = grid.pixel_size
    origin = f"origin ({grid.transform[2]:.10g}, {grid.transform[5]:.10g})"
    size = f"{grid.shape.y} x {grid.shape.x} pixels of {height:.6g} x {width:.6g}"
    return f"{grid.crs_name}, {size}, {origin}"


def _warp_command(grid: Grid) -> str:
    if grid.gcps or not grid.crs_wkt:
        return "co-register them first"
    height, width = grid.pixel_size
    bounds = " ".join(f"{v:.10g}" for v in grid.bounds)
    return (
        f"gdalwarp -t_srs {grid.crs_name} -te {bounds} -tr {width:.10g} {height:.10g} "
        "-r bilinear IN OUT (with linear values, not decibel)"
    )


def complete_times(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Give each undated image of one numbered series a day, in the order of the numbers.

    A single undated image stays undated. Undated images without an order, or among dated ones,
    are an error.
    """
    undated = [image for image in images if np.isnat(image.metadata.time)]
    most_per_polarisation = max(
        Counter(i.metadata.polarisation for i in undated).values(), default=0
    )
    if not undated or (len(undated) == len(images) and most_per_polarisation == 1):
        return list(images)
    do = "name them with YYYYMMDD or YYYYMMDDTHHMMSS"
    series: dict[str, list[str]] = defaultdict(list)
    for image in undated:
        series[image.series].append(image.name)
    if len(undated) < len(images):
        what = f"{len(undated)} of {len(images)} images have no date in name or tags"
    elif len(series) > 1 or any(i.order is None for i in undated):
        what = f"{len(undated)} images have no date, and their names are of {len(series)} series"
        do += ", or open one series with a pattern such as 'folder/site1_*.npy'"
    else:
        return _number_days(images, problems)
    names = [f"{same[0]} ({len(same)} images)" for same in series.values()]
    expected = "a date in every name or tag, or one numbered series"
    problems.add(StackError(what, expected=expected, where=names, do=do))
    return [image for image in images if not np.isnat(image.metadata.time)]


def _number_days(images: Sequence[Image], problems: Problems) -> list[Image]:
    problems.warn(
        f"{len(images)} images have no date: they are used as a time series in the order of "
        "their numbers, one day apart from 1970-01-01",
        where=[image.name for image in images],
        do="name them with YYYYMMDD if their times are known",
    )
    start = np.datetime64("1970-01-01", "ns")
    return [
        replace(
            image,
            metadata=replace(image.metadata, time=start + (image.order or 0) * _DAY),
            is_numbered=True,
        )
        for image in images
    ]


def complete_polarisations(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Call all images vv, with a warning, if none names a polarisation.

    If only some name none, that is an error.
    """
    unnamed = [image for image in images if not image.metadata.polarisation]
    if not unnamed:
        return list(images)
    if len(unnamed) < len(images):
        problems.add(
            StackError(
                f"{len(unnamed)} of {len(images)} images name no polarisation",
                expected="vv, vh, hh or hv as a word in every file name, band name or tag",
                where=[image.name for image in unnamed],
                do="rename these files, or move them out of the folder",
            )
        )
        return [image for image in images if image.metadata.polarisation]
    problems.warn(
        "no polarisation in names or tags: the images are called vv",
        where=[image.name for image in unnamed],
        do="rename the files (..._vh.tif), or use --bands vh, in Python bands=['vh']",
    )
    return [replace(i, metadata=replace(i.metadata, polarisation="vv")) for i in images]


def choose_latest(
    images: Sequence[Image], problems: Problems
) -> dict[str, dict[np.datetime64, Image]]:
    """Keep one image for each polarisation and time: the one that was processed last.

    Returns
    -------
    dict of str to dict of datetime64 to Image
        By polarisation, then by time. Duplicates without distinct processing times are an error.
    """
    found: dict[tuple[str, np.datetime64], list[Image]] = defaultdict(list)
    for image in images:
        found[image.metadata.polarisation, image.metadata.time].append(image)
    latest: dict[str, dict[np.datetime64, Image]] = defaultdict(dict)
    repeated: list[str] = []
    for (polarisation, time), same in found.items():
        stamps = [image.metadata.processed for image in same]
        if len(same) > 1 and (np.isnat(stamps).any() or len(set(stamps)) < len(same)):
            names = ", ".join(image.name for image in same)
            repeated.append(f"{_format_time(time)} {polarisation.upper()}: {names}")
        elif len(same) > 1:
            same = sorted(same, key=lambda image: image.metadata.processed, reverse=True)
            problems.warn(
                f"{_format_time(time)} {polarisation.upper()} was processed {len(same)} times: "
                f"{same[0].name}, processed last, is used",
                where=[f"left out: {image.name}" for image in same[1:]],
            )
        latest[polarisation][time] = same[0]
    if repeated:
        problems.add(
            StackError(
                f"{len(repeated)} date(s) occur more than once",
                expected="one image for each date and polarisation",
                where=repeated,
                do="keep one of each in the folder, or write the time of day into the names",
            )
        )
    return dict(latest)


def list_dates(
    images: dict[str, dict[np.datetime64, Image]], problems: Problems
) -> tuple[Date, ...]:
    """List the dates in order of time.

    Warns of dates that lack a polarisation, of mixed orbits, of passes split into slices, and
    of images that were already filtered.
    """
    times = sorted({time for by_time in images.values() for time in by_time})
    dates = tuple(_make_date(t, [same[t] for same in images.values() if t in same]) for t in times)
    if not all(image.in_radar_geometry for same in images.values() for image in same.values()):
        _warn_of_dates(images, dates, problems)
    filtered = [i.name for same in images.values() for i in same.values() if i.metadata.filtered]
    if filtered:
        problems.warn(
            f"{len(filtered)} images were already speckle filtered, according to their names",
            where=filtered,
            do="order or process them without a speckle filter",
        )
    return dates


def _warn_of_dates(
    images: dict[str, dict[np.datetime64, Image]], dates: Sequence[Date], problems: Problems
) -> None:
    times = [date.time for date in dates]
    for polarisation, by_time in images.items():
        if missing := [_format_time(t) for t in times if t not in by_time]:
            problems.warn(
                f"{len(missing)} of {len(times)} dates lack {polarisation.upper()}: "
                f"{polarisation.upper()} is nodata there",
                where=missing,
                do="add the missing images, or choose a polarisation that all dates have (--pol)",
            )
    _warn_of_orbits(dates, problems)
    close = [_format_time(a) for a, b in pairwise(times) if b - a < _SAME_PASS]
    if close:
        problems.warn(
            f"{len(close)} dates are less than a minute before the next: slices of one pass",
            where=close,
            do="mosaic the slices of one pass into one image",
        )


def _make_date(time: np.datetime64, images: Sequence[Image]) -> Date:
    metadata = [image.metadata for image in images]
    return Date(
        time,
        next((f.platform for f in metadata if f.platform), ""),
        next((f.orbit_direction for f in metadata if f.orbit_direction), ""),
        next((f.relative_orbit for f in metadata if f.relative_orbit), None),
        is_numbered=any(image.is_numbered for image in images),
    )


def _warn_of_orbits(dates: Sequence[Date], problems: Problems) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for date in dates:
        if date.relative_orbit is not None:
            groups[f"orbit {date.relative_orbit}"].append(_format_time(date.time))
    if len(groups) < 2:
        # Names without an orbit number may have a direction.
        groups.clear()
        for date in dates:
            if date.orbit_direction:
                groups[date.orbit_direction].append(_format_time(date.time))
    if len(groups) > 1:
        problems.warn(
            f"the dates are of {len(groups)} orbits: backscatter depends on the viewing direction, "
            "and means over time mix the orbits",
            where=[f"{label}: {len(same)} dates from {same[0]}" for label, same in groups.items()],
            do="make one stack for each relative orbit",
        )


def _format_time(time: np.datetime64) -> str:
    if np.isnat(time):
        return "undated"
    text = str(time.astype("datetime64[s]"))
    return text.removesuffix("T00:00:00")
