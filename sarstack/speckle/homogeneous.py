"""Homogeneous windows: those in which the intensity varies as speckle alone does."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.speckle.laws import pair_correlation

WINDOW_PX = 15


def mark_homogeneous(
    patches: Sequence[NDArray[np.float32]],
    looks: float,
    correlation: tuple[float, float] = (0.0, 0.0),
    *,
    fraction: float = 0.2,
    largest_factor: float = math.inf,
) -> tuple[NDArray[np.bool_], ...]:
    """Return masks of the windows whose variation is that of speckle alone.

    Parameters
    ----------
    patches : sequence of ndarray, each (batch, 1, y, x), float32
        Linear power, NaN = nodata, at least 15x15.
    looks : float
        Equivalent looks of the patches.
    correlation : tuple of float
        Lag-1 correlation of the speckle. The variance in a window of correlated speckle is less
        than 1 / looks.
    fraction : float
        Fraction of the windows to mark: those whose variation is closest to that of speckle.
    largest_factor : float
        Windows whose variation differs from that of speckle by more than this factor are not
        marked.

    Returns
    -------
    tuple of ndarray of bool, shapes of `patches`

    Raises
    ------
    UsageError
        If no window is free of nodata.
    """
    variations = [_window_variation(patch) for patch in patches]
    measured = np.concatenate([v[np.isfinite(v)] for v in variations])
    if not measured.size:
        raise UsageError(
            "no window of the patches is free of nodata",
            expected=f"at least one window of {WINDOW_PX}x{WINDOW_PX} valid positive pixels",
            do="choose a part of the stack that has data (--bbox)",
        )
    speckle = (1 - pair_correlation(correlation, WINDOW_PX)) / looks
    # Windows closest to the variation of speckle are chosen. Windows with the smallest variation
    # would be those in which speckle is weak by chance.
    quantile = np.quantile(np.abs(np.log(measured / speckle)), fraction)
    limit = min(float(quantile), math.log(largest_factor))
    masks = []
    for variation, patch in zip(variations, patches, strict=True):
        chosen = np.abs(np.log(np.where(variation > 0, variation, np.nan) / speckle)) <= limit
        masks.append(_mark_pixels(chosen, patch.shape))
    return tuple(masks)


def _window_variation(patch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared coefficient of variation of adjacent windows; NaN with nodata."""
    rows, columns = patch.shape[-2] // WINDOW_PX, patch.shape[-1] // WINDOW_PX
    whole = patch[:, 0, : rows * WINDOW_PX, : columns * WINDOW_PX].astype(np.float64)
    whole = np.where(whole > 0, whole, np.nan)
    windows = whole.reshape(len(patch), rows, WINDOW_PX, columns, WINDOW_PX)
    return np.asarray(windows.var(axis=(2, 4), ddof=1) / windows.mean(axis=(2, 4)) ** 2)


def _mark_pixels(chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of the pixels of chosen windows."""
    mask = np.zeros(shape, dtype=bool)
    large = chosen.repeat(WINDOW_PX, axis=1).repeat(WINDOW_PX, axis=2)
    mask[:, 0, : large.shape[1], : large.shape[2]] = large
    return mask
