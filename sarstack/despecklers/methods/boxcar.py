"""Boxcar: the mean of a square window."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_odd_window
from sarstack.despecklers.despeckler import Despeckler
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import SceneStatistics


class Boxcar(Despeckler):
    """Mean of a square window: strongest smoothing, blurs every edge; the yardstick.

    Parameters
    ----------
    window_px : int
        Odd width of the window.

    Notes
    -----
    Nodata: the window holds valid pixels only and is clipped at the edge of the scene.
    Mean: kept. Linear, so exactly scale-equivariant. Memory: four arrays of a tile.
    """

    name: ClassVar[str] = "boxcar"

    def __init__(self, window_px: int = 7) -> None:
        check_odd_window(window_px=window_px)
        self.window_px = int(window_px)
        self.halo = self.window_px // 2

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,  # noqa: ARG002 - a plain mean needs no statistics
        summary: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        valid = np.isfinite(intensity)
        mean = box_mean(intensity, valid, self.window_px)
        mean[~valid] = np.nan
        return mean
