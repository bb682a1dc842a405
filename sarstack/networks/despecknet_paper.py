"""deSpeckNet as published: two plain stacks of convolutions on linear intensity."""

from itertools import pairwise
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.network import DeSpeckNet, Inside, Prediction


class Branch(nn.Module):
    """A plain stack of 3x3 convolutions with zero padding.

    Layers: conv 1->width, ReLU; (depth - 2) x [conv, batch norm, ReLU]; conv width->1.

    Parameters
    ----------
    depth : int
        Number of convolutions; the published network has 17.
    width : int
        Channels; the published network has 64.
    """

    def __init__(self, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        channels = [1] + [width] * (depth - 1) + [1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels)
        )
        # Running statistics over about 30 batches: one batch has too few sensors and scenes.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=0.03) for _ in range(depth - 2))
        for convolution in self.layers:
            fan = 9 * max(convolution.in_channels, convolution.out_channels)
            nn.init.normal_(convolution.weight, std=(2 / fan) ** 0.5)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    @property
    def layers(self) -> list[nn.Conv2d]:
        """Convolutions in order."""
        return cast("list[nn.Conv2d]", list(self.convolutions))

    @property
    def radius_px(self) -> int:
        """Receptive radius: distance of the farthest input pixel that changes an output pixel."""
        return sum(c.kernel_size[0] // 2 for c in self.layers)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (batch, 1, y, x) to the same shape.

        With `valid` (1 or 0, same shape), the input of every layer is zero at invalid pixels.
        So a hole acts exactly as the zero padding at the edge of the scene.
        """
        last = len(self.layers) - 1
        for i, convolution in enumerate(self.layers):
            if valid is not None:
                image = image * valid
            image = convolution(image)
            if 0 < i < last and len(self.norms):
                image = self.norms[i - 1](image)
            if i < last:
                image = functional.relu(image, inplace=True)
        return image

    @torch.no_grad()
    def fold_batch_norms(self) -> None:
        """Fold the batch norms with their running statistics into the convolutions, in place."""
        if not len(self.norms):
            return
        norms = cast("list[nn.BatchNorm2d]", list(self.norms))
        for convolution, norm in zip(self.layers[1:-1], norms, strict=True):
            mean, variance, bias = norm.running_mean, norm.running_var, convolution.bias
            if mean is None or variance is None or bias is None:
                raise ValueError("a layer has no running statistics or no bias")
            gain = norm.weight / torch.sqrt(variance + norm.eps)
            convolution.weight.mul_(gain[:, None, None, None])
            bias.copy_((bias - mean) * gain + norm.bias)
        self.norms = nn.ModuleList()


class LinearDeSpeckNet(DeSpeckNet):
    """The published network on linear intensity.

    The input must have the brightness of the training data: divide it by the 98th percentile of
    the scene, and multiply the output by it.
    """

    variant, domain, loss = "despecknet-paper", "linear", "square"

    def __init__(self, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        self.architecture = {"depth": depth, "width": width}
        self.clean, self.noise = Branch(depth, width), Branch(depth, width)
        self.radius_px = self.clean.radius_px

    @property
    def halo(self) -> int:
        """Receptive radius."""
        return self.radius_px

    @property
    def channels(self) -> float:
        """Activations per pixel: the width."""
        return float(self.architecture["width"])

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference in float32, with batch norms folded into the convolutions."""
        fused = super().fuse(dtype)
        for branch in (fused.clean, fused.noise):
            cast("Branch", branch).fold_batch_norms()
        return fused

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        spread: bool = False,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict ``xhat``, ``nhat`` and their product; see :meth:`DeSpeckNet.forward`."""
        part = (..., *(inside or (slice(None), slice(None))))
        clean = self.clean(intensity, valid).float()[part]
        if not noise:
            return Prediction(intensity[part], clean, None, None)
        speckle = self.noise(intensity, valid).float()[part]
        return Prediction(intensity[part], clean, speckle, clean * speckle)

    def predict_speckle(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        inside: Inside | None = None,
    ) -> Tensor:
        """Predict the speckle; see :meth:`DeSpeckNet.predict_speckle`."""
        part = (..., *(inside or (slice(None), slice(None))))
        return self.noise(intensity, valid).float()[part]

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return the clean image itself: it is linear power."""
        return clean
