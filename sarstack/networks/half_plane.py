"""Convolutions that see one side of a pixel only, on two grids.

A column looks upward: a feature of row y depends on the rows up to y, its own included, and on no
row below. Images that are turned by quarter turns give the other three directions. Shifted by one
row, a feature does not depend on its own row either; four directions together then see all pixels
but one (:mod:`sarstack.networks.blind_spot`).

Pixels become channels as in :mod:`sarstack.networks.two_scale`, so that most layers work on a
coarse grid. Along x this is free. Along y, a cell must not contain rows below the pixel that it is
used for. So the cells of the coarse grid begin 3 px higher: cell Y has the rows 4Y - 3 to 4Y, and
is used for the rows 4Y to 4Y + 3.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.two_scale import ResidualBlock, alternate_dilation
from sarstack.tiles import ALIGNMENT_PX

MEAN_CELLS = 11
"""Width of the window of the mean, in cells of 4 px; its height is `MEAN_ROWS` cells."""
MEAN_ROWS = 8
MEAN_REACH_PX = ALIGNMENT_PX * (MEAN_ROWS + 1) - 1
"""Rows farther away do not change the mean, nor columns."""
PAIR_PX = 2
"""The fine grid has pairs of pixels along x, and all rows."""


class HalfPlaneShape(NamedTuple):
    """Size of a column; the fine grid has pairs of pixels along x, the coarse grid 4x4 pixels.

    Attributes
    ----------
    width, deep_width : int
        Channels on the fine and on the coarse grid.
    head, body, tail : int
        Numbers of residual blocks of two convolutions: on the fine grid, then on the coarse grid,
        then on the fine grid.
    dilation : int
        Dilation of the second convolution of every other block of the coarse grid.
    """

    width: int = 24
    deep_width: int = 48
    head: int = 1
    body: int = 4
    tail: int = 1
    dilation: int = 3

    @property
    def dilations(self) -> list[int]:
        """Dilation of each block of the coarse grid."""
        return alternate_dilation(self.body, self.dilation)

    @property
    def radius_px(self) -> int:
        """Receptive radius of a column."""
        coarse = sum(ALIGNMENT_PX * (1 + dilation) for dilation in self.dilations)
        n_layers = 2 * (self.head + self.tail)
        upward = 2 + n_layers + 2 * (ALIGNMENT_PX - 1)
        sideways = PAIR_PX * (1 + n_layers) + ALIGNMENT_PX
        return coarse + max(upward, sideways)


class HalfPlaneConv(nn.Conv2d):
    """Convolution whose output at row y depends on the rows up to y; same size as its input.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels.
    rows : int
        Rows of the kernel; it has three columns.
    dilation : int
        Distance of the rows and columns of the kernel.
    """

    def __init__(self, n_inputs: int, n_outputs: int, rows: int = 2, dilation: int = 1) -> None:
        padding = ((rows - 1) * dilation, dilation)
        super().__init__(n_inputs, n_outputs, (rows, 3), padding=padding, dilation=dilation)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, n_inputs, y, x) to (batch, n_outputs, y, x)."""
        # Padding is symmetric: the rows at the end, which see zeros below, are cut off.
        return super().forward(image)[..., : image.shape[-2], :]


class HalfPlaneBlock(ResidualBlock):
    """A residual block of convolutions that see the rows above only."""

    @staticmethod
    def make_layer(width: int, dilation: int) -> nn.Conv2d:
        """Make a convolution that keeps the number of channels and the size of the image."""
        return HalfPlaneConv(width, width, dilation=dilation)


class HalfPlaneColumn(nn.Module):
    """Map images to features that depend on their own row and the rows above it.

    Parameters
    ----------
    n_images : int
        Number of input images.
    n_features : int
        Number of output images.
    n_conditions : int
        Length of the vector that sets the shifts of the blocks of the body.
    shape : HalfPlaneShape
    """

    def __init__(
        self, n_images: int, n_features: int, n_conditions: int, shape: HalfPlaneShape
    ) -> None:
        super().__init__()
        w, d = shape.width, shape.deep_width
        self.enter = HalfPlaneConv(PAIR_PX * n_images, w, rows=3)
        self.head = nn.ModuleList(HalfPlaneBlock(w) for _ in range(shape.head))
        cell = (ALIGNMENT_PX, ALIGNMENT_PX // PAIR_PX)
        self.down = nn.Conv2d(w, d, cell, stride=cell, padding=(ALIGNMENT_PX - 1, 0))
        self.condition = nn.Sequential(
            nn.Linear(n_conditions, 32), nn.ReLU(), nn.Linear(32, shape.body * d)
        )
        self.body = nn.ModuleList(HalfPlaneBlock(d, dilation) for dilation in shape.dilations)
        self.up = nn.Conv2d(d, cell[0] * cell[1] * w, 1)
        self.tail = nn.ModuleList(HalfPlaneBlock(w) for _ in range(shape.tail))
        self.leave = nn.Conv2d(w, PAIR_PX * n_features, 1)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Map (batch, n_images, y, x) to (batch, n_features, y, x).

        Parameters
        ----------
        images : Tensor
            y and x are multiples of 4.
        condition : Tensor, shape (batch, n_conditions)
        """
        pairs = torch.cat([images[..., i::PAIR_PX] for i in range(PAIR_PX)], dim=1)
        fine = functional.relu(self.enter(pairs))
        for block in self.head:
            fine = block(fine)
        # With 3 rows of padding, cell Y begins at row 4Y - 3. The last cell begins too late.
        coarse = functional.relu(self.down(fine)[..., :-1, :])
        shifts = self.condition(condition).chunk(len(self.body), dim=1)
        for block, shift in zip(self.body, shifts, strict=True):
            coarse = block(coarse, shift)
        fine = fine + _unpack(self.up(coarse), ALIGNMENT_PX, ALIGNMENT_PX // PAIR_PX)
        for block in self.tail:
            fine = block(fine)
        return _unpack(self.leave(functional.relu(fine)), 1, PAIR_PX)


def _unpack(image: Tensor, rows: int, columns: int) -> Tensor:
    """Turn channels into `rows` x `columns` pixels: (n, c r s, y, x) to (n, c, r y, s x)."""
    cells = image.unflatten(1, (-1, rows, columns))
    return cells.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


class CausalMean(NamedTuple):
    """Mean of a half plane.

    Attributes
    ----------
    mean : Tensor, shape (batch, 1, y, x)
        Mean of the valid pixels; 0 where there is none.
    weight : Tensor, same shape
        Valid part of the window, 0 to 1.
    """

    mean: Tensor
    weight: Tensor


def mean_of_rows_above(image: Tensor, valid: Tensor) -> CausalMean:
    """Return the mean over about 32 rows up to each pixel's own, and 44 columns.

    Parameters
    ----------
    image, valid : Tensor, shape (batch, 1, y, x)
        y and x are multiples of 4; `valid` is 1 or 0.
    """
    sums = torch.cat([image * valid, valid], dim=1)
    cells = functional.avg_pool2d(
        functional.pad(sums, (0, 0, ALIGNMENT_PX - 1, 0)), ALIGNMENT_PX, divisor_override=1
    )
    half, (n_rows, n_columns) = MEAN_CELLS // 2, cells.shape[-2:]
    padded = functional.pad(cells, (half, half, MEAN_ROWS, 0))
    # Not a running sum: each window is summed in the same order, wherever the block begins.
    wide = padded[..., :n_columns]
    for i in range(1, MEAN_CELLS):
        wide = wide + padded[..., i : i + n_columns]
    window = wide[..., : n_rows + 1, :]
    for i in range(1, MEAN_ROWS):
        window = window + wide[..., i : i + n_rows + 1, :]
    before, own = window[..., :-1, :, None], window[..., 1:, :, None]
    phase = torch.arange(1, ALIGNMENT_PX + 1, device=image.device) / ALIGNMENT_PX
    rows = torch.lerp(before, own, phase.to(image.dtype)).transpose(-1, -2).flatten(2, 3)
    both = functional.interpolate(rows, scale_factor=(1, ALIGNMENT_PX), mode="bilinear")
    total, count = both.chunk(2, dim=1)
    mean = torch.where(count > 0, total / count.clamp(min=1e-6), 0.0)
    return CausalMean(mean, count / (ALIGNMENT_PX**2 * MEAN_CELLS * MEAN_ROWS))
