"""Consecutive slices of one pass over the ground, joined into one image without a seam.

The segments that ESA cuts a pass into are processed apart, but on one time axis: the first line
of a slice follows the last line of the slice before.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.grid import Grid, GroundControlPoint
from sarstack.readers.image import Image, Slice
from sarstack.readers.problems import Problems
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.calibrated import CalibratedRaster
from sarstack.readers.source_tags import SourceMetadata
from sarstack.readers.versions import FileVersion, Stamp
from sarstack.tiles import Shape, Window

_SAME_LINE = 0.5
# Of two neighbouring pixels along the range; the slices of a pass begin at the same range.
_SAME_RANGE_PX = 0.25
_TIMES = re.compile(r"(?i)(\d{8}t\d{6}-)(\d{8}t\d{6})")


@dataclass(frozen=True)
class JoinedRaster(Raster):
    """Slices of one polarisation, one below the other.

    Attributes
    ----------
    slices : tuple of Raster
        In order of time. The right side of a narrower one is nodata.
    """

    slices: tuple[Raster, ...] = ()

    @property
    def versions(self) -> Mapping[str, FileVersion | None]:
        """The versions of the files of all slices, by path."""
        return {path: found for own in self.slices for path, found in own.versions.items()}

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as intensity, float32, NaN = nodata."""
        parts = [
            (place, own.read_each(_parts_of(windows, place), cache_blocks=cache_blocks))
            for place, own in self._places()
        ]
        for window in windows:
            joined = np.full(window.shape, np.nan, np.float32)
            for place, pixels in parts:
                common = place.overlap(window)
                if common is not None:
                    joined[common.slices_in(window)] = next(pixels)
            yield joined

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Subtract the noise of each slice from its own despeckled pixels."""
        (y, x), result = self.origin, intensity.copy()
        outer = Window(window.y0 + y, window.y1 + y, window.x0 + x, window.x1 + x)
        for place, own in self._places():
            common = place.overlap(outer)
            if common is not None:
                inside = common.slices_in(outer)
                result[inside] = own.subtract_noise(intensity[inside], _inside(common, place))
        return result

    def read_metadata(self) -> SourceMetadata:
        """Return the tags of all slices; different values of a tag are listed."""
        found: dict[str, list[str]] = defaultdict(list)
        for own in self.slices:
            for name, value in own.read_metadata().tags.items():
                found[name].append(value)
        return SourceMetadata(
            {name: " ".join(dict.fromkeys(values)) for name, values in found.items()}
        )

    def stamp(self) -> list[Stamp]:
        """Return sizes and times of the sources of all slices."""
        return [stamp for own in self.slices for stamp in own.stamp()]

    def identity(self) -> dict[str, Any]:
        """Return all that decides the pixels: what decides those of each slice."""
        slices = [own.identity() for own in self.slices]
        return {"slices": slices, "origin": self.origin, "shape": self.shape}

    def _places(self) -> list[tuple[Window, Raster]]:
        """Return each slice with its window of the joined image."""
        ends = np.cumsum([own.shape.y for own in self.slices]).tolist()
        return [
            (Window(end - own.shape.y, end, 0, own.shape.x), own)
            for end, own in zip(ends, self.slices, strict=True)
        ]


def _parts_of(windows: Sequence[Window], place: Window) -> list[Window]:
    """Return the parts of windows that lie in a place, in pixels of the place."""
    common = (place.overlap(window) for window in windows)
    return [_inside(window, place) for window in common if window is not None]


def _inside(window: Window, place: Window) -> Window:
    y, x = place.y0, place.x0
    return Window(window.y0 - y, window.y1 - y, window.x0 - x, window.x1 - x)


def join_slices(images: Sequence[Image], problems: Problems) -> list[Image]:
    """Join the slices of each pass whose lines follow each other exactly.

    Parameters
    ----------
    images : sequence of Image
        Those without a slice stay as they are.
    problems : Problems
        Receives a warning for slices that are neighbours, but cannot be joined.

    Returns
    -------
    list of Image
        A joined image has name and time of the first slice, the ground control points of all,
        and the width of the widest.
    """
    joined = [image for image in images if image.slice is None]
    products: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        if image.slice is not None:
            products[image.series].append(image)
    in_order = sorted(products.values(), key=_sort_key)
    chain: list[list[Image]] = []
    for product in in_order:
        if chain and not _follows(chain[-1], product, problems):
            joined += _join(chain)
            chain = []
        chain.append(product)
    return joined + _join(chain)


def _sort_key(product: Sequence[Image]) -> tuple[Any, ...]:
    of_first = _slice(product[0])
    return of_first.of_pass, of_first.first_line, product[0].series


def _slice(image: Image) -> Slice:
    assert image.slice is not None
    return image.slice


def _follows(before: Sequence[Image], after: Sequence[Image], problems: Problems) -> bool:
    """Return whether the images of a product continue those of another one."""
    first, second = _slice(before[0]), _slice(after[0])
    if first.of_pass != second.of_pass:
        return False
    n_lines = before[0].grid.shape.y
    elapsed_s = (second.first_line - first.first_line) / np.timedelta64(1, "s")
    gap = elapsed_s / first.interval_s - n_lines
    shift_px = (second.near_range_m - first.near_range_m) / first.spacing_m
    reason = ""
    if {i.metadata.polarisation for i in before} != {i.metadata.polarisation for i in after}:
        reason = "they have other polarisations"
    elif abs(gap) >= _SAME_LINE:
        reason = f"{abs(gap):.1f} lines " + ("are missing" if gap > 0 else "appear twice")
    elif abs(shift_px) > _SAME_RANGE_PX:
        reason = f"they begin {abs(shift_px):.1f} px apart along the range"
    # Those with at least a whole slice between them are no neighbours.
    if reason and abs(gap) < n_lines:
        problems.warn(
            "two slices of one pass are not joined, because their lines do not follow each other",
            where=[f"{before[0].name} and {after[0].name}: {reason}"],
            do="nothing, if you need no image across both",
        )
    return not reason


def _join(products: Sequence[Sequence[Image]]) -> list[Image]:
    if len(products) < 2:
        return [image for product in products for image in product]
    by_polarisation = [{i.metadata.polarisation: i for i in product} for product in products]
    return [_join_images([own[p] for own in by_polarisation]) for p in by_polarisation[0]]


def _join_images(images: Sequence[Image]) -> Image:
    first, last = images[0], images[-1]
    rasters = [
        replace(image.raster, is_first=image is first, is_last=image is last)
        if isinstance(image.raster, CalibratedRaster)
        else image.raster
        for image in images
    ]
    shape = Shape(sum(r.shape.y for r in rasters), max(r.shape.x for r in rasters))
    raster = JoinedRaster(
        rasters[0].path,
        _join_names(rasters[0].stem, rasters[-1].stem),
        shape=shape,
        version=rasters[0].version,
        slices=tuple(rasters),
    )
    starts = np.cumsum([0, *(r.shape.y for r in rasters)]).tolist()
    gcps = tuple(
        GroundControlPoint(point.row + start, point.column, point.x, point.y, point.z)
        for image, start in zip(images, starts, strict=False)
        for point in image.grid.gcps
    )
    grid = Grid(shape, next((i.grid.crs_wkt for i in images if i.grid.crs_wkt), ""), gcps=gcps)
    return replace(first, raster=raster, grid=grid)


def _join_names(first: str, last: str) -> str:
    """Return the name of the first slice with the stop time of the last one."""
    stop = _TIMES.search(last)
    if stop is None or not _TIMES.search(first):
        return f"{first}_to_{last}"
    return _TIMES.sub(lambda times: times[1] + stop[2], first, count=1)


def describe_slices(rasters: Sequence[Raster]) -> str:
    """Return which images were joined of slices, empty if none was."""
    joined = [raster for raster in rasters if isinstance(raster, JoinedRaster)]
    texts = [f"{raster.stem}: {len(raster.slices)} slices of one pass" for raster in joined]
    return ", ".join(texts)
