"""Resample simulated scenes to a map grid after detection, as most products are.

The result has fewer or more looks than the scene, and another correlation. Both are exact: the
variance of a weighted sum of neighbouring pixels follows from their correlation and the weights.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

METHODS = ("nearest", "bilinear", "bicubic")
METHOD_PROBABILITIES = (0.25, 0.6, 0.15)
CUBIC = -0.75
"""Parameter of the cubic kernel of torch."""

N_PHASES = 48
N_LAGS = 8
"""The correlation of two pixels farther apart counts as that at this lag."""

Numbers = NDArray[np.float64]


class MapGrids(NamedTuple):
    """The map grids of some scenes. The first axis counts the scenes.

    Attributes
    ----------
    method : ndarray, shape (scene,), int
        Index into `METHODS`.
    step : ndarray, shape (scene, 2), float64
        Step of the map grid along its rows and columns, in pixels of the scene.
    angle : ndarray, shape (scene,), float64
        By how much the grid is turned, in radians.
    offset : ndarray, shape (scene, 2), float64
        Offset along y and x, in pixels of the scene.
    """

    method: NDArray[np.intp]
    step: Numbers
    angle: Numbers
    offset: Numbers

    def displacements(self) -> Numbers:
        """Return the step along a row and along a column in y and x of the scene, (scene, 2, 2).

        The first axis after the scenes is the axis of the map grid (y, x), the last one that of
        the scene (y, x).
        """
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along_y = np.stack([cos, sin], 1) * self.step[:, :1]
        along_x = np.stack([-sin, cos], 1) * self.step[:, 1:]
        return np.stack([along_y, along_x], 1)


def draw_grids(n: int, rng: np.random.Generator) -> MapGrids:
    """Draw map grids: half of them finer (steps 0.6 to 0.9 px), all turned by up to 15 degrees.

    The grid of a scene of 256 px stays inside the scene and its margin of 16 px.
    """
    is_fine = rng.random(n) < 0.5
    low, high = np.where(is_fine, 0.6, 0.9), np.where(is_fine, 0.9, 1.03)
    step = rng.uniform(low[:, None], high[:, None], (n, 2))
    largest = np.deg2rad(np.where(is_fine, 15, 5))
    method = rng.choice(len(METHODS), n, p=METHOD_PROBABILITIES)
    return MapGrids(method, step, rng.uniform(-largest, largest), rng.uniform(-0.5, 0.5, (n, 2)))


def resample(images: Tensor, grids: MapGrids) -> Tensor:
    """Resample images to map grids of the same size, around the same middle.

    Parameters
    ----------
    images : Tensor, shape (scene, channel, y, x), float32
    grids : MapGrids

    Returns
    -------
    Tensor, same shape
    """
    height, width = images.shape[-2:]
    result = torch.empty_like(images)
    moves = grids.displacements()
    # affine_grid has x before y, and counts in half sizes of the image.
    matrix = np.empty((len(images), 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 1, 1] = moves[:, 1, 1], moves[:, 0, 0]
    matrix[:, 0, 1] = moves[:, 0, 1] * height / width
    matrix[:, 1, 0] = moves[:, 1, 0] * width / height
    matrix[:, 0, 2], matrix[:, 1, 2] = (grids.offset[:, ::-1] * 2 / (width, height)).T
    for number, method in enumerate(METHODS):
        rows = np.nonzero(grids.method == number)[0]
        if len(rows):
            chosen = torch.from_numpy(rows).to(images.device)
            part = images[chosen]
            places = functional.affine_grid(
                torch.from_numpy(matrix[rows]).to(images.device), list(part.shape),
                align_corners=False,
            )  # fmt: skip
            result[chosen] = functional.grid_sample(
                part, places, mode=method, padding_mode="reflection", align_corners=False
            )
    return result


def resample_speckle(looks: Numbers, lags: Numbers, grids: MapGrids) -> tuple[Numbers, Numbers]:
    """Return looks and lag-1 correlation of speckle after :func:`resample`.

    Parameters
    ----------
    looks : ndarray, shape (scene,)
        Before resampling.
    lags : ndarray, shape (scene, 2, lag)
        Correlation of intensity along y and x at lags 0, 1, 2, ... before resampling.
    grids : MapGrids

    Returns
    -------
    looks : ndarray, shape (scene,)
        Mean over all positions of the grid: the variance changes from pixel to pixel.
    correlation : ndarray, shape (scene, 2)
        Along the rows and columns of the grid.
    """
    variance, correlation = np.ones(len(looks)), np.empty((len(looks), 2))
    for method in range(len(METHODS)):
        rows = np.nonzero(grids.method == method)[0]
        if not len(rows):
            continue
        own, still = lags[rows], np.zeros(len(rows))
        variance[rows] = _covariance(own[:, 0], method, still) * _covariance(
            own[:, 1], method, still
        )
        moves = grids.displacements()[rows]
        for direction in (0, 1):
            along_y, along_x = (
                _covariance(own[:, axis], method, moves[:, direction, axis]) for axis in (0, 1)
            )
            correlation[rows, direction] = along_y * along_x / variance[rows]
    return looks / variance, correlation


def _covariance(lags: Numbers, method: int, distance: Numbers) -> Numbers:
    """Return the covariance of two resampled pixels along one axis, as a mean over positions.

    Parameters
    ----------
    lags : ndarray, shape (scene, lag)
    method : int
    distance : ndarray, shape (scene,)
    """
    position = (np.arange(N_PHASES) + 0.5) / N_PHASES
    first, weight = _taps(position, method)
    second, other_weight = _taps(position + distance[:, None], method)
    lag = np.minimum(np.abs(first[:, :, None] - second[:, :, None, :]), N_LAGS)
    correlation = np.take_along_axis(lags, lag.reshape(len(lags), -1), 1).reshape(lag.shape)
    total: Numbers = (weight[:, :, None] * other_weight[:, :, None, :] * correlation).sum((2, 3))
    return total.mean(1)


def _taps(position: Numbers, method: int) -> tuple[NDArray[np.intp], Numbers]:
    """Return the pixels that positions are computed from, and their weights, along a new axis."""
    if METHODS[method] == "nearest":
        return np.round(position).astype(np.intp)[..., None], np.ones((*position.shape, 1))
    start = np.floor(position).astype(np.intp)[..., None]
    u = position - start[..., 0]
    if METHODS[method] == "bilinear":
        return start + np.arange(2), np.stack([1 - u, u], -1)
    return start + np.arange(-1, 3), np.stack(
        [_far(1 + u), _near(u), _near(1 - u), _far(2 - u)], -1
    )


def _near(distance: Numbers) -> Numbers:
    """Return the cubic kernel up to a distance of 1 px."""
    return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1


def _far(distance: Numbers) -> Numbers:
    """Return the cubic kernel from 1 to 2 px."""
    return CUBIC * (((distance - 5) * distance + 8) * distance - 4)
