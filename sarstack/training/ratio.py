"""Validation by the ratio image noisy / despeckled on homogeneous land.

Mean 1 and variance 1 / looks mean that a network removed the speckle and nothing else. A
smaller variance means that noise is left in the result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.homogeneous import WINDOW_PX, mark_homogeneous
from sarstack.training.batch import Batch, to_tensors
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class RatioScore:
    """Statistics of the ratio image noisy / despeckled on homogeneous windows.

    Attributes
    ----------
    mean, variance : float
        Of the ratio; NaN where no window is homogeneous. The ideal mean is 1.
    expected_variance : float
        1 / looks, the ideal variance.
    n_windows : int
        Number of homogeneous windows.
    """

    mean: float
    variance: float
    expected_variance: float
    n_windows: int

    @property
    def distance(self) -> float:
        """Distance from the ideal: relative error of the variance plus twice that of the mean."""
        return abs(self.variance / self.expected_variance - 1) + 2 * abs(self.mean - 1)

    def row(self) -> dict[str, float]:
        """Return the columns of the learning curve."""
        return {
            "ratio_mean": self.mean,
            "ratio_variance": self.variance,
            "distance": self.distance,
        }


@dataclass(frozen=True)
class RatioValidation:
    """Held-out noisy patches and their homogeneous windows.

    Attributes
    ----------
    batches : tuple of Batch
        Noisy patches; their targets are ignored.
    masks : tuple of ndarray of bool, each (batch, 1, y, x)
        True in homogeneous windows.
    looks : float
        Equivalent looks of the scene.
    """

    batches: tuple[Batch, ...]
    masks: tuple[NDArray[np.bool_], ...]
    looks: float

    @classmethod
    def from_patches(
        cls,
        batches: Sequence[Batch],
        looks: float,
        correlation: tuple[float, float] = (0.0, 0.0),
        *,
        fraction: float = 0.2,
    ) -> "RatioValidation":
        """Find the homogeneous windows of held-out noisy patches.

        Parameters
        ----------
        batches : sequence of Batch
            Noisy patches of at least 15 x 15 px.
        looks, correlation, fraction
            See :func:`sarstack.speckle.homogeneous.mark_homogeneous`.
        """
        images = [batch.intensity for batch in batches]
        masks = mark_homogeneous(images, looks, correlation, fraction=fraction)
        return cls(tuple(batches), masks, looks)

    @property
    def n_windows(self) -> int:
        """Number of homogeneous windows."""
        return sum(int(m.sum()) for m in self.masks) // WINDOW_PX**2

    def score_network(
        self, network: DeSpeckNet, device: str = "cpu", group: ProcessGroup = SINGLE_PROCESS
    ) -> RatioScore:
        """Despeckle the patches and score the ratio image on the homogeneous windows."""
        return self.score_images(despeckle_batches(network, self.batches, device, group))

    def score_images(self, despeckled: Sequence[NDArray[np.float32]]) -> RatioScore:
        """Score the ratio image of patches that are despeckled already."""
        ratios = [
            batch.intensity[mask] / np.maximum(clean[mask], 1e-30)
            for batch, clean, mask in zip(self.batches, despeckled, self.masks, strict=True)
        ]
        ratio = np.concatenate(ratios).astype(np.float64)
        mean = float(ratio.mean()) if ratio.size else math.nan
        variance = float(ratio.var()) if ratio.size else math.nan
        return RatioScore(mean, variance, 1 / self.looks, self.n_windows)


def despeckle_batches(
    network: DeSpeckNet, batches: Sequence[Batch], device: str, group: ProcessGroup = SINGLE_PROCESS
) -> list[NDArray[np.float32]]:
    """Despeckle batches that all processes hold; each process computes its shard of the list.

    Returns
    -------
    list of ndarray, each (batch, 1, y, x), float32
        Linear power, all batches.
    """
    import torch

    network.eval()
    despeckled = [torch.zeros(batch.intensity.shape) for batch in batches]
    with torch.inference_mode():
        for image, batch in zip(despeckled[group.shard], batches[group.shard], strict=True):
            clean = to_tensors(batch, device).predict(network, noise=False).clean
            image.copy_(network.to_intensity(clean))
    group.sum_in_place(despeckled)
    return [image.numpy() for image in despeckled]
