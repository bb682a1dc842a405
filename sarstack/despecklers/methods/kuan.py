"""Kuan filter: linear minimum mean square error with signal-dependent noise."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.methods.lee import local_mmse
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.laws import window_cv2
from sarstack.speckle.statistics import SceneStatistics


class Kuan(MovingWindowMethod):
    """Kuan 1985: as Lee, with the exact variance of the signal; smooths more than Lee.

    ``x = mean + W (y - mean)`` and ``W = max(0, 1 - Cu^2 / Ci^2) / (1 + Cu^2)``. Ci^2 is the
    squared coefficient of variation in the window, ``Cu^2 = (1 - rbar) / L`` that of speckle of
    L looks. rbar is the mean correlation of the pairs of pixels in the window.

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
    D. T. Kuan, A. A. Sawchuk, T. C. Strand, P. Chavel, "Adaptive noise smoothing filter for images
    with signal-dependent noise", IEEE Trans. PAMI 7(2), 1985.
    """

    name: ClassVar[str] = "kuan"

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        speckle_cv2 = window_cv2(statistics.looks, statistics.correlation, self.window_px)
        mean, weight = local_mmse(intensity, self.window_px, speckle_cv2)
        weight /= np.float32(1 + speckle_cv2)
        return mean + weight * (intensity - mean)
