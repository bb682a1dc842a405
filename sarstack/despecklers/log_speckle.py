"""Despeckle in the log domain with any denoiser for Gaussian noise: the iterations of MuLoG."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

from sarstack.despecklers.flat_field import LEVEL_WINDOW_PX
from sarstack.speckle.moving_window import box_mean

# Pixels darker than this fraction of the mean around them count as this dark: the logarithm of a
# value near zero would be an outlier. Speckle of one look is as dark once in 10,000 pixels.
DARKEST = 1e-4
N_NEWTON_STEPS = 10
# Adaptive beta: this factor, where a step is longer than this part of the one before.
_BETA_FACTOR, _SLOW = 1.05, 0.95
_LARGEST_EXPONENT = 60.0

Image = NDArray[np.float32]
# Called with an image and the standard deviation of its noise; returns an image of the same shape.
Denoiser = Callable[[Image, float], Image]


class LogImage(NamedTuple):
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
    looks : float
        Equivalent number of looks.
    """

    logs: Image
    start: Image
    usable: NDArray[np.bool_]
    deviation: float
    looks: float


class Step(NamedTuple):
    """One iteration.

    Attributes
    ----------
    noise : float
        Standard deviation of the noise that the denoiser is told, in units of that of ln speckle.
    beta : float
        Weight of the smooth image against the likelihood.
    """

    noise: float
    beta: float


def find_darkest(intensity: Image) -> tuple[Image, NDArray[np.bool_]]:
    """Return the darkest level that counts at each pixel, and the pixels that are usable.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.

    Returns
    -------
    darkest : ndarray, shape (y, x), float32
        `DARKEST` times the mean of the positive pixels in the 7x7 window around each pixel.
    usable : ndarray, shape (y, x), bool
        False where the pixel is NaN, or the window has no positive value.
    """
    around = box_mean(intensity, intensity > 0, LEVEL_WINDOW_PX)
    usable = np.isfinite(intensity) & (around > 0)
    return np.multiply(around, np.float32(DARKEST), out=around), usable


def take_logarithms(intensity: Image) -> tuple[Image, NDArray[np.bool_]]:
    """Return ln of an image, limited by :func:`find_darkest`, and the pixels that are usable.

    The others have the logarithm 0.
    """
    darkest, usable = find_darkest(intensity)
    return np.log(np.where(usable, np.maximum(intensity, darkest), np.float32(1))), usable


def to_log_image(intensity: Image, looks: float) -> LogImage:
    """Return the logarithm of an image, scaled so that its speckle has unit variance.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata. Pixels are not usable if they are NaN or if the 7x7 window
        around them has no positive value.
    looks : float
        Equivalent number of looks.

    Returns
    -------
    LogImage
    """
    logs, usable = take_logarithms(intensity)
    deviation = float(np.sqrt(polygamma(1, looks)))
    bias = float(digamma(looks) - np.log(looks))
    start = ((logs - np.float32(bias)) / np.float32(deviation)).astype(np.float32)
    return LogImage(logs, start, usable, deviation, looks)


def fixed_steps(looks: float, n_iterations: int) -> tuple[Step, ...]:
    """Return the steps as published: beta is ``1 + 2 / looks`` in all iterations."""
    beta = 1 + 2 / looks
    return (Step(float(1 / np.sqrt(beta)), beta),) * n_iterations


def solve(image: LogImage, steps: Sequence[Step], denoise: Denoiser) -> Image:
    """Find the image that is probable under the law of ln speckle and plausible to a denoiser.

    Parameters
    ----------
    image : LogImage
    steps : sequence of Step
    denoise : callable
        A denoiser for Gaussian noise, called once for each step.

    Returns
    -------
    ndarray, shape (y, x), float32
        The natural logarithm of the despeckled image, divided by ``image.deviation``.

    References
    ----------
    Deledalle et al. 2017, the alternating direction method of multipliers for one channel.
    """
    found, differences = image.start, np.zeros_like(image.start)
    for noise, beta in steps:
        smooth = denoise(found + differences, noise)
        differences = differences + found - smooth
        found = move_to_likelihood(smooth - differences, image, beta)
    return found


def adaptive_steps(image: LogImage, n_iterations: int, denoise: Denoiser) -> tuple[Step, ...]:
    """Return the steps as the program of the authors of MuLoG chooses them for an image.

    The first call of the denoiser is told the whole deviation of the speckle. Then beta is
    multiplied by 1.05 wherever the last iteration changed the image by more than 0.95 of the change
    of the iteration before; the denoiser has the beta from before this change.

    Parameters
    ----------
    image : LogImage
    n_iterations : int
    denoise : callable
        As in :func:`solve`.
    """
    noise, beta, length_before = 1.0, 1 + 2 / image.looks, np.inf
    found, differences = image.start, np.zeros_like(image.start)
    steps: list[Step] = []
    before: tuple[Image, ...] = ()
    for _ in range(n_iterations):
        smooth = denoise(found + differences, noise)
        differences = differences + found - smooth
        after = found, smooth, differences
        if before:
            length = sum(float(np.linalg.norm(a - b)) for a, b in zip(after, before, strict=True))
            beta *= _BETA_FACTOR if length > _SLOW * length_before else 1
            length_before, before = length, after
        else:
            before = smooth - differences, smooth, differences
        steps.append(Step(noise, beta))
        found = move_to_likelihood(smooth - differences, image, beta)
        noise = float(1 / np.sqrt(beta))
    return tuple(steps)


def move_to_likelihood(target: Image, image: LogImage, beta: float) -> Image:
    """Return the best compromise of each pixel between a target and its likelihood.

    It minimises ``(u - target)^2 / 2 + looks / beta * (s u + y exp(-s u))`` by Newton steps; s is
    the deviation.

    Parameters
    ----------
    target : ndarray, shape (y, x), float32
        In units of the deviation.
    image : LogImage
        The first step starts between `target` and ``image.start``.
    beta : float
        Larger values keep nearer to `target`.

    Returns
    -------
    ndarray, shape (y, x), float32

    References
    ----------
    Deledalle et al. 2017, the proximal operator of the Fisher-Tippett law.
    """
    s, factor = np.float32(image.deviation), np.float32(image.looks * image.deviation / beta)
    u = (target + np.float32(beta) * image.start) / np.float32(1 + beta)
    for _ in range(N_NEWTON_STEPS):
        ratio = np.exp(np.minimum(image.logs - s * u, np.float32(_LARGEST_EXPONENT)))
        u = u - (u - target + factor * (1 - ratio)) / (1 + factor * s * ratio)
    return np.asarray(u, np.float32)
