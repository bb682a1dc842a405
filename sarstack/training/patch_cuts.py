"""Patches that are cut from images on the device, and what the network is told about them."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.networks.two_scale import encode_sensor
from sarstack.training.batch import TensorBatch
from sarstack.training.scene_effects import distances_from_lines, to_column
from sarstack.training.simulated_patches import (
    CORRELATION_ERROR,
    LOOKS_ERROR,
    SWATH_EDGE_FRACTION,
    UNKNOWN_SENSOR_FRACTION,
)

Numbers = NDArray[np.float64]


class RealPairs(NamedTuple):
    """Pairs of real dates: one date, and the mean of others as its target.

    Attributes
    ----------
    images : Tensor, shape (pair, 4, y, x), float32
        Intensity, target, weight and weight of details; see
        :class:`sarstack.training.batch.Batch`.
    sensor : ndarray, shape (pair, 4), float64
        Looks, lag-1 correlation along y and x, and 1 if the network may be told, else 0.
    """

    images: Tensor
    sensor: Numbers


class Told(NamedTuple):
    """How well a network is told of the looks and the correlation.

    Attributes
    ----------
    unknown_fraction : float
        Fraction of the patches without these inputs.
    error : float
        Factor on their usual errors; 0: they are exact.
    """

    unknown_fraction: float = UNKNOWN_SENSOR_FRACTION
    error: float = 1.0


USUALLY_TOLD = Told()


def cut_patches(
    images: Tensor, scenes: NDArray[np.intp], patch_px: int, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Cut patches at random places, mirrored and turned at random.

    Parameters
    ----------
    images : Tensor, shape (scene, channel, y, x)
    scenes : ndarray, shape (patch,), int
    patch_px : int
    rng : numpy.random.Generator

    Returns
    -------
    patches : Tensor, shape (patch, channel, y, x)
    is_turned : ndarray, shape (patch,), bool
        Whether y and x were exchanged.
    """
    n, device = len(scenes), images.device
    first_too_late = np.array(images.shape[-2:])[:, None, None] - patch_px + 1
    start = rng.integers(0, first_too_late, (2, n, 1))
    mirrored = rng.random((2, n, 1)) < 0.5
    is_turned = rng.random(n) < 0.5
    along = np.arange(patch_px)
    y, x = torch.from_numpy(start + np.where(mirrored, along[::-1], along)).to(device)
    rows = torch.from_numpy(scenes).to(device)[:, None, None]
    patches = images[rows, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    turned = torch.from_numpy(is_turned).to(device)[:, None, None, None]
    return torch.where(turned, patches.transpose(2, 3), patches), is_turned


def swap_axes(correlation: Numbers, is_turned: NDArray[np.bool_]) -> Numbers:
    """Exchange the correlation along y and x of patches whose axes were exchanged."""
    return np.where(is_turned[:, None], correlation[:, ::-1], correlation)


def draw_sensor_inputs(
    looks: Numbers,
    correlation: Numbers,
    rng: np.random.Generator,
    told: Told = USUALLY_TOLD,
) -> Numbers:
    """Draw looks and correlation as a network gets them; see :func:`draw_sensor_input`.

    Returns
    -------
    ndarray, shape (patch, 4), float64
        Looks, correlation along y and x, and 1 if they are known, else 0.
    """
    error = told.error * rng.normal(0, 1, (len(looks), 3))
    estimate = np.clip(correlation + CORRELATION_ERROR * error[:, 1:], 0, 0.95)
    is_known = rng.random(len(looks)) >= told.unknown_fraction
    return np.column_stack([looks * np.exp(LOOKS_ERROR * error[:, 0]), estimate, is_known])


def draw_swath_edges(n: int, side_px: int, rng: np.random.Generator, device: str) -> Tensor:
    """Draw a line across 10 % of the patches; True beyond it, shape (patch, y, x)."""
    has_edge = rng.random(n) < SWATH_EDGE_FRACTION
    along_axis = rng.integers(0, 4, n) * (np.pi / 2)
    angle = np.where(rng.random(n) < 0.8, along_axis, rng.uniform(0, 2 * np.pi, n))
    distance = distances_from_lines(side_px, angle, rng.uniform(0, side_px, (2, n)), device)
    return (distance > 0) & (to_column(has_edge, device) > 0)


def draw_pairs(
    pairs: RealPairs,
    n: int,
    patch_px: int,
    rng: np.random.Generator,
    told: Told = USUALLY_TOLD,
) -> tuple[Tensor, Numbers]:
    """Cut patches of random pairs of real dates, and draw their sensor inputs."""
    chosen = rng.integers(0, len(pairs.images), n)
    missing = [max(0, patch_px - size) for size in pairs.images.shape[-2:]]
    images = torch.nn.functional.pad(
        pairs.images[torch.from_numpy(chosen).to(pairs.images.device)],
        (0, missing[1], 0, missing[0]),
        value=float("nan"),
    )
    patches, is_turned = cut_patches(images, np.arange(n), patch_px, rng)
    known = pairs.sensor[chosen]
    sensor = draw_sensor_inputs(known[:, 0], swap_axes(known[:, 1:3], is_turned), rng, told)
    sensor[:, 3] *= known[:, 3]
    return patches, sensor


def make_batch(images: Tensor, sensor: Numbers, others: Tensor | None = None) -> TensorBatch:
    """Return a batch; pixels that are not finite get weight 0.

    Parameters
    ----------
    images : Tensor, shape (patch, 4, y, x)
        Intensity, target, weight, weight of details.
    sensor : ndarray, shape (patch, 4)
    others : Tensor, shape (patch, 4 or 8, y, x), optional
        Sums over other dates.
    """
    intensity, target, weight, detail = images.split(1, dim=1)
    finite = torch.isfinite(intensity)
    usable = finite & torch.isfinite(target) & torch.isfinite(weight)
    return TensorBatch(
        intensity.nan_to_num(0.0),
        target.nan_to_num(0.0),
        torch.where(usable, weight, 0.0),
        finite.to(torch.float32),
        encode_numbers(sensor, images.device),
        others,
        torch.where(usable, detail, 1.0),
    )


def encode_numbers(sensor: Numbers, device: torch.device | str) -> Tensor:
    """Encode what networks are told of the speckle, shape (patch, 4), as (patch, 5)."""
    numbers = torch.from_numpy(sensor.astype(np.float32)).to(device)
    return encode_sensor(numbers[:, 0], numbers[:, 1:3], numbers[:, 3])
