"""deSpeckNet: the networks of this project, and the network of the paper."""

from copy import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_choice
from sarstack.despecklers.first_pass import FirstPass
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.networks.date_sums import (
    FEWEST_DATES,
    N_SUMS,
    add_date,
    favour_agreeing,
    subtract_date,
)
from sarstack.speckle.statistics import SceneStatistics


class DeSpeckNetDespeckler(NetworkMethod):
    """deSpeckNet on log intensity, residual, with looks and correlation as input.

    The input of the network is ln y minus its local mean. So a factor on the scene is the same
    factor on the result.

    References
    ----------
    A. G. Mullissa, D. Marcos, D. Tuia, M. Herold, J. Reiche, "deSpeckNet: generalizing deep
    learning-based SAR image despeckling", IEEE TGRS 60, 2022 (first published in 2020).
    """

    name: ClassVar[str] = "despecknet"
    nodata_acts_as_edge: ClassVar[bool] = False  # the network has a mask of valid pixels as input
    # Cells of 512 px would take a sixth more time, because the halo is wide.
    cell_px: ClassVar[int] = 1024
    gpu_cell_px: ClassVar[int] = 2048


class LiteDeSpeckNetDespeckler(DeSpeckNetDespeckler):
    """deSpeckNet with an eighth of the operations."""

    name: ClassVar[str] = "despecknet-lite"


class StackDeSpeckNetDespeckler(DeSpeckNetDespeckler):
    """deSpeckNet with statistics of the other dates as further input, multi-temporal.

    The temporal summary is the number of dates with positive power at each pixel, and the sums of
    y, ln y and (ln y)^2. Before a date is despeckled, its own terms are subtracted: the network
    has the sums over the other dates as input. The network is trained to tell change from speckle.

    Where other dates changed, a part of their change leaks into a date that did not. With two
    passes, most of this leak is gone: the second pass gets sums over the dates whose first result
    agrees with that of this date. A date that agrees with few others gets the sums over all. A
    network with two sets of sums also gets those over the agreeing dates alone.

    Parameters
    ----------
    model, device, precision, ensemble
        See :class:`NetworkMethod`. The first of two passes has no ensemble.
    passes : {1, 2}
        Number of passes; two take a little more than twice the time.
    """

    name: ClassVar[str] = "despecknet-mt"
    n_summary = N_SUMS

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        precision: str = "auto",
        ensemble: int = 1,
        passes: int = 1,
    ) -> None:
        super().__init__(model, device=device, precision=precision, ensemble=ensemble)
        check_choice((1, 2), passes=passes)
        if passes == 2:
            once = copy(self)
            once.ensemble = 1
            self.first_pass = FirstPass(once)

    def settings(self) -> dict[str, str]:
        """Return the settings of the network, and the number of passes."""
        return super().settings() | ({"passes": "2"} if self.first_pass else {})

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of the activations and of the images of the other dates; measured."""
        return super().memory_bytes(n_px) + 150 * n_px

    @property
    def summary_halo(self) -> int:
        """Zero: the contribution of a pixel depends on this pixel only."""
        return 0

    def contribute(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
    ) -> NDArray[np.float64]:
        """Return 1, y, ln y and (ln y)^2 at positive pixels, 0 elsewhere."""
        sums = np.zeros((self.n_summary, *intensity.shape))
        add_date(sums, intensity)
        return sums

    def sum_other_dates(
        self, summary: NDArray[np.float32], intensity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sums over the other dates; zero where there is none."""
        others = summary.copy()
        for sums in np.split(others, len(others) // N_SUMS):
            subtract_date(sums, intensity)
        if self.first_pass:
            every, agreeing = np.split(others, 2)
            sets = [favour_agreeing(every, agreeing), agreeing]
            others = np.concatenate(sets[: self.card.architecture.get("sums", 1)])
        for sums in np.split(others, len(others) // N_SUMS):
            np.copyto(sums, 0, where=sums[:1] < FEWEST_DATES)  # rounding errors: no date is left
        return others


class PaperDeSpeckNetDespeckler(NetworkMethod):
    """deSpeckNet on linear intensity, as published.

    One deviation: the input is divided by the 98th percentile of the scene, and the output
    multiplied by it. So a factor on the scene is the same factor on the result. Without it, the
    network works only at the brightness of its training scene (the released weights saturate 8 dB
    above it). Far below the 98th percentile the network is less accurate.

    References
    ----------
    A. G. Mullissa, D. Marcos, D. Tuia, M. Herold, J. Reiche, "deSpeckNet: generalizing deep
    learning-based SAR image despeckling", IEEE TGRS 60, 2022 (first published in 2020).
    """

    name: ClassVar[str] = "despecknet-paper"
    always_float32: ClassVar[bool] = True
    rounding_of_maximum: ClassVar[float] = 4e-7
