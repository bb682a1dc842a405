"""Simulate stacks with changes: mown fields, floods, new buildings, ships.

With them one can test that a multi-temporal method does not copy a change to other dates.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import SpeckleSimulator

FloatCube = NDArray[np.float32]
Gain = NDArray[np.float64]

# Events in 256 x 256 pixels.
N_FIELDS, N_FLOODS, N_BUILDINGS, N_SHIPS = 5, 2, 6, 12
DRIFT_DB = 0.3
CHANGED_DB = 1.0


class ChangingStack(NamedTuple):
    """A simulated stack with its truth and its changes.

    Attributes
    ----------
    noisy, truth : ndarray, shape (time, y, x), float32
        Linear power: observation and exact expectation.
    unchanged : ndarray, shape (time, y, x), float32
        Expectation of each date without change: the median over dates, with the brightness of
        the date.
    """

    noisy: FloatCube
    truth: FloatCube
    unchanged: FloatCube

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Mask of the pixels whose truth differs from `unchanged` by more than 1 dB."""
        return np.abs(10 * np.log10(self.truth / self.unchanged)) > CHANGED_DB


def simulate_changes(
    n_dates: int, size_px: int, kind: str, simulator: SpeckleSimulator, rng: np.random.Generator
) -> ChangingStack:
    """Simulate one landscape on many dates, with changes.

    Parameters
    ----------
    n_dates : int
        Number of dates, three or more.
    size_px : int
        Width and height of the scene.
    kind : str
        Land cover, see :func:`sarstack.speckle.landscapes.simulate_reflectivity`.
    simulator : SpeckleSimulator
        The sensor.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    ChangingStack
    """
    land = simulate_reflectivity((size_px, size_px), rng, kind)
    gain_db = draw_gains(n_dates, size_px, rng)
    drift = 10 ** (rng.normal(0, DRIFT_DB, (n_dates, 1, 1)) / 10)
    gain = (10 ** (gain_db / 10) * drift).astype(np.float32)
    scenes = [Reflectivity(land.diffuse * g, land.points * np.sqrt(g)) for g in gain]
    truth = np.stack([simulator.expect(scene) for scene in scenes])
    noisy = np.stack([simulator.observe(scene, rng) for scene in scenes])
    unchanged = np.median(truth / drift, axis=0) * drift
    return ChangingStack(noisy, truth, unchanged.astype(np.float32))


def draw_gains(n_dates: int, size_px: int, rng: np.random.Generator) -> Gain:
    """Draw the changes of brightness in dB, shape (time, y, x).

    A mown field is 2 to 5 dB darker or brighter from a date on. A flood is 6 to 12 dB darker on one
    or two dates. A building is a bright wall and its shadow, from a date on. A ship is 12 to 25 dB
    brighter on one date, and one to five pixels long.
    """
    gain_db = np.zeros((n_dates, size_px, size_px))
    relative_area = (size_px / 256) ** 2
    events = [(_mow, N_FIELDS), (_flood, N_FLOODS), (_build, N_BUILDINGS), (_sail, N_SHIPS)]
    for add_event, count in events:
        for _ in range(max(round(count * relative_area), 1)):
            add_event(gain_db, rng)
    return gain_db


def _mow(gain_db: Gain, rng: np.random.Generator) -> None:
    height, width = rng.integers(12, 40, 2)
    y, x = rng.integers(0, gain_db.shape[1], 2)
    first = int(rng.integers(1, len(gain_db)))
    change_db = rng.choice([-1.0, 1.0]) * rng.uniform(2, 5)
    gain_db[first:, y : y + height, x : x + width] += change_db


def _flood(gain_db: Gain, rng: np.random.Generator) -> None:
    """Add a flood: a disc with an irregular shore."""
    side = gain_db.shape[1]
    rows, columns = np.ogrid[:side, :side]
    y, x = rng.integers(0, side, 2)
    angle = np.arctan2(rows - y, columns - x)
    bends = sum(rng.uniform(0, 0.4 / n) * np.cos(n * angle + rng.uniform(0, 7)) for n in (2, 3, 5))
    under = np.hypot(rows - y, columns - x) < rng.uniform(12, 30) * (1 + bends)
    first = int(rng.integers(0, len(gain_db)))
    gain_db[first : first + int(rng.integers(1, 3)), under] -= rng.uniform(6, 12)


def _build(gain_db: Gain, rng: np.random.Generator) -> None:
    height, width = rng.integers(4, 13, 2)
    y, x = rng.integers(0, gain_db.shape[1] - 16, 2)
    first = int(rng.integers(1, len(gain_db)))
    gain_db[first:, y : y + height, x : x + 2] += rng.uniform(8, 18)
    gain_db[first:, y : y + height, x + 2 : x + 2 + width // 2] -= rng.uniform(3, 8)


def _sail(gain_db: Gain, rng: np.random.Generator) -> None:
    height, width = rng.integers(1, 6), rng.integers(1, 3)
    y, x = rng.integers(0, gain_db.shape[1] - 5, 2)
    date = int(rng.integers(0, len(gain_db)))
    gain_db[date, y : y + height, x : x + width] += rng.uniform(12, 25)
