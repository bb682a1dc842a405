"""Fused form of :class:`TwoScaleBranch` for inference: same result, fewer passes over memory.

Each operation between the convolutions reads and writes all activations, which takes time. So
oneDNN adds bias, shift and skip connection and applies the ReLU while a convolution writes its
result. The coarse grid is added to the fine grid without a copy in another memory format. The last
layer computes 4x4 pixels at once: with four output channels, three quarters of the registers of
the processor would be unused.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.cuda import convolve_relu, has_fused_relu
from sarstack.networks.two_scale import ResidualBlock, SpreadHead, TwoScaleBranch, trim_margins
from sarstack.tiles import ALIGNMENT_PX

CHANNELS_LAST = torch.channels_last
STRIP_ROWS = 32
"""Rows that are converted and added at a time, so that they stay in the cache."""


class FusedBranch(nn.Module):
    """A :class:`TwoScaleBranch` for inference only.

    Parameters
    ----------
    branch : TwoScaleBranch
        Trained branch. Its layers are used and changed, not copied.
    dtype : torch.dtype
        Type of the inner layers. The first and the last layer stay float32, for accuracy.
    """

    def __init__(self, branch: TwoScaleBranch, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.sensor, self.enter = branch.shape, branch.sensor, branch.enter
        self.head, self.down, self.body = branch.head, branch.down, branch.body
        self.up, self.tail = _order_by_pixel(branch.up), branch.tail
        self.leave = _merge_pixels(branch.leave)
        for layer in (self.head, self.down, self.body, self.up, self.tail):
            layer.to(dtype)
        self.spread = branch.spread
        if self.spread is not None:
            self.spread.first.to(dtype)
            self.spread.second.to(dtype)
        self.requires_grad_(requires_grad=False)

    def forward(
        self, images: Tensor, sensor: Tensor, margins: Sequence[int], *, spread: bool = False
    ) -> Tensor:
        """Map images to one image; see :meth:`TwoScaleBranch.forward`.

        All images of the batch are of one scene: the first row of `sensor` is used for all.
        Margins are trimmed after each block to the width that the next layers need.
        """
        coarse_margins = list(margins)
        dtype = self.down.weight.dtype
        fine = convolve(self.enter, _pixel_unshuffle(images), relu=True)
        # Without a block here, the skip connection stays float32: rounding errors of few channels
        # do not average out (single look, -lite: 0.01 dB from float32 throughout, else 0.02 dB).
        if len(self.head):
            fine = fine.to(dtype)
        for block in self.head:
            fine = _compute_block(block, fine)
        coarse = convolve(self.down, fine.to(dtype), relu=True)
        shifts = self.sensor(sensor[:1])[0].chunk(len(self.body))
        for i, (block, shift) in enumerate(zip(self.body, shifts, strict=True), 1):
            coarse = _compute_block(block, coarse, shift)
            needed_px = self.shape.tail_radius_px + self.shape.body_radius_px(i)
            coarse, coarse_margins = trim_margins(coarse, coarse_margins, needed_px, ALIGNMENT_PX)
        fine, _ = trim_margins(fine, margins, self.shape.tail_radius_px, 2)
        fine = _add_coarse(fine, convolve(self.up, coarse))
        for block in self.tail:
            fine = _compute_block(block, fine)
        wide = None
        if spread and self.spread is not None:
            wide = _compute_spread(self.spread, fine.to(dtype), sensor)
            wide, _ = trim_margins(wide, coarse_margins, 0, 1)
        clean = convolve(self.leave, fine.relu_().float())
        clean, _ = trim_margins(clean, coarse_margins, 0, ALIGNMENT_PX)
        # As pixel_shuffle, without its copy to another memory format.
        cells = clean.permute(0, 2, 3, 1).unflatten(3, (ALIGNMENT_PX, ALIGNMENT_PX))
        image = cells.transpose(2, 3).flatten(3).flatten(1, 2)[:, None]
        return image if wide is None else torch.cat([image, wide], dim=1)


def _compute_spread(head: SpreadHead, fine: Tensor, sensor: Tensor) -> Tensor:
    """Predict the uncertainty from the image on the fine grid, see :class:`SpreadHead`."""
    hidden = convolve(head.first, fine, shift=head.sensor(sensor[:1])[0], relu=True)
    return head.finish(convolve(head.second, hidden, relu=True))


def _pixel_unshuffle(images: Tensor) -> Tensor:
    """Turn 2x2 pixels into channels; takes a quarter of the time of functional.pixel_unshuffle."""
    n, channels, rows, columns = images.shape
    cells = images.new_empty((n, rows // 2, columns // 2, channels, 2, 2))
    for y in range(2):
        for x in range(2):
            cells[..., y, x] = images[..., y::2, x::2].permute(0, 2, 3, 1)
    return cells.flatten(3).permute(0, 3, 1, 2)


def _compute_block(block: nn.Module, image: Tensor, shift: Tensor | None = None) -> Tensor:
    """Compute a residual block; `image` may be overwritten, `shift` is (width,).

    If the image has a higher precision than the layers, the sum is computed in that of the image.
    """
    layers = cast("ResidualBlock", block)
    image = image.contiguous(memory_format=CHANNELS_LAST)
    hidden = convolve(layers.first, image.to(layers.first.weight.dtype), shift=shift, relu=True)
    if hidden.dtype != image.dtype:
        residual = convolve(layers.second, hidden).split(STRIP_ROWS, dim=2)
        for strip, target in zip(residual, image.split(STRIP_ROWS, dim=2), strict=True):
            target.add_(strip)
        return image
    return convolve(layers.second, hidden, add_to=image)


def _add_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add the coarse grid to the fine grid, shape (batch, width, y, x).

    A pixel of the coarse grid has 2x2 pixels of the fine grid as channels, in the order of
    :func:`_order_by_pixel`.
    """
    n, width, rows, columns = fine.shape
    by_row = fine.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).flatten(3).unflatten(1, (-1, 2))
    upsampled = coarse.permute(0, 2, 3, 1).unflatten(3, (2, 2 * width)).transpose(2, 3)
    total = by_row.new_empty(by_row.shape).copy_(upsampled).add_(by_row)
    return total.reshape(n, rows, columns, width).permute(0, 3, 1, 2)


def convolve(
    layer: nn.Conv2d,
    image: Tensor,
    *,
    shift: Tensor | None = None,
    add_to: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Compute ``relu(conv(image) + shift + add_to)`` for inference, in one pass if possible.

    Parameters
    ----------
    layer : nn.Conv2d
        Has a bias.
    image : Tensor, shape (batch, channels, y, x)
        Channels last, of the type of the layer.
    shift : Tensor, shape (channels,), optional
        Added to the bias.
    add_to : Tensor, shape of the result, optional
        Added to the result, and overwritten with it.
    relu : bool
        Whether to set negative values to zero.
    """
    bias = cast("Tensor", layer.bias)
    if shift is not None:
        bias = (bias + shift).to(bias.dtype)
    if relu and add_to is None and has_fused_relu(str(image.device), image.dtype):
        return convolve_relu(layer, image, bias)
    if not _has_fused_convolutions(image.device.type, image.dtype):
        result = functional.conv2d(
            image, layer.weight, bias, layer.stride, layer.padding, layer.dilation
        )
        result = result if add_to is None else result.add_(add_to)
        return result.relu_() if relu else result
    ops: Any = torch.ops.mkldnn
    operands = (image, layer.weight, bias)
    geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
    if add_to is None:
        activation = "relu" if relu else "none"
        result = ops._convolution_pointwise(*operands, *geometry, activation, [], "")
    else:
        result = ops._convolution_pointwise_.binary(
            add_to, *operands, *geometry, "add", 1.0, "relu" if relu else None, [], None
        )
    return cast("Tensor", result)


@cache
def _has_fused_convolutions(device: str, dtype: torch.dtype) -> bool:
    """Return whether oneDNN has fused convolutions of this type (torch.compile uses them, too)."""
    if device != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    ops: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_convolution_pointwise")):
        return False
    return dtype is torch.float32 or (
        dtype is torch.bfloat16 and bool(ops._is_mkldnn_bf16_supported())
    )


def _order_by_pixel(up: nn.Conv2d) -> nn.Conv2d:
    """Order output channels by row, column and channel of 2x2 pixels, as they lie in memory."""
    width = up.out_channels // 4
    ordered = nn.Conv2d(up.in_channels, up.out_channels, 1)
    ordered.weight = nn.Parameter(up.weight.unflatten(0, (width, 4)).transpose(0, 1).flatten(0, 1))
    bias = cast("Tensor", up.bias)
    ordered.bias = nn.Parameter(bias.view(width, 4).T.flatten())
    return ordered


def _merge_pixels(leave: nn.Conv2d) -> nn.Conv2d:
    """Replace 3x3 kernels that give 2x2 pixels by 4x4 kernels with stride 2 that give 4x4."""
    wide = nn.Conv2d(leave.in_channels, 16, 4, stride=2, padding=1)
    # Axes: row pair, row, column pair, column, input channel, kernel row and column.
    weight = wide.weight.new_zeros(2, 2, 2, 2, leave.in_channels, 4, 4)
    kernels = leave.weight.unflatten(0, (2, 2))
    for y in range(2):
        for x in range(2):
            weight[y, :, x, :, :, y : y + 3, x : x + 3] = kernels
    wide.weight = nn.Parameter(weight.flatten(0, 3))
    bias = cast("Tensor", leave.bias).view(2, 2)
    wide.bias = nn.Parameter(bias[None, :, None].expand(2, 2, 2, 2).flatten())
    return wide
