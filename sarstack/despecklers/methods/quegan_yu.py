"""Quegan-Yu, multi-temporal: local mean of a date times the mean over dates of I / local mean."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_odd_window
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.flat_field import MOST_LOOKS, flat_speckle, rounded
from sarstack.despecklers.inner_method import MethodWithInner, make_inner
from sarstack.despecklers.methods.boxcar import Boxcar
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.laws import correlated_area
from sarstack.speckle.statistics import SceneStatistics

FLAT_FIELD_PX = 384
# By method, its settings, looks and correlation.
_FLAT_RATIOS: dict[tuple[object, ...], float] = {}


class QueganYu(MethodWithInner, MovingWindowMethod):
    """Quegan and Yu 2001, multi-temporal: local mean times the mean over dates of I / local mean.

    ``J_k = mu_k / M * sum_i(I_i / mu_i)``: mu_i is the pre-estimate of date i, a boxcar mean, and M
    the number of dates with data at the pixel. Detail that all dates share stays at full
    resolution. With N independent pixels in the window, the output has ``L M N / (M + N - 1)``
    looks.

    Parameters
    ----------
    window_px : int
        Odd width of the window of the pre-estimate, if this method has a window.
    pre_estimate : str
        Method that gives the pre-estimate: a name, or a model file. A method that keeps detail
        keeps more of what is only in one date.

    Notes
    -----
    With one date the formula returns the input. Correlated speckle makes a pixel similar to the
    mean of its window. The ratios I / mu of the other dates are then too low by
    ``(A_centre - A) / (L window_px^2)``; A_centre and A are the correlated areas about the centre
    of the window and on average. The filter corrects this. For other pre-estimates the mean of I /
    mu is measured on a simulated flat field.
    Where the local mean of a date is not positive (after noise subtraction on very dark land), the
    ratio is undefined: the date adds nothing there, and its own pixels keep their values.
    Nodata: a date counts only where it has data; local means are over valid pixels only.
    Mean: kept on stationary speckle. All dates should be of one relative orbit. Only sums over
    dates are needed: their order does not matter, and memory does not grow with their number.

    References
    ----------
    S. Quegan, J. J. Yu, "Filtering of multichannel SAR images", IEEE TGRS 39(11), 2001,
    the case of uncorrelated channels.
    """

    name: ClassVar[str] = "quegan-yu"
    n_summary = 2

    def __init__(self, window_px: int = 7, pre_estimate: str = "boxcar") -> None:
        check_odd_window(window_px=window_px)
        super().__init__(make_inner(pre_estimate=pre_estimate, window_px=window_px))
        self.window_px, self.pre_estimate = int(window_px), self.inner.name
        self.halo = self.inner.halo

    def contribute(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
    ) -> NDArray[np.float64]:
        """Return the ratio of the date to its local mean, and 1 where it is defined; else 0."""
        mean, usable = self._local_mean(intensity, statistics)
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
        mean, usable = self._local_mean(intensity, statistics)
        total, count = summary
        others = total * mean - np.where(usable, intensity, 0)
        corrected = intensity + others / self._mean_ratio(statistics)
        despeckled = np.divide(corrected, count, out=np.full_like(mean, np.nan), where=count > 0)
        return np.where(usable, despeckled, intensity)

    def _mean_ratio(self, statistics: SceneStatistics) -> float:
        """Return the expectation of I / mu on a flat field.

        For a boxcar mean it is computed to first order in the variance.
        """
        if not isinstance(self.inner, Boxcar):
            return _flat_ratio(self.inner, *rounded(statistics))
        correlation, n_pixels = statistics.correlation, self.window_px**2
        lag = np.arange(-(self.window_px // 2), self.window_px // 2 + 1)
        centre = np.prod([np.sum(np.float64(rho) ** (lag**2)) for rho in correlation])
        excess = centre - correlated_area(correlation, self.window_px)
        return float(1 - excess / (statistics.looks * n_pixels))

    def _local_mean(
        self, intensity: NDArray[np.float32], statistics: SceneStatistics
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the pre-estimate, and where it can be a divisor."""
        mean = self.inner.despeckle(intensity, statistics)
        return mean, np.isfinite(intensity) & (mean > 0)


def _flat_ratio(inner: Despeckler, looks: float, correlation: tuple[float, float]) -> float:
    """Return the mean of I / mu on simulated speckle, rounded to four decimals; cached."""
    key = (inner.name, tuple(inner.provenance().items()), looks, correlation)
    if key not in _FLAT_RATIOS:
        speckle, statistics = flat_speckle(min(looks, MOST_LOOKS), correlation, FLAT_FIELD_PX)
        mean = inner.despeckle(speckle, statistics)
        excess = float(np.mean(speckle[mean > 0] / mean[mean > 0], dtype=np.float64)) - 1
        _FLAT_RATIOS[key] = round(1 + excess * min(MOST_LOOKS / looks, 1), 4)
    return _FLAT_RATIOS[key]
