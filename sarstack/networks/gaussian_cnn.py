"""A denoiser for Gaussian noise on log images: what MuLoG calls."""

from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarstack.networks.despecknet import LogDeSpeckNet
from sarstack.networks.log_network import (
    BRIGHTEST_NAT,
    DARKEST_NAT,
    centre_log,
    fade_out_correction,
    pad_to_cells,
)
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.two_scale import TwoScaleBranch, TwoScaleShape, encode_sensor


class GaussianCNN(LogDeSpeckNet):
    """A small network that removes Gaussian noise, white or correlated, of known deviation.

    It is trained like a despeckler, on images ``exp(v)`` with ``v = ln x + noise``. Its input
    "looks" are ``1 / deviation**2``. There is no branch for the speckle.
    """

    variant, loss = "gaussian-cnn", "square"
    shape: ClassVar[TwoScaleShape] = TwoScaleShape(32, 48, 0, 2, 1)

    def __init__(self, **shape: int) -> None:
        super().__init__(**shape)
        self.noise = nn.Identity()

    def remove_noise(self, u: Tensor, valid: Tensor, sensor: Tensor) -> Tensor:
        """Remove the noise of a log image.

        Parameters
        ----------
        u : Tensor, shape (batch, 1, y, x)
            Natural logarithm minus a smooth image such as its local mean. y and x are multiples
            of 4.
        valid : Tensor, same shape
            1 where there is data, 0 elsewhere.
        sensor : Tensor, shape (batch, 5)
            From :func:`~sarstack.networks.two_scale.encode_sensor`, of ``1 / deviation**2`` and the
            correlation of the noise at lag 1.

        Returns
        -------
        Tensor, shape (batch, 1, y, x)
        """
        images = torch.cat([u.clamp(DARKEST_NAT, BRIGHTEST_NAT) * valid, valid], dim=1)
        noise = cast("TwoScaleBranch", self.clean)(images, sensor, [0, 0, 0, 0]).float()
        return u - fade_out_correction(noise, u)


class ImageDenoiser:
    """A network that removes Gaussian noise from versions of one image.

    Parameters
    ----------
    network : GaussianCNN
        Fused; see :func:`sarstack.networks.inference.load_network`.
    logs : ndarray, shape (y, x), float32
        Natural logarithm of the noisy image. Its local mean is what the network does not see.
    usable : ndarray, shape (y, x), bool
        Pixels that take part.
    deviation : float
        Unit of the images and of the noise of a call, in nat.
    correlation : tuple of float
        Lag-1 correlation of the noise along y and x.
    """

    def __init__(
        self,
        network: DeSpeckNet,
        logs: NDArray[np.float32],
        usable: NDArray[np.bool_],
        deviation: float,
        correlation: tuple[float, float],
    ) -> None:
        if not isinstance(network, GaussianCNN):
            raise TypeError(f"{type(network).__name__} does not remove Gaussian noise")
        self.network, self.deviation = network, deviation
        self.device = next(network.parameters()).device
        self.correlation = torch.tensor([correlation], device=self.device)
        self.valid = self._to_device(usable.astype(np.float32))
        with torch.inference_mode():
            self.mean = centre_log(self._to_device(np.exp(logs)), self.valid)[1].nan_to_num(0.0)

    def __call__(self, image: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
        """Return the image without its noise.

        Parameters
        ----------
        image : ndarray, shape (y, x), float32
            In units of the deviation; finite.
        noise : float
            Standard deviation of the noise, in units of the deviation.
        """
        height, width = image.shape
        looks = torch.tensor([(noise * self.deviation) ** -2], device=self.device)
        sensor = encode_sensor(looks, self.correlation, torch.ones_like(looks))
        with torch.inference_mode():
            u = self._to_device(image) * self.deviation - self.mean
            clean = self.network.remove_noise(u, self.valid, sensor.float()) + self.mean
        result = clean[0, 0, :height, :width].cpu().numpy() / np.float32(self.deviation)
        return np.asarray(result, np.float32)

    def _to_device(self, image: NDArray[np.float32]) -> Tensor:
        return pad_to_cells(torch.from_numpy(image)[None, None].to(self.device))
