"""Base class of the networks on log intensity without its local mean."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.network import DeSpeckNet, Inside, Prediction
from sarstack.networks.two_scale import N_SENSOR_FEATURES
from sarstack.tiles import ALIGNMENT_PX

LOCAL_MEAN_CELLS = 11
"""Side of the window of the local mean, in cells of 4x4 pixels."""
DARKEST_NAT, BRIGHTEST_NAT = -8.0, 12.0
"""Limits of the input, in nat (1 nat = 4.3 dB) above the local mean."""
LEAST_SPREAD, LARGEST_SPREAD = -5.3, 1.1
"""Limits of ln of the standard deviation in nat: 0.02 and 13 dB."""
FADE_START_NAT, FADE_END_NAT = 6.0, 8.0
"""The correction fades out between these levels above the local mean (26 and 35 dB).

A pixel as bright as this is a strong scatterer, not speckle."""


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

    def run(self, branch: nn.Module, **what: bool) -> Tensor:
        """Return what a branch predicts at the wanted pixels."""
        predicted = branch(self.images, self.sensor, self.margins, **what).float()
        # The output covers whole cells of the coarse grid, so it may be larger than wanted.
        y, x = (part.start % ALIGNMENT_PX for part in self.wanted)
        height, width = self.observed.shape[-2:]
        return cast("Tensor", predicted[..., y : y + height, x : x + width])


class LogNetwork(DeSpeckNet):
    """Network on log intensity without its local mean, residual.

    ``ln xhat = ln y - g(u)`` and ``ln yhat = ln xhat + h(u)`` with ``u = ln y - m``; m is the
    mean of ln y over about 44x44 pixels, g and h are the branches. A constant factor on the scene
    changes ln y and m by the same amount, so the result has the same factor.

    From u = 6 to 8 (26 to 35 dB) the correction g is scaled to zero, because pixels as bright as
    this are rare in training. An error there would matter: one pixel can have most of the power of
    a town.

    A branch is called with images (batch, n_images, y, x), whose first two are u and the mask of
    valid pixels, the encoded sensor, and the margins that it has to trim; see
    :class:`~sarstack.networks.two_scale.TwoScaleBranch`.

    Attributes
    ----------
    n_images : int
        Number of input images of a branch.
    """

    domain = "log"
    n_images: int = 2

    @property
    def radius_px(self) -> int:
        """Receptive radius of the clean branch, a multiple of 4 px."""
        raise NotImplementedError

    @property
    def halo(self) -> int:
        """Receptive radius of the clean branch plus that of the local mean."""
        return self.radius_px + ALIGNMENT_PX * (LOCAL_MEAN_CELLS // 2 + 2)

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
        """Predict ``ln xhat``, ``ln nhat`` and their sum; see :meth:`DeSpeckNet.forward`.

        A pixel that is not positive counts as e**-8 of the local mean, also in ``observed``.
        Where no pixel of the window of the local mean is positive, the prediction is NaN.
        """
        inputs = self._encode(intensity, valid, sensor, others, inside)
        predicted = inputs.run(self.clean, **({"spread": True} if spread else {}))
        clean = inputs.observed - fade_out_correction(predicted[:, :1], inputs.u)
        wide = predicted[:, 1:].clamp(LEAST_SPREAD, LARGEST_SPREAD) if spread else None
        if not noise:
            return Prediction(inputs.observed, clean, None, None, wide)
        speckle = inputs.run(self.noise)
        return Prediction(inputs.observed, clean, speckle, clean + speckle, wide)

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
        intensity, valid = pad_to_cells(intensity), pad_to_cells(valid)
        u, mean = centre_log(intensity, valid)
        wanted = inside or (slice(0, rows), slice(0, columns))
        needed, margins = self._needed_input(wanted, u)
        observed = (mean + u)[(..., *wanted)]
        channels = [u.clamp(max=BRIGHTEST_NAT) * valid, valid]
        if self.n_images > len(channels):
            others = None if others is None else pad_to_cells(others)
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
        radius, needed, margins = self.radius_px, [], []
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

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power; limited so that it is never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))


def fade_out_correction(correction: Tensor, u: Tensor) -> Tensor:
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


def pad_to_cells(image: Tensor) -> Tensor:
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
