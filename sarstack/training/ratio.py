"""The ratio image noisy / despeckled on homogeneous land: what a despeckler took out.

Its mean is 1 and its variance 1 / looks when exactly the speckle was taken out; a smaller
variance means that noise is left in the result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.homogeneous import WINDOW_PX, mark_homogeneous
from sarstack.training.distributed import ALONE, Ranks
from sarstack.training.losses import Batch, to_tensors


@dataclass(frozen=True)
class RatioScore:
    """Statistics of the ratio image noisy / despeckled on homogeneous windows.

    Attributes
    ----------
    mean : float
        1 when the radiometry is kept; NaN, as the variance, where no window is homogeneous.
    variance : float
        Of the ratio; `expected_variance` (1 / looks) when the speckle and nothing
        else was taken out.
    expected_variance : float
    n_windows : int
    """

    mean: float
    variance: float
    expected_variance: float
    n_windows: int

    @property
    def distance(self) -> float:
        """How far the ratio image is from ideal: relative error of variance plus of mean."""
        return abs(self.variance / self.expected_variance - 1) + 2 * abs(self.mean - 1)

    def row(self) -> dict[str, float]:
        """Return the entries of a learning curve."""
        return {
            "ratio_mean": self.mean,
            "ratio_variance": self.variance,
            "distance": self.distance,
        }


@dataclass(frozen=True)
class RatioProbe:
    """Held-out noisy patches with their homogeneous windows, the judge of phase 2.

    Attributes
    ----------
    batches : tuple of Batch
        Noisy patches; their targets are not looked at.
    masks : tuple of ndarray of bool, each (batch, 1, y, x)
        True in homogeneous windows.
    looks : float
        Equivalent looks of the scene.
    """

    batches: tuple[Batch, ...]
    masks: tuple[NDArray[np.bool_], ...]
    looks: float

    @property
    def n_windows(self) -> int:
        """Number of homogeneous windows."""
        return sum(int(m.sum()) for m in self.masks) // WINDOW_PX**2

    def measure(self, network: DeSpeckNet, device: str = "cpu", ranks: Ranks = ALONE) -> RatioScore:
        """Despeckle the patches and measure the ratio image on the homogeneous windows."""
        return self.score(despeckle_batches(network, self.batches, device, ranks))

    def score(self, despeckled: Sequence[NDArray[np.float32]]) -> RatioScore:
        """Measure the ratio image of patches that are despeckled already."""
        ratios = [
            batch.intensity[mask] / np.maximum(clean[mask], 1e-30)
            for batch, clean, mask in zip(self.batches, despeckled, self.masks, strict=True)
        ]
        ratio = np.concatenate(ratios).astype(np.float64)
        mean = float(ratio.mean()) if ratio.size else math.nan
        variance = float(ratio.var()) if ratio.size else math.nan
        return RatioScore(mean, variance, 1 / self.looks, self.n_windows)


def despeckle_batches(
    network: DeSpeckNet, batches: Sequence[Batch], device: str, ranks: Ranks = ALONE
) -> list[NDArray[np.float32]]:
    """Return what a network makes of batches that all ranks know, each having done its share.

    Returns
    -------
    list of ndarray, each (batch, 1, y, x), float32
        Linear power.
    """
    import torch

    network.eval()
    despeckled = [torch.zeros(batch.intensity.shape) for batch in batches]
    with torch.inference_mode():
        for image, batch in zip(despeckled[ranks.share], batches[ranks.share], strict=True):
            clean = to_tensors(batch, device).predict(network, noise=False).clean
            image.copy_(network.to_intensity(clean))
    ranks.add(despeckled)
    return [image.numpy() for image in despeckled]


def find_homogeneous(
    batches: Sequence[Batch],
    looks: float,
    correlation: tuple[float, float] = (0.0, 0.0),
    *,
    share: float = 0.2,
) -> RatioProbe:
    """Make a judge of held-out noisy patches, on those of their windows that are homogeneous.

    Parameters
    ----------
    batches : sequence of Batch
        Noisy patches of at least 15x15.
    looks, correlation, share
        See :func:`mark_homogeneous`.
    """
    masks = mark_homogeneous([b.intensity for b in batches], looks, correlation, share=share)
    return RatioProbe(tuple(batches), masks, looks)
