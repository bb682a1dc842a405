"""Times of images whose names and tags have no clear time: by all names of the stack together."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sarstack.errors import StackError
from sarstack.readers.image import Image
from sarstack.readers.paths import file_stem, near_folders, public_path
from sarstack.readers.problems import Problems
from sarstack.readers.times import NOT_A_TIME, find_times, find_unclear_times
from sarstack.readers.virtual_raster import list_vrt_sources

# A layout is chosen among several if its dates span this many times less than those of any other.
_MUCH_SHORTER = 10
_Times = list[np.datetime64]


def find_missing_times(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Give times to images without a clear one, as far as folders, sources and names allow.

    Tried in this order, each for all undated images together: the nearest folders, the sources of
    a VRT, layouts such as ``DDMMYYYY`` in the name. What was used is a warning.

    Parameters
    ----------
    images : sequence of Image
    problems : Problems
        Receives an error if the numbers in the names can be dates of several layouts.

    Returns
    -------
    list of Image
        NaT stays where nothing fits.
    """
    undated = [k for k, image in enumerate(images) if np.isnat(image.metadata.time)]
    if not undated:
        return list(images)
    same = [images[k] for k in undated]
    source, times = _find(same, problems)
    if not times:
        return list(images)
    problems.warn(
        f"{len(same)} images have no clear date in name or tags: their dates are read from "
        f"{source}",
        where=[f"{i.name}: {_show(t)}" for i, t in zip(same, times, strict=True)],
        do="if this is wrong, name them with YYYYMMDD or YYYYMMDDTHHMMSS",
    )
    dated = list(images)
    for k, time in zip(undated, times, strict=True):
        dated[k] = replace(images[k], metadata=replace(images[k].metadata, time=time))
    return dated


def _find(images: Sequence[Image], problems: Problems) -> tuple[str, _Times]:
    readers: dict[str, Callable[[Image], np.datetime64]] = {
        "the names of their folders": _time_of_folder,
        "the names of the sources of the VRT": _time_of_sources,
    }
    for source, read in readers.items():
        times = [read(image) for image in images]
        if _distinguish(images, times):
            return source, times
    found = [find_unclear_times(file_stem(image.raster.path)) for image in images]
    fitting = {
        layout: times
        for layout in found[0]
        if all(layout in of_image for of_image in found)
        and _distinguish(images, times := [of_image[layout] for of_image in found])
    }
    return _choose_layout(images, fitting, problems)


def _choose_layout(
    images: Sequence[Image], fitting: dict[str, _Times], problems: Problems
) -> tuple[str, _Times]:
    ranked = sorted(fitting, key=lambda layout: max(fitting[layout]) - min(fitting[layout]))
    if not ranked:
        return "", []
    best = fitting[ranked[0]]
    others = [layout for layout in ranked[1:] if fitting[layout] != best]
    if others:
        shortest = max(best) - min(best)
        second = min(max(fitting[layout]) - min(fitting[layout]) for layout in others)
        if second < _MUCH_SHORTER * max(shortest, np.timedelta64(1, "D")):
            choices = [ranked[0], *others]
            problems.add(
                StackError(
                    f"the dates of {len(images)} images are ambiguous",
                    expected="dates that can be read in one way only",
                    where=[
                        f"{images[0].name}: {_show(fitting[layout][0])} as {layout}"
                        for layout in choices
                    ],
                    do="name them with YYYYMMDD or YYYYMMDDTHHMMSS",
                )
            )
    return f"their names as {ranked[0]}", best


def _distinguish(images: Sequence[Image], times: _Times) -> bool:
    """Return whether all images have a time, and none is that of another of its polarisation."""
    keys = {(i.metadata.polarisation, str(t)) for i, t in zip(images, times, strict=True)}
    return len(keys) == len(images) and not np.isnat(times).any()


def _time_of_folder(image: Image) -> np.datetime64:
    for folder in near_folders(public_path(image.raster.path)):
        if times := find_times(folder):
            return times[0]
    return NOT_A_TIME


def _time_of_sources(image: Image) -> np.datetime64:
    """Return the first time of the sources of a VRT, if all are of one day."""
    path = image.raster.path
    if not path.lower().endswith(".vrt"):
        return NOT_A_TIME
    times = [find_times(file_stem(source))[:1] for source in list_vrt_sources(path)]
    first = [time[0] for time in times if time]
    days = {time.astype("datetime64[D]") for time in first}
    return min(first) if len(days) == 1 and len(first) == len(times) else NOT_A_TIME


def _show(time: np.datetime64) -> str:
    return str(time.astype("datetime64[s]")).removesuffix("T00:00:00")
