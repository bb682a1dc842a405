"""MuLoG with any denoiser for Gaussian noise: iterations, betas and correction of the bias."""

from collections.abc import Hashable
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.flat_field import (
    SIDE_PX,
    correct_bias,
    flat_speckle,
    gain_of_filter,
    rounded,
)
from sarstack.despecklers.log_speckle import (
    Denoiser,
    LogImage,
    Step,
    adaptive_steps,
    fixed_steps,
    solve,
    to_log_image,
)
from sarstack.speckle.statistics import SceneStatistics

BETAS = ("fixed", "adaptive")
_SIDE_PX = 192


class GaussianDenoiser(Hashable, Protocol):
    """A denoiser for Gaussian noise. Objects with equal settings are equal, and can be hashed."""

    def bind(self, image: LogImage, correlation: tuple[float, float]) -> Denoiser:
        """Return the denoiser for an image.

        Parameters
        ----------
        image : LogImage
            Its usable pixels take part; its deviation is the unit of the noise.
        correlation : tuple of float
            Lag-1 correlation of the noise along y and x.
        """
        ...


def despeckle_by_denoiser(
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    denoiser: GaussianDenoiser,
    n_iterations: int,
    beta: str,
    side_px: int = SIDE_PX,
) -> NDArray[np.float32]:
    """Despeckle one image by MuLoG.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    statistics : SceneStatistics
        Of the whole scene.
    denoiser : GaussianDenoiser
    n_iterations : int
        Calls of the denoiser. The same for all pixels, so that tiles cannot change a pixel.
    beta : {"fixed", "adaptive"}
        See :func:`choose_steps`.
    side_px : int
        Side of the flat field on which the bias of the method is measured.

    Returns
    -------
    ndarray, shape (y, x), float32
        NaN where the input is. Pixels whose surroundings have no positive value keep their value.

    References
    ----------
    C.-A. Deledalle, L. Denis, S. Tabti, F. Tupin, "MuLoG, or how to apply Gaussian denoisers to
    multi-channel SAR speckle reduction?", IEEE Trans. Image Processing 26(9), 2017, for one
    channel.
    """
    looks, correlation = rounded(statistics)
    steps = choose_steps(denoiser, looks, correlation, n_iterations, beta)
    gain = gain_of_filter(_filter, looks, correlation, denoiser, steps, side_px=side_px)
    filtered = _filter(intensity, statistics, denoiser, steps)
    return correct_bias(filtered, intensity, statistics, gain)


@lru_cache(maxsize=64)
def choose_steps(
    denoiser: GaussianDenoiser,
    looks: float,
    correlation: tuple[float, float],
    n_iterations: int,
    beta: str,
) -> tuple[Step, ...]:
    """Return noise and beta of each iteration.

    With "fixed", beta is ``1 + 2 / looks``, as published. With "adaptive" it is as in the program
    of the authors, see :func:`~sarstack.despecklers.log_speckle.adaptive_steps`; here on simulated
    flat speckle of the same looks, so that all tiles have the same betas.
    """
    if beta == "fixed":
        return fixed_steps(looks, n_iterations)
    speckle, statistics = flat_speckle(looks, correlation)
    image = to_log_image(speckle[:_SIDE_PX, :_SIDE_PX], looks)
    return adaptive_steps(image, n_iterations, denoiser.bind(image, statistics.correlation))


def _filter(
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    denoiser: GaussianDenoiser,
    steps: tuple[Step, ...],
) -> NDArray[np.float32]:
    """Return the image that MuLoG finds, without correction of its bias."""
    # Logarithms around zero have the smallest rounding errors, whatever the unit of the scene.
    bright = statistics.bright
    level = np.float32(bright if np.isfinite(bright) and bright > 0 else 1)
    image = to_log_image(intensity / level, statistics.looks)
    found = solve(image, steps, denoiser.bind(image, statistics.correlation))
    return np.where(image.usable, level * np.exp(np.float32(image.deviation) * found), intensity)
