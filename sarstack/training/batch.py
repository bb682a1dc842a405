"""Batches of training patches: as arrays, as tensors, and where they come from."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.networks.network import DeSpeckNet, Inside, Prediction
from sarstack.networks.two_scale import encode_sensor

N_PREFETCHED = 3
"""Batches that are made in advance, while the network computes."""


class Batch(NamedTuple):
    """The patches of one training step; images have shape (batch, 1, y, x), float32.

    Attributes
    ----------
    intensity : ndarray
        Noisy linear power, NaN = nodata. For ``despecknet-paper``, divided by the
        98th percentile of the scene.
    target : ndarray
        Clean linear power, or a label, on the same scale. Ignored where `weight` is 0.
    weight : ndarray
        Weight of each pixel in the loss; 0 excludes the pixel.
    sensor : ndarray, shape (batch, 4), float32, optional
        Looks, lag-1 correlation along y and x, and 1. The last number is 0 where looks and
        correlation are unknown. None: unknown for all patches.
    others : ndarray, shape (batch, 4 or 8, y, x), float32, optional
        Sums over the other dates, for ``despecknet-mt``; then sums over those that agree.
    detail : ndarray, optional
        Additional weight of pixels that differ from their surroundings, where the target is the
        exact truth; 1 elsewhere. See :func:`sarstack.training.losses.clean_loss`.
    """

    intensity: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    sensor: NDArray[np.float32] | None = None
    others: NDArray[np.float32] | None = None
    detail: NDArray[np.float32] | None = None


class TensorBatch(NamedTuple):
    """A :class:`Batch` on the device; NaN is replaced by 0 and marked in `valid`."""

    intensity: Tensor
    target: Tensor
    weight: Tensor
    valid: Tensor | None
    sensor: Tensor | None = None
    others: Tensor | None = None
    detail: Tensor | None = None

    def predict(
        self,
        network: DeSpeckNet,
        *,
        noise: bool,
        spread: bool = False,
        inside: Inside | None = None,
        bfloat16: bool = False,
    ) -> Prediction:
        """Run a network on the batch.

        Parameters
        ----------
        network : DeSpeckNet
        noise : bool
            Whether to compute the noise branch.
        spread : bool
            Whether to compute the uncertainty.
        inside : tuple of slice, optional
            Rows and columns to predict; all by default.
        bfloat16 : bool
            Whether convolutions and their gradients use bfloat16. Weights, prediction and
            losses stay float32.
        """
        inputs = {"sensor": self.sensor, "others": self.others, "inside": inside}
        wanted = {"noise": noise, "spread": spread}
        with torch.autocast(self.intensity.device.type, torch.bfloat16, enabled=bfloat16):
            prediction = network(self.intensity, self.valid, **inputs, **wanted)
        return cast("Prediction", prediction)


def to_tensors(batch: Batch, device: str) -> TensorBatch:
    """Move a batch to a device; pixels that are not finite become 0 with weight 0."""
    intensity, target = _to_tensor(batch.intensity, device), _to_tensor(batch.target, device)
    finite = torch.isfinite(intensity)
    usable = finite & torch.isfinite(target)
    weight = torch.where(usable, _to_tensor(batch.weight, device), 0.0)
    valid = None if bool(finite.all()) else finite.to(torch.float32)
    sensor = others = detail = None
    if batch.sensor is not None:
        numbers = _to_tensor(batch.sensor, device)
        sensor = encode_sensor(numbers[:, 0], numbers[:, 1:3], numbers[:, 3])
    if batch.others is not None:
        others = _to_tensor(batch.others, device)
    if batch.detail is not None:
        detail = torch.where(usable, _to_tensor(batch.detail, device), 1.0)
    image, clean = intensity.nan_to_num(0.0), target.nan_to_num(0.0)
    return TensorBatch(image, clean, weight, valid, sensor, others, detail)


def _to_tensor(array: NDArray[np.float32], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


AnyBatch = TypeVar("AnyBatch", Batch, TensorBatch)


class PatchSource(Protocol):
    """A source of training batches."""

    def batch(self, step: int) -> Batch:
        """Return batch number `step`; the same number always gives the same batch."""
        ...


def prefetch_batches(make: Callable[[int], AnyBatch], steps: range) -> Generator[AnyBatch]:
    """Yield the batches of `steps` in order; other threads make the next ones meanwhile."""
    # One reading thread for two computing threads: to read a batch of a stack takes as long as one
    # or two steps.
    n_threads = min(N_PREFETCHED, max(1, torch.get_num_threads() // 2))
    with ThreadPoolExecutor(n_threads) as threads:
        queue = deque(threads.submit(make, step) for step in steps[:N_PREFETCHED])
        try:
            for step in steps:
                batch = queue.popleft().result()
                if step + N_PREFETCHED in steps:
                    queue.append(threads.submit(make, step + N_PREFETCHED))
                yield batch
        finally:
            for waiting in queue:
                waiting.cancel()
