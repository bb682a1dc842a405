"""Weights of pixels and patches in the training loss.

Points and thin lines have few pixels. Without additional weight, a network learns to remove them.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

if TYPE_CHECKING:
    from torch import Tensor

FloatImage = NDArray[np.float32]
Array = TypeVar("Array", "Tensor", FloatImage)

SURROUNDINGS_PX = 7
"""A pixel is compared with the mean of the pixels up to this distance."""

SMALLEST_CONTRAST_NAT, LARGEST_CONTRAST_NAT = 0.5, 6.5
"""Contrast at which the weight begins to grow, and contrast at which it stops."""

FEW_LOOKS, MANY_LOOKS = 1.5, 3.0
"""A weak point looks like speckle at few looks. Up to 1.5 looks, points and pixels brighter
than speckle get the weights below; the weights decrease to 0 at 3 looks."""

POINT_WEIGHT, BRIGHT_WEIGHT = 18.0, 4.0
BRIGHT_NAT = 2.0
"""Contrast in nat above which a pixel is a point; speckle rarely reaches it."""

LOOKS_POWER = 0.6


def weigh_contrast(contrast: Array, strength: float = 1.0) -> Array:
    """Return the weight of pixels from their contrast.

    Parameters
    ----------
    contrast : ndarray or Tensor
        ln intensity minus its mean over the surroundings (`SURROUNDINGS_PX`). The caller
        computes the mean, because images and batches treat edges differently.
    strength : float
        0: the weight is 1 everywhere.

    Returns
    -------
    ndarray or Tensor
        1 up to a contrast of 0.5 nat, ``1 + 6 * strength`` from 6.5 nat.
    """
    range_nat = LARGEST_CONTRAST_NAT - SMALLEST_CONTRAST_NAT
    weight: Any = 1 + strength * (abs(contrast) - SMALLEST_CONTRAST_NAT).clip(0, range_nat)
    return weight


def weigh_detail(clean: FloatImage, strength: float) -> FloatImage:
    """Weigh the pixels of a clean image (linear power) by their contrast."""
    log, surroundings = _log_and_surroundings(clean)
    return weigh_contrast(log - surroundings, strength)


def weigh_scene(
    noisy: FloatImage, clean: FloatImage, looks: float, strength: float = 1.0
) -> tuple[FloatImage, FloatImage]:
    """Weigh the pixels of a simulated scene by their noisy and by their true intensity.

    Parameters
    ----------
    noisy, clean : ndarray, shape (y, x), float32
        Linear power.
    looks : float
    strength : float
        0: all weights are 1.

    Returns
    -------
    weight : ndarray, shape (y, x), float32
        More than 1 where, at few looks, a noisy pixel is far brighter than its surroundings.
        It depends on the input of the network only, so it does not change the best estimate.
    detail : ndarray, shape (y, x), float32
        More than 1 where the true intensity differs from its surroundings, most of all at
        points; see :func:`sarstack.training.losses.clean_loss`.
    """
    log, surroundings = _log_and_surroundings(clean)
    few = np.clip((MANY_LOOKS - looks) / (MANY_LOOKS - FEW_LOOKS), 0, 1) * strength
    excess = np.log(np.maximum(noisy, np.finfo(np.float32).tiny)) - surroundings
    weight = 1 + few * BRIGHT_WEIGHT * np.clip(excess - BRIGHT_NAT, 0, 1)
    detail = weigh_contrast(log - surroundings, strength)
    detail += few * POINT_WEIGHT * np.clip(log - surroundings - BRIGHT_NAT, 0, 1)
    return weight.astype(np.float32), detail


def _log_and_surroundings(clean: FloatImage) -> tuple[FloatImage, FloatImage]:
    log = np.log(clean)
    return log, uniform_filter(log, 2 * SURROUNDINGS_PX + 1, mode="nearest")


def weigh_looks(looks: float, power: float = LOOKS_POWER) -> np.float32:
    """Return the weight of a patch from its looks.

    Errors are small in patches of many looks. With equal weights, these patches would
    contribute very little to the loss.
    """
    return np.float32(looks**power)
