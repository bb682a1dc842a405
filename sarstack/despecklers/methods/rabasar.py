"""RABASAR: despeckle the ratio of a date to the temporal mean, multi-temporal."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from sarstack.checks import check_odd_window
from sarstack.despecklers.inner_method import MethodWithInner, make_inner
from sarstack.despecklers.methods.lee import local_mmse
from sarstack.speckle.laws import log_variance_spread, window_cv2
from sarstack.speckle.statistics import SceneStatistics


class Rabasar(MethodWithInner):
    """Zhao 2019, multi-temporal: despeckle the ratio of the date to the mean of all dates.

    ``J = S f(I / S)``: S is the mean over all dates with data at the pixel, despeckled by the Lee
    filter with the number of looks of that mean. f is a method of one date. Detail that all dates
    share is in S at full resolution; f needs to keep only what is different at this date.

    Parameters
    ----------
    window_px : int
        Odd width of the window of the Lee filter.
    ratio_method : str
        Method that despeckles the ratio: a name, or a model file.

    Notes
    -----
    Deviations from the paper, which despeckles both images by MuLoG: the two methods. The mean has
    the looks of all dates at the pixel together, so the ratio has nearly those of the date.
    Nodata: a date counts only where it has data. Where S is not positive, pixels keep their values.
    Mean: kept on stationary speckle. All dates should be of one relative orbit. Only a sum and a
    count over dates are needed: memory does not grow with the number of dates.

    References
    ----------
    W. Zhao, C.-A. Deledalle, L. Denis, H. Maitre, J.-M. Nicolas, F. Tupin, "Ratio-based
    multitemporal SAR images denoising: RABASAR", IEEE TGRS 57(6), 2019.
    """

    name: ClassVar[str] = "rabasar"
    domain = "ratio to the temporal mean"
    n_summary = 2
    has_thresholds: ClassVar[bool] = True

    def __init__(self, window_px: int = 7, ratio_method: str = "lee-sigma") -> None:
        check_odd_window(window_px=window_px)
        super().__init__(make_inner(ratio_method=ratio_method))
        self.window_px, self.ratio_method = int(window_px), self.inner.name
        self.halo = self.window_px // 2 + self.inner.halo

    @property
    def summary_halo(self) -> int:
        """Zero: the contribution of a pixel depends on this pixel only."""
        return 0

    def contribute(
        self, intensity: NDArray[np.float32], statistics: SceneStatistics
    ) -> NDArray[np.float64]:
        """Return 1 and the intensity where the date has data, else 0."""
        valid = np.isfinite(intensity)
        return np.stack([valid.astype(np.float64), np.where(valid, intensity, 0)])

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        return self.despeckle_inside(intensity, statistics, summary)

    def despeckle_inside(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a part of a block; see :meth:`Despeckler.despeckle_inside`."""
        if summary is None:
            summary = self.contribute(intensity, statistics).astype(np.float32)
        mean = self._despeckle_mean(summary, statistics)
        usable = np.isfinite(intensity) & (mean > 0)
        ratio = np.divide(intensity, mean, out=np.full_like(mean, np.nan), where=usable)
        part = inside or (slice(None), slice(None))
        smooth = self.inner.despeckle_inside(ratio, _of_ratio(statistics), None, inside)
        return np.where(usable[part], smooth * mean[part], intensity[part])

    def _despeckle_mean(
        self, summary: NDArray[np.float32], statistics: SceneStatistics
    ) -> NDArray[np.float32]:
        """Return the mean over dates, despeckled by the Lee filter."""
        count, total = summary
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        looks, correlation = statistics.looks, statistics.correlation
        # Speckle that stays in the mean would be missing in the ratio, which would be biased. So
        # only windows that vary clearly more than speckle does count as textured.
        margin = 1 + 2 * log_variance_spread(looks, correlation, self.window_px)
        of_one = margin * window_cv2(looks, correlation, self.window_px)
        local, weight = local_mmse(mean, self.window_px, of_one / np.maximum(count, 1))
        return local + weight * (mean - local)


def _of_ratio(statistics: SceneStatistics) -> SceneStatistics:
    """Return the statistics of the ratio: speckle of mean 1; brighter pixels are not speckle."""
    bright = float(gammaincinv(statistics.looks, 0.9999) / statistics.looks)
    return replace(statistics, bright=bright)
