"""Quegan-Yu: what the other dates say about a pixel, scaled to the date at hand."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import SceneStatistics, correlated_area


class QueganYu(MovingWindowMethod):
    """Quegan and Yu 2001, multi-temporal: local mean of the date times the dates' mean detail.

    ``J_k = mu_k / M * sum_i(I_i / mu_i)``: mu_i is the boxcar mean of date i, M the number of
    dates that are valid at the pixel. Detail that all dates share stays at full resolution.
    With N independent pixels in the window, output looks are ``L M N / (M + N - 1)``.

    Parameters
    ----------
    window_px : int
        Odd width of the window of the pre-estimate.

    Notes
    -----
    With one date the formula returns that date unchanged: there is nothing to add up.
    When speckle is correlated a pixel resembles its window's mean and the ratios I / mu of
    the other dates are low by ``(A_centre - A) / (L window_px^2)``, where A_centre and A are
    the correlated areas about the centre and on average; this is given back.
    Where the local mean of a date is not positive (noise subtracted from very dark land)
    its detail is undefined: the date adds nothing there and keeps its own values.
    Nodata: a date counts only where it is valid; its windows hold valid pixels only.
    Mean: kept on stationary speckle. All dates should be of one relative orbit. The dates
    are added up, so their order is irrelevant and memory does not grow with their number.

    References
    ----------
    S. Quegan, J. J. Yu, "Filtering of multichannel SAR images", IEEE TGRS 39(11), 2001,
    the case of uncorrelated channels.
    """

    name: ClassVar[str] = "quegan-yu"
    n_summary = 2

    def contribute(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
    ) -> NDArray[np.float64]:
        """Return this date's ratio to its local mean, and where it counts."""
        mean, usable = self._pre_estimate(intensity)
        ratio = np.divide(intensity, mean, out=np.zeros_like(mean), where=usable)
        return np.stack([ratio, usable.astype(np.float64)])

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        if summary is None:
            summary = self.contribute(intensity, statistics).astype(np.float32)
        mean, usable = self._pre_estimate(intensity)
        total, count = summary
        others = total * mean - np.where(usable, intensity, 0)
        pooled = intensity + others / self._mean_ratio(statistics)
        despeckled = np.divide(pooled, count, out=np.full_like(mean, np.nan), where=count > 0)
        return np.where(usable, despeckled, intensity)

    def _mean_ratio(self, statistics: SceneStatistics) -> float:
        """Return E[I / mu] on flat land, to first order in the speckle variance."""
        correlation, n_pixels = statistics.correlation, self.window_px**2
        lag = np.arange(-(self.window_px // 2), self.window_px // 2 + 1)
        centre = np.prod([np.sum(np.float64(rho) ** (lag**2)) for rho in correlation])
        excess = centre - correlated_area(correlation, self.window_px)
        return float(1 - excess / (statistics.looks * n_pixels))

    def _pre_estimate(
        self, intensity: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        valid = np.isfinite(intensity)
        mean = box_mean(intensity, valid, self.window_px)
        return mean, valid & (mean > 0)
