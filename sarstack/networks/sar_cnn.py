"""SAR-CNN: a plain stack of convolutions on log intensity, residual."""

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor

from sarstack.networks.despecknet_paper import Branch
from sarstack.networks.log_network import LogNetwork
from sarstack.networks.two_scale import TwoScaleBranch, TwoScaleShape, trim_margins
from sarstack.tiles import ALIGNMENT_PX

NOISE_SHAPE = TwoScaleShape(32, 48, 0, 1, 0)
"""Of the branch for the speckle. Its receptive radius is smaller than that of the clean branch."""


class LogBranch(Branch):
    """The published stack of convolutions with the input of :class:`LogNetwork`.

    It has no input for looks and correlation: it estimates them from the image.
    """

    def forward(  # type: ignore[override]
        self, images: Tensor, sensor: Tensor, margins: Sequence[int] = (0, 0, 0, 0)
    ) -> Tensor:
        """Map images to one image; see :meth:`TwoScaleBranch.forward`."""
        image = super().forward(images[:, :1], images[:, 1:2])
        return trim_margins(image, margins, 0, 1)[0]


class SarCNN(LogNetwork):
    """SAR-CNN (Dalsasso et al. 2020): 19 convolutions of 64 channels with batch norms.

    Two deviations: the input is log intensity without its local mean, not scaled by constants of
    the training data, so a factor on the scene is the same factor on the result. And there is a
    small branch for the speckle, as in deSpeckNet, so that the network can be finetuned without
    clean images; it does not change the result.

    Parameters
    ----------
    depth : int
        Number of convolutions.
    width : int
        Channels.
    """

    variant, loss = "sar-cnn", "absolute"

    def __init__(self, depth: int = 19, width: int = 64) -> None:
        super().__init__()
        self.architecture = {"depth": depth, "width": width}
        self.clean = LogBranch(depth, width)
        self.noise = TwoScaleBranch(self.n_images, NOISE_SHAPE)

    @property
    def radius_px(self) -> int:
        """Receptive radius of the wider branch, rounded up to a multiple of 4 px."""
        radius = -(-self.architecture["depth"] // ALIGNMENT_PX) * ALIGNMENT_PX
        return max(radius, NOISE_SHAPE.radius_px)

    @property
    def channels(self) -> float:
        """Activations per pixel: the width."""
        return float(self.architecture["width"])

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference in float32, with batch norms folded into the convolutions."""
        fused = super().fuse(dtype)
        cast("LogBranch", fused.clean).fold_batch_norms()
        return fused
