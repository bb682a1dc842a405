"""MuLoG with a network that removes Gaussian noise."""

from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_choice, check_positive_int
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import LEVEL_WINDOW_PX
from sarstack.despecklers.log_speckle import Denoiser, LogImage
from sarstack.despecklers.mulog import BETAS, despeckle_by_denoiser
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.networks.inference import load_network
from sarstack.speckle.statistics import SceneStatistics

# The network imports torch, so it is imported at the first use. A test compares.
_LOCAL_MEAN_PX = 28
# A quarter of the usual flat field: the network is called six times on it.
_FLAT_PX = 384


class CNNDenoiser(NamedTuple):
    """A network as a denoiser for Gaussian noise.

    Attributes
    ----------
    path, sha256, device, precision : str
        See :func:`~sarstack.networks.inference.load_network`.
    """

    path: str
    sha256: str
    device: str
    precision: str

    def bind(self, image: LogImage, correlation: tuple[float, float]) -> Denoiser:
        """Return the denoiser for an image."""
        from sarstack.networks.gaussian_cnn import ImageDenoiser

        network = load_network(*self)
        return ImageDenoiser(
            network, image.start * np.float32(image.deviation), image.usable, image.deviation,
            correlation,
        )  # fmt: skip


class MuLogCNN(NetworkMethod):
    """MuLoG (Deledalle 2017) with a small network that was trained on optical images.

    The iterations are those of the method ``mulog``. The network removes Gaussian noise, white or
    correlated, of any deviation. It saw photographs and optical images of the Earth, and no SAR
    image and no speckle: strategy one of Dalsasso et al. (2020).

    Parameters
    ----------
    model : str or Path, optional
        A ``.safetensors`` file of the variant gaussian-cnn; None: the weights shipped with
        sarstack.
    device, precision
        See :class:`~sarstack.despecklers.network_method.NetworkMethod`.
    n_iterations : int
        Calls of the network. The same for all pixels, so that tiles cannot change a pixel.
    beta : {"fixed", "adaptive"}
        See :class:`~sarstack.despecklers.methods.mulog.MuLoG`.

    Notes
    -----
    Pixels whose surroundings have no positive value keep their value. Mean: kept within 1 % on
    stationary speckle, by a gain.

    References
    ----------
    E. Dalsasso, X. Yang, L. Denis, F. Tupin, W. Yang, "SAR image despeckling by deep neural
    networks: from a pre-trained model to an end-to-end training strategy", Remote Sensing 12(16),
    2020.

    C.-A. Deledalle, L. Denis, S. Tabti, F. Tupin, "MuLoG, or how to apply Gaussian denoisers to
    multi-channel SAR speckle reduction?", IEEE Trans. Image Processing 26(9), 2017, for one
    channel.
    """

    name: ClassVar[str] = "mulog-cnn"
    variant: ClassVar[str] = "gaussian-cnn"
    nodata_acts_as_edge: ClassVar[bool] = False  # the network has a mask of valid pixels as input
    cell_px: ClassVar[int] = 1024

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        precision: str = "auto",
        n_iterations: int = 6,
        beta: str = "fixed",
    ) -> None:
        check_positive_int(n_iterations=n_iterations)
        check_choice(BETAS, beta=beta)
        super().__init__(model, device=device, precision=precision)
        self.n_iterations, self.beta = int(n_iterations), beta
        radius = self.card.halo - _LOCAL_MEAN_PX
        self.halo = self.n_iterations * radius + _LOCAL_MEAN_PX + LEVEL_WINDOW_PX // 2

    def settings(self) -> dict[str, str]:
        """Return the name and hash of the model file, and the parameters."""
        parameters = {"n_iterations": str(self.n_iterations), "beta": self.beta}
        return dict(sorted((super().settings() | parameters).items()))

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of the activations and of the images of the iterations."""
        return super().memory_bytes(n_px) + 80 * n_px

    estimate_noise = Despeckler.estimate_noise  # type: ignore[assignment]
    despeckle_inside = Despeckler.despeckle_inside

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        denoiser = CNNDenoiser(self.path, self.sha256, self._torch_device, self.precision)
        return despeckle_by_denoiser(
            intensity, statistics, denoiser, self.n_iterations, self.beta, _FLAT_PX
        )


class MuLogSarCNN(MuLogCNN):
    """MuLoG (Deledalle 2017) with a small network that was trained on clean SAR images.

    As ``mulog-cnn``; the network saw simulated landscapes and means of Sentinel-1 stacks: strategy
    three of Dalsasso et al. (2020), the hybrid.
    """

    name: ClassVar[str] = "mulog-cnn-sar"
