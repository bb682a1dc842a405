"""Sensors, and effects of real products, that are drawn for simulated scenes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.speckle.sensor import look_weights
from sarstack.training.map_grid import draw_grids, resample, resample_speckle
from sarstack.training.simulated_patches import SENSORS
from sarstack.training.torch_sensors import (
    MAX_LOOKS,
    N_WEIGHT_SETS,
    SensorTable,
    pad_weights,
    tabulate_sensors,
)

Numbers = NDArray[np.float64]


def draw_sensors(
    n: int, seed: int, unequal_fraction: float, side_px: int, device: str, kind: str = "all"
) -> SensorTable:
    """Draw the sensors that scenes choose from.

    Parameters
    ----------
    n, seed : int
    unequal_fraction : float
        Fraction of the sensors whose looks have unequal weights.
    side_px : int
        Height and width of the scenes, with their margins.
    device : str
    kind : {"all", "single-look"}
        A key of :data:`sarstack.training.simulated_patches.SENSORS`.
    """
    draw = SENSORS[kind]
    rng = np.random.default_rng([seed, 7])
    sensors, weights = [], np.zeros((n, N_WEIGHT_SETS, MAX_LOOKS))
    for number in range(n):
        sensor = draw(rng)
        sensors.append(sensor)
        weights[number, 0] = pad_weights(look_weights(sensor.looks))
        if rng.random() < unequal_fraction:
            weights[number, 0] = _draw_unequal_weights(rng)
        other = float(np.clip(sensor.looks * np.exp(rng.uniform(-1.4, 1.4)), 1, MAX_LOOKS))
        weights[number, 1] = pad_weights(look_weights(other))
    return tabulate_sensors(sensors, side_px, device, weights)


def _draw_unequal_weights(rng: np.random.Generator) -> Numbers:
    """Draw weights of 2 to 8 looks, for instance 1, .5, .3 and .2 before they are scaled."""
    weights = np.sort(rng.uniform(0.15, 1.0, int(rng.integers(2, 9))))[::-1]
    return pad_weights(weights / weights.sum())


def unpack_landscapes(planes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return diffuse power and amplitudes of points, with random phases.

    Parameters
    ----------
    planes : Tensor, shape (scene, plane, y, x)
        See :func:`sarstack.training.landscape_drawing.draw_packed_landscape`.
    generator : torch.Generator

    Returns
    -------
    diffuse : Tensor, shape (scene * date, y, x), float32
    points : Tensor, shape (scene * date, y, x), complex64
    """
    diffuse, amplitude, gain = planes[:, :1].exp(), (planes[:, 1:2] / 2).exp(), planes[:, 2:]
    phase = torch.rand(amplitude.shape, device=planes.device, generator=generator)
    points = torch.polar(amplitude, 2 * torch.pi * phase).masked_fill_(amplitude < 1e-12, 0)
    if gain.shape[1]:
        diffuse, points = diffuse * gain.exp(), points * (gain / 2).exp()
    return diffuse.flatten(0, 1), points.flatten(0, 1)


def draw_floor(diffuse: Tensor, fraction: float, rng: np.random.Generator) -> Tensor | None:
    """Draw the noise floor of scenes, 0 to 10 dB below the mean of the logarithm; 0: none."""
    below_db, has_floor = rng.uniform(0, 10, len(diffuse)), rng.random(len(diffuse)) < fraction
    if not has_floor.any():
        return None
    part = np.where(has_floor, 10 ** (-below_db / 10), 0).astype(np.float32)
    return diffuse.log().mean((1, 2)).exp() * torch.from_numpy(part).to(diffuse.device)


def draw_share(
    shape: Sequence[int], is_uneven: NDArray[np.bool_], rng: np.random.Generator, device: str
) -> Tensor | None:
    """Draw where the second number of looks holds: beyond a line, abruptly or over up to 60 px."""
    n, side = shape[0], shape[-1]
    angle, width = rng.uniform(0, 2 * np.pi, n), rng.choice([0.5, 8.0, 24.0, 60.0], n)
    middle = rng.uniform(0.2 * side, 0.8 * side, (2, n))
    if not is_uneven.any():
        return None
    width = np.where(is_uneven, width, np.inf)
    distance = distances_from_lines(side, angle, middle, device)
    beyond = (distance / to_column(width, device)).add_(0.5).clamp_(0, 1)
    return beyond * to_column(is_uneven, device)


def distances_from_lines(side: int, angle: Numbers, middle: Numbers, device: str) -> Tensor:
    """Return the signed distance of each pixel from lines through `middle`, (line, y, x)."""
    row = torch.arange(side, device=device, dtype=torch.float32)
    (y, x), sin, cos = (
        (to_column(part, device) for part in middle),
        *(to_column(part, device) for part in (np.sin(angle), np.cos(angle))),
    )
    return (row[None, :, None] - y) * sin + (row[None, None, :] - x) * cos


def to_column(numbers: NDArray[np.generic], device: str) -> Tensor:
    """Return one number for each scene as a float32 tensor of shape (scene, 1, 1)."""
    return torch.from_numpy(numbers.astype(np.float32)).to(device)[:, None, None]


def put_on_map(
    images: Tensor, looks: Numbers, sensors: SensorTable, fraction: float, rng: np.random.Generator
) -> tuple[Tensor, Numbers, Numbers]:
    """Resample a fraction of the scenes; return all with their looks and correlation.

    The first half of the channels is noisy, the second half clean.
    """
    looks, correlation = looks.copy(), sensors.correlation.copy()
    chosen = np.nonzero(rng.random(len(images)) < fraction)[0]
    grids = draw_grids(len(chosen), rng)
    if len(chosen):
        rows = torch.from_numpy(chosen).to(images.device)
        before = images[rows]
        after = resample(before, grids)
        # A cubic kernel overshoots beside strong points.
        n_dates = images.shape[1] // 2
        lowest = 0.5 * before[:, n_dates:].amin((2, 3), keepdim=True)
        after[:, n_dates:] = torch.maximum(after[:, n_dates:], lowest)
        images = images.index_copy(0, rows, after)
        looks[chosen], correlation[chosen] = resample_speckle(
            looks[chosen], sensors.lags[chosen], grids
        )
    return images, looks, correlation
