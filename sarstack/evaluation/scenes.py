"""What the benchmark looks at: canonical scenes that ask one question each, and landscapes.

Canonical scenes follow the idea of Di Martino et al., "Benchmarking framework for SAR
despeckling", IEEE TGRS 52(3), 2014: flat fields, lines, squares, corner reflectors, relief.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.speckle.landscapes import LANDS, Reflectivity, simulate_reflectivity

Mask = NDArray[np.bool_]

# Seeds of training are small lists that begin otherwise: no scene here was ever trained on.
SEED = 77003
SMALLEST_PX = 96
GROUND_DB = -12.0
FLAT_LEVELS_DB = (-20.0, -14.0, -9.0, -3.0)
LINE_CONTRASTS_DB = (-8.0, 8.0)
LINE_WIDTHS_PX = (1, 2, 3, 4, 5)
LINE_SLOPE = 1 / 16  # steeper, the outer lines would leave the scene
SQUARE_CONTRASTS_DB = (-9.0, -3.0, 3.0, 9.0)
POINT_SPACING_PX = 32
POINT_CONTRASTS_DB = (10.0, 30.0)


class Line(NamedTuple):
    """A line of known width: where it is, and the ground beside it."""

    width_px: int
    inside: Mask
    beside: Mask


@dataclass(frozen=True)
class Scene:
    """A scene before the sensor, and what is known about places in it.

    Attributes
    ----------
    name : str
        Unique within a benchmark.
    reflectivity : Reflectivity
        Diffuse power and steady points, shape (y, x).
    flats : tuple of ndarray, shape (y, x), bool
        Insides of flat fields, away from their edges.
    points : tuple of (int, int)
        Row and column of single strong scatterers.
    lines : tuple of Line
        Dark and bright lines on flat ground.
    """

    name: str
    reflectivity: Reflectivity
    flats: tuple[Mask, ...] = ()
    points: tuple[tuple[int, int], ...] = ()
    lines: tuple[Line, ...] = ()


def make_scenes(size_px: int, n_natural: int) -> Iterator[Scene]:
    """Make the canonical scenes, then landscapes of all kinds in turn.

    Parameters
    ----------
    size_px : int
        Side of every scene, 96 or more.
    n_natural : int
        Number of landscapes; from the seventh on, kinds come again with other seeds.

    Yields
    ------
    Scene
        The same ones, whichever come before: each has its own seed.

    Raises
    ------
    UsageError
        If `size_px` is too small for lines of five pixels side by side.
    """
    if size_px < SMALLEST_PX:
        raise UsageError(
            f"size_px = {size_px}",
            expected=f"{SMALLEST_PX} or more",
            do="choose larger scenes",
        )
    yield _flat(size_px)
    yield _lines(size_px)
    yield _squares(size_px)
    yield _points(size_px)
    yield _relief(size_px)
    yield from make_landscapes(size_px, n_natural)


def make_landscapes(size_px: int, count: int) -> Iterator[Scene]:
    """Make simulated landscapes, one of each kind in turn."""
    kinds = list(LANDS)
    for index in range(count):
        kind, again = kinds[index % len(kinds)], index // len(kinds)
        rng = np.random.default_rng([SEED, 0, index])
        name = f"{kind}-{again + 1}" if again else kind
        yield Scene(name, simulate_reflectivity((size_px, size_px), rng, kind))


def _ground(land_db: NDArray[np.float64]) -> Reflectivity:
    power = (10 ** (land_db / 10)).astype(np.float32)
    return Reflectivity(power, np.zeros(power.shape, np.complex64))


def _flat(size_px: int) -> Scene:
    """Lay four flat fields, edge to edge."""
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
    return Scene("flat", _ground(land_db), flats=tuple(flats))


def _lines(size_px: int) -> Scene:
    """Draw parallel lines of one to five pixels, dark and bright, off the axes of the grid."""
    rows, columns = np.ogrid[:size_px, :size_px]
    land_db, lines = np.full((size_px, size_px), GROUND_DB), []
    kinds = [(width, db) for db in LINE_CONTRASTS_DB for width in LINE_WIDTHS_PX]
    spacing = size_px / len(kinds)
    for index, (width, contrast_db) in enumerate(kinds):
        middle = spacing * (index + 0.5) + LINE_SLOPE * (columns - size_px / 2)
        away_px = np.abs(rows - middle) / np.hypot(1, LINE_SLOPE)
        inside = away_px < width / 2
        land_db[inside] += contrast_db
        beside = (away_px > width / 2 + 1.5) & (away_px < spacing / 2)
        lines.append(Line(width, inside, beside))
    return Scene("lines", _ground(land_db), lines=tuple(lines))


def _squares(size_px: int) -> Scene:
    """Draw squares from three pixels to half their cell, from 9 dB darker to 9 dB brighter."""
    land_db, cell = np.full((size_px, size_px), GROUND_DB), size_px // 4
    for row, contrast_db in enumerate(SQUARE_CONTRASTS_DB):
        for column, side in enumerate((3, 6, 12, max(cell // 2, 13))):
            y, x = (cell * place + (cell - side) // 2 for place in (row, column))
            land_db[y : y + side, x : x + side] += contrast_db
    return Scene("squares", _ground(land_db))


def _points(size_px: int) -> Scene:
    """Place a grid of corner reflectors, 10 to 30 dB above flat ground, their order shuffled."""
    rng = np.random.default_rng([SEED, 1])
    scene = _ground(np.full((size_px, size_px), GROUND_DB))
    places = range(POINT_SPACING_PX // 2, size_px - POINT_SPACING_PX // 4, POINT_SPACING_PX)
    points = tuple((y, x) for y in places for x in places)
    peaks_db = GROUND_DB + rng.permutation(np.linspace(*POINT_CONTRASTS_DB, len(points)))
    for (y, x), peak_db in zip(points, peaks_db, strict=True):
        scene.points[y, x] = 10 ** (peak_db / 20) * np.exp(2j * np.pi * rng.random())
    return Scene("points", scene, points=points)


def _relief(size_px: int) -> Scene:
    """Raise fractal relief with layover and shadow, nothing on it."""
    rng = np.random.default_rng([SEED, 2])
    return Scene("slopes", _ground(GROUND_DB + LANDS["relief"]((size_px, size_px), rng)))
