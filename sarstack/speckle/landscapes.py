"""Simulate the reflectivity of landscapes, without speckle.

Each scene has a land cover (fields, relief, coast, town, forest, calm, even), roads and rivers of
one to five pixels, and point targets. One :class:`numpy.random.Generator` draws everything, so a
seed defines a scene.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]

DARKEST_DB, BRIGHTEST_DB = -32.0, 15.0
BRIGHTEST_POINT_DB = 40.0
POINT_FRACTIONS = (0.0, 0.0002, 0.001)


@dataclass(frozen=True)
class Reflectivity:
    """Reflectivity of a scene, before speckle and the point response of the sensor.

    Attributes
    ----------
    diffuse : ndarray, shape (y, x), float32
        Mean linear power of rough surfaces, whose echo has speckle.
    points : ndarray, shape (y, x), complex64
        Amplitude of single strong scatterers (corners, masts), zero elsewhere. It is the same in
        every look, so their echo has no speckle.
    """

    diffuse: NDArray[np.float32]
    points: NDArray[np.complex64]

    def crop(self, rows: slice, columns: slice) -> "Reflectivity":
        """Return a rectangle of the scene."""
        return Reflectivity(self.diffuse[rows, columns], self.points[rows, columns])


def simulate_reflectivity(
    shape: tuple[int, int],
    rng: np.random.Generator,
    kind: str | None = None,
    steady_fraction: float = 0.5,
    points: float = 1.0,
) -> Reflectivity:
    """Draw a landscape.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    rng : numpy.random.Generator
        Random numbers.
    kind : {"fields", "relief", "coast", "town", "forest", "calm", "even"}, optional
        Land cover. Default: random.
    steady_fraction : float
        Fraction of the strong scatterers without speckle.
    points : float
        Factor on the usual number of strong scatterers outside towns.

    Returns
    -------
    Reflectivity
        Diffuse part between -32 and +15 dB, point targets up to +40 dB above it.
    """
    chosen = kind or str(rng.choice(list(LANDS), p=[0.24, 0.14, 0.12, 0.16, 0.12, 0.12, 0.10]))
    level_db = rng.uniform(-24.0, -2.0)
    land_db = level_db + LANDS[chosen](shape, rng)
    if chosen != "calm" or rng.random() < 0.5:
        land_db = _add_lines(land_db, rng, n_lines=int(rng.integers(0, 6)))
    land_db = np.clip(land_db, DARKEST_DB, BRIGHTEST_DB)
    in_town = chosen == "town"
    fraction = rng.uniform(0.001, 0.012) if in_town else points * rng.choice(POINT_FRACTIONS)
    return _add_points(land_db, rng, float(fraction), steady_fraction)


def reflect_image(
    image_db: NDArray[np.float32],
    shape: tuple[int, int],
    rng: np.random.Generator,
    steady_fraction: float = 0.5,
    points: float = 1.0,
) -> Reflectivity:
    """Cut a landscape from a clean image, with random brightness and contrast.

    Parameters
    ----------
    image_db : ndarray, shape (y, x), float32
        Clean image in dB, without NaN. A small image is mirrored at its edges. Of a large image,
        every n-th row and column may be used; n is drawn at random.
    shape : tuple of int
        Rows and columns of the landscape.
    rng : numpy.random.Generator
        Random numbers.
    steady_fraction : float
        Fraction of the strong scatterers without speckle.
    points : float
        Factor on the usual number of strong scatterers outside towns.

    Returns
    -------
    Reflectivity
        Between -32 and +15 dB, with point targets on at most `points` thousandths of the pixels.
    """
    step = int(rng.integers(1, 1 + max(min(image_db.shape) // min(shape), 1)))
    image_db = image_db[::step, ::step]
    missing = [max(wanted - size, 0) for wanted, size in zip(shape, image_db.shape, strict=True)]
    large = np.pad(image_db, [(n // 2, n - n // 2) for n in missing], mode="symmetric")
    y, x = (int(rng.integers(0, b - a + 1)) for a, b in zip(shape, large.shape, strict=True))
    piece = large[y : y + shape[0], x : x + shape[1]].astype(np.float64)
    level_db = rng.uniform(-24.0, -4.0)
    land_db = level_db + rng.uniform(0.6, 1.5) * (piece - np.median(piece))
    land_db = np.clip(land_db, DARKEST_DB, BRIGHTEST_DB)
    fraction = points * float(rng.choice(POINT_FRACTIONS))
    return _add_points(land_db, rng, fraction, steady_fraction)


def draw_surface(shape: tuple[int, int], rng: np.random.Generator, slope: float) -> FloatArray:
    """Draw a periodic random surface of standard deviation 1, spectrum frequency**-slope."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * radius**-slope
    surface = np.fft.irfft2(spectrum, s=shape)
    return np.asarray(surface / max(float(surface.std()), 1e-12))


def _regions(
    shape: tuple[int, int], rng: np.random.Generator, size_px: float, stretch: float
) -> NDArray[np.intp]:
    """Draw labels of Voronoi polygons of about `size_px`, stretched in one direction."""
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn * np.array([[1.0], [stretch]])
    rows, columns = np.indices(shape)
    where = np.stack([rows.ravel(), columns.ravel()], axis=1) @ turn.T
    count = max(2, round(shape[0] * shape[1] / size_px**2))
    seeds = (rng.random((count, 2)) * shape) @ turn.T
    return np.asarray(cKDTree(seeds).query(where)[1]).reshape(shape)


def _fields(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    labels = _regions(shape, rng, rng.uniform(12, 60), rng.uniform(1, 4))
    count = int(labels.max()) + 1
    level_db = rng.normal(0, rng.uniform(1.0, 5.0), count)
    rough_db = rng.choice([0.0, 0.0, 0.5, 1.5], count)
    texture = gaussian_filter(rng.standard_normal(shape), rng.uniform(0.5, 2.0))
    texture /= max(float(texture.std()), 1e-12)
    return level_db[labels] + rough_db[labels] * texture + 0.5 * draw_surface(shape, rng, 1.5)


def _relief(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    height = draw_surface(shape, rng, rng.uniform(1.6, 2.4))
    slope = np.gradient(height, axis=1) if min(shape) > 1 else np.zeros(shape)
    slope = slope / max(float(slope.std()), 1e-12)
    facing_db = rng.uniform(1.0, 3.0) * slope
    # Layover: where the slope exceeds the look angle, many cells fall into one bright pixel.
    layover_db = rng.uniform(4, 9) * np.clip(slope - 1.6, 0, 1.5)
    shadow_db = -rng.uniform(4, 10) * (slope < -2.2)
    return np.asarray(facing_db + layover_db + shadow_db)


def _coast(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    ground = draw_surface(shape, rng, rng.uniform(1.3, 2.2))
    water = ground < np.quantile(ground, rng.uniform(0.2, 0.8))
    land_db = _fields(shape, rng) if rng.random() < 0.5 else 1.0 * draw_surface(shape, rng, 1.2)
    water_db = -rng.uniform(4, 15) + rng.uniform(0, 1) * draw_surface(shape, rng, 1.5)
    return np.where(water, water_db, land_db)


def _town(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    town_db = _fields(shape, rng)
    texture_db = rng.uniform(1, 3) * gaussian_filter(rng.standard_normal(shape), 0.7)
    town_db = town_db + texture_db
    for _ in range(max(1, shape[0] * shape[1] // int(rng.integers(300, 1200)))):
        height, width = rng.integers(2, 14, 2)
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        wall = slice(x, x + int(rng.integers(1, 3)))
        town_db[y : y + height, x : x + width] += rng.uniform(-3, 4)
        town_db[y : y + height, x + width : x + width + 3] -= rng.uniform(2, 8)
        town_db[y : y + height, wall] += rng.uniform(6, 20)
    return town_db


def _forest(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Draw discs and boxes that cover each other (the dead leaves model), with texture."""
    forest_db = np.zeros(shape)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    spread_db = rng.uniform(1.0, 5.0)
    for _ in range(int(rng.integers(20, 80))):
        radius = 2.0 + rng.pareto(1.5) * 4.0
        y, x = rng.random() * shape[0], rng.random() * shape[1]
        if rng.random() < 0.5:
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        else:
            inside = (abs(rows - y) < radius) & (abs(columns - x) < radius * rng.uniform(0.2, 2))
        forest_db[inside] = rng.normal(0, spread_db)
    return forest_db + rng.uniform(0, 1.2) * draw_surface(shape, rng, rng.uniform(0.3, 1.2))


def _calm(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    return rng.choice([0.0, 0.0, 0.5, 1.5]) * draw_surface(shape, rng, rng.uniform(1.5, 2.5))


def _even(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Draw fields and buildings without texture."""
    labels = _regions(shape, rng, rng.uniform(20, 160), rng.uniform(1, 4))
    even_db = rng.normal(0, rng.uniform(0.5, 5.0), int(labels.max()) + 1)[labels]
    for _ in range(int(rng.integers(0, 16))):
        height, width = rng.integers(2, 30, 2)
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        even_db[y : y + height, x : x + width] += rng.uniform(-9, 9)
    return np.asarray(even_db)


LANDS: dict[str, Callable[[tuple[int, int], np.random.Generator], FloatArray]] = {
    "fields": _fields,
    "relief": _relief,
    "coast": _coast,
    "town": _town,
    "forest": _forest,
    "calm": _calm,
    "even": _even,
}


def _add_lines(land_db: FloatArray, rng: np.random.Generator, n_lines: int) -> FloatArray:
    """Draw roads (straight, darker or brighter) and rivers (winding, dark), 1-5 px wide."""
    land_db = land_db.copy()
    for _ in range(n_lines):
        bend = rng.choice([0.0, 0.02, 0.08])
        path = _draw_path(land_db.shape, rng, bend)
        distance_px = distance_transform_edt(~path)
        inside = distance_px <= (rng.integers(1, 6) - 1) / 2
        contrast_db = rng.choice([-1.0, -1.0, 1.0]) * rng.uniform(3, 13)
        land_db[inside] = float(np.median(land_db)) + contrast_db
    return land_db


def _draw_path(shape: tuple[int, int], rng: np.random.Generator, bend: float) -> NDArray[np.bool_]:
    """Return the mask of a path through the scene that turns by `bend` radians a pixel."""
    steps = 2 * (shape[0] + shape[1])
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    middle = steps // 2
    y, x = np.cumsum(0.7 * np.sin(heading)), np.cumsum(0.7 * np.cos(heading))
    rows = np.round(y - y[middle] + rng.random() * shape[0]).astype(int)
    columns = np.round(x - x[middle] + rng.random() * shape[1]).astype(int)
    seen = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    path = np.zeros(shape, dtype=bool)
    path[rows[seen], columns[seen]] = True
    return path


def _add_points(
    land_db: FloatArray, rng: np.random.Generator, fraction: float, steady_fraction: float
) -> Reflectivity:
    """Add strong scatterers on a fraction of the pixels, with and without speckle."""
    chosen = rng.random(land_db.shape) < fraction
    power = 10 ** (land_db / 10)
    contrast_db = 6 + (BRIGHTEST_POINT_DB - 6) * rng.beta(1.0, 2.0, land_db.shape)
    peak = power * 10 ** (contrast_db / 10)
    steady = chosen & (rng.random(land_db.shape) < steady_fraction)
    phase = np.exp(2j * np.pi * rng.random(land_db.shape))
    points = np.where(steady, np.sqrt(peak) * phase, 0)
    diffuse = np.where(chosen & ~steady, peak, power)
    return Reflectivity(diffuse.astype(np.float32), points.astype(np.complex64))
