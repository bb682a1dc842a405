"""Boxcar: the mean of a square window."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import SceneStatistics


class Boxcar(MovingWindowMethod):
    """Mean of a square window; it blurs edges and is a reference for other methods.

    Attributes
    ----------
    window_px : int
        Odd width of the window.

    Notes
    -----
    Nodata: the mean is over valid pixels only; the window is clipped at the edge of the scene.
    Mean: kept. The filter is linear, so a factor on the input is the same factor on the output.
    Memory: four arrays of the size of a tile.
    """

    name: ClassVar[str] = "boxcar"

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        valid = np.isfinite(intensity)
        mean = box_mean(intensity, valid, self.window_px)
        mean[~valid] = np.nan
        return mean
