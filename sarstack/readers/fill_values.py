"""Fill values that no tag declares: numbers at the border of an image that are no backscatter.

Each image is judged by its own pixels, and by the same ones whatever the other images are. Zero in
linear and amplitude data, and decibel outside the possible range, need no search: they are nodata
in every image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import Scale
from sarstack.readers.image import Image
from sarstack.readers.packing import possible_range
from sarstack.readers.problems import Problems
from sarstack.readers.samples import MIN_REPEATED_PX, Sample

# A number that may be backscatter is reported if it fills this part of the border.
_SUSPICIOUS_SHARE = 0.05
_MIN_REST = 16


@dataclass(frozen=True)
class FillValues:
    """Numbers after gain and offset that mean nodata in one image; see ``Raster``."""

    undeclared: tuple[float, ...] = ()
    lowest: float = -np.inf


def find_fill_values(
    images: Sequence[Image], samples: Sequence[Sample], scale: Scale, problems: Problems
) -> list[FillValues]:
    """Find the undeclared fill values of each image.

    Parameters
    ----------
    images : sequence of Image
    samples : sequence of Sample
        One for each image.
    scale : {"linear", "amplitude", "db"}
        Scale of the numbers.
    problems : Problems
        Receives warnings that name the images with fill values.

    Returns
    -------
    list of FillValues
        One for each image. ``undeclared`` stays empty where the file declares its nodata value.
    """
    used: list[str] = []
    kept: list[str] = []
    found = []
    for image, whole in zip(images, samples, strict=True):
        sample = whole.own
        rest = sample.without(far_fill_values(sample)).valid
        lowest = _lowest_possible(rest, scale)
        is_declared = bool(image.raster.declared_nodata)
        undeclared = []
        for number, share in sample.repeated.items():
            if number == 0 and scale != "db":
                continue  # nodata in any case
            is_impossible = number <= max(lowest, possible_range(scale)[0])
            is_fill = _is_fill(number, sample, rest, image.raster.offset, scale)
            text = f"{image.name}: {number:.6g} in {share:.0%} of its border"
            if is_impossible or (is_fill and not is_declared):
                used.append(text)
                undeclared += [] if is_declared else [number]
            elif share >= _SUSPICIOUS_SHARE and (is_fill or _is_continuous(rest)):
                kept.append(text)
        if scale == "db" and not is_declared and 0.0 not in undeclared and _is_continuous(rest):
            undeclared.append(0.0)
        found.append(FillValues(tuple(undeclared), lowest))
    _warn(used, kept, scale, problems)
    return found


def far_fill_values(sample: Sample) -> list[float]:
    """Return the repeated numbers of a border that are far below all others, on any scale."""
    repeated = list(sample.repeated)
    rest = sample.without(repeated).valid
    return [number for number in repeated if _is_far_below(number, rest)]


def _is_fill(
    number: float, sample: Sample, rest: NDArray[np.float64], offset: float, scale: Scale
) -> bool:
    is_stored_zero = offset != 0 and number == np.float32(offset)
    if is_stored_zero or (scale == "db" and number == 0):
        return _is_continuous(rest) or _stands_out(number, sample)
    return scale != "amplitude" and _is_far_below(number, rest)


def _stands_out(number: float, sample: Sample) -> bool:
    """Return whether a number is far more frequent than the next smaller and the next larger.

    Among rounded numbers, every number is repeated.
    """
    for values, counts in sample.count_numbers():
        i = int(np.searchsorted(values, number))
        if i < values.size and values[i] == number:
            beside = [*counts[max(i - 1, 0) : i], *counts[i + 1 : i + 2]]
            if counts[i] > 4 * max(beside, default=0) + MIN_REPEATED_PX:
                return True
    return False


def _is_far_below(number: float, rest: NDArray[np.float64]) -> bool:
    if rest.size < _MIN_REST:
        return False
    low, median = np.percentile(rest, [1, 50])
    return bool(number < 0 and number < low - 3 * (median - low))


def _is_continuous(rest: NDArray[np.float64]) -> bool:
    """Return whether numbers are so fine that equal ones are rare, unlike rounded numbers."""
    return rest.size >= _MIN_REST and np.unique(rest).size > rest.size // 2


def _lowest_possible(rest: NDArray[np.float64], scale: Scale) -> float:
    """Return a bound below which no intensity of an image can be.

    Where thermal noise was subtracted, intensity can be negative, but by no more than the noise,
    which is darker than most of the scene.
    """
    positive = rest[rest > 0]
    if scale != "linear" or positive.size < _MIN_REST:
        return -np.inf
    return -max(1.0, 10 * float(np.percentile(positive, 99)))


def _warn(used: list[str], kept: list[str], scale: Scale, problems: Problems) -> None:
    do = "write the nodata value into the files, for example gdal_edit.py -a_nodata NUMBER"
    if used:
        problems.warn(
            f"{len(used)} fill values that no tag declares are used as nodata: they are repeated, "
            f"and are no {'decibel' if scale == 'db' else scale} backscatter",
            where=used,
            do=do,
        )
    if kept:
        problems.warn(
            f"{len(kept)} numbers fill parts of a border, and are used as backscatter",
            where=kept,
            do="if they are nodata: " + do,
        )
