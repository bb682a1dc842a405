"""Enhanced Lee filter: mean, weighted mean or pixel, by how much the window varies."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_between
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.laws import window_cv2
from sarstack.speckle.moving_window import box_variation
from sarstack.speckle.statistics import SceneStatistics


class EnhancedLee(MovingWindowMethod):
    """Lopes 1990, enhanced Lee: the mean in flat windows, the pixel itself in point targets.

    Ci is the coefficient of variation in the window and Cu that of speckle,
    ``Cu^2 = (1 - rbar) / L`` for L looks, with the mean correlation rbar of the pairs of pixels in
    the window. Up to Cu the result is the mean. From ``Cmax = sqrt(1 + 2 Cu^2)`` on it is the
    pixel. In between it is ``w mean + (1 - w) y`` with
    ``w = exp(-damping (Ci - Cu) / (Cmax - Ci))``.

    Attributes
    ----------
    window_px : int
        Odd width of the window.
    damping : float
        Larger values keep more of the pixel between the two thresholds; 0.01 to 100.

    Notes
    -----
    The formulas are those of common programs for geographic data; the paper itself was not at
    hand. Nodata: statistics are over valid pixels only; the window is clipped at the edge of the
    scene. Mean: kept on stationary speckle. Memory: about twelve arrays of the size of a tile.

    References
    ----------
    A. Lopes, R. Touzi, E. Nezry, "Adaptive speckle filters and scene heterogeneity", IEEE TGRS
    28(6), 1990.
    """

    name: ClassVar[str] = "enhanced-lee"

    def __init__(self, window_px: int = 7, damping: float = 1.0) -> None:
        super().__init__(window_px)
        check_between(0.01, 100, damping=damping)
        self.damping = float(damping)

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        cu2 = window_cv2(statistics.looks, statistics.correlation, self.window_px)
        mean, ci2 = box_variation(intensity, self.window_px)
        ci = np.sqrt(ci2, out=ci2)
        lowest, highest = np.sqrt(cu2), np.sqrt(1 + 2 * cu2)
        # 0 up to the lower threshold, infinite from the upper one on.
        distance = np.divide(
            np.maximum(ci - lowest, 0),
            highest - ci,
            out=np.full_like(ci, np.inf),
            where=ci < highest,
        )
        weight = np.exp(-self.damping * distance).astype(np.float32)
        return intensity + weight * (mean - intensity)
