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

from typing import ClassVar, Self

import torch
from torch import Tensor

from sarstack.networks.date_sums import (
    FEWEST_DATES,
    N_SUMS,
    UNKNOWN_COUNT,
    scale_date_count,
)
from sarstack.networks.fused import FusedBranch
from sarstack.networks.log_network import BRIGHTEST_NAT, DARKEST_NAT, LogNetwork
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.two_scale import TwoScaleBranch, TwoScaleShape

DEVIATION_OFFSET_NAT = 0.1
"""Its square is added to a variance before the root is taken, and it is subtracted afterwards. The
root of a variance near zero would amplify the rounding errors of float32."""


class LogDeSpeckNet(LogNetwork):
    """deSpeckNet on log intensity without its local mean, residual.

    Looks and correlation are further inputs, if known; see
    :class:`~sarstack.networks.log_network.LogNetwork`.

    Parameters
    ----------
    **shape : int
        Fields of :class:`TwoScaleShape` for the clean branch; by default those of the variant.
    """

    variant = "despecknet"
    shape: ClassVar[TwoScaleShape] = TwoScaleShape()
    noise_shape: ClassVar[TwoScaleShape] = TwoScaleShape(32, 48, 0, 3, 1)

    def __init__(self, **shape: int) -> None:
        super().__init__()
        clean_shape = self.clean_shape = self.shape._replace(**shape)
        self.architecture = clean_shape._asdict()
        if not clean_shape.spread:  # cards of networks without it do not name it
            del self.architecture["spread"]
        self.clean = TwoScaleBranch(self.n_images, clean_shape)
        noise_shape = TwoScaleShape(*map(min, zip(self.noise_shape, clean_shape, strict=True)))
        self.noise = TwoScaleBranch(self.n_images, noise_shape)

    @property
    def has_spread(self) -> bool:
        """Whether the clean branch can tell how uncertain its prediction is."""
        return "spread" in self.architecture

    @property
    def radius_px(self) -> int:
        """Receptive radius of the clean branch."""
        return self.clean_shape.radius_px

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

    @torch.no_grad()
    def initialise_from(self, trained: DeSpeckNet) -> None:
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


class LiteDeSpeckNet(LogDeSpeckNet):
    """Smaller variant with an eighth of the operations."""

    variant = "despecknet-lite"
    shape = TwoScaleShape(32, 48, 0, 4, 1, dilation=3)


class StackDeSpeckNet(LogDeSpeckNet):
    """Multi-temporal variant: statistics of the other dates are further input images.

    There are four for each set of sums of :mod:`sarstack.networks.date_sums`: ``ln(mean y) - m``,
    ``mean(ln y) - m``, the standard deviation of ln y, and ``n / (n + 3)`` with n the number of
    other dates. All are zero where n = 0. Weighted sums give numbers that are not whole.

    The second set are the sums over the dates that agree with this one, from a first pass. In the
    first pass itself nobody has compared the dates: then its images are zero, and the fourth -1.

    Parameters
    ----------
    sums : {1, 2}
        Number of sets of sums.
    **shape : int
        As for :class:`LogDeSpeckNet`.
    """

    variant = "despecknet-mt"

    def __init__(self, sums: int = 1, **shape: int) -> None:
        self.n_images = 2 + N_SUMS * sums
        super().__init__(**shape)
        self.n_sets = sums
        if sums > 1:  # cards of networks with one set do not name it
            self.architecture["sums"] = sums

    def encode_other_dates(self, others: Tensor | None, mean: Tensor, valid: Tensor) -> Tensor:
        """Return the images of the other dates, shape (batch, 4 * sums, y, x)."""
        if others is None:
            others = valid.new_zeros((len(valid), N_SUMS, *valid.shape[-2:]))
        images = [_encode_sums(others[:, :N_SUMS], mean)]
        if self.n_sets > 1:
            compared = others[:, N_SUMS:]
            if not compared.shape[1]:
                compared = torch.full_like(others, UNKNOWN_COUNT)
            agreeing = _encode_sums(compared, mean)
            is_unknown = compared[:, :1] < 0
            agreeing[:, 3:] = torch.where(is_unknown, float(UNKNOWN_COUNT), agreeing[:, 3:])
            images.append(agreeing)
        return torch.cat(images, dim=1)


def _encode_sums(sums: Tensor, mean: Tensor) -> Tensor:
    """Return the four images of one set of sums, both (batch, 4, y, x); zero without a date."""
    count = sums[:, :1]
    n = count.clamp(min=FEWEST_DATES)
    temporal_mean, mean_of_log = sums[:, 1:2] / n, sums[:, 2:3] / n
    variance = (sums[:, 3:4] / n - mean_of_log**2).clamp(min=0)
    deviation = (variance + DEVIATION_OFFSET_NAT**2).sqrt() - DEVIATION_OFFSET_NAT
    level = temporal_mean.clamp(min=1e-30).log() - mean
    images = torch.cat([level, mean_of_log - mean, deviation, scale_date_count(count)], dim=1)
    usable = (count > 0) & torch.isfinite(mean)
    return torch.where(usable, images.clamp(DARKEST_NAT, BRIGHTEST_NAT), 0.0)
