"""deSpeckNet as a despeckler: the network of this project and the one of the paper.

Mullissa, Marcos, Tuia, Herold, Reiche: deSpeckNet: Generalizing Deep Learning-Based SAR
Image Despeckling, IEEE Transactions on Geoscience and Remote Sensing, 2020.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.network_method import NetworkMethod
from sarstack.networks.date_sums import N_SUMS, add_date, subtract_date
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import ALIGNMENT_PX


class DeSpeckNetDespeckler(NetworkMethod):
    """deSpeckNet on log intensity, residual, told looks and correlation.

    The local mean of ln y is taken off before the network: a brighter or darker scene
    gives the same result, brighter or darker.
    """

    name: ClassVar[str] = "despecknet"
    hole_is_border: ClassVar[bool] = False  # the network sees a mask of the holes
    alignment: ClassVar[int] = ALIGNMENT_PX
    # Its halo is wide: with cells of 512 px it would take a sixth more time.
    cell_px: ClassVar[int] = 1024


class LiteDeSpeckNetDespeckler(DeSpeckNetDespeckler):
    """deSpeckNet with an eighth of the operations."""

    name: ClassVar[str] = "despecknet-lite"


class StackDeSpeckNetDespeckler(DeSpeckNetDespeckler):
    """deSpeckNet that also sees what the other dates have in common.

    The temporal summary holds, for pixels with positive power, the number of dates and the
    sums of y, ln y and (ln y)^2; each date is taken away from it again before it is looked
    at, so that no date is its own witness. What changed on a date is for the network to
    tell from its speckle.
    """

    name: ClassVar[str] = "despecknet-mt"
    n_summary = N_SUMS

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of activations, and of what is made of the sums; measured."""
        return super().memory_bytes(n_px) + 150 * n_px

    @property
    def summary_halo(self) -> int:
        """Contributions are made pixel by pixel."""
        return 0

    def contribute(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
    ) -> NDArray[np.float64]:
        """Return 1, y, ln y and (ln y)^2 where there is a positive pixel, 0 elsewhere."""
        sums = np.zeros((self.n_summary, *intensity.shape))
        add_date(sums, intensity)
        return sums

    def sum_other_dates(
        self, summary: NDArray[np.float32], intensity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sums without this date; zero where it was the only one."""
        others = summary.copy()
        subtract_date(others, intensity)
        np.copyto(others, 0, where=others[:1] < 0.5)  # rounding is no other date
        return others


class PaperDeSpeckNetDespeckler(NetworkMethod):
    """deSpeckNet on linear intensity, as published.

    One deviation: the scene is divided by its 98th percentile before the network and
    multiplied by it after. The published network knows the brightness of its training
    scene only (released weights saturate 8 dB above it); with this the result scales with
    the scene. It is still less accurate far below that percentile.
    """

    name: ClassVar[str] = "despecknet-paper"
    rounding: ClassVar[float] = 4e-7
