"""deSpeckNet (Mullissa et al., TGRS 2020): two convolutional branches, clean image and speckle.

Both variants have the published branches; they differ in what the branches see.

* :class:`LinearDeSpeckNet` (``despecknet-paper``): linear intensity in, linear intensity
  out, ``yhat = xhat * nhat``, as published.
* :class:`LogDeSpeckNet` (``despecknet``): log intensity with its local mean taken off, so a
  brighter scene is the same input; the product becomes a sum and the clean branch predicts
  what to take away.
"""

import copy
from itertools import pairwise
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LOCAL_MEAN_WINDOW_PX = 15
DARKEST_NAT, BRIGHTEST_NAT = -8.0, 12.0


class Prediction(NamedTuple):
    """What a network says of a batch, each (batch, 1, y, x), in the variant's own domain.

    ``noise`` and ``reconstruction`` are None when the noise branch was not asked for.
    """

    observed: Tensor
    clean: Tensor
    noise: Tensor | None
    reconstruction: Tensor | None


class Branch(nn.Module):
    """A plain stack of 3x3 convolutions with zero padding.

    conv 1->width, ReLU; (depth - 2) x [conv, batch norm, ReLU]; conv width->1.

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
        # Statistics of some thirty batches: a batch of few sensors and scenes is no fair sample.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=0.03) for _ in range(depth - 2))
        for convolution in self.layers:
            fan = 9 * max(convolution.in_channels, convolution.out_channels)
            nn.init.normal_(convolution.weight, std=(2 / fan) ** 0.5)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    @property
    def layers(self) -> list[nn.Conv2d]:
        """The convolutions in order."""
        return cast("list[nn.Conv2d]", list(self.convolutions))

    @property
    def radius_px(self) -> int:
        """Receptive radius: how far away an input pixel can matter."""
        return sum(c.kernel_size[0] // 2 for c in self.layers)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (batch, 1, y, x) to the same shape.

        With `valid` (1 or 0, same shape), every layer sees zeros at invalid pixels: a
        hole acts exactly as the zero padding at the edge of the scene.
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
    def fold(self) -> None:
        """Put the batch norms' running statistics into the convolutions, in place."""
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


class DeSpeckNet(nn.Module):
    """Two branches with separate weights; subclasses say what they see and predict."""

    variant: str
    domain: str

    def __init__(self, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        self.depth, self.width = depth, width
        self.clean, self.noise = Branch(depth, width), Branch(depth, width)

    @property
    def halo(self) -> int:
        """Pixels needed on each side, derived from the layers."""
        return self.clean.radius_px

    def fold(self) -> Self:
        """Return a copy for inference, the batch norms folded into the convolutions."""
        folded = copy.deepcopy(self)
        folded.clean.fold()
        folded.noise.fold()
        return folded.eval()

    def forward(
        self, intensity: Tensor, valid: Tensor | None = None, *, noise: bool = True
    ) -> Prediction:
        """Predict clean image and, if asked, speckle; all tensors (batch, 1, y, x)."""
        raise NotImplementedError

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Turn the clean prediction into linear power."""
        raise NotImplementedError


class LinearDeSpeckNet(DeSpeckNet):
    """The published network on linear intensity.

    Its input must be of the brightness it was trained on: divide by the scene's 98th
    percentile before, multiply after.
    """

    variant, domain = "despecknet-paper", "linear"

    def forward(
        self, intensity: Tensor, valid: Tensor | None = None, *, noise: bool = True
    ) -> Prediction:
        """Predict ``xhat``, ``nhat`` and their product."""
        clean = self.clean(intensity, valid).float()
        if not noise:
            return Prediction(intensity, clean, None, None)
        speckle = self.noise(intensity, valid).float()
        return Prediction(intensity, clean, speckle, clean * speckle)

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return the prediction itself: it is linear power already."""
        return clean


class LogDeSpeckNet(DeSpeckNet):
    """deSpeckNet on log intensity with the local mean taken off, residual.

    ``ln xhat = m + u - g(u)``, ``u = ln y - m``, m the mean of ln y over the valid pixels
    of a 15x15 window; ``ln yhat = ln xhat + h(u)``. Multiplying the scene by a constant
    adds to m alone, so the result is multiplied by it exactly.
    """

    variant, domain = "despecknet", "log"

    def __init__(self, depth: int = 17, width: int = 64) -> None:
        super().__init__(depth, width)
        with torch.no_grad():
            # Start near "take nothing away", where the residual is small.
            self.clean.layers[-1].weight.mul_(0.1)
            self.noise.layers[-1].weight.mul_(0.1)

    @property
    def halo(self) -> int:
        """Receptive radius plus half the window of the local mean."""
        return super().halo + LOCAL_MEAN_WINDOW_PX // 2

    def forward(
        self, intensity: Tensor, valid: Tensor | None = None, *, noise: bool = True
    ) -> Prediction:
        """Predict ``ln xhat``, ``ln nhat`` and their sum.

        Pixels that are not positive, and windows without a positive pixel, are taken as
        e**-8 of the local mean; ``observed`` says so with the same number.
        """
        u, mean = centre_log(intensity, valid)
        seen = u.clamp(max=BRIGHTEST_NAT)
        clean = mean + u - self.clean(seen, valid).float()
        if not noise:
            return Prediction(mean + u, clean, None, None)
        speckle = self.noise(seen, valid).float()
        return Prediction(mean + u, clean, speckle, clean + speckle)

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power, never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))


def centre_log(intensity: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split log intensity into local mean and deviation.

    Parameters
    ----------
    intensity : Tensor, shape (batch, 1, y, x)
        Linear power; zero or negative where noise was subtracted.
    valid : Tensor, same shape, optional
        1 where there is data, 0 elsewhere.

    Returns
    -------
    u, mean : Tensor, same shape
        ``u = max(ln y - mean, -8)``, and -8 where y is not positive. The mean is over
        the positive valid pixels of a 15x15 window clipped at the edge; where there is
        none it is NaN and u is -8.
    """
    positive = intensity > 0 if valid is None else (intensity > 0) & (valid > 0)
    log = torch.where(positive, intensity, 1.0).log()
    count = _box_sum(positive.to(log.dtype))
    mean = torch.where(count > 0, _box_sum(log) / count, torch.nan)
    u = torch.where(positive, (log - mean).clamp(min=DARKEST_NAT), DARKEST_NAT)
    return u, mean


def _box_sum(image: Tensor) -> Tensor:
    # Not a running sum: each window is added in the same order wherever the block lies.
    return functional.avg_pool2d(
        image,
        LOCAL_MEAN_WINDOW_PX,
        stride=1,
        padding=LOCAL_MEAN_WINDOW_PX // 2,
        divisor_override=1,
    )


VARIANTS: dict[str, type[DeSpeckNet]] = {
    cls.variant: cls for cls in (LogDeSpeckNet, LinearDeSpeckNet)
}


def build_network(variant: str, depth: int = 17, width: int = 64) -> DeSpeckNet:
    """Make an untrained network of a known variant."""
    return VARIANTS[variant](depth, width)
