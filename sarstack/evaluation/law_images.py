"""The images by which the laws of :mod:`sarstack.evaluation.laws` are checked."""

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]


def draw_landscape(seed: int, shape: tuple[int, int], n_dates: int = 2, *, holes: bool) -> Block:
    """Draw dates of a landscape: smooth ground, an edge, bright points, speckle, nodata.

    With `holes`, single pixels, a rectangle, and a quarter of the last date are NaN.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 40
    ground = np.exp(np.sin(y + rng.uniform(0, 6)) + np.cos(2 * x + rng.uniform(0, 6)) - 3)
    ground[shape[0] // 3 :, shape[1] // 2 :] *= 6
    ground[rng.random(shape) > 0.995] *= 300
    block = ground * rng.gamma(4, 1 / 4, (n_dates, *shape))
    if holes:
        block[rng.random(block.shape) > 0.98] = np.nan
        corner = rng.integers(0, shape)
        block[:, corner[0] : corner[0] + 9, corner[1] : corner[1] + 14] = np.nan
        block[-1, : shape[0] // 4] = np.nan
    return np.asarray(block, np.float32)


def draw_speckle(
    looks: int, correlation: tuple[float, float], side: int, rng: np.random.Generator
) -> Block:
    """Draw a flat field of mean 1 with speckle.

    It is the mean over looks of ``|h * g|^2``: g is complex white noise, h the point response of
    the sensor, which gives the correlation, and * is the convolution.
    """

    def transfer_function(rho: float) -> NDArray[np.float64]:
        lag = np.minimum(np.arange(side), side - np.arange(side)).astype(float)
        field = np.where(lag == 0, 1.0, np.sqrt(rho) ** (lag**2) if rho else 0.0)
        return np.sqrt(np.maximum(np.fft.fft(field).real, 0))

    transfer = transfer_function(correlation[0])[:, None] * transfer_function(correlation[1])
    total = np.zeros((side, side))
    for _ in range(looks):
        white = rng.normal(size=(2, side, side)) / np.sqrt(2)
        total += np.abs(np.fft.ifft2(np.fft.fft2(white[0] + 1j * white[1]) * transfer)) ** 2
    return np.asarray(total / looks, np.float32)
