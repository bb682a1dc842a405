"""deSpeckNet (Mullissa et al., TGRS 2020): two convolutional branches, clean image and speckle.

All variants have two branches. They differ in the layers and in the input of the branches.

* ``despecknet-paper``, in :mod:`sarstack.networks.despecknet_paper`: linear intensity in and
  out, ``yhat = xhat * nhat``, two plain stacks of 17 convolutions, as published.
* :class:`LogDeSpeckNet` (``despecknet``, ``despecknet-lite``): log intensity without its local
  mean, so that the brightness of the scene does not matter. The product becomes a sum, and the
  clean branch predicts the difference to the noisy image. Looks and correlation are further
  inputs, if known.
* :class:`StackDeSpeckNet` (``despecknet-mt``): the same, with statistics of the other dates of
  the stack as further input images.
"""

from typing import ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.date_sums import scale_date_count
from sarstack.networks.despecknet_paper import LinearDeSpeckNet
from sarstack.networks.fused import FusedBranch
from sarstack.networks.network import DeSpeckNet, Inside, Prediction
from sarstack.networks.two_scale import N_SENSOR_FEATURES, TwoScaleBranch, TwoScaleShape
from sarstack.tiles import ALIGNMENT_PX

LOCAL_MEAN_CELLS = 11
"""Side of the window of the local mean, in cells of 4x4 pixels."""
DARKEST_NAT, BRIGHTEST_NAT = -8.0, 12.0
"""Limits of the input, in nat (1 nat = 4.3 dB) above the local mean."""
FADE_START_NAT, FADE_END_NAT = 6.0, 8.0
"""The correction fades out between these levels above the local mean (26 and 35 dB).

A pixel as bright as this is a strong scatterer, not speckle."""
DEVIATION_OFFSET_NAT = 0.1
"""Its square is added to a variance before the root is taken, and it is subtracted afterwards. The
root of a variance near zero would amplify the rounding errors of float32."""


class _Inputs(NamedTuple):
    """The input of both branches.

    Attributes
    ----------
    images, sensor : Tensor
        Input of a branch.
    margins : list of int
        Width of the part of `images` that is input only: top, bottom, left, right.
    wanted : tuple of slice
        Rows and columns to predict.
    u, observed : Tensor
        At the pixels to predict: log intensity without its local mean, and with it.
    """

    images: Tensor
    sensor: Tensor
    margins: list[int]
    wanted: Inside
    u: Tensor
    observed: Tensor

    def run(self, branch: nn.Module) -> Tensor:
        """Return what a branch predicts at the wanted pixels."""
        predicted = branch(self.images, self.sensor, self.margins).float()
        # The output covers whole cells of the coarse grid, so it may be larger than wanted.
        y, x = (part.start % ALIGNMENT_PX for part in self.wanted)
        height, width = self.observed.shape[-2:]
        return cast("Tensor", predicted[..., y : y + height, x : x + width])


class LogDeSpeckNet(DeSpeckNet):
    """deSpeckNet on log intensity without its local mean, residual.

    ``ln xhat = ln y - g(u)`` and ``ln yhat = ln xhat + h(u)`` with ``u = ln y - m``; m is the
    mean of ln y over about 44x44 pixels, g and h are the branches. A constant factor on the scene
    changes ln y and m by the same amount, so the result has the same factor.

    From u = 6 to 8 (26 to 35 dB) the correction g is scaled to zero, because pixels as bright as
    this are rare in training. An error there would matter: one pixel can have most of the power of
    a town.

    Parameters
    ----------
    **shape : int
        Fields of :class:`TwoScaleShape` for the clean branch; by default those of the variant.
    """

    variant, domain = "despecknet", "log"
    shape: ClassVar[TwoScaleShape] = TwoScaleShape()
    noise_shape: ClassVar[TwoScaleShape] = TwoScaleShape(32, 48, 0, 3, 1)
    n_images: ClassVar[int] = 2

    def __init__(self, **shape: int) -> None:
        super().__init__()
        clean_shape = self.shape._replace(**shape)
        self.architecture = clean_shape._asdict()
        self.clean = TwoScaleBranch(self.n_images, clean_shape)
        noise_shape = TwoScaleShape(*map(min, zip(self.noise_shape, clean_shape, strict=True)))
        self.noise = TwoScaleBranch(self.n_images, noise_shape)

    @property
    def halo(self) -> int:
        """Receptive radius of the clean branch plus that of the local mean."""
        radius = TwoScaleShape(**self.architecture).radius_px
        return radius + ALIGNMENT_PX * (LOCAL_MEAN_CELLS // 2 + 2)

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference; inner layers of both branches compute in `dtype`."""
        fused = super().fuse(dtype)
        for name in ("clean", "noise"):
            branch = getattr(fused, name)
            if isinstance(branch, TwoScaleBranch):
                setattr(fused, name, FusedBranch(branch, dtype))
        return fused

    @property
    def channels(self) -> float:
        """Activations per pixel: fine grid pixels are 2x2, coarse grid pixels 4x4 of the scene."""
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
        """Predict ``ln xhat``, ``ln nhat`` and their sum; see :meth:`DeSpeckNet.forward`.

        A pixel that is not positive counts as e**-8 of the local mean, also in ``observed``.
        Where no pixel of the window of the local mean is positive, the prediction is NaN.
        """
        inputs = self._encode(intensity, valid, sensor, others, inside)
        clean = inputs.observed - _fade_out_correction(inputs.run(self.clean), inputs.u)
        if not noise:
            return Prediction(inputs.observed, clean, None, None)
        speckle = inputs.run(self.noise)
        return Prediction(inputs.observed, clean, speckle, clean + speckle)

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
        speckle = self._encode(intensity, valid, sensor, others, inside).run(self.noise)
        return self.to_intensity(speckle)

    def _encode(
        self,
        intensity: Tensor,
        valid: Tensor | None,
        sensor: Tensor | None,
        others: Tensor | None,
        inside: Inside | None,
    ) -> "_Inputs":
        """Make the input of the branches; parameters are those of :meth:`forward`."""
        rows, columns = intensity.shape[-2:]
        valid = torch.ones_like(intensity) if valid is None else valid
        intensity, valid = _pad_to_cells(intensity), _pad_to_cells(valid)
        u, mean = centre_log(intensity, valid)
        wanted = inside or (slice(0, rows), slice(0, columns))
        needed, margins = self._needed_input(wanted, u)
        observed = (mean + u)[(..., *wanted)]
        channels = [u.clamp(max=BRIGHTEST_NAT) * valid, valid]
        if self.n_images > len(channels):
            others = None if others is None else _pad_to_cells(others)
            channels.append(self.encode_other_dates(others, mean, valid))
        images = torch.cat([channel[(..., *needed)] for channel in channels], dim=1)
        if sensor is None:
            sensor = images.new_zeros((len(images), N_SENSOR_FEATURES))
        return _Inputs(images, sensor, margins, wanted, u[(..., *wanted)], observed)

    def _needed_input(self, wanted: Inside, block: Tensor) -> tuple[Inside, list[int]]:
        """Return the rows and columns that the branches need to predict `wanted`.

        Returns
        -------
        needed : tuple of slice
            `wanted` and the receptive radius, from grid line to grid line of the coarse grid.
        margins : list of int
            Width of the part of `needed` that is input only: top, bottom, left, right.
        """
        radius, needed, margins = TwoScaleShape(**self.architecture).radius_px, [], []
        for part, size in zip(wanted, block.shape[-2:], strict=True):
            first = part.start - part.start % ALIGNMENT_PX
            last = part.stop + -part.stop % ALIGNMENT_PX
            start, stop = max(first - radius, 0), min(last + radius, size)
            needed.append(slice(start, stop))
            margins += [first - start, stop - last]
        return (needed[0], needed[1]), margins

    def encode_other_dates(self, others: Tensor | None, mean: Tensor, valid: Tensor) -> Tensor:
        """Make input images of the sums over other dates; only multi-temporal variants can."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise_from(self, trained: "LogDeSpeckNet") -> None:
        """Copy the weights of a network with fewer input images or blocks.

        The weights of the additional images, and those of the last layer of each additional block,
        are zero. So this network at first computes the same as `trained`.
        """
        trained_weights = trained.state_dict()
        for name, weights in self.state_dict().items():
            if name in trained_weights:
                copied = trained_weights[name]
                weights.zero_()
                weights[tuple(map(slice, copied.shape))] = copied
            elif ".second." in name:  # last layer of an additional block, which then adds zero
                weights.zero_()

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power; limited so that it is never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))


class LiteDeSpeckNet(LogDeSpeckNet):
    """Smaller variant with an eighth of the operations."""

    variant = "despecknet-lite"
    shape = TwoScaleShape(32, 48, 0, 4, 1, dilation=3)


class StackDeSpeckNet(LogDeSpeckNet):
    """Multi-temporal variant: statistics of the other dates are four further input images.

    They are ``ln(mean y) - m``, ``mean(ln y) - m``, the standard deviation of ln y, and
    ``n / (n + 3)`` with n the number of other dates. All are zero where n = 0. They follow from
    the sums of :mod:`sarstack.networks.date_sums`.
    """

    variant = "despecknet-mt"
    n_images = 6

    def encode_other_dates(self, others: Tensor | None, mean: Tensor, valid: Tensor) -> Tensor:
        """Return the four images of the other dates, shape (batch, 4, y, x)."""
        if others is None:
            return valid.new_zeros((len(valid), 4, *valid.shape[-2:]))
        count = others[:, :1]
        n = count.clamp(min=1)
        temporal_mean, mean_of_log = others[:, 1:2] / n, others[:, 2:3] / n
        variance = (others[:, 3:4] / n - mean_of_log**2).clamp(min=0)
        deviation = (variance + DEVIATION_OFFSET_NAT**2).sqrt() - DEVIATION_OFFSET_NAT
        level = temporal_mean.clamp(min=1e-30).log() - mean
        images = torch.cat([level, mean_of_log - mean, deviation, scale_date_count(count)], dim=1)
        usable = (count > 0) & torch.isfinite(mean)
        return torch.where(usable, images.clamp(DARKEST_NAT, BRIGHTEST_NAT), 0.0)


def _fade_out_correction(correction: Tensor, u: Tensor) -> Tensor:
    """Scale the correction of strong scatterers to zero."""
    if _is_known(u.amax() <= FADE_START_NAT):
        return correction
    return correction * ((FADE_END_NAT - u) / (FADE_END_NAT - FADE_START_NAT)).clamp(0, 1)


def _is_known(condition: Tensor) -> bool:
    """Return whether a condition is true; on a GPU always False.

    To wait for the answer of a GPU takes longer than the path that needs no answer. Both paths give
    the same bits.
    """
    return condition.device.type == "cpu" and bool(condition)


def centre_log(intensity: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split log intensity into its local mean and the deviation from it.

    Parameters
    ----------
    intensity : Tensor, shape (batch, 1, y, x)
        Linear power; zero or negative where noise was subtracted. y and x are multiples of 4.
    valid : Tensor, same shape, optional
        1 where there is data, 0 elsewhere.

    Returns
    -------
    u, mean : Tensor, same shape
        ``u = max(ln y - mean, -8)``, and -8 where y is not positive. The mean is over the
        positive valid pixels of 11x11 cells of 4x4 pixels, clipped at the edge of the scene, and
        bilinear between the centres of cells. Where no pixel is positive it is NaN and u is -8.
    """
    positive = intensity > 0 if valid is None else (intensity > 0) & (valid > 0)
    all_positive = _is_known(positive.all())  # the usual case: half of the passes over the image
    log = (intensity if all_positive else torch.where(positive, intensity, 1.0)).log()
    if all_positive:
        mean = _cell_sum(log) / _count_pixels(log)
    else:
        count = _cell_sum(positive.to(log.dtype))
        mean = torch.where(count > 0, _cell_sum(log) / count.clamp(min=1), torch.nan)
    mean = functional.interpolate(mean, scale_factor=ALIGNMENT_PX, mode="bilinear")
    u = (log - mean).clamp_(min=DARKEST_NAT)
    return u if all_positive else torch.where(positive, u, DARKEST_NAT), mean


def _count_pixels(image: Tensor) -> Tensor:
    """Return the number of pixels in each sum of :func:`_cell_sum`, shape (row, column)."""
    rows, columns = (size // ALIGNMENT_PX for size in image.shape[-2:])
    column = _slide_sum(image.new_ones(rows, 1), 0)
    row = _slide_sum(image.new_ones(1, columns), 1)
    return ALIGNMENT_PX**2 * column * row


def _pad_to_cells(image: Tensor) -> Tensor:
    """Pad with zeros below and on the right to whole cells."""
    rows, columns = (-size % ALIGNMENT_PX for size in image.shape[-2:])
    return functional.pad(image, (0, columns, 0, rows)) if rows or columns else image


def _cell_sum(image: Tensor) -> Tensor:
    """Sum the pixels of the 11x11 cells around each cell, clipped at the edge."""
    total = functional.avg_pool2d(image, ALIGNMENT_PX, divisor_override=1)
    return _slide_sum(_slide_sum(total, -2), -1)


def _slide_sum(image: Tensor, axis: int) -> Tensor:
    """Sum a moving window along an axis; same bits as avg_pool2d in a fifth of its time.

    It is not a running sum: each window is summed in the same order, wherever the block begins.
    """
    half, size = LOCAL_MEAN_CELLS // 2, image.shape[axis]
    edge = torch.zeros_like(image.narrow(axis, 0, 1)).repeat_interleave(half, axis)
    padded = torch.cat([edge, image, edge], dim=axis)
    total = padded.narrow(axis, 0, size)
    for start in range(1, LOCAL_MEAN_CELLS):
        total = total + padded.narrow(axis, start, size)
    return total


VARIANTS: dict[str, type[DeSpeckNet]] = {
    cls.variant: cls for cls in (LogDeSpeckNet, LiteDeSpeckNet, StackDeSpeckNet, LinearDeSpeckNet)
}


def build_network(variant: str, **architecture: int) -> DeSpeckNet:
    """Make an untrained network.

    Parameters
    ----------
    variant : str
        A key of `VARIANTS`.
    **architecture : int
        Sizes: the fields of :class:`TwoScaleShape`; ``depth`` and ``width`` for
        ``despecknet-paper``. By default those of the variant.
    """
    return VARIANTS[variant](**architecture)
