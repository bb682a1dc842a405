"""The ratio image noisy / despeckled on homogeneous land: what a despeckler took out.

Its mean is 1 and its variance 1 / looks when exactly the speckle was taken out; a smaller
variance means that noise is left in the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.gamma import pair_correlation
from sarstack.losses import Batch, to_tensors
from sarstack.networks.despecknet import DeSpeckNet

WINDOW_PX = 15


@dataclass(frozen=True)
class RatioScore:
    """Statistics of the ratio image noisy / despeckled on homogeneous windows.

    Attributes
    ----------
    mean : float
        1 when the radiometry is kept.
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


@dataclass(frozen=True)
class RatioProbe:
    """Held-out noisy patches with their homogeneous windows, the judge of phase 2.

    Attributes
    ----------
    patches : tuple of ndarray, each (batch, 1, y, x), float32
        Noisy linear power (on the scale the network wants), NaN = nodata.
    masks : tuple of ndarray of bool, same shapes
        True in homogeneous windows.
    looks : float
        Equivalent looks of the scene.
    """

    patches: tuple[NDArray[np.float32], ...]
    masks: tuple[NDArray[np.bool_], ...]
    looks: float

    @property
    def n_windows(self) -> int:
        """Number of homogeneous windows."""
        return sum(int(m.sum()) for m in self.masks) // WINDOW_PX**2

    def measure(self, network: DeSpeckNet, device: str = "cpu") -> RatioScore:
        """Despeckle the patches and measure the ratio image on the homogeneous windows."""
        import torch

        network.eval()
        ratios = []
        with torch.inference_mode():
            for noisy, mask in zip(self.patches, self.masks, strict=True):
                tensors = to_tensors(Batch(noisy, noisy, np.ones_like(noisy)), device)
                clean = network.to_intensity(
                    network(tensors.intensity, tensors.valid, noise=False).clean
                )
                estimate = np.maximum(clean.cpu().numpy()[mask], 1e-30)
                ratios.append(noisy[mask] / estimate)
        ratio = np.concatenate(ratios).astype(np.float64)
        mean, variance = float(ratio.mean()), float(ratio.var())
        return RatioScore(mean, variance, 1 / self.looks, self.n_windows)


def find_homogeneous(
    patches: Sequence[NDArray[np.float32]],
    looks: float,
    correlation: tuple[float, float] = (0.0, 0.0),
    *,
    share: float = 0.2,
) -> RatioProbe:
    """Pick the homogeneous windows of held-out noisy patches.

    Parameters
    ----------
    patches : sequence of ndarray, each (batch, 1, y, x), float32
        Noisy linear power, NaN = nodata, at least 15x15.
    looks : float
        Equivalent looks of the scene.
    correlation : tuple of float
        Lag-1 correlation of its speckle; correlated windows vary less than 1 / looks.
    share : float
        Best share of the windows kept, if their variation is that of speckle.

    Returns
    -------
    RatioProbe

    Raises
    ------
    UsageError
        If no window is free of nodata.
    """
    variations = [_window_variation(patch) for patch in patches]
    known = np.concatenate([v[np.isfinite(v)] for v in variations])
    if not known.size:
        raise UsageError(
            "no window of the patches is free of nodata",
            expected=f"at least one window of {WINDOW_PX}x{WINDOW_PX} valid positive pixels",
            do="tune on a part of the stack that has data",
        )
    speckle = (1 - pair_correlation(correlation, WINDOW_PX)) / looks
    # Homogeneous: closest to what speckle alone does, not the smallest, which would pick
    # the windows where chance made the speckle weak.
    limit = np.quantile(np.abs(np.log(known / speckle)), share)
    masks = []
    for variation in variations:
        chosen = np.abs(np.log(np.where(variation > 0, variation, np.nan) / speckle)) <= limit
        masks.append(chosen)
    full = [_spread(chosen, patch.shape) for chosen, patch in zip(masks, patches, strict=True)]
    return RatioProbe(tuple(patches), tuple(full), looks)


def _window_variation(patch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared coefficient of variation of non-overlapping windows; NaN where nodata."""
    rows, columns = patch.shape[-2] // WINDOW_PX, patch.shape[-1] // WINDOW_PX
    cut = patch[:, 0, : rows * WINDOW_PX, : columns * WINDOW_PX].astype(np.float64)
    cut = np.where(cut > 0, cut, np.nan)
    windows = cut.reshape(len(patch), rows, WINDOW_PX, columns, WINDOW_PX)
    return np.asarray(windows.var(axis=(2, 4), ddof=1) / windows.mean(axis=(2, 4)) ** 2)


def _spread(chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Blow up chosen windows to a mask of pixels."""
    mask = np.zeros(shape, dtype=bool)
    large = chosen.repeat(WINDOW_PX, axis=1).repeat(WINDOW_PX, axis=2)
    mask[:, 0, : large.shape[1], : large.shape[2]] = large
    return mask
