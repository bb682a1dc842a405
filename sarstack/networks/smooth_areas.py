"""Keep areas without speckle as they are: networks are trained on speckle, and would change them.

An area without speckle is constant, filtered before, or an average of hundreds of looks. On a
constant a network is up to 11 % wrong.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

STEP_PX = 4
"""One pixel of so many along each axis is looked at. Blocks start at multiples of it."""
WINDOW_STEPS = 9
_MIN_PIXELS = 9
# Standard deviation of ln y. Speckle of 100 looks has 0.1, Sentinel-1 images 0.25 to 1.3.
_SMOOTH, _SPECKLED = 0.05, 0.1


def keep_smooth_areas(
    despeckled: NDArray[np.float32],
    intensity: NDArray[np.float32],
    inside: tuple[slice, slice],
    value: float | None = None,
) -> None:
    """Set the result to the input where the input has no speckle, in place.

    Where the local standard deviation of ln y rises from 0.05 to 0.1, the result changes from the
    input to what the network returned. The window is 33 px wide.

    Parameters
    ----------
    despeckled : ndarray, shape of `inside`, float32
        What the network returned: linear power, or speckle.
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata. Starts at a multiple of `STEP_PX` from the origin of the scene.
    inside : tuple of slice
        Rows and columns of `despeckled` in `intensity`.
    value : float, optional
        The result in areas without speckle; default: the input.
    """
    weight = _speckle_weight(intensity[::STEP_PX, ::STEP_PX])
    if not (weight < 1).any():
        return
    steps = np.ix_(*(np.arange(part.start, part.stop) // STEP_PX for part in inside))
    kept = 1 - weight[steps]
    changed = (kept > 0) & (intensity[inside] > 0)
    original = intensity[inside][changed] if value is None else np.float32(value)
    despeckled[changed] += kept[changed] * (original - despeckled[changed])


def _speckle_weight(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of the network, 0 to 1, from the local standard deviation of ln y."""
    positive = (sample > 0) & np.isfinite(sample)
    log = np.log(np.where(positive, sample, 1), dtype=np.float64)
    fraction, mean, square = (
        uniform_filter(image, WINDOW_STEPS, mode="constant")
        for image in (positive.astype(np.float64), log, log**2)
    )
    usable = fraction * WINDOW_STEPS**2 > _MIN_PIXELS - 0.5
    fraction = np.where(usable, fraction, 1)
    variance = np.maximum(square / fraction - (mean / fraction) ** 2, 0)
    weight = (np.sqrt(variance) - _SMOOTH) / (_SPECKLED - _SMOOTH)
    return np.where(usable, np.clip(weight, 0, 1), 1).astype(np.float32)
