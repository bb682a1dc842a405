"""MuLoG with BM3D."""

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_choice, check_positive_int
from sarstack.despecklers.block_matching_method import HALO_PX, BlockMatchingMethod
from sarstack.despecklers.flat_field import LEVEL_WINDOW_PX
from sarstack.despecklers.log_speckle import Denoiser, LogImage
from sarstack.despecklers.mulog import BETAS, despeckle_by_denoiser
from sarstack.speckle.statistics import SceneStatistics

# A flat field of this side takes seconds, one of the usual side half a minute.
_FLAT_PX = 192


class BM3DDenoiser(NamedTuple):
    """BM3D as a denoiser for Gaussian noise.

    Attributes
    ----------
    correlated : bool
        Whether the noise of a coefficient follows the correlation of the speckle.
    """

    correlated: bool

    def bind(self, image: LogImage, correlation: tuple[float, float]) -> Denoiser:
        """Return the denoiser for an image."""
        from sarstack.despecklers.block_matching.gaussian import denoise_bm3d

        told = correlation if self.correlated else (0.0, 0.0)
        return lambda logs, noise: denoise_bm3d(logs, noise, correlation=told, usable=image.usable)


class MuLogBM3D(BlockMatchingMethod):
    """MuLoG (Deledalle 2017) with BM3D as its denoiser for Gaussian noise.

    The iterations are those of the method ``mulog``. BM3D finds similar blocks of 8 x 8 px and
    filters them together, in two steps.

    Parameters
    ----------
    n_iterations : int
        Calls of BM3D. The same for all pixels, so that tiles cannot change a pixel.
    beta : {"fixed", "adaptive"}
        See :class:`~sarstack.despecklers.methods.mulog.MuLoG`.
    noise : {"correlated", "white"}
        correlated: each coefficient of a block gets the noise that the correlation of the scene's
        speckle gives it. white: as published.

    Notes
    -----
    The halo is `n_iterations` times 90 px, and 3 pixels more, so small tiles compute most pixels
    several times. Nodata: pixels that mirror those inside replace the missing ones. Pixels whose
    surroundings have no positive value keep their value. Mean: kept within 1 % on stationary
    speckle, by a gain.

    References
    ----------
    C.-A. Deledalle, L. Denis, S. Tabti, F. Tupin, "MuLoG, or how to apply Gaussian denoisers to
    multi-channel SAR speckle reduction?", IEEE Trans. Image Processing 26(9), 2017, for one
    channel.

    K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, "Image denoising by sparse 3-D transform-domain
    collaborative filtering", IEEE Trans. Image Processing 16(8), 2007.
    """

    name: ClassVar[str] = "mulog-bm3d"
    cell_px: ClassVar[int] = 2048
    # A rounding error can change which blocks are similar, and so all pixels of a group.
    threshold_fraction: ClassVar[float] = 0.3
    domain = "log intensity"

    def __init__(
        self, n_iterations: int = 6, beta: str = "fixed", noise: str = "correlated"
    ) -> None:
        check_positive_int(n_iterations=n_iterations)
        check_choice(BETAS, beta=beta)
        super().__init__(noise)
        self.n_iterations, self.beta = int(n_iterations), beta
        self.halo = self.n_iterations * HALO_PX + LEVEL_WINDOW_PX // 2

    def warm_up(self) -> None:
        """Compile the functions, or load them from the cache of numba."""
        from sarstack.despecklers.block_matching.gaussian import denoise_bm3d

        denoise_bm3d(np.ones((9, 9), np.float32), 1.0)

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        denoiser = BM3DDenoiser(self.noise == "correlated")
        return despeckle_by_denoiser(
            intensity, statistics, denoiser, self.n_iterations, self.beta, _FLAT_PX
        )
