"""Whether the images of a stack fit together: grids, dates, polarisations, orbits."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sarstack.errors import GridMismatchError, StackError
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image
from sarstack.readers.problems import Problems
from sarstack.readers.stack import Date

# Rounding of coordinates written as text moves a corner by less; anything more is another grid.
_SAME_GRID_PX = 1e-4
_DAY = np.timedelta64(1, "D")
_SAME_PASS = np.timedelta64(60, "s")


def check_same_grid(images: Sequence[Image], problems: Problems) -> Grid:
    """Compare all grids with the most frequent one and return that one."""
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
    bursts = {image.facts.burst for image in images if image.facts.burst}
    hint = f" (the names hold {len(bursts)} bursts)" if len(bursts) > 1 else ""
    problems.add(
        GridMismatchError(
            f"{len(differing)} of {len(images)} images lie on another grid than the rest{hint}",
            expected=f"the grid of the other {count}: {_describe_grid(reference)}",
            where=[f"{name} ({reason})" for name, reason in differing.items()],
            do="keep one scene in a folder, or bring them onto the common grid: "
            + _warp_command(reference),
        )
    )
    return reference


def describe_difference(grid: Grid, reference: Grid) -> str:
    """Say in numbers how a grid differs from another; empty when they are the same."""
    parts = []
    if grid.shape != reference.shape:
        parts.append(f"{grid.shape.y} x {grid.shape.x} pixels")
    if grid.crs_wkt != reference.crs_wkt and grid.crs != reference.crs:
        # Origins in different systems cannot be compared.
        return ", ".join([*parts, f"CRS {grid.crs_name}"])
    if bool(grid.gcps) != bool(reference.gcps):
        parts.append("ground control points in one, an affine in the other")
    elif grid.gcps != reference.gcps:
        parts.append("other ground control points")
    return ", ".join(parts + _transform_differences(grid, reference))


def _transform_differences(grid: Grid, reference: Grid) -> list[str]:
    height, width = reference.pixel_size
    own, common = grid.transform, reference.transform
    parts = []
    for name, i, size in (("x", 2, width), ("y", 5, height)):
        shift = own[i] - common[i]
        if abs(shift) > _SAME_GRID_PX * size:
            parts.append(f"origin {name} off by {shift:.6g} = {shift / size:.3g} px")
    # A tiny error of the pixel size adds up over the scene, so compare the far corner.
    reach = (width / max(reference.shape.x, 1), height / max(reference.shape.y, 1))
    for name, indices, limit in (("x", (0, 3), reach[0]), ("y", (4, 1), reach[1])):
        if any(abs(own[i] - common[i]) > _SAME_GRID_PX * limit for i in indices):
            parts.append(
                f"pixel {name} {own[indices[0]]:.10g} instead of {common[indices[0]]:.10g}"
            )
    return parts


def _describe_grid(grid: Grid) -> str:
    height, width = grid.pixel_size
    origin = f"origin ({grid.transform[2]:.10g}, {grid.transform[5]:.10g})"
    size = f"{grid.shape.y} x {grid.shape.x} pixels of {height:.6g} x {width:.6g}"
    return f"{grid.crs_name}, {size}, {origin}"


def _warp_command(grid: Grid) -> str:
    if grid.gcps or not grid.crs_wkt:
        return "resample them (co-registration) before sarstack"
    height, width = grid.pixel_size
    bounds = " ".join(f"{v:.10g}" for v in grid.bounds)
    return (
        f"gdalwarp -t_srs {grid.crs_name} -te {bounds} -tr {width:.10g} {height:.10g} "
        "-r bilinear IN OUT (linear numbers, never decibel)"
    )


def settle_times(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Give undated images of a series a day each, in order; refuse what cannot be ordered."""
    undated = [image for image in images if np.isnat(image.facts.time)]
    most = max(Counter(i.facts.polarisation for i in undated).values(), default=0)
    if not undated or (len(undated) == len(images) and most == 1):
        return list(images)
    remedy = "name them with YYYYMMDD or YYYYMMDDTHHMMSS"
    series: dict[str, list[str]] = defaultdict(list)
    for image in undated:
        series[image.series].append(image.name)
    if len(undated) < len(images):
        what = f"{len(undated)} of {len(images)} images have no date in name or tags"
    elif len(series) > 1 or any(i.order is None for i in undated):
        what = f"{len(undated)} images have no date, and their names are of {len(series)} series"
        remedy += ", or open one series with a pattern such as 'folder/site1_*.npy'"
    else:
        return _number_days(images, problems)
    names = [f"{own[0]} ({len(own)} images)" for own in series.values()]
    expected = "a date in every name or tag, or one numbered series"
    problems.add(StackError(what, expected=expected, where=names, do=remedy))
    return [image for image in images if not np.isnat(image.facts.time)]


def _number_days(images: Sequence[Image], problems: Problems) -> list[Image]:
    problems.warn(
        f"{len(images)} images have no date: they are taken for a time series in the order of "
        "their numbers, one day apart from 1970-01-01",
        where=[image.name for image in images],
        do="name them with YYYYMMDD to keep their true times",
    )
    start = np.datetime64("1970-01-01", "ns")
    return [
        replace(
            image,
            facts=replace(image.facts, time=start + (image.order or 0) * _DAY),
            is_numbered=True,
        )
        for image in images
    ]


def settle_polarisations(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Take images that name no polarisation for vv, and say so."""
    silent = [image for image in images if not image.facts.polarisation]
    if not silent:
        return list(images)
    if len(silent) < len(images):
        problems.add(
            StackError(
                f"{len(silent)} of {len(images)} images name no polarisation",
                expected="vv, vh, hh or hv as a word in every file name, band name or tag",
                where=[image.name for image in silent],
                do="rename these files, or move them out of the folder",
            )
        )
        return [image for image in images if image.facts.polarisation]
    problems.warn(
        "no polarisation in names or tags: the images are called vv",
        where=[image.name for image in silent],
        do="rename the files (..._vh.tif), or say it: --bands vh, in Python bands=['vh']",
    )
    return [replace(i, facts=replace(i.facts, polarisation="vv")) for i in images]


def settle_duplicates(
    images: Sequence[Image], problems: Problems
) -> dict[str, dict[np.datetime64, Image]]:
    """Keep one image for each polarisation and time: the one processed last, if that is known."""
    found: dict[tuple[str, np.datetime64], list[Image]] = defaultdict(list)
    for image in images:
        found[image.facts.polarisation, image.facts.time].append(image)
    settled: dict[str, dict[np.datetime64, Image]] = defaultdict(dict)
    repeated: list[str] = []
    for (polarisation, time), same in found.items():
        stamps = [image.facts.processed for image in same]
        if len(same) > 1 and (np.isnat(stamps).any() or len(set(stamps)) < len(same)):
            names = ", ".join(image.name for image in same)
            repeated.append(f"{_show(time)} {polarisation.upper()}: {names}")
        elif len(same) > 1:
            same = sorted(same, key=lambda image: image.facts.processed, reverse=True)
            problems.warn(
                f"{_show(time)} {polarisation.upper()} was processed {len(same)} times: "
                f"{same[0].name}, processed last, is used",
                where=[f"left out: {image.name}" for image in same[1:]],
            )
        settled[polarisation][time] = same[0]
    if repeated:
        problems.add(
            StackError(
                f"{len(repeated)} date(s) occur more than once",
                expected="one image for each date and polarisation",
                where=repeated,
                do="keep one of each in the folder, or write the time of day into the names",
            )
        )
    return dict(settled)


def settle_dates(
    images: dict[str, dict[np.datetime64, Image]], problems: Problems
) -> tuple[Date, ...]:
    """List the dates in order, and warn of mixed polarisations, orbits, and split passes."""
    times = sorted({time for own in images.values() for time in own})
    for polarisation, own in images.items():
        if missing := [_show(t) for t in times if t not in own]:
            problems.warn(
                f"{len(missing)} of {len(times)} dates lack {polarisation.upper()}: "
                "they are nodata in it",
                where=missing,
                do="complete the stack, or choose what all dates have (--pol)",
            )
    dates = tuple(_make_date(t, [own[t] for own in images.values() if t in own]) for t in times)
    _warn_of_orbits(dates, problems)
    close = [_show(a) for a, b in pairwise(times) if b - a < _SAME_PASS]
    if close:
        problems.warn(
            f"{len(close)} dates follow another within a minute: slices of one pass",
            where=close,
            do="mosaic the slices of one pass into one image",
        )
    filtered = [i.name for own in images.values() for i in own.values() if i.facts.filtered]
    if filtered:
        problems.warn(
            f"{len(filtered)} images were already speckle filtered, says their name",
            where=filtered,
            do="order or process them without a speckle filter",
        )
    return dates


def _make_date(time: np.datetime64, images: Sequence[Image]) -> Date:
    facts = [image.facts for image in images]
    return Date(
        time,
        next((f.platform for f in facts if f.platform), ""),
        next((f.orbit_direction for f in facts if f.orbit_direction), ""),
        next((f.relative_orbit for f in facts if f.relative_orbit), None),
        is_numbered=any(image.is_numbered for image in images),
    )


def _warn_of_orbits(dates: Sequence[Date], problems: Problems) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for date in dates:
        if date.relative_orbit is not None:
            groups[f"orbit {date.relative_orbit}"].append(_show(date.time))
    if len(groups) < 2:
        # Names that tell no orbit may still tell that both directions are mixed.
        groups.clear()
        for date in dates:
            if date.orbit_direction:
                groups[date.orbit_direction].append(_show(date.time))
    if len(groups) > 1:
        problems.warn(
            f"the dates are of {len(groups)} orbits: the same field looks different from each, "
            "and averages over time mix them",
            where=[f"{label}: {len(own)} dates from {own[0]}" for label, own in groups.items()],
            do="make one stack for each relative orbit",
        )


def _show(time: np.datetime64) -> str:
    if np.isnat(time):
        return "undated"
    text = str(time.astype("datetime64[s]"))
    return text.removesuffix("T00:00:00")
