"""Simulated scenes before the sensor: canonical scenes and landscapes.

Each canonical scene tests one property: flat fields, lines, squares, corner reflectors, relief.
The idea is of Di Martino et al., "Benchmarking framework for SAR despeckling", IEEE TGRS 52(3),
2014.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.evaluation.scores import Line, Mask
from sarstack.speckle.landscapes import LANDS, Reflectivity, simulate_reflectivity

# Seeds of training start with another number: no network was trained on these scenes.
SEED = 77003
SMALLEST_PX = 96
GROUND_DB = -12.0
FLAT_LEVELS_DB = (-20.0, -14.0, -9.0, -3.0)
LINE_CONTRASTS_DB = (-8.0, 8.0)
LINE_WIDTHS_PX = (1, 2, 3, 4, 5)
LINE_SLOPE = 1 / 16  # with a steeper slope the outer lines would leave the scene
SQUARE_CONTRASTS_DB = (-9.0, -3.0, 3.0, 9.0)
POINT_SPACING_PX = 32
POINT_CONTRASTS_DB = (10.0, 30.0)


@dataclass(frozen=True)
class Scene:
    """A scene before the sensor, with the places of its objects.

    Attributes
    ----------
    name : str
        Unique within a suite.
    reflectivity : Reflectivity
        Linear power of diffuse ground and complex amplitude of point targets, shape (y, x).
    flats : tuple of ndarray, shape (y, x), bool
        Flat fields without their margins.
    points : tuple of (int, int)
        Row and column of point targets.
    lines : tuple of Line
        Dark and bright lines on flat ground.
    """

    name: str
    reflectivity: Reflectivity
    flats: tuple[Mask, ...] = ()
    points: tuple[tuple[int, int], ...] = ()
    lines: tuple[Line, ...] = ()


def make_scenes(size_px: int, n_landscapes: int) -> Iterator[Scene]:
    """Make the canonical scenes, then simulated landscapes.

    Parameters
    ----------
    size_px : int
        Side of every scene, 96 or more.
    n_landscapes : int
        Number of landscapes. There are six kinds; the seventh landscape is of the first kind
        again, with another seed.

    Yields
    ------
    Scene
        Each scene has its own seed and does not depend on the number of scenes.

    Raises
    ------
    UsageError
        If `size_px` is too small for ten lines of up to five pixels.
    """
    check_size(size_px)
    yield _flat(size_px)
    yield _lines(size_px)
    yield _squares(size_px)
    yield _points(size_px)
    yield _relief(size_px)
    yield from make_landscapes(size_px, n_landscapes)


def check_size(size_px: int) -> None:
    """Raise a `UsageError` if scenes of this side are too small."""
    if size_px < SMALLEST_PX:
        raise UsageError(
            f"size_px = {size_px}",
            expected=f"{SMALLEST_PX} or more",
            do=f"give --size-px {SMALLEST_PX} or more",
        )


def make_landscapes(size_px: int, n_landscapes: int) -> Iterator[Scene]:
    """Make simulated landscapes, one of each kind in turn."""
    kinds = list(LANDS)
    for index in range(n_landscapes):
        kind, repeat = kinds[index % len(kinds)], index // len(kinds)
        rng = np.random.default_rng([SEED, 0, index])
        name = f"{kind}-{repeat + 1}" if repeat else kind
        yield Scene(name, simulate_reflectivity((size_px, size_px), rng, kind))


def without_points(land_db: NDArray[np.float64]) -> Reflectivity:
    """Convert the power of the ground from dB; there are no point targets."""
    power = (10 ** (land_db / 10)).astype(np.float32)
    return Reflectivity(power, np.zeros(power.shape, np.complex64))


def _flat(size_px: int) -> Scene:
    """Draw four flat fields that touch each other."""
    half = size_px // 2
    margin = min(12, half // 4)
    land_db, flats = np.empty((size_px, size_px)), []
    for index, level_db in enumerate(FLAT_LEVELS_DB):
        y, x = half * (index // 2), half * (index % 2)
        field = slice(y, y + half if y == 0 else size_px), slice(x, x + half if x == 0 else size_px)
        land_db[field] = level_db
        inside = np.zeros(land_db.shape, dtype=bool)
        inside[y + margin : y + half - margin, x + margin : x + half - margin] = True
        flats.append(inside)
    return Scene("flat", without_points(land_db), flats=tuple(flats))


def _lines(size_px: int) -> Scene:
    """Draw parallel lines, dark and bright, 1 to 5 px wide, not parallel to the pixel grid."""
    rows, columns = np.ogrid[:size_px, :size_px]
    land_db, lines = np.full((size_px, size_px), GROUND_DB), []
    kinds = [(width, db) for db in LINE_CONTRASTS_DB for width in LINE_WIDTHS_PX]
    spacing = size_px / len(kinds)
    for index, (width, contrast_db) in enumerate(kinds):
        middle = spacing * (index + 0.5) + LINE_SLOPE * (columns - size_px / 2)
        distance_px = np.abs(rows - middle) / np.hypot(1, LINE_SLOPE)
        inside = distance_px < width / 2
        land_db[inside] += contrast_db
        beside = (distance_px > width / 2 + 1.5) & (distance_px < spacing / 2)
        lines.append(Line(width, inside, beside))
    return Scene("lines", without_points(land_db), lines=tuple(lines))


def _squares(size_px: int) -> Scene:
    """Draw squares from 3 px wide to half their cell, 9 dB darker to 9 dB brighter."""
    land_db, cell = np.full((size_px, size_px), GROUND_DB), size_px // 4
    for row, contrast_db in enumerate(SQUARE_CONTRASTS_DB):
        for column, side in enumerate((3, 6, 12, max(cell // 2, 13))):
            y, x = (cell * place + (cell - side) // 2 for place in (row, column))
            land_db[y : y + side, x : x + side] += contrast_db
    return Scene("squares", without_points(land_db))


def _points(size_px: int) -> Scene:
    """Place corner reflectors on a grid, 10 to 30 dB above flat ground, in random order."""
    rng = np.random.default_rng([SEED, 1])
    reflectivity = without_points(np.full((size_px, size_px), GROUND_DB))
    places = range(POINT_SPACING_PX // 2, size_px - POINT_SPACING_PX // 4, POINT_SPACING_PX)
    points = tuple((y, x) for y in places for x in places)
    peaks_db = GROUND_DB + rng.permutation(np.linspace(*POINT_CONTRASTS_DB, len(points)))
    for (y, x), peak_db in zip(points, peaks_db, strict=True):
        reflectivity.points[y, x] = 10 ** (peak_db / 20) * np.exp(2j * np.pi * rng.random())
    return Scene("points", reflectivity, points=points)


def _relief(size_px: int) -> Scene:
    """Draw fractal relief with layover and shadow, without objects."""
    rng = np.random.default_rng([SEED, 2])
    return Scene("slopes", without_points(GROUND_DB + LANDS["relief"]((size_px, size_px), rng)))
