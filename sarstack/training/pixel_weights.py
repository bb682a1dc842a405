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
    few = np.float32(strength * np.clip((MANY_LOOKS - looks) / (MANY_LOOKS - FEW_LOOKS), 0, 1))
    noisy_log = np.log(np.maximum(noisy, np.finfo(np.float32).tiny))
    weight, detail = _weigh(noisy_log - surroundings, log - surroundings, few, strength)
    return weight, detail


def weigh_scenes(
    noisy: "Tensor", clean: "Tensor", looks: "Tensor", strength: float = 1.0
) -> tuple["Tensor", "Tensor"]:
    """Weigh the pixels of many scenes in torch, as :func:`weigh_scene` does.

    Parameters
    ----------
    noisy, clean : Tensor, shape (scene, y, x), float32
    looks : Tensor, shape (scene,), float32
    strength : float

    Returns
    -------
    weight, detail : Tensor, shape (scene, y, x), float32
        Within `SURROUNDINGS_PX` of the edges, the mean of the surroundings has fewer pixels.
    """
    log = clean.log()
    surroundings = mean_of_surroundings(log)
    few = strength * ((MANY_LOOKS - looks) / (MANY_LOOKS - FEW_LOOKS)).clip(0, 1)[:, None, None]
    noisy_log = noisy.clip(min=float(np.finfo(np.float32).tiny)).log()
    return _weigh(noisy_log - surroundings, log - surroundings, few, strength)


def mean_of_surroundings(log: "Tensor") -> "Tensor":
    """Return the mean of the pixels up to `SURROUNDINGS_PX` away, clipped at the edges.

    One axis after the other, which takes a fifth of the time of one pool over both.
    """
    from torch.nn.functional import avg_pool2d

    width = 2 * SURROUNDINGS_PX + 1
    rows = avg_pool2d(log, (width, 1), 1, (SURROUNDINGS_PX, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, width), 1, (0, SURROUNDINGS_PX), count_include_pad=False)


def _weigh(excess: Array, contrast: Array, few: Any, strength: float) -> tuple[Array, Array]:
    weight: Any = 1 + few * BRIGHT_WEIGHT * (excess - BRIGHT_NAT).clip(0, 1)
    detail: Any = weigh_contrast(contrast, strength)
    return weight, detail + few * POINT_WEIGHT * (contrast - BRIGHT_NAT).clip(0, 1)


def _log_and_surroundings(clean: FloatImage) -> tuple[FloatImage, FloatImage]:
    log = np.log(clean)
    return log, uniform_filter(log, 2 * SURROUNDINGS_PX + 1, mode="nearest")


def weigh_looks(looks: float, power: float = LOOKS_POWER) -> np.float32:
    """Return the weight of a patch from its looks.

    Errors are small in patches of many looks. With equal weights, these patches would
    contribute very little to the loss.
    """
    return np.float32(looks**power)
