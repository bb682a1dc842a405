"""The sample windows of a cube's dates, measured as tasks of the same graph."""

from collections.abc import Sequence

import dask
import dask.array as da
from dask.delayed import Delayed
from dask.graph_manipulation import clone

from sarstack.speckle import sample_speckle
from sarstack.tiles import Shape, sample_windows


def sample_dates(array: da.Array, dates: Sequence[int] | None = None) -> list[Delayed]:
    """Measure the speckle of dates lazily.

    Parameters
    ----------
    array : dask array, shape (time, y, x), float32
        Linear power, NaN = nodata.
    dates : sequence of int, optional
        Positions of the dates to measure; all by default.

    Returns
    -------
    list of Delayed
        One :class:`sarstack.speckle.SpeckleSample` per date.

    Notes
    -----
    The chunks are loaded by tasks of their own. Were they shared with what waits for the
    statistics of all dates, the whole cube would have to stay in memory.
    """
    windows = sample_windows(Shape(*array.shape[1:]))
    sample = dask.delayed(sample_speckle, pure=True)
    separate = clone(array)
    chosen = range(array.shape[0]) if dates is None else dates
    return [sample([separate[i][w.slices] for w in windows]) for i in chosen]
