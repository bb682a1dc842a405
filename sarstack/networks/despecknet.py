"""deSpeckNet (Mullissa et al., TGRS 2020): two convolutional branches, clean image and speckle.

All variants have the two branches; they differ in what the branches see and are.

* ``despecknet-paper``, in :mod:`sarstack.networks.despecknet_paper`: linear intensity in, linear
  intensity out, ``yhat = xhat * nhat``, two plain stacks of 17 convolutions, as published.
* :class:`LogDeSpeckNet` (``despecknet``, ``despecknet-lite``): log intensity with its local
  mean taken off, so a brighter scene is the same input; the product becomes a sum and the
  clean branch predicts what to take away. It is told looks and correlation, if known.
* :class:`StackDeSpeckNet` (``despecknet-mt``): the same, and it sees what the other dates
  of the stack have in common.
"""

from typing import ClassVar, Self, cast

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
FADE_START_NAT, FADE_END_NAT = 6.0, 8.0
"""So far above the local mean no speckle comes: a strong scatterer alone, seen as it is."""
SPREAD_OFFSET_NAT = 0.1  # A plain root would blow up what float32 rounds off large squares.


class LogDeSpeckNet(DeSpeckNet):
    """deSpeckNet on log intensity with the local mean taken off, residual.

    ``ln xhat = ln y - g(u)``, ``u = ln y - m``, m the mean of ln y over some 44x44 pixels;
    ``ln yhat = ln xhat + h(u)``. Multiplying the scene by a constant adds to ln y and m
    alone, so the result is multiplied by it. From u = 6 to 8 (26 to 35 dB) g fades out: single
    pixels can hold most of the power of a town, and of those a network has seen too few.

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
        reach = TwoScaleShape(**self.architecture).radius_px
        return reach + ALIGNMENT_PX * (LOCAL_MEAN_CELLS // 2 + 2)

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference, the inner layers of both branches in `dtype`."""
        fused = super().fuse(dtype)
        for name in ("clean", "noise"):
            branch = getattr(fused, name)
            if isinstance(branch, TwoScaleBranch):
                setattr(fused, name, FusedBranch(branch, dtype))
        return fused

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
        intensity, known = _fill_cells(intensity), _fill_cells(known)
        u, mean = centre_log(intensity, known)
        wanted, near, margins = self._plan(inside or (slice(0, rows), slice(0, columns)), u)
        observed = (mean + u)[(..., *wanted)]
        seen = [u.clamp(max=BRIGHTEST_NAT) * known, known]
        if self.n_images > len(seen):
            seen.append(self.encode_other_dates(None if others is None else _fill_cells(others),
                                        mean, known))  # fmt: skip
        images = torch.cat([image[(..., *near)] for image in seen], dim=1)
        if sensor is None:
            sensor = images.new_zeros((len(images), N_SENSOR_FEATURES))
        height, width = observed.shape[-2:]

        def predict(branch: nn.Module) -> Tensor:
            # Margins may be wider than wanted: the coarse grid has its own lines.
            found = branch(images, sensor, margins).float()
            y, x = (w.start % ALIGNMENT_PX for w in wanted)
            return cast("Tensor", found[..., y : y + height, x : x + width])

        clean = observed - _keep_steady(predict(self.clean), u[(..., *wanted)])
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
        reach, near, margins = TwoScaleShape(**self.architecture).radius_px, [], []
        for wanted, size in zip(inside, block.shape[-2:], strict=True):
            first = wanted.start - wanted.start % ALIGNMENT_PX
            last = wanted.stop + -wanted.stop % ALIGNMENT_PX
            start, stop = max(first - reach, 0), min(last + reach, size)
            near.append(slice(start, stop))
            margins += [first - start, stop - last]
        return inside, (near[0], near[1]), margins

    def encode_other_dates(self, others: Tensor | None, mean: Tensor, known: Tensor) -> Tensor:
        """Turn the sums over other dates into images; this variant sees none."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise_from(self, trained: "LogDeSpeckNet") -> None:
        """Start from a network that sees fewer images or has fewer blocks: it computes the same.

        The further images count nothing yet, the further blocks add nothing yet.
        """
        weights = trained.state_dict()
        for name, ours in self.state_dict().items():
            if name in weights:
                given = weights[name]
                ours.zero_()
                ours[tuple(map(slice, given.shape))] = given
            elif ".second." in name:
                ours.zero_()

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power, never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))


class LiteDeSpeckNet(LogDeSpeckNet):
    """The same with an eighth of the operations."""

    variant = "despecknet-lite"
    shape = TwoScaleShape(32, 48, 0, 4, 1, dilation=3)


class StackDeSpeckNet(LogDeSpeckNet):
    """The same, with what the other dates of the stack have in common as further images.

    Others are four sums over those dates, at pixels with positive power: 1, y, ln y and
    (ln y)^2. Seen are ``ln(mean y) - m``, ``mean(ln y) - m``, the standard deviation of ln y
    and ``n / (n + 3)``; all zero where there is no other date.
    """

    variant = "despecknet-mt"
    n_images = 6

    def encode_other_dates(self, others: Tensor | None, mean: Tensor, known: Tensor) -> Tensor:
        """Return four images, shape (batch, 4, y, x)."""
        if others is None:
            return known.new_zeros((len(known), 4, *known.shape[-2:]))
        count = others[:, :1]
        n = count.clamp(min=1)
        average, log_average = others[:, 1:2] / n, others[:, 2:3] / n
        variance = (others[:, 3:4] / n - log_average**2).clamp(min=0)
        spread = (variance + SPREAD_OFFSET_NAT**2).sqrt() - SPREAD_OFFSET_NAT
        level = average.clamp(min=1e-30).log() - mean
        seen = torch.cat([level, log_average - mean, spread, scale_date_count(count)], dim=1)
        there = (count > 0) & torch.isfinite(mean)
        return torch.where(there, seen.clamp(DARKEST_NAT, BRIGHTEST_NAT), 0.0)


def _keep_steady(taken: Tensor, u: Tensor) -> Tensor:
    """Take nothing from pixels so bright that they are no speckle."""
    if u.amax() <= FADE_START_NAT:
        return taken
    return taken * ((FADE_END_NAT - u) / (FADE_END_NAT - FADE_START_NAT)).clamp(0, 1)


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
    whole = bool(positive.all())  # as is the rule: half of the passes over the image
    log = (intensity if whole else torch.where(positive, intensity, 1.0)).log()
    if whole:
        mean = _cell_sum(log) / _count_pixels(log)
    else:
        count = _cell_sum(positive.to(log.dtype))
        mean = torch.where(count > 0, _cell_sum(log) / count.clamp(min=1), torch.nan)
    mean = functional.interpolate(mean, scale_factor=ALIGNMENT_PX, mode="bilinear")
    u = (log - mean).clamp_(min=DARKEST_NAT)
    return u if whole else torch.where(positive, u, DARKEST_NAT), mean


def _count_pixels(image: Tensor) -> Tensor:
    """Return what :func:`_cell_sum` makes of as many ones, but for the batch."""
    rows, columns = (size // ALIGNMENT_PX for size in image.shape[-2:])
    column = _slide_sum(image.new_ones(rows, 1), 0)
    row = _slide_sum(image.new_ones(1, columns), 1)
    return ALIGNMENT_PX**2 * column * row


def _fill_cells(image: Tensor) -> Tensor:
    """Add zeros below and on the right, up to whole cells."""
    rows, columns = (-size % ALIGNMENT_PX for size in image.shape[-2:])
    return functional.pad(image, (0, columns, 0, rows)) if rows or columns else image


def _cell_sum(image: Tensor) -> Tensor:
    """Add up the pixels of 11x11 cells around each cell, clipped at the edge."""
    total = functional.avg_pool2d(image, ALIGNMENT_PX, divisor_override=1)
    return _slide_sum(_slide_sum(total, -2), -1)


def _slide_sum(image: Tensor, axis: int) -> Tensor:
    """Add up a window along an axis; a fifth of the time of avg_pool2d, to the same bits."""
    # Not a running sum: each window is added in the same order wherever the block lies.
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
    """Make an untrained network of a known variant."""
    return VARIANTS[variant](**architecture)
