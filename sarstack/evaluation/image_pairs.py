"""Find the input image of each result, and the reference: by file name, else by date."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import GridMismatchError, StackError
from sarstack.evaluation.image_scores import ImagePair
from sarstack.readers import index_stack
from sarstack.readers.consistency import describe_difference
from sarstack.readers.grid import Grid
from sarstack.readers.paths import file_name, public_path
from sarstack.readers.raster import Raster
from sarstack.readers.scales import GivenScale, parse_scale
from sarstack.readers.stack import Stack
from sarstack.speckle.samples import sample_speckle
from sarstack.speckle.statistics import combine_samples
from sarstack.tiles import Window, sample_windows

MAX_OTHERS = 6
LOGGER = logging.getLogger("sarstack")
# Corners may differ by this part of a pixel: coordinates are rounded in some formats.
_CORNER_TOLERANCE_PX = 0.05


@dataclass(frozen=True)
class Comparison:
    """A result, its input and what is known of them.

    Attributes
    ----------
    method : str
        Name of the method in the tags of the result, else its folder or file.
    polarisation, date : str
        The date is ISO 8601, or empty.
    noisy, despeckled : Raster
    reference : Raster or None
    others : tuple of Raster
        Other dates of the input, on the same grid; at most six.
    tags : dict of str to str
        Of the result.
    """

    method: str
    polarisation: str
    date: str
    noisy: Raster
    despeckled: Raster
    reference: Raster | None
    others: tuple[Raster, ...]
    tags: dict[str, str]

    def open(self, looks: float | None = None) -> ImagePair:
        """Return the images, with looks and correlation of the speckle of the input.

        Looks that are not given are those in the tags of the result, which were measured between
        dates where there are some; else they are measured in this image.
        """
        told = None if looks else _read_speckle(self.tags)
        if told is None:
            samples = sample_speckle(self.noisy.read_each(sample_windows(self.noisy.shape)))
            statistics = combine_samples([samples], looks=looks)[0]
            told = statistics.looks, statistics.correlation
        reference = None if self.reference is None else self.reference.read
        others = self.read_others if self.others else None
        return ImagePair(self.noisy.read, self.despeckled.read, self.noisy.shape, *told, reference,
                         others)  # fmt: skip

    def read_others(self, window: Window) -> NDArray[np.float32]:
        """Return the mean of the other dates; NaN where none has data."""
        images = np.stack([raster.read(window) for raster in self.others])
        count = np.isfinite(images).sum(axis=0)
        mean = np.nansum(images, axis=0) / np.where(count, count, np.nan)
        return np.asarray(mean, np.float32)


def find_comparisons(
    noisy: str,
    results: Sequence[str],
    reference: str | None = None,
    *,
    scale: str | None = None,
    result_scale: str | None = None,
    reference_scale: str | None = None,
) -> list[Comparison]:
    """Pair each despeckled image with its input.

    Parameters
    ----------
    noisy : str
        The input: a stack or an image, as for `despeckle`.
    results : sequence of str
        Folders or images.
    reference : str, optional
        Images without speckle, on the same grid: one for all dates, or one a date.
    scale : str, optional
        Scale of the numbers in `noisy`.
    result_scale : str, optional
        Scale of the numbers in results whose tags and names declare none.
    reference_scale : str, optional
        Scale of the numbers in `reference`.

    Raises
    ------
    StackError
        If a result has no input, or lies on another grid.
    ScaleError
        If a scale is unclear, or does not fit the numbers.
    """
    inputs = index_stack(noisy, scale=scale, skip_unreadable=True)
    of_reference = GivenScale(parse_scale(reference_scale), "--reference-scale")
    references = None if reference is None else index_stack(reference, scale=of_reference)
    of_results = GivenScale(parse_scale(result_scale), "--result-scale", only_undeclared=True)
    found: list[Comparison] = []
    for path in results:
        stack = index_stack(path, scale=of_results)
        named: set[str] = {comparison.method for comparison in found}
        for comparison in _pair(inputs, stack, references):
            taken = comparison.method in named
            label = f"{comparison.method} ({Path(path).name})" if taken else comparison.method
            found.append(replace(comparison, method=label))
    return found


def _pair(inputs: Stack, results: Stack, references: Stack | None) -> Iterator[Comparison]:
    for polarisation in results.polarisations:
        for layer, raster in enumerate(results.rasters[polarisation]):
            if raster is None:
                continue
            place = _find_input(inputs, raster, polarisation, results, layer)
            source = inputs.rasters[place[0]][place[1]]
            assert source is not None
            _check_grid(inputs.grid_at(place[1]), results.grid_at(layer), source, raster)
            tags = raster.read_metadata().tags
            yield Comparison(
                tags.get("SPECKLE_FILTER") or file_name(public_path(results.path)),
                place[0], inputs.dates[place[1]].timestamp, source, raster,
                _find_reference(references, inputs, place), _find_others(inputs, place), tags,
            )  # fmt: skip


def _find_input(
    inputs: Stack, raster: Raster, polarisation: str, results: Stack, layer: int
) -> tuple[str, int]:
    """Return polarisation and date of the input: by name, else by time and polarisation."""
    images = [(p, i, image) for p, own in inputs.rasters.items() for i, image in enumerate(own)
              if image is not None]  # fmt: skip
    by_name = [(len(image.stem), p, i) for p, i, image in images
               if raster.stem.startswith(f"{image.stem}_")]  # fmt: skip
    if by_name:
        _, found, date = max(by_name)
        return found, date
    time = results.dates[layer].time
    by_time = [(p, i) for p, i, _ in images
               if p == polarisation and inputs.dates[i].time == time]  # fmt: skip
    alone = [(p, i) for p, i, _ in images if p == polarisation]
    if not by_time and len(alone) == 1 and results.n_dates == 1:
        by_time = alone
    if not by_time:
        raise StackError(
            f"{file_name(public_path(raster.path))} has no input in {public_path(inputs.path)}",
            expected="a result whose name begins with that of its input, or an image of the same "
            "date and polarisation",
            where=[file_name(public_path(image.path)) for _, _, image in images[:5]],
            do="give the stack from which the result was made",
        )
    return by_time[0]


def _find_reference(
    references: Stack | None, inputs: Stack, place: tuple[str, int]
) -> Raster | None:
    if references is None:
        return None
    polarisation, layer = place
    own = references.rasters.get(polarisation, ())
    if len(references.rasters) == 1 and not own:
        own = next(iter(references.rasters.values()))
    times = [date.time for date in references.dates]
    index = times.index(inputs.dates[layer].time) if inputs.dates[layer].time in times else 0
    raster = own[index] if own and (len(own) == 1 or index or len(own) == inputs.n_dates) else None
    if raster is None:
        raise StackError(
            f"the reference {public_path(references.path)} has no image for {polarisation.upper()}"
            f" {inputs.dates[layer].timestamp}",
            expected="one reference for all dates, or one a date, for each polarisation",
            do="give such a reference, or leave out --reference",
        )
    _check_grid(inputs.grid_at(layer), references.grid_at(index), raster, raster)
    return raster


def _find_others(inputs: Stack, place: tuple[str, int]) -> tuple[Raster, ...]:
    """Return the nearest other dates."""
    polarisation, layer = place
    if not inputs.is_coregistered:
        return ()
    others = [(abs(i - layer), raster) for i, raster in enumerate(inputs.rasters[polarisation])
              if raster is not None and i != layer]  # fmt: skip
    return tuple(raster for _, raster in sorted(others, key=lambda pair: pair[0])[:MAX_OTHERS])


def _check_grid(expected: Grid, found: Grid, source: Raster, raster: Raster) -> None:
    if expected.shape == found.shape and _same_place(expected, found):
        if expected.is_georeferenced and not found.is_georeferenced:
            LOGGER.warning("%s has no georeference: taken to be on the grid of its input",
                           file_name(public_path(raster.path)))  # fmt: skip
        return
    raise GridMismatchError(
        f"{file_name(public_path(raster.path))} is not on the grid of its input",
        expected=f"{expected.shape.y} x {expected.shape.x} px at the same place, as "
        f"{file_name(public_path(source.path))}",
        where=describe_difference(found, expected),
        do="give the input from which the result was made (not resampled, not cropped)",
    )


def _same_place(expected: Grid, found: Grid) -> bool:
    """Return whether the corners of two grids of one shape are the same.

    Only grids with an affine transform can be compared. CRS are compared by their EPSG codes:
    formats write a CRS without a code in different words.
    """
    if not all(g.is_georeferenced and not g.gcps and not g.rpcs for g in (expected, found)):
        return True
    if expected.crs_wkt and found.crs_wkt:
        codes = {expected.crs.to_epsg(), found.crs.to_epsg()} - {None}
        if len(codes) > 1:
            return False
    limit = _CORNER_TOLERANCE_PX * max(min(expected.pixel_size), 1e-300)
    return bool(np.abs(_corners(expected) - _corners(found)).max() <= limit)


def _corners(grid: Grid) -> NDArray[np.float64]:
    a, b, c, d, e, f = grid.transform
    return np.array([
        (a * x + b * y + c, d * x + e * y + f) for y in (0, grid.shape.y) for x in (0, grid.shape.x)
    ])  # fmt: skip


def _read_speckle(tags: dict[str, str]) -> tuple[float, tuple[float, float]] | None:
    """Return looks and correlation in the tags of a result of sarstack."""
    try:
        along_y, along_x = map(float, tags["SPECKLE_CORRELATION"].split())
        looks = float(tags["ENL_BEFORE"])
    except (KeyError, ValueError):
        return None
    return (looks, (along_y, along_x)) if looks > 0 else None
