"""What is done on a CUDA device only: copies beside arithmetic, fused calls of cuDNN, its errors.

Every part has a plain form that computes the same. It is used on other devices, and where a fused
call fails. So this file can make a run slow, but not wrong.
"""

import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LANES = 3
"""Blocks on a GPU at a time, for each process: one is copied to it, one computed, one copied back.
"""

LOGGER = logging.getLogger("sarstack")
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")


class Lane:
    """Copies of one block to the device of a network and back.

    Parameters
    ----------
    device : torch.device

    Notes
    -----
    A lane of a CUDA device has a stream, so its copies and kernels do not wait for those of other
    lanes. Copies go through page-locked memory, which is several times as fast as other memory and
    does not stop the thread. A lane keeps this memory for its next block.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._on_cuda = device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(device) if self._on_cuda else None
        self._buffers: list[Tensor] = []
        self._n_used = 0

    def upload(self, values: NDArray[np.float32]) -> Tensor:
        """Return a copy on the device; on a CPU, a view."""
        there = torch.from_numpy(values)
        if not self._on_cuda:
            return there.to(self.device)
        staged = self._next_buffer(there.numel()).view(there.shape)
        return staged.copy_(there).to(self.device, non_blocking=True)

    def download(self, result: Tensor) -> NDArray[np.float32]:
        """Return a result, float32, as an array that may be changed."""
        if not self._on_cuda:
            return np.asarray(result.cpu().numpy())
        staged = self._next_buffer(result.numel()).view(result.shape)
        staged.copy_(result, non_blocking=True)
        self.stream.synchronize()
        return np.array(staged.numpy())

    def finish(self) -> None:
        """Wait for the device, so that the buffers can be used for the next block."""
        if self._on_cuda:
            self.stream.synchronize()
        self._n_used = 0

    def _next_buffer(self, n: int) -> Tensor:
        """Return page-locked memory for `n` numbers that no copy of this block uses yet."""
        i, self._n_used = self._n_used, self._n_used + 1
        if i == len(self._buffers):
            self._buffers.append(_page_locked(n))
        elif len(self._buffers[i]) < n:
            self._buffers[i] = _page_locked(n)
        return self._buffers[i][:n]


def _page_locked(n: int) -> Tensor:
    """Return memory for `n` numbers: page-locked, or plain if the system gives no more of it."""
    try:
        return torch.empty(n, dtype=torch.float32, pin_memory=True)
    except RuntimeError as failure:
        LOGGER.debug("no page-locked memory: %s", failure)
        return torch.empty(n, dtype=torch.float32)


@contextmanager
def open_lane(device: torch.device) -> Iterator[Lane]:
    """Yield a lane to a device; on a GPU wait until one of its `LANES` is free.

    What is computed inside runs on the stream of the lane.
    """
    if device.type != "cuda":
        yield Lane(device)
        return
    free = _lanes(str(device))
    lane = free.get()
    try:
        with torch.cuda.stream(lane.stream):
            try:
                yield lane
            finally:
                lane.finish()
    finally:
        free.put(lane)


@cache
def _lanes(device: str) -> "queue.Queue[Lane]":
    # The last lane used comes first, so that few lanes take memory if few threads compute.
    free: queue.Queue[Lane] = queue.LifoQueue()
    for _ in range(LANES):
        free.put(Lane(torch.device(device)))
    return free


@cache
def has_fused_relu(device: str, dtype: torch.dtype) -> bool:
    """Return whether cuDNN computes convolution, bias and ReLU in one call, with the same result.

    Only in bfloat16: in float32 the fused call may compute in TF32. Each process tries it once,
    on all kinds of layers that the networks have.
    """
    if dtype is not torch.bfloat16 or not device.startswith("cuda"):
        return False
    try:
        return all(
            _agrees_with_plain_form(layer.to(device, dtype))
            for layer in (
                nn.Conv2d(64, 64, 3, padding=1),
                nn.Conv2d(64, 64, 3, padding=3, dilation=3),
                nn.Conv2d(64, 64, 2, stride=2),
            )
        )
    except (RuntimeError, AttributeError, AssertionError) as failure:
        LOGGER.debug("no convolution with ReLU in one call: %s", failure)
        return False


@torch.no_grad()
def _agrees_with_plain_form(layer: nn.Conv2d) -> bool:
    """Return whether the fused call and separate calls give the same result for a layer."""
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    drawn = torch.randn((1, 64, 24, 24), generator=torch.Generator().manual_seed(0))
    image, bias = drawn.to(layer.weight), cast("Tensor", layer.bias)
    image = image.contiguous(memory_format=torch.channels_last)
    plain, fused = layer(image).relu_().float(), convolve_relu(layer, image, bias).float()
    # bfloat16 has 8 bits; the sums are of the order of 1.
    return torch.allclose(plain, fused, rtol=0.02, atol=0.02)


def convolve_relu(layer: nn.Conv2d, image: Tensor, bias: Tensor) -> Tensor:
    """Return ``relu(conv(image) + bias)`` in one call of cuDNN; see :func:`has_fused_relu`.

    In one call a convolution of 128 channels in bfloat16 takes less than half of the time (H100).
    """
    padding: Any = layer.padding
    return torch.cudnn_convolution_relu(
        image, layer.weight, bias, layer.stride, padding, layer.dilation, layer.groups
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the GPU has no memory left.

    Most are a `torch.OutOfMemoryError`. cuDNN, cuBLAS and the driver report it as a RuntimeError.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def release_memory() -> None:
    """Give the memory that torch keeps for later back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
