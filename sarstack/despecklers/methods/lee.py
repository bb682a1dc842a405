"""Lee filter: minimum mean square error from local statistics, multiplicative speckle."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.laws import window_cv2
from sarstack.speckle.moving_window import box_moments
from sarstack.speckle.statistics import SceneStatistics


class Lee(MovingWindowMethod):
    """Lee 1980: local mean, closer to the pixel where the window varies more than speckle.

    ``x = mean + W (y - mean)`` and ``W = max(0, 1 - Cu^2 / Ci^2)``. Ci^2 is the squared
    coefficient of variation in the window, ``Cu^2 = (1 - rbar) / L`` that of speckle of L looks.
    rbar is the mean correlation of the pairs of pixels in the window: correlated speckle varies
    less within a window than independent speckle.

    Attributes
    ----------
    window_px : int
        Odd width of the window.

    Notes
    -----
    Nodata: statistics are over valid pixels only; the window is clipped at the edge of the scene.
    Mean: kept on stationary speckle. Memory: about ten arrays of the size of a tile.

    References
    ----------
    J.-S. Lee, "Digital image enhancement and noise filtering by use of local statistics",
    IEEE Trans. PAMI 2(2), 1980, section on multiplicative noise.
    """

    name: ClassVar[str] = "lee"

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        speckle_cv2 = window_cv2(statistics.looks, statistics.correlation, self.window_px)
        mean, weight = local_mmse(intensity, self.window_px, speckle_cv2)
        return mean + weight * (intensity - mean)


def local_mmse(
    intensity: NDArray[np.float32], window_px: int, speckle_cv2: float | NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return local mean and weight of the centre pixel in the Lee filter.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    window_px : int
        Odd width of the window.
    speckle_cv2 : float or ndarray, shape (y, x)
        Squared coefficient of variation of speckle in such a window.

    Returns
    -------
    mean, weight : ndarray, shape (y, x), float32
        The weight is 0 to 1; 0 where fewer than two pixels are valid. The mean is NaN where none
        is.
    """
    mean, variance = box_moments(intensity, window_px)
    # W = (var - Cu^2 mean^2) / var, and 0 where var = 0.
    with np.errstate(invalid="ignore"):
        signal = mean**2
        signal *= np.negative(speckle_cv2)
        signal += variance
        np.maximum(signal, 0, out=signal)
    weight = np.divide(signal, variance, out=np.zeros_like(signal), where=signal > 0)
    return mean.astype(np.float32), weight.astype(np.float32)
