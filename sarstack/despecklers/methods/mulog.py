"""MuLoG: despeckle with a denoiser that was made for Gaussian noise."""

from functools import lru_cache
from itertools import chain
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_between, check_choice, check_positive_int
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import (
    LEVEL_WINDOW_PX,
    correct_bias,
    flat_speckle,
    gain_of_filter,
    rounded,
)
from sarstack.despecklers.log_speckle import (
    Denoiser,
    Step,
    adaptive_steps,
    fixed_steps,
    solve,
    to_log_image,
)
from sarstack.despecklers.methods.total_variation import minimise_variation
from sarstack.speckle.laws import correlated_area
from sarstack.speckle.statistics import SceneStatistics

BETAS = ("fixed", "adaptive")
# Weight of the variation in units of the standard deviation of the noise, found on simulated
# scenes; and the exponent of the area over which speckle is correlated.
STRENGTH, CORRELATION_EXPONENT = 0.58, 0.4
_SIDE_PX = 192


class MuLoG(Despeckler):
    """MuLoG (Deledalle 2017): a denoiser for Gaussian noise on speckle, here total variation.

    It finds the image u = ln x that is most probable under the law of ln speckle (Fisher-Tippett)
    and that the denoiser finds plausible, by alternating both (ADMM): the denoiser smooths
    ``x + d``; then each pixel moves to the best compromise between the smooth image and its own
    likelihood; d sums up the differences. The logarithm is divided by the standard deviation of ln
    speckle, so the noise that the denoiser sees has the standard deviation ``1 / sqrt(beta)``.

    Parameters
    ----------
    n_iterations : int
        Calls of the denoiser. The same for all pixels, so that tiles cannot change a pixel.
    n_steps : int
        Steps of the total variation in each call.
    strength : float
        Factor on the weight of the variation; larger values smooth more. 0.01 to 100.
    beta : {"fixed", "adaptive"}
        fixed: ``1 + 2 / looks``, as published. adaptive: as the program of the authors, see
        :func:`~sarstack.despecklers.log_speckle.adaptive_steps`; here on simulated flat speckle of
        the same looks, so that all tiles have the same betas. The default is fixed: it needs no
        simulation, and on simulated scenes the RMSE in dB of both differs by less than 1 % at the
        default strength.

    Notes
    -----
    The halo is `n_iterations` times `n_steps`, and 3 pixels more. The model is white speckle; for
    correlated speckle the denoiser smooths more. Nodata: the gradient between a pixel with data
    and one without is not counted, as at the edge of the scene. Pixels whose surroundings have no
    positive value keep their value. Mean: kept within 1 % on stationary speckle, by a gain.

    References
    ----------
    C.-A. Deledalle, L. Denis, S. Tabti, F. Tupin, "MuLoG, or how to apply Gaussian denoisers to
    multi-channel SAR speckle reduction?", IEEE Trans. Image Processing 26(9), 2017, for one
    channel.
    """

    name: ClassVar[str] = "mulog"
    domain = "log intensity"

    def __init__(
        self,
        n_iterations: int = 6,
        n_steps: int = 12,
        strength: float = 1.0,
        beta: str = "fixed",
    ) -> None:
        check_positive_int(n_iterations=n_iterations, n_steps=n_steps)
        check_between(0.01, 100, strength=strength)
        check_choice(BETAS, beta=beta)
        self.n_iterations, self.n_steps = int(n_iterations), int(n_steps)
        self.strength, self.beta = float(strength), beta
        self.halo = self.n_iterations * self.n_steps + LEVEL_WINDOW_PX // 2

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        looks, correlation = rounded(statistics)
        parameters = (self.n_steps, self.strength)
        steps = choose_steps(looks, correlation, self.n_iterations, self.beta, *parameters)
        gain = gain_of_filter(_filter, looks, correlation, *parameters, *chain(*steps))
        filtered = _filter(intensity, statistics, *parameters, *chain(*steps))
        return correct_bias(filtered, intensity, statistics, gain)


def _filter(
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    n_steps: int,
    strength: float,
    *noises_and_betas: float,
) -> NDArray[np.float32]:
    """Return the image that MuLoG finds, without correction of its bias."""
    image = to_log_image(intensity, statistics.looks)
    denoise = variation_denoiser(image.usable, statistics.correlation, n_steps, strength)
    steps = [Step(*pair) for pair in zip(*[iter(noises_and_betas)] * 2, strict=True)]
    found = solve(image, steps, denoise)
    return np.where(image.usable, np.exp(np.float32(image.deviation) * found), intensity)


def variation_denoiser(
    usable: NDArray[np.bool_], correlation: tuple[float, float], n_steps: int, strength: float
) -> Denoiser:
    """Return total variation as a denoiser for Gaussian noise.

    Parameters
    ----------
    usable : ndarray, shape (y, x), bool
        Pixels that take part.
    correlation : tuple of float
        Lag-1 correlation of the speckle along y and x; the weight grows with it.
    n_steps : int
        Steps of each call.
    strength : float
        Factor on the weight of the variation.
    """
    area = correlated_area(correlation, LEVEL_WINDOW_PX)
    weight = float(strength * STRENGTH * area**CORRELATION_EXPONENT)
    return lambda image, noise: minimise_variation(image, usable, weight * noise, n_steps)


@lru_cache(maxsize=64)
def choose_steps(
    looks: float,
    correlation: tuple[float, float],
    n_iterations: int,
    beta: str,
    n_steps: int,
    strength: float,
) -> tuple[Step, ...]:
    """Return noise and beta of each iteration; see :class:`MuLoG`."""
    if beta == "fixed":
        return fixed_steps(looks, n_iterations)
    speckle, statistics = flat_speckle(looks, correlation)
    image = to_log_image(speckle[:_SIDE_PX, :_SIDE_PX], looks)
    denoise = variation_denoiser(image.usable, statistics.correlation, n_steps, strength)
    return adaptive_steps(image, n_iterations, denoise)
