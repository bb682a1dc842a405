"""MuLoG with total variation."""

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_between, check_choice, check_positive_int
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import LEVEL_WINDOW_PX
from sarstack.despecklers.log_speckle import Denoiser, LogImage
from sarstack.despecklers.methods.total_variation import minimise_variation
from sarstack.despecklers.mulog import BETAS, despeckle_by_denoiser
from sarstack.speckle.laws import correlated_area
from sarstack.speckle.statistics import SceneStatistics

# Weight of the variation in units of the standard deviation of the noise, found on simulated
# scenes; and the exponent of the area over which speckle is correlated.
STRENGTH, CORRELATION_EXPONENT = 0.58, 0.4


class VariationDenoiser(NamedTuple):
    """Total variation as a denoiser for Gaussian noise.

    Attributes
    ----------
    n_steps : int
        Steps of each call.
    strength : float
        Factor on the weight of the variation, which grows with the correlation of the noise.
    """

    n_steps: int
    strength: float

    def bind(self, image: LogImage, correlation: tuple[float, float]) -> Denoiser:
        """Return the denoiser for an image."""
        area = correlated_area(correlation, LEVEL_WINDOW_PX)
        weight = float(self.strength * STRENGTH * area**CORRELATION_EXPONENT)
        return lambda logs, noise: minimise_variation(
            logs, image.usable, weight * noise, self.n_steps
        )


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
        :func:`~sarstack.despecklers.mulog.choose_steps`. The default is fixed: it needs no
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
        denoiser = VariationDenoiser(self.n_steps, self.strength)
        return despeckle_by_denoiser(intensity, statistics, denoiser, self.n_iterations, self.beta)
