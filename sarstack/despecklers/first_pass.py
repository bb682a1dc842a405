"""First pass of a method of two passes: which dates show the same at a pixel.

Sums over all dates contain the changes of other dates, and a network cannot tell all of them from
detail. The results of a first pass show at each pixel which dates agree. The second pass gets the
sums over these dates, too.
"""

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.inner_method import MethodWithInner
from sarstack.networks.date_sums import Images
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window

SMOOTHING_PX = 3
AGREE_NAT, DISAGREE_NAT = 0.2, 0.5
"""Dates agree fully up to the first difference of ln intensity, and not at all from the second.

In between the weight falls linearly, so that a rounding error never decides. Chosen on simulated
GRD-like stacks of 3 and 10 dates, and looked at on real RTC stacks."""


class FirstPass(MethodWithInner):
    """The smoothed result of a method of one pass, and how well two of these agree.

    The smoothing is the mean of ln intensity over 3 x 3 pixels, without nodata.

    Parameters
    ----------
    inner : Despeckler
        The method of one pass. It can be multi-temporal.
    """

    name = "first-pass"

    def __init__(self, inner: Despeckler) -> None:
        super().__init__(inner)
        self.halo = inner.halo + SMOOTHING_PX // 2
        self.n_summary = inner.n_summary

    @property
    def summary_halo(self) -> int:
        """That of the inner method."""
        return self.inner.summary_halo

    def contribute(
        self, intensity: NDArray[np.float32], statistics: SceneStatistics
    ) -> NDArray[np.float64]:
        """Return the terms of the inner method."""
        return self.inner.contribute(intensity, statistics)

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
        """Despeckle a part of a block and the pixels around it, and smooth it."""
        shape = Shape(*intensity.shape)
        rows, columns = inside or (slice(0, shape.y), slice(0, shape.x))
        wanted = Window(rows.start, rows.stop, columns.start, columns.stop)
        around = wanted.expand(SMOOTHING_PX // 2, shape)
        result = self.inner.despeckle_inside(intensity, statistics, summary, around.slices)
        valid = np.isfinite(result)
        smooth = np.exp(box_mean(np.log(result), valid, SMOOTHING_PX))
        smooth[~valid] = np.nan
        return smooth[wanted.slices_in(around)]

    def agreement(
        self, own: NDArray[np.float32], other: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return how well another date agrees with a date, for each pixel.

        Parameters
        ----------
        own, other : ndarray, shape (y, x), float32
            Results of the first pass for both dates, NaN = nodata.

        Returns
        -------
        ndarray, shape (y, x), float32
            Weight of the other date: 1 where it agrees, 0 where it does not or either is nodata.
        """
        weight = weigh_difference(np.abs(np.log(other / own)))
        return np.nan_to_num(weight, copy=False)


def weigh_difference(difference: Images) -> Images:
    """Return how well two dates agree, 1 to 0, by the difference of their ln intensity.

    Parameters
    ----------
    difference : ndarray or Tensor, float32
        Absolute value, in nat; NaN stays.
    """
    return ((DISAGREE_NAT - difference) / (DISAGREE_NAT - AGREE_NAT)).clip(0, 1)
