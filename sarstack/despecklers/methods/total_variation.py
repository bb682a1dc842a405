"""Total variation: the smoothest image in the logarithm of intensity that fits the input."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_between, check_positive_int
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import (
    LEVEL_WINDOW_PX,
    correct_bias,
    gain_of_filter,
    rounded,
)
from sarstack.despecklers.log_speckle import take_logarithms
from sarstack.speckle.laws import correlated_area, log_speckle_variance
from sarstack.speckle.statistics import SceneStatistics

# Weight of the variation in units of the standard deviation of ln y, found on simulated scenes.
STRENGTH = 0.9
DEVIATION_EXPONENT, CORRELATION_EXPONENT = 1.5, 0.4


class TotalVariation(Despeckler):
    """Total variation (Rudin 1992) of ln intensity, with the weight that the speckle needs.

    The result u minimises ``sum((u - ln y)^2) / 2 + weight * sum(|gradient of u|)``. The weight is
    proportional to the standard deviation of ln y for the looks of the scene, and larger for
    correlated speckle. The mean of ln y is below the logarithm of the mean; a gain corrects this.
    An area without speckle has no such difference: there the gain fades out.

    Parameters
    ----------
    strength : float
        Factor on the weight; larger values smooth more. 0.01 to 100.
    n_iterations : int
        Number of steps. The same for all pixels, so that tiles cannot change a pixel.

    Notes
    -----
    Each step moves information by one pixel, so the halo is `n_iterations` and 3 pixels more.
    Nodata: the gradient between a pixel with data and one without is not counted, as at the edge of
    the scene. Pixels whose surroundings have no positive value keep their value. Mean: kept within
    1 % on stationary speckle. Memory: about fifteen arrays of the size of a tile.

    References
    ----------
    L. I. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal algorithms",
    Physica D 60, 1992. A. Beck, M. Teboulle, "Fast gradient-based algorithms for constrained total
    variation image denoising and deblurring problems", IEEE Trans. Image Processing 18(11), 2009:
    the steps.
    """

    name: ClassVar[str] = "total-variation"
    domain = "log intensity"

    def __init__(self, strength: float = 1.0, n_iterations: int = 29) -> None:
        check_between(0.01, 100, strength=strength)
        check_positive_int(n_iterations=n_iterations)
        self.strength, self.n_iterations = float(strength), int(n_iterations)
        self.halo = self.n_iterations + LEVEL_WINDOW_PX // 2

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        parameters = (self.strength, self.n_iterations)
        gain = gain_of_filter(_filter, *rounded(statistics), *parameters)
        filtered = _filter(intensity, statistics, *parameters)
        return correct_bias(filtered, intensity, statistics, gain)


def _filter(
    intensity: NDArray[np.float32], statistics: SceneStatistics, strength: float, n_iterations: int
) -> NDArray[np.float32]:
    """Return the image of least variation, without correction of its bias."""
    logs, usable = take_logarithms(intensity)
    weight = strength * variation_weight(statistics)
    smooth = minimise_variation(logs, usable, weight, n_iterations)
    return np.where(usable, np.exp(smooth), intensity)


def variation_weight(statistics: SceneStatistics) -> float:
    """Return the weight of the variation for the speckle of a scene."""
    area = correlated_area(statistics.correlation, LEVEL_WINDOW_PX)
    deviation = np.sqrt(float(log_speckle_variance(statistics.looks)))
    return float(STRENGTH * deviation**DEVIATION_EXPONENT * area**CORRELATION_EXPONENT)


def minimise_variation(
    image: NDArray[np.float32], usable: NDArray[np.bool_], weight: float, n_iterations: int
) -> NDArray[np.float32]:
    """Minimise half of the squared distance from an image plus `weight` times the variation.

    Fast gradient projection on the dual: `dual` is a vector at each pixel, of length 1 at most.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        Finite.
    usable : ndarray, shape (y, x), bool
        Pixels that take part; the others have no neighbours.
    weight : float
        Weight of the total variation (isotropic, forward differences).
    n_iterations : int
        Number of steps.

    Returns
    -------
    ndarray, shape (y, x), float32
    """
    pair_y, pair_x = usable[1:] & usable[:-1], usable[:, 1:] & usable[:, :-1]
    dual, ahead = np.zeros((2, 2, *image.shape), np.float32)
    step, inertia = np.float32(1 / (8 * weight)), 1.0
    for _ in range(n_iterations):
        result = _move(image, ahead, weight)
        new = ahead.copy()
        new[0, :-1] += step * (result[1:] - result[:-1]) * pair_y
        new[1, :, :-1] += step * (result[:, 1:] - result[:, :-1]) * pair_x
        new /= np.maximum(np.sqrt(new[0] ** 2 + new[1] ** 2), 1)
        next_inertia = (1 + np.sqrt(1 + 4 * inertia**2)) / 2
        ahead = new + np.float32((inertia - 1) / next_inertia) * (new - dual)
        dual, inertia = new, next_inertia
    return _move(image, dual, weight)


def _move(
    image: NDArray[np.float32], dual: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Return the image plus `weight` times the divergence of the dual."""
    divergence = dual[0] + dual[1]
    divergence[1:] -= dual[0, :-1]
    divergence[:, 1:] -= dual[1, :, :-1]
    divergence *= np.float32(weight)
    divergence += image
    return divergence
