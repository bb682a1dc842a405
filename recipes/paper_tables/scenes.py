"""Scenes like those of the paper, simulated with their truth, and scenes of a user's stack."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.evaluation.real_stacks import open_cube
from sarstack.labels.statistics import temporal_mean
from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics, measure_scene

Image = NDArray[np.float32]

GRD = SpeckleSimulator(4.4, (0.65, 0.65))
N_POINTS = 30
# With fewer dates, their mean has too much speckle to be a reference.
FEWEST_DATES = 10


@dataclass(frozen=True)
class Kind:
    """A scene of the paper, and what stands for it here.

    Attributes
    ----------
    name : str
        In the tables of the paper.
    land : str
        Kind of the simulated landscape.
    mean_db : float
        Mean backscatter of the ground.
    sensor : SpeckleSimulator
        Looks and correlation of the speckle.
    seed : int
    points : float
        Factor on the usual number of point targets.
    """

    name: str
    land: str
    mean_db: float
    sensor: SpeckleSimulator
    seed: int
    points: float = 0.0


# PSNR - DG of Table IV is the PSNR of the input. From it follows the level of the first two.
KINDS = (
    Kind("Indonesia", "forest", -13.3, GRD, 1),
    Kind("DRC", "forest", -13.3, GRD, 2),
    Kind("NL-Utrecht", "town", -9.0, GRD, 3, points=1.0),
    Kind("Japan", "relief", -12.0, SpeckleSimulator(2.0, (0.4, 0.4)), 4),
    Kind("NL-Flevoland", "fields", -16.0, GRD, 5),
    Kind("Germany", "fields", -10.0, SpeckleSimulator(1.0, (0.3, 0.3)), 6, points=1.0),
)


@dataclass(frozen=True)
class Scene:
    """A scene of one date.

    Attributes
    ----------
    name : str
    noisy : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    reference : ndarray, shape (y, x), float32, or None
        The exact truth of a simulated scene; the mean of the other dates of a real stack.
    statistics : SceneStatistics
        Looks and correlation of the speckle: true ones, or measured in a real stack. Its 98th
        percentile is that by which sarstack divides the input of `despecknet-paper`.
    points : ndarray, shape (n, 2), int
        Rows and columns of the strongest point targets.
    """

    name: str
    noisy: Image
    reference: Image | None
    statistics: SceneStatistics
    points: NDArray[np.int64]


def simulate_scene(kind: Kind, size_px: int) -> Scene:
    """Simulate one date of a scene; the same on every machine."""
    land, rng = _draw_land(kind, size_px)
    places = np.argwhere(land.points)
    order = np.argsort(-np.abs(land.points[tuple(places.T)]), kind="stable")
    inside = places[order][((places[order] > 0) & (places[order] < size_px - 1)).all(axis=1)]
    sensor, noisy = kind.sensor, kind.sensor.observe(land, rng)
    bright = float(np.percentile(noisy, 98))
    statistics = SceneStatistics(sensor.looks, sensor.correlation, bright)
    return Scene(kind.name, noisy, sensor.expect(land), statistics, inside[:N_POINTS])


def simulate_dates(kind: Kind, size_px: int, n_dates: int) -> Image:
    """Simulate further dates of a scene without change, shape (time, y, x), with other speckle."""
    land, _ = _draw_land(kind, size_px)
    rng = np.random.default_rng([kind.seed, 1])
    return np.stack([kind.sensor.observe(land, rng) for _ in range(n_dates)])


def _draw_land(kind: Kind, size_px: int) -> tuple[Reflectivity, np.random.Generator]:
    rng = np.random.default_rng([kind.seed, 0])
    land = simulate_reflectivity((size_px, size_px), rng, kind.land, points=kind.points)
    factor = np.float32(10 ** (kind.mean_db / 10) / land.diffuse.mean())
    return Reflectivity(land.diffuse * factor, land.points * np.sqrt(factor)), rng


def read_scenes(path: str, size_px: int) -> list[Scene]:
    """Read the middle of the middle date of each polarisation of a stack.

    The reference is the mean of all other dates. The paper's mean contains the tested date, too,
    which makes the errors of a method smaller that keeps speckle.
    """
    cube = open_cube(path, None)
    rows, columns = ((cube.sizes[name] - min(size_px, cube.sizes[name])) // 2 for name in "yx")
    part = cube.isel(y=slice(rows, rows + size_px), x=slice(columns, columns + size_px))
    scenes = []
    for polarisation, array in part.data_vars.items():
        dates = np.asarray(array.values, np.float32)
        middle = len(dates) // 2
        others = np.delete(dates, middle, axis=0)
        reference = temporal_mean(others) if len(dates) >= FEWEST_DATES else None
        scenes.append(
            Scene(f"stack {str(polarisation).upper()}", dates[middle], reference,
                  measure_scene(dates)[middle], np.empty((0, 2), np.int64))
        )  # fmt: skip
    return scenes
