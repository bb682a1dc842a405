"""MuLoG: despeckle with a denoiser that was made for Gaussian noise."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

from sarstack.checks import check_between, check_choice, check_positive_int
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import (
    LEVEL_WINDOW_PX,
    correct_bias,
    flat_speckle,
    gain_of_filter,
    rounded,
)
from sarstack.despecklers.methods.total_variation import DARKEST, minimise_variation
from sarstack.speckle.laws import correlated_area
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import SceneStatistics

BETAS = ("fixed", "adaptive")
N_NEWTON_STEPS = 10
# Adaptive beta: this factor, where a step is longer than this part of the one before.
_BETA_FACTOR, _SLOW = 1.05, 0.95
# Weight of the variation in units of the standard deviation of the noise, found on simulated
# scenes; and the exponent of the area over which speckle is correlated.
STRENGTH, CORRELATION_EXPONENT = 0.58, 0.4
_LARGEST_EXPONENT = 60.0
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
        fixed: ``1 + 2 / looks``, as published. adaptive: multiplied by 1.05 after each iteration
        that changed the image by more than 0.95 of the one before, as the program of the authors
        does; here on simulated flat speckle of the same looks, so that all tiles have the same
        betas. The default is fixed: it needs no simulation, and differs little.

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
        betas = choose_betas(looks, correlation, self.n_iterations, self.beta, self.n_steps,
                             self.strength)  # fmt: skip
        parameters = (self.n_steps, self.strength)
        gain = gain_of_filter(_filter, looks, correlation, *parameters, *betas)
        filtered = _filter(intensity, statistics, *parameters, *betas)
        return correct_bias(filtered, intensity, statistics, gain)


class _Image(NamedTuple):
    """The image in the domain of the denoiser.

    Attributes
    ----------
    logs : ndarray, shape (y, x), float32
        ln y.
    start : ndarray, shape (y, x), float32
        ln y without its bias, divided by `deviation`.
    usable : ndarray, shape (y, x), bool
        Pixels that take part.
    deviation : float
        Standard deviation of ln speckle.
    """

    logs: NDArray[np.float32]
    start: NDArray[np.float32]
    usable: NDArray[np.bool_]
    deviation: float


def _encode(intensity: NDArray[np.float32], looks: float) -> _Image:
    positive = intensity > 0
    around = box_mean(intensity, positive, LEVEL_WINDOW_PX)
    usable = np.isfinite(intensity) & (around > 0)
    lowest = np.multiply(around, np.float32(DARKEST), out=around)
    logs = np.log(np.where(usable, np.maximum(intensity, lowest), np.float32(1)))
    deviation = float(np.sqrt(polygamma(1, looks)))
    bias = float(digamma(looks) - np.log(looks))
    start = ((logs - np.float32(bias)) / np.float32(deviation)).astype(np.float32)
    return _Image(logs, start, usable, deviation)


def _filter(
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    n_steps: int,
    strength: float,
    *betas: float,
) -> NDArray[np.float32]:
    """Return the image that MuLoG finds, without correction of its bias."""
    image = _encode(intensity, statistics.looks)
    found, sum_of_differences = image.start, np.zeros_like(image.start)
    for beta in betas:
        found, sum_of_differences, _ = _iterate(
            image, found, sum_of_differences, statistics, beta, n_steps, strength
        )
    return np.where(image.usable, np.exp(np.float32(image.deviation) * found), intensity)


def _iterate(
    image: _Image,
    found: NDArray[np.float32],
    sum_of_differences: NDArray[np.float32],
    statistics: SceneStatistics,
    beta: float,
    n_steps: int,
    strength: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the next image, the next sum of differences, and the smooth image between."""
    area = correlated_area(statistics.correlation, LEVEL_WINDOW_PX)
    weight = strength * STRENGTH * area**CORRELATION_EXPONENT / np.sqrt(beta)
    smooth = minimise_variation(found + sum_of_differences, image.usable, float(weight), n_steps)
    differences = sum_of_differences + found - smooth
    likely = move_to_likelihood(smooth - differences, image.logs, image.start, statistics.looks,
                                image.deviation, beta)  # fmt: skip
    return likely, differences, smooth


def move_to_likelihood(
    target: NDArray[np.float32],
    logs: NDArray[np.float32],
    start: NDArray[np.float32],
    looks: float,
    deviation: float,
    beta: float,
) -> NDArray[np.float32]:
    """Return the best compromise of each pixel between a target and its likelihood.

    It minimises ``(u - target)^2 / 2 + looks / beta * (s u + y exp(-s u))`` by Newton steps; s is
    the deviation.

    Parameters
    ----------
    target : ndarray, any shape, float32
        In units of the deviation.
    logs : ndarray, shape of `target`, float32
        ln y.
    start : ndarray, shape of `target`, float32
        ln y without bias, in units of the deviation; the first step starts near it.
    looks, deviation, beta : float

    Returns
    -------
    ndarray, shape of `target`, float32

    References
    ----------
    Deledalle et al. 2017, the proximal operator of the Fisher-Tippett law.
    """
    s, factor = np.float32(deviation), np.float32(looks * deviation / beta)
    u = (target + np.float32(beta) * start) / np.float32(1 + beta)
    for _ in range(N_NEWTON_STEPS):
        ratio = np.exp(np.minimum(logs - s * u, np.float32(_LARGEST_EXPONENT)))
        u = u - (u - target + factor * (1 - ratio)) / (1 + factor * s * ratio)
    return np.asarray(u, np.float32)


@lru_cache(maxsize=64)
def choose_betas(
    looks: float,
    correlation: tuple[float, float],
    n_iterations: int,
    kind: str,
    n_steps: int,
    strength: float,
) -> tuple[float, ...]:
    """Return beta of each iteration; see :class:`MuLoG`."""
    beta = 1 + 2 / looks
    if kind == "fixed":
        return (beta,) * n_iterations
    speckle, statistics = flat_speckle(looks, correlation)
    image = _encode(speckle[:_SIDE_PX, :_SIDE_PX], looks)
    found, differences = image.start, np.zeros_like(image.start)
    betas, step_before = [], np.inf
    smooth = found
    for _ in range(n_iterations):
        betas.append(beta)
        before = found, differences, smooth
        found, differences, smooth = _iterate(
            image, found, differences, statistics, beta, n_steps, strength
        )
        after = found, differences, smooth
        step = sum(float(np.sqrt(np.mean((new - old) ** 2)))
                   for new, old in zip(after, before, strict=True))  # fmt: skip
        if step > _SLOW * step_before:
            beta *= _BETA_FACTOR
        step_before = step
    return tuple(betas)
