"""What a task reads to despeckle a tile: pixels of its date with a halo, and sums over dates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.window import contribute_window
from sarstack.readers.decorrelated import read_centred
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.slc import split_bursts
from sarstack.speckle.complex_fields import mark_nodata
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window
from sarstack.workflows.despeckle import summary as summary_store


class Date(NamedTuple):
    """One date of a stack, as the sums over dates need it.

    Attributes
    ----------
    raster : Raster
    statistics : SceneStatistics
    first_pass : str
        Path of its first pass; empty for methods of one pass.
    """

    raster: Raster
    statistics: SceneStatistics
    first_pass: str = ""


@dataclass(frozen=True)
class DateSums:
    """Where the sums over dates are that a multi-temporal method gets for one date.

    Attributes
    ----------
    summary : str
        Path of the sums over all dates.
    first_pass : str
        Path of the first pass of this date; empty for methods of one pass.
    dates : tuple of Date
        All dates, also this one, for methods of two passes.
    """

    summary: str
    first_pass: str = ""
    dates: tuple[Date, ...] = ()

    def read(
        self, despeckler: Despeckler, window: Window, scene: Shape
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the sums, and for two passes how many other dates agree.

        The dates are read one after the other, so memory does not depend on their number.

        Returns
        -------
        sums : ndarray, shape (channel, *window), float32
            For two passes, the second half are the sums over the dates that agree.
        support : ndarray, shape of `window`, float32, or None
            Sum of the weights of the other dates, NaN where this date is nodata.
        """
        total = summary_store.read_window(self.summary, window)
        compared = despeckler.first_pass
        if compared is None:
            return total, None
        own = summary_store.read_window(self.first_pass, window)[0]
        outer = despeckler.contribution_window(window, scene)
        agreeing, support = np.zeros(total.shape), np.where(np.isnan(own), own, np.float32(-1))
        for date in self.dates:
            weight = compared.agreement(own, summary_store.read_window(date.first_pass, window)[0])
            if not weight.any():  # also where this date, or all of its window, was unreadable
                continue
            support += weight
            block = read_input(despeckler, date.raster, outer, cache_blocks=False)
            terms = contribute_window(block, outer, window, scene, despeckler, date.statistics)
            terms *= weight
            agreeing += terms
        np.maximum(support, 0, out=support)  # without this date; NaN stays
        return np.concatenate([total, agreeing.astype(np.float32)]), support


class Part(NamedTuple):
    """A part of a tile whose pixels are computed together: the tile, or what one burst has of it.

    Attributes
    ----------
    window : Window
        Pixels to compute.
    outer : Window
        Pixels of the arrays: `window` and its halo.
    block : ndarray, shape of `outer`, float32 or complex64
        What the method gets.
    sums : ndarray, shape (channel, *outer), float32, optional
        Sums over dates.
    support : ndarray, shape of `outer`, float32, optional
        How many other dates agree.
    """

    window: Window
    outer: Window
    block: NDArray[Any]
    sums: NDArray[np.float32] | None
    support: NDArray[np.float32] | None


def read_parts(
    despeckler: Despeckler, raster: Raster, window: Window, scene: Shape, sums: DateSums | None
) -> Iterator[Part]:
    """Read the parts of a tile one after the other; a part sees no pixel of another burst."""
    for part, (first, end) in split_bursts(raster, window):
        outer = despeckler.input_window(part, scene)
        block = read_input(despeckler, raster, outer)
        values, support = sums.read(despeckler, outer, scene) if sums else (None, None)
        if first > outer.y0 or end < outer.y1:
            rows = np.arange(outer.y0, outer.y1)
            hidden = (rows < first) | (rows >= end)
            mark_nodata(block, hidden)
            if values is not None:
                values[:, hidden] = 0
        yield Part(part, outer, block, values, support)


def read_input(
    despeckler: Despeckler, raster: Raster, window: Window, *, cache_blocks: bool = True
) -> NDArray[Any]:
    """Read a window as the method needs it: float32 intensity, or complex64 in baseband."""
    if despeckler.needs_complex:
        return read_centred(raster, window)
    return raster.read(window, cache_blocks=cache_blocks)
