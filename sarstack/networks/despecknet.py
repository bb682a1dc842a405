"""deSpeckNet (Mullissa et al., TGRS 2020): two convolutional branches, clean image and speckle.

All variants have the two branches; they differ in what the branches see and are.

* :class:`LinearDeSpeckNet` (``despecknet-paper``): linear intensity in, linear intensity
  out, ``yhat = xhat * nhat``, two plain stacks of 17 convolutions, as published.
* :class:`LogDeSpeckNet` (``despecknet``, ``despecknet-lite``): log intensity with its local
  mean taken off, so a brighter scene is the same input; the product becomes a sum and the
  clean branch predicts what to take away. It is told looks and correlation, if known.
* :class:`StackDeSpeckNet` (``despecknet-mt``): the same, and it sees what the other dates
  of the stack have in common.
"""

import copy
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.two_scale import N_SENSOR, TwoScaleBranch, TwoScaleShape
from sarstack.tiles import ALIGNMENT_PX

LOCAL_MEAN_CELLS = 11
"""Side of the window of the local mean, in cells of 4x4 pixels."""
Inside = tuple[slice, slice]
DARKEST_NAT, BRIGHTEST_NAT = -8.0, 12.0
LITTLE_SPREAD = 0.1  # A plain root would blow up what float32 rounds off large squares.


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

    variant: ClassVar[str]
    domain: ClassVar[str]
    clean: nn.Module
    noise: nn.Module
    architecture: dict[str, Any]
    """What :func:`build_network` needs to build it again."""

    @property
    def halo(self) -> int:
        """Pixels needed on each side, derived from the layers."""
        raise NotImplementedError

    @property
    def channels(self) -> float:
        """Activations per pixel of the widest layer."""
        raise NotImplementedError

    def fold(self) -> Self:
        """Return a copy for inference, batch norms folded into the convolutions."""
        return copy.deepcopy(self).eval()

    def narrow(self, dtype: torch.dtype) -> None:
        """Compute inner layers in another type, in place; does nothing where it would harm."""

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict clean image and, if asked, speckle; all tensors (batch, 1, y, x).

        Parameters
        ----------
        intensity : Tensor
            Linear power, 0 where invalid.
        valid : Tensor, optional
            1 where there is data, 0 elsewhere; None: everywhere.
        sensor : Tensor, shape (batch, 5), optional
            See :func:`sarstack.networks.two_scale.describe_sensor`; None: unknown.
        others : Tensor, shape (batch, 4, y, x), optional
            What other dates add up to, see :class:`StackDeSpeckNet`.
        noise : bool
            Whether the noise branch is computed.
        inside : tuple of slice, optional
            Rows and columns to predict, at least `halo` away from every edge that is not
            one of the scene's; all, if None.
        """
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

    def __init__(self, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        self.architecture = {"depth": depth, "width": width}
        self.clean, self.noise = Branch(depth, width), Branch(depth, width)
        self.reach_px = self.clean.radius_px

    @property
    def halo(self) -> int:
        """Receptive radius."""
        return self.reach_px

    @property
    def channels(self) -> float:
        """Width."""
        return float(self.architecture["width"])

    def fold(self) -> Self:
        """Return a copy for inference, the batch norms folded into the convolutions."""
        folded = super().fold()
        for branch in (folded.clean, folded.noise):
            cast("Branch", branch).fold()
        return folded

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,  # noqa: ARG002
        others: Tensor | None = None,  # noqa: ARG002
        noise: bool = True,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict ``xhat``, ``nhat`` and their product."""
        part = (..., *(inside or (slice(None), slice(None))))
        clean = self.clean(intensity, valid).float()[part]
        if not noise:
            return Prediction(intensity[part], clean, None, None)
        speckle = self.noise(intensity, valid).float()[part]
        return Prediction(intensity[part], clean, speckle, clean * speckle)

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return the prediction itself: it is linear power already."""
        return clean


class LogDeSpeckNet(DeSpeckNet):
    """deSpeckNet on log intensity with the local mean taken off, residual.

    ``ln xhat = ln y - g(u)``, ``u = ln y - m``, m the mean of ln y over some 44x44 pixels;
    ``ln yhat = ln xhat + h(u)``. Multiplying the scene by a constant adds to ln y and m
    alone, so the result is multiplied by it.

    Parameters
    ----------
    **shape : int
        Fields of :class:`TwoScaleShape` of the clean branch, by default those of the variant.
    """

    variant, domain = "despecknet", "log"
    shape: ClassVar[TwoScaleShape] = TwoScaleShape()
    noise_shape: ClassVar[TwoScaleShape] = TwoScaleShape(32, 48, 0, 3, 1)
    n_images: ClassVar[int] = 2

    def __init__(self, **shape: int) -> None:
        super().__init__()
        wanted = self.shape._replace(**shape)
        self.architecture = wanted._asdict()
        self.clean = TwoScaleBranch(self.n_images, wanted)
        small = TwoScaleShape(*map(min, zip(self.noise_shape, wanted, strict=True)))
        self.noise = TwoScaleBranch(self.n_images, small)

    @property
    def halo(self) -> int:
        """Receptive radius, and the reach of the local mean."""
        reach = TwoScaleShape(**self.architecture).reach_px
        return reach + ALIGNMENT_PX * (LOCAL_MEAN_CELLS // 2 + 2)

    def narrow(self, dtype: torch.dtype) -> None:
        """Compute all layers but the first and the last in another type, in place."""
        for branch in (self.clean, self.noise):
            cast("TwoScaleBranch", branch).narrow(dtype)

    @property
    def channels(self) -> float:
        """Activations per pixel: a quarter of the fine grid's, a sixteenth of the coarse's."""
        return max(self.architecture["width"] / 4, self.architecture["deep_width"] / 16)

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict ``ln xhat``, ``ln nhat`` and their sum.

        Pixels that are not positive, and windows without a positive pixel, are taken as
        e**-8 of the local mean; ``observed`` says so with the same number.
        """
        rows, columns = intensity.shape[-2:]
        known = torch.ones_like(intensity) if valid is None else valid
        pad = (0, -columns % ALIGNMENT_PX, 0, -rows % ALIGNMENT_PX)
        intensity, known = functional.pad(intensity, pad), functional.pad(known, pad)
        u, mean = centre_log(intensity, known)
        wanted, near, margins = self._plan(inside or (slice(0, rows), slice(0, columns)), u)
        observed = (mean + u)[(..., *wanted)]
        seen = [u.clamp(max=BRIGHTEST_NAT) * known, known]
        if self.n_images > len(seen):
            seen.append(self.see_others(None if others is None else functional.pad(others, pad),
                                        mean, known))  # fmt: skip
        images = torch.cat([image[(..., *near)] for image in seen], dim=1)
        if sensor is None:
            sensor = images.new_zeros((len(images), N_SENSOR))
        height, width = observed.shape[-2:]

        def predict(branch: nn.Module) -> Tensor:
            # Margins may be wider than wanted: the coarse grid has its own lines.
            found = branch(images, sensor, margins).float()
            y, x = (w.start % ALIGNMENT_PX for w in wanted)
            return cast("Tensor", found[..., y : y + height, x : x + width])

        clean = observed - predict(self.clean)
        if not noise:
            return Prediction(observed, clean, None, None)
        speckle = predict(self.noise)
        return Prediction(observed, clean, speckle, clean + speckle)

    def _plan(self, inside: Inside, block: Tensor) -> tuple[Inside, Inside, list[int]]:
        """Choose what the layers are given: what is wanted and their reach, no more.

        Returns
        -------
        wanted, near : tuple of slice
            Rows and columns to predict, and to give to the branches, on the coarse grid.
        margins : list of int
            What of `near` is reach only: top, bottom, left, right.
        """
        reach, near, margins = TwoScaleShape(**self.architecture).reach_px, [], []
        for wanted, size in zip(inside, block.shape[-2:], strict=True):
            first = wanted.start - wanted.start % ALIGNMENT_PX
            last = wanted.stop + -wanted.stop % ALIGNMENT_PX
            start, stop = max(first - reach, 0), min(last + reach, size)
            near.append(slice(start, stop))
            margins += [first - start, stop - last]
        return inside, (near[0], near[1]), margins

    def see_others(self, others: Tensor | None, mean: Tensor, known: Tensor) -> Tensor:
        """Turn the sums over other dates into images; this variant sees none."""
        raise NotImplementedError

    @torch.no_grad()
    def take_over(self, trained: "LogDeSpeckNet") -> None:
        """Start from a network that sees fewer images: the further ones count nothing yet."""
        weights = trained.state_dict()
        for name, ours in self.state_dict().items():
            given = weights[name]
            if ours.shape != given.shape:
                ours.zero_()
                ours = ours[:, : given.shape[1]]
            ours.copy_(given)

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power, never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))


class LiteDeSpeckNet(LogDeSpeckNet):
    """The same with an eighth of the operations."""

    variant = "despecknet-lite"
    shape = TwoScaleShape(32, 48, 0, 3, 1)


class StackDeSpeckNet(LogDeSpeckNet):
    """The same, with what the other dates of the stack have in common as further images.

    Others are four sums over those dates, at pixels with positive power: 1, y, ln y and
    (ln y)^2. Seen are ``ln(mean y) - m``, ``mean(ln y) - m``, the standard deviation of ln y
    and ``n / (n + 3)``; all zero where there is no other date.
    """

    variant = "despecknet-mt"
    n_images = 6

    def see_others(self, others: Tensor | None, mean: Tensor, known: Tensor) -> Tensor:
        """Return four images, shape (batch, 4, y, x)."""
        if others is None:
            return known.new_zeros((len(known), 4, *known.shape[-2:]))
        count = others[:, :1]
        n = count.clamp(min=1)
        average, log_average = others[:, 1:2] / n, others[:, 2:3] / n
        variance = (others[:, 3:4] / n - log_average**2).clamp(min=0)
        spread = (variance + LITTLE_SPREAD**2).sqrt() - LITTLE_SPREAD
        level = average.clamp(min=1e-30).log() - mean
        seen = torch.cat([level, log_average - mean, spread, count / (count + 3)], dim=1)
        there = (count > 0) & torch.isfinite(mean)
        return torch.where(there, seen.clamp(DARKEST_NAT, BRIGHTEST_NAT), 0.0)


def centre_log(intensity: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split log intensity into local mean and deviation.

    Parameters
    ----------
    intensity : Tensor, shape (batch, 1, y, x)
        Linear power; zero or negative where noise was subtracted. y and x are multiples of 4.
    valid : Tensor, same shape, optional
        1 where there is data, 0 elsewhere.

    Returns
    -------
    u, mean : Tensor, same shape
        ``u = max(ln y - mean, -8)``, and -8 where y is not positive. The mean is over
        the positive valid pixels of 11x11 cells of 4x4 pixels, clipped at the edge, and
        linear between the middles of cells; where there is none it is NaN and u is -8.
    """
    positive = intensity > 0 if valid is None else (intensity > 0) & (valid > 0)
    log = torch.where(positive, intensity, 1.0).log()
    count = _cell_sum(positive.to(log.dtype))
    mean = torch.where(count > 0, _cell_sum(log) / count.clamp(min=1), torch.nan)
    mean = functional.interpolate(mean, scale_factor=ALIGNMENT_PX, mode="bilinear")
    u = torch.where(positive, (log - mean).clamp(min=DARKEST_NAT), DARKEST_NAT)
    return u, mean


def _cell_sum(image: Tensor) -> Tensor:
    # Not a running sum: each window is added in the same order wherever the block lies.
    by_cell = functional.avg_pool2d(image, ALIGNMENT_PX, divisor_override=1)
    half = LOCAL_MEAN_CELLS // 2
    return functional.avg_pool2d(
        by_cell, LOCAL_MEAN_CELLS, stride=1, padding=half, divisor_override=1
    )


VARIANTS: dict[str, type[DeSpeckNet]] = {
    cls.variant: cls for cls in (LogDeSpeckNet, LiteDeSpeckNet, StackDeSpeckNet, LinearDeSpeckNet)
}


def build_network(variant: str, **architecture: int) -> DeSpeckNet:
    """Make an untrained network of a known variant."""
    return VARIANTS[variant](**architecture)
