"""Branch of the networks on log intensity: convolutions on two grids of 2x2 and 4x4 pixels.

A deSpeckNet has two branches: one predicts the clean image, the other the speckle. Both have the
layers of this module. In this package ``sensor`` means what a network is told about the speckle:
its looks and its correlation along y and x.

A despeckler needs a wide receptive field, because speckle hides the value of a single pixel. So
2x2 pixels become channels, most layers work on a grid of 4x4 pixels, and a skip connection
carries the detail of the finer grid. Per pixel this takes a quarter of the operations of the
published network (17 layers of 64 channels), with three times its receptive radius.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.tiles import ALIGNMENT_PX

N_SENSOR_FEATURES = 5
SPREAD_AT_START = -2.0
"""ln of the standard deviation in nat with which training begins: 0.6 dB."""


def alternate_dilation(n_blocks: int, dilation: int) -> list[int]:
    """Return the dilation of each block of a body: 1, `dilation`, 1, and so on."""
    return [dilation if block % 2 else 1 for block in range(n_blocks)]


class TwoScaleShape(NamedTuple):
    """Size of a branch.

    Attributes
    ----------
    width, deep_width : int
        Channels on the grids of 2x2 and of 4x4 pixels.
    head, body, tail : int
        Numbers of residual blocks of two convolutions. An image passes the head on the fine grid
        (2x2 pixels), then the body on the coarse grid (4x4), then the tail on the fine grid.
    dilation : int
        Dilation of the second convolution of every other block of the coarse grid. It widens
        the receptive field without more operations.
    spread : int
        Channels of the layers that predict the uncertainty; 0: there are none.
    """

    width: int = 64
    deep_width: int = 128
    head: int = 1
    body: int = 5
    tail: int = 1
    dilation: int = 1
    spread: int = 0

    @property
    def dilations(self) -> list[int]:
        """Dilation of each block of the coarse grid."""
        return alternate_dilation(self.body, self.dilation)

    @property
    def radius_px(self) -> int:
        """Receptive radius of the branch, rounded up to a multiple of 4 px."""
        fine = 2 + 2 * (self.head + self.tail)
        needed = 2 * fine + self.body_radius_px(0) + ALIGNMENT_PX - 1
        return -(-needed // ALIGNMENT_PX) * ALIGNMENT_PX

    def body_radius_px(self, first: int) -> int:
        """Receptive radius of the blocks of the coarse grid, without those before `first`."""
        return sum(4 * (1 + dilation) for dilation in self.dilations[first:])

    @property
    def tail_radius_px(self) -> int:
        """Receptive radius of the layers after the coarse grid, rounded up to whole cells."""
        needed = 2 * (1 + 2 * self.tail)
        return -(-needed // ALIGNMENT_PX) * ALIGNMENT_PX

    @property
    def n_operations(self) -> int:
        """Multiply-accumulate operations per pixel for a branch with two input images."""
        w, d = self.width, self.deep_width
        fine = 9 * (8 * w + 2 * (self.head + self.tail) * w * w + 4 * w)
        coarse = 4 * w * d + 18 * self.body * d * d + 4 * d * w
        return fine // 4 + coarse // 16


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x) + shift))``; the shift of each channel depends on the sensor."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = self.make_layer(width, 1)
        self.second = self.make_layer(width, dilation)
        with torch.no_grad():
            self.second.weight.mul_(0.3)  # at first a block changes its input little

    @staticmethod
    def make_layer(width: int, dilation: int) -> nn.Conv2d:
        """Make a convolution that keeps the number of channels and the size of the image."""
        return nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, image: Tensor, shift: Tensor | None = None) -> Tensor:
        """Map (batch, width, y, x) to the same shape; `shift` is (batch, width)."""
        hidden = self.first(image)
        if shift is not None:
            hidden = hidden + shift[:, :, None, None]
        return cast("Tensor", image + self.second(functional.relu(hidden, inplace=True)))


class SpreadHead(nn.Module):
    """Predict the uncertainty of a branch from its last image on the fine grid.

    Two convolutions see whether the image is smooth around a pixel. The last layer of a branch
    needs an odd number of pixels of the fine grid beyond a cell of 4x4 pixels of the scene, so one
    more is there already: the receptive radius of the branch stays the same.

    Parameters
    ----------
    width, hidden : int
        Channels of the image, and of the layers between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, hidden, 3, padding=1)
        self.sensor = nn.Linear(N_SENSOR_FEATURES, hidden)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, 4, 1)
        nn.init.constant_(cast("Tensor", self.last.bias), SPREAD_AT_START)

    def forward(self, fine: Tensor, sensor: Tensor) -> Tensor:
        """Map the image (batch, width, y, x) and the sensor (batch, 5) to (batch, 1, 2 y, 2 x)."""
        hidden = self.first(fine) + self.sensor(sensor)[:, :, None, None]
        hidden = self.second(functional.relu(hidden))
        return self.finish(functional.relu(hidden))

    def finish(self, hidden: Tensor) -> Tensor:
        """Compute the last layer, in float32."""
        return functional.pixel_shuffle(self.last(hidden.float()), 2)


class TwoScaleBranch(nn.Module):
    """Map images at full resolution to one image at full resolution.

    Parameters
    ----------
    n_images : int
        Number of input images.
    shape : TwoScaleShape
        Size of the branch.

    Attributes
    ----------
    enter, leave : nn.Conv2d
        First and last layer: from images to the fine grid, and back. Model files have the weights
        under these names.
    head, body, tail : nn.ModuleList of ResidualBlock
        See :class:`TwoScaleShape`.
    down, up : nn.Conv2d
        From the fine to the coarse grid, and back.
    sensor : nn.Module
        From the encoded sensor to the shifts of the blocks of the body.
    spread : SpreadHead or None
        Predicts the uncertainty.
    """

    def __init__(self, n_images: int, shape: TwoScaleShape) -> None:
        super().__init__()
        w, d = shape.width, shape.deep_width
        self.shape = shape
        self.enter = nn.Conv2d(4 * n_images, w, 3, padding=1)
        self.head = nn.ModuleList(ResidualBlock(w) for _ in range(shape.head))
        self.down = nn.Conv2d(w, d, 2, stride=2)
        self.sensor = nn.Sequential(
            nn.Linear(N_SENSOR_FEATURES, 32), nn.ReLU(), nn.Linear(32, shape.body * d)
        )
        self.body = nn.ModuleList(ResidualBlock(d, dilation) for dilation in shape.dilations)
        self.up = nn.Conv2d(d, 4 * w, 1)
        self.tail = nn.ModuleList(ResidualBlock(w) for _ in range(shape.tail))
        self.leave = nn.Conv2d(w, 4, 3, padding=1)
        self.spread = SpreadHead(w, shape.spread) if shape.spread else None
        with torch.no_grad():
            self.leave.weight.mul_(0.1)  # training starts near an output of zero

    def forward(
        self,
        images: Tensor,
        sensor: Tensor,
        margins: Sequence[int] = (0, 0, 0, 0),
        *,
        spread: bool = False,
    ) -> Tensor:
        """Map images to one image.

        Parameters
        ----------
        images : Tensor, shape (batch, n_images, y, x)
            y and x are multiples of 4.
        sensor : Tensor, shape (batch, 5)
            From :func:`encode_sensor`.
        margins : sequence of int
            Width in pixels of the margin at the top, bottom, left and right that is input only:
            0, or `radius_px`.
        spread : bool
            Whether to predict the uncertainty, too.

        Returns
        -------
        Tensor, shape (batch, 1, y, x) without the margins
            With `spread`, of shape (batch, 2, y, x).
        """
        fine = functional.relu(self.enter(functional.pixel_unshuffle(images, 2)))
        for block in self.head:
            fine = block(fine)
        coarse = functional.relu(self.down(fine))
        shifts = self.sensor(sensor).chunk(len(self.body), dim=1)
        for block, shift in zip(self.body, shifts, strict=True):
            coarse = block(coarse, shift)
        fine = fine + functional.pixel_shuffle(self.up(coarse), 2)
        for block in self.tail:
            fine = block(fine)
        image = functional.pixel_shuffle(self.leave(functional.relu(fine)), 2)
        if spread and self.spread is not None:
            image = torch.cat([image.float(), self.spread(fine, sensor)], dim=1)
        return trim_margins(image, margins, 0, 1)[0]


def trim_margins(
    image: Tensor, margins: Sequence[int], needed_px: int, pixel_px: int
) -> tuple[Tensor, list[int]]:
    """Cut the margins of an image down to the width that is needed.

    Parameters
    ----------
    image : Tensor, shape (batch, channels, y, x)
        Image on a grid of `pixel_px`.
    margins : sequence of int
        Margins at the top, bottom, left and right, in pixels of the scene.
    needed_px : int
        Width to keep, in pixels of the scene. A narrower margin is not changed.
    pixel_px : int
        Size of a pixel of `image` in pixels of the scene.

    Returns
    -------
    Tensor, list of int
        View of the image, and its margins.
    """
    top, bottom, left, right = (max(margin - needed_px, 0) // pixel_px for margin in margins)
    rows, columns = image.shape[-2:]
    trimmed = image[..., top : rows - bottom, left : columns - right]
    return trimmed, [min(margin, needed_px) for margin in margins]


def encode_sensor(looks: Tensor, correlation: Tensor, is_known: Tensor) -> Tensor:
    """Encode looks and correlation of the speckle as input of a network.

    Parameters
    ----------
    looks : Tensor, shape (batch,)
        Equivalent number of looks; limited to 0.5 to 50.
    correlation : Tensor, shape (batch, 2)
        Lag-1 correlation of intensity along y and x; limited to 0 to 0.95.
    is_known : Tensor, shape (batch,)
        1 if looks and correlation are known, else 0.

    Returns
    -------
    Tensor, shape (batch, 5), float32
        1, ln L, (ln L)^2 / 3, and both correlations; all zero where unknown.
    """
    log = looks.clamp(0.5, 50.0).log()
    looks_features = torch.stack([torch.ones_like(log), log, log**2 / 3], dim=1)
    features = torch.cat([looks_features, correlation.clamp(0.0, 0.95)], dim=1)
    return features * is_known[:, None]
