"""Training patches whose speckle is simulated on the device that trains: a CPU or a GPU.

Processes draw landscapes. All that follows is torch: the echo of each look through the sensor, the
exact expectation, effects of real products, weights of pixels, patches. A batch depends on the seed
and on its number only, on one device.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.speckle.sensor import MARGIN_PX
from sarstack.training.batch import TensorBatch
from sarstack.training.landscape_drawing import FloatImage
from sarstack.training.landscape_pool import SPARE, LandscapePool, Supply
from sarstack.training.patch_cuts import (
    RealPairs,
    Told,
    cut_patches,
    draw_pairs,
    draw_sensor_inputs,
    draw_swath_edges,
    make_batch,
    swap_axes,
)
from sarstack.training.pixel_weights import LOOKS_POWER, weigh_scenes
from sarstack.training.scene_effects import (
    draw_floor,
    draw_sensors,
    draw_share,
    put_on_map,
    unpack_landscapes,
)
from sarstack.training.simulated_patches import UNKNOWN_SENSOR_FRACTION
from sarstack.training.torch_sensors import observe_scenes

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Simulation:
    """How patches are simulated.

    Attributes
    ----------
    seed : int
        A batch depends on it and on its number only.
    batch_size, patch_px : int
        Patches per batch and their side in pixels.
    scene_px : int
        Side of the scenes that patches are cut from, without margins.
    scenes_per_step, n_scenes, first_scenes : int
        New scenes of each step, scenes in use at most, and at the first step.
    landscapes_per_step : float
    n_landscapes, first_landscapes : int
        The same for landscapes; a scene is a landscape with speckle.
    n_sensors : int
        Sensors that scenes choose from.
    sensors : {"all", "single-look"}
        Kind of the sensors: see :data:`sarstack.training.simulated_patches.SENSORS`.
    unknown_fraction : float
        Fraction of the patches without looks and correlation as input.
    sensor_error : float
        Factor on the usual errors of looks and correlation as input; 0: they are exact.
    detail_weight, looks_power : float
        See :class:`sarstack.training.simulated_patches.SimulatedPatches`.
    reference_fraction : float
        Fraction of the landscapes that are cut from clean images, if there are any.
    pair_fraction : float
        Fraction of the patches that are pairs of real dates, if there are any.
    map_fraction : float
        Fraction of the scenes that are resampled to a map grid after detection.
    uneven_fraction : float
        Fraction of the scenes whose looks change from one part to another.
    unequal_fraction : float
        Fraction of the sensors whose looks have unequal weights.
    floor_fraction : float
        Fraction of the scenes with a subtracted noise floor, 0 to 10 dB below the scene.
    agreeing_fraction : float
        Fraction of the patches with sums over the dates that agree, if there is a first pass.
    """

    seed: int = 1
    batch_size: int = 16
    patch_px: int = 96
    scene_px: int = 256
    scenes_per_step: int = 1
    n_scenes: int = 400
    first_scenes: int = 32
    landscapes_per_step: float = 1.0
    n_landscapes: int = 400
    first_landscapes: int = 64
    n_sensors: int = 2000
    sensors: str = "all"
    unknown_fraction: float = UNKNOWN_SENSOR_FRACTION
    sensor_error: float = 1.0
    detail_weight: float = 1.0
    looks_power: float = LOOKS_POWER
    reference_fraction: float = 0.25
    pair_fraction: float = 0.0
    map_fraction: float = 0.0
    uneven_fraction: float = 0.0
    unequal_fraction: float = 0.0
    floor_fraction: float = 0.0
    agreeing_fraction: float = 0.75


class Group(NamedTuple):
    """Scenes that were made in one step.

    Attributes
    ----------
    images : Tensor, shape (scene, plane * date, y, x), float32
        Intensity of all dates, then targets, weights, and weights of details.
    looks : ndarray, shape (scene,), float64
    correlation : ndarray, shape (scene, 2), float64
    """

    images: Tensor
    looks: Numbers
    correlation: Numbers


class DevicePatches:
    """A source of speckled patches with their exact expected intensity as target.

    Parameters
    ----------
    simulation : Simulation
    device : str
        Torch device.
    n_processes : int
        Processes that draw landscapes; 0: this one.
    references : sequence of ndarray, shape (y, x), float32
        Clean images in dB.
    pairs : RealPairs, optional
    """

    n_dates = 1
    n_planes = 4

    def __init__(
        self,
        simulation: Simulation,
        device: str = "cpu",
        *,
        n_processes: int = 0,
        references: Sequence[FloatImage] = (),
        pairs: RealPairs | None = None,
    ) -> None:
        self.simulation, self.device, self.pairs = simulation, device, pairs
        s = simulation
        side = s.scene_px + 2 * MARGIN_PX
        per_group = s.scenes_per_step
        # One group of scenes for each step.
        first, size = (max(1, n // per_group) for n in (s.first_scenes, s.n_scenes))
        self._groups = Supply(first, size, 1)
        supply = Supply(s.first_landscapes, s.n_landscapes, s.landscapes_per_step)
        self.landscapes = LandscapePool(
            supply, seed=s.seed, side_px=side, n_dates=self.n_dates, references=references,
            reference_fraction=s.reference_fraction, n_processes=n_processes, device=device,
        )  # fmt: skip
        self.sensors = draw_sensors(
            s.n_sensors, s.seed, s.unequal_fraction, side, device, s.sensors
        )
        n_slots = size + SPARE
        n_images = self.n_planes * self.n_dates
        scenes = (n_slots * per_group, n_images, s.scene_px, s.scene_px)
        self._images = torch.zeros(scenes, device=device)
        self._looks = np.ones(n_slots * per_group)
        self._correlation = np.zeros((n_slots * per_group, 2))
        self._held = np.full(n_slots, -1)
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the processes that draw landscapes."""
        self.landscapes.close()

    @torch.no_grad()
    def batch(self, step: int) -> TensorBatch:
        """Return batch number `step`, images (batch, 1, y, x) on the device."""
        rng = np.random.default_rng([self.simulation.seed, 6, step])
        with self._lock:
            groups = self._groups.at(step)
            for group in groups:
                if self._held[group % len(self._held)] != group:
                    self._keep(group)
            return self._draw(groups, rng)

    def _keep(self, group: int) -> None:
        """Make a group of scenes, and write it over the oldest one."""
        n, slot = self.simulation.scenes_per_step, group % len(self._held)
        rng = np.random.default_rng([self.simulation.seed, 5, group])
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        made = self._observe(self.landscapes.take(group, n, rng), rng, generator)
        rows = slice(slot * n, slot * n + n)
        self._images[rows] = made.images
        self._looks[rows], self._correlation[rows] = made.looks, made.correlation
        self._held[slot] = group

    def _choose_scenes(self, groups: range, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the rows of `n` random scenes of some groups."""
        group = rng.integers(groups.start, groups.stop, n) % len(self._held)
        per_group = self.simulation.scenes_per_step
        return np.asarray(group * per_group + rng.integers(0, per_group, n))

    def _observe(
        self, planes: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> Group:
        """Observe landscapes, each with a random sensor on all its dates."""
        s, n, n_dates = self.simulation, len(planes), self.n_dates
        diffuse, points = unpack_landscapes(planes, generator)
        numbers, is_uneven = rng.integers(0, s.n_sensors, n), rng.random(n) < s.uneven_fraction
        sensors = self.sensors.take(numbers)
        noisy, clean = observe_scenes(
            diffuse, points, self.sensors.take(np.repeat(numbers, n_dates)), generator,
            floor=draw_floor(diffuse, s.floor_fraction, rng),
            share=draw_share(diffuse.shape, np.repeat(is_uneven, n_dates), rng, self.device),
        )  # fmt: skip
        looks = np.where(is_uneven, np.sqrt(sensors.looks.prod(1)), sensors.looks[:, 0])
        images = torch.cat([part.unflatten(0, (n, n_dates)) for part in (noisy, clean)], 1)
        images, looks, correlation = put_on_map(images, looks, sensors, s.map_fraction, rng)
        images = images[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        weights = self._weigh(images[:, :n_dates], images[:, n_dates:], looks)
        return Group(torch.cat([images, *weights], 1), looks, correlation)

    def _weigh(self, noisy: Tensor, clean: Tensor, looks: Numbers) -> tuple[Tensor, Tensor]:
        """Return weights and weights of details, shape (scene, date, y, x)."""
        s, shape = self.simulation, clean.shape
        of_dates = np.repeat(looks, self.n_dates).astype(np.float32)
        on_device = torch.from_numpy(of_dates).to(self.device)
        weight, detail = weigh_scenes(
            noisy.flatten(0, 1), clean.flatten(0, 1), on_device, s.detail_weight
        )
        weight *= on_device[:, None, None] ** s.looks_power
        return weight.reshape(shape), detail.reshape(shape)

    def _draw(self, groups: range, rng: np.random.Generator) -> TensorBatch:
        s, n = self.simulation, self.simulation.batch_size
        scenes = self._choose_scenes(groups, n, rng)
        images, is_turned = cut_patches(self._images, scenes, s.patch_px, rng)
        correlation = swap_axes(self._correlation[scenes], is_turned)
        told = Told(s.unknown_fraction, s.sensor_error)
        sensor = draw_sensor_inputs(self._looks[scenes], correlation, rng, told)
        images[:, 0].masked_fill_(draw_swath_edges(n, s.patch_px, rng, self.device), torch.nan)
        n_pairs = round(n * s.pair_fraction)
        if self.pairs is not None and n_pairs:
            images[:n_pairs], sensor[:n_pairs] = draw_pairs(
                self.pairs, n_pairs, s.patch_px, rng, told
            )
        return make_batch(images, sensor)
