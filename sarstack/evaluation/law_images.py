"""Images on which the laws of methods are checked: a landscape, flat speckle, complex fields."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.speckle.complex_fields import mark_nodata

Block = NDArray[Any]
"""Dates of linear power (float32), or of complex numbers (complex64)."""


def draw_landscape(
    seed: int,
    shape: tuple[int, int],
    n_dates: int = 2,
    *,
    holes: bool,
    despeckler: Despeckler | None = None,
) -> Block:
    """Draw dates of a landscape: smooth ground, an edge, bright points, speckle, nodata.

    With `holes`, single pixels, a rectangle, and a quarter of the last date are NaN. A method that
    needs complex numbers gets them, with the speckle of a single look; others get intensity, with
    that of four looks.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 40
    ground = np.exp(np.sin(y + rng.uniform(0, 6)) + np.cos(2 * x + rng.uniform(0, 6)) - 3)
    ground[shape[0] // 3 :, shape[1] // 2 :] *= 6
    ground[rng.random(shape) > 0.995] *= 300
    is_complex = despeckler is not None and despeckler.needs_complex
    if is_complex:
        block = np.sqrt(ground) * _draw_noise(rng, (n_dates, *shape))
    else:
        block = ground * rng.gamma(4, 1 / 4, (n_dates, *shape))
    if holes:
        missing = rng.random(block.shape) > 0.98
        corner = rng.integers(0, shape)
        missing[:, corner[0] : corner[0] + 9, corner[1] : corner[1] + 14] = True
        missing[-1, : shape[0] // 4] = True
        mark_nodata(block, missing)
    return np.asarray(block, np.complex64 if is_complex else np.float32)


def _draw_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """Draw circular complex Gaussian noise of mean power 1."""
    parts = rng.normal(size=(2, *shape)) / np.sqrt(2)
    return np.asarray(parts[0] + 1j * parts[1])


def multiply_power(block: Block, factor: float) -> Block:
    """Multiply the power of a block, intensity or complex, by a factor."""
    return block * np.float32(np.sqrt(factor) if np.iscomplexobj(block) else factor)


def draw_speckle(
    looks: int, correlation: tuple[float, float], side: int, rng: np.random.Generator
) -> Block:
    """Draw a flat field of mean 1 with speckle.

    It is the mean over looks of ``|h * g|^2``: g is complex white noise, h the point response of
    the sensor, which gives the correlation, and * is the convolution.
    """
    looks_drawn = (draw_field(correlation, side, rng) for _ in range(looks))
    total = sum((np.abs(field) ** 2 for field in looks_drawn), np.zeros((side, side)))
    return np.asarray(total / looks, np.float32)


def draw_field(
    correlation: tuple[float, float], side: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Draw the complex field of one look of flat ground; see :func:`draw_speckle`."""

    def transfer_function(rho: float) -> NDArray[np.float64]:
        lag = np.minimum(np.arange(side), side - np.arange(side)).astype(float)
        field = np.where(lag == 0, 1.0, np.sqrt(rho) ** (lag**2) if rho else 0.0)
        return np.sqrt(np.maximum(np.fft.fft(field).real, 0))

    transfer = transfer_function(correlation[0])[:, None] * transfer_function(correlation[1])
    return np.asarray(np.fft.ifft2(np.fft.fft2(_draw_noise(rng, (side, side))) * transfer))


@cache
def two_dates_of_speckle(looks: int, correlation: tuple[float, float], side: int) -> Block:
    """Draw two dates of :func:`draw_speckle`, shape (2, side, side); kept for later calls."""
    rng = np.random.default_rng(looks)
    return np.stack([draw_speckle(looks, correlation, side, rng) for _ in range(2)])


@cache
def two_dates_of_fields(seed: int, correlation: tuple[float, float], side: int) -> Block:
    """Draw two dates of :func:`draw_field`, complex64; kept for later calls."""
    rng = np.random.default_rng(seed)
    return np.stack([draw_field(correlation, side, rng) for _ in range(2)]).astype(np.complex64)
