"""The branches of our own variants as inference computes them: the same sums in fewer passes.

A branch is bound by its convolutions only if nothing else walks over its activations. So
oneDNN adds bias, shift and skip and takes the ReLU while a convolution writes; the coarse
grid is added to the fine one where it lies; and the last layer computes 4x4 pixels at once,
for four output channels would leave three quarters of the processor's registers empty.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.two_scale import ResidualBlock, TwoScaleBranch, trim_margins
from sarstack.tiles import ALIGNMENT_PX

CHANNELS_LAST = torch.channels_last
STRIP_ROWS = 32
"""Converted and added at a time: they stay in the processor's cache."""


class FusedBranch(nn.Module):
    """A :class:`TwoScaleBranch` that cannot learn any more, made from its layers.

    Parameters
    ----------
    branch : TwoScaleBranch
        Its layers are taken over, not copied.
    dtype : torch.dtype
        Of all layers but the first and the last: they hold the precision.
    """

    def __init__(self, branch: TwoScaleBranch, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.sensor, self.enter = branch.shape, branch.sensor, branch.enter
        self.head, self.down, self.body = branch.head, branch.down, branch.body
        self.up, self.tail, self.leave = _by_place(branch.up), branch.tail, _widen(branch.leave)
        for layer in (self.head, self.down, self.body, self.up, self.tail):
            layer.to(dtype)
        self.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor, sensor: Tensor, margins: Sequence[int]) -> Tensor:
        """Map images to one image; see :meth:`TwoScaleBranch.forward`.

        The batch is of one scene: its first sensor holds for all. Margins shrink on the way:
        no block computes what the next does not need.
        """
        have = list(margins)
        dtype = self.down.weight.dtype
        fine = convolve(self.enter, _unshuffle(images), relu=True)
        # Without blocks here what is skipped stays float32: roundings of few channels do not
        # average out (one look, -lite: 0.01 dB from float32 throughout, 0.02 otherwise).
        if len(self.head):
            fine = fine.to(dtype)
        for block in self.head:
            fine = _compute_block(block, fine)
        coarse = convolve(self.down, fine.to(dtype), relu=True)
        shifts = self.sensor(sensor[:1])[0].chunk(len(self.body))
        for i, (block, shift) in enumerate(zip(self.body, shifts, strict=True), 1):
            coarse = _compute_block(block, coarse, shift)
            need_px = self.shape.tail_radius_px + self.shape.body_radius_px(i)
            coarse, have = trim_margins(coarse, have, need_px, ALIGNMENT_PX)
        fine, _ = trim_margins(fine, margins, self.shape.tail_radius_px, 2)
        fine = _add_coarse(fine, convolve(self.up, coarse))
        for block in self.tail:
            fine = _compute_block(block, fine)
        clean, _ = trim_margins(convolve(self.leave, fine.relu_().float()), have, 0, ALIGNMENT_PX)
        # What pixel_shuffle does, without its way through another memory format.
        cells = clean.permute(0, 2, 3, 1).unflatten(3, (ALIGNMENT_PX, ALIGNMENT_PX))
        return cells.transpose(2, 3).flatten(3).flatten(1, 2)[:, None]


def _unshuffle(images: Tensor) -> Tensor:
    """Make 2x2 pixels channels, last in memory, in a quarter of the time of pixel_unshuffle."""
    n, channels, rows, columns = images.shape
    cells = images.new_empty((n, rows // 2, columns // 2, channels, 2, 2))
    for y in range(2):
        for x in range(2):
            cells[..., y, x] = images[..., y::2, x::2].permute(0, 2, 3, 1)
    return cells.flatten(3).permute(0, 3, 1, 2)


def _compute_block(block: nn.Module, image: Tensor, shift: Tensor | None = None) -> Tensor:
    """Compute a residual block; `image` may be overwritten, `shift` is (width,).

    An image of higher precision than the layers keeps it: it is added to what they make of it.
    """
    layers = cast("ResidualBlock", block)
    image = image.contiguous(memory_format=CHANNELS_LAST)
    between = convolve(layers.first, image.to(layers.first.weight.dtype), shift=shift, relu=True)
    if between.dtype != image.dtype:
        more = convolve(layers.second, between).split(STRIP_ROWS, dim=2)
        for strip, onto in zip(more, image.split(STRIP_ROWS, dim=2), strict=True):
            onto.add_(strip)
        return image
    return convolve(layers.second, between, onto=image)


def _add_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add 2x2 pixels of each coarse one, channels of :func:`_by_place`, to (batch, width, y, x)."""
    n, width, rows, columns = fine.shape
    by_row = fine.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).flatten(3).unflatten(1, (-1, 2))
    told = coarse.permute(0, 2, 3, 1).unflatten(3, (2, 2 * width)).transpose(2, 3)
    total = by_row.new_empty(by_row.shape).copy_(told).add_(by_row)
    return total.reshape(n, rows, columns, width).permute(0, 3, 1, 2)


def convolve(
    layer: nn.Conv2d,
    image: Tensor,
    *,
    shift: Tensor | None = None,
    onto: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Compute ``relu(conv(image) + shift + onto)`` for inference, in one pass where possible.

    Parameters
    ----------
    layer : nn.Conv2d
        With a bias.
    image : Tensor, shape (batch, channels, y, x)
        Channels last, of the layer's type.
    shift : Tensor, shape (channels,), optional
        Added to the bias.
    onto : Tensor, shape of the result, optional
        What is added, and overwritten.
    relu : bool
        Whether negative numbers become zero.
    """
    bias = cast("Tensor", layer.bias)
    if shift is not None:
        bias = (bias + shift).to(bias.dtype)
    if not _fuses(image.device.type, image.dtype):
        found = functional.conv2d(
            image, layer.weight, bias, layer.stride, layer.padding, layer.dilation
        )
        found = found if onto is None else found.add_(onto)
        return found.relu_() if relu else found
    ops: Any = torch.ops.mkldnn
    how = (image, layer.weight, bias, layer.padding, layer.stride, layer.dilation, layer.groups)
    if onto is None:
        found = ops._convolution_pointwise(*how, "relu" if relu else "none", [], "")
    else:
        then = "relu" if relu else None
        found = ops._convolution_pointwise_.binary(onto, *how, "add", 1.0, then, [], None)
    return cast("Tensor", found)


@cache
def _fuses(device: str, dtype: torch.dtype) -> bool:
    """Say whether oneDNN has fused convolutions of this type here (those of torch.compile)."""
    if device != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    ops: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_convolution_pointwise")):
        return False
    return dtype is torch.float32 or (
        dtype is torch.bfloat16 and bool(ops._is_mkldnn_bf16_supported())
    )


def _by_place(up: nn.Conv2d) -> nn.Conv2d:
    """Order the channels of 2x2 pixels by row, column and channel, as they lie in memory."""
    width = up.out_channels // 4
    ordered = nn.Conv2d(up.in_channels, up.out_channels, 1)
    ordered.weight = nn.Parameter(up.weight.unflatten(0, (width, 4)).transpose(0, 1).flatten(0, 1))
    bias = cast("Tensor", up.bias)
    ordered.bias = nn.Parameter(bias.view(width, 4).T.flatten())
    return ordered


def _widen(leave: nn.Conv2d) -> nn.Conv2d:
    """Make of 3x3 kernels for 2x2 pixels one step of 4x4 kernels for 4x4 pixels."""
    wide = nn.Conv2d(leave.in_channels, 16, 4, stride=2, padding=1)
    weight = wide.weight.new_zeros(2, 2, 2, 2, leave.in_channels, 4, 4)  # pair, row, pair, column
    four = leave.weight.unflatten(0, (2, 2))
    for y in range(2):
        for x in range(2):
            weight[y, :, x, :, :, y : y + 3, x : x + 3] = four
    wide.weight = nn.Parameter(weight.flatten(0, 3))
    bias = cast("Tensor", leave.bias).view(2, 2)
    wide.bias = nn.Parameter(bias[None, :, None].expand(2, 2, 2, 2).flatten())
    return wide
