"""Lazy measurement of the speckle of a cube's dates, on its sample windows."""

from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
from dask._task_spec import convert_legacy_graph
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from sarstack.speckle.samples import sample_speckle
from sarstack.tiles import Shape, sample_windows


def sample_dates(array: da.Array, dates: Sequence[int] | None = None) -> list[Delayed]:
    """Measure the speckle of dates lazily.

    Parameters
    ----------
    array : dask array, shape (time, y, x), float32
        Linear power, NaN = nodata.
    dates : sequence of int, optional
        Indices of the dates to measure; all by default.

    Returns
    -------
    list of Delayed
        One :class:`sarstack.speckle.statistics.SpeckleSample` per date.

    Notes
    -----
    The chunks are loaded by separate tasks. Despeckling waits for the statistics of all
    dates: if both used the same tasks, the whole cube would have to stay in memory.
    """
    windows = sample_windows(Shape(*array.shape[1:]))
    sample = dask.delayed(sample_speckle, pure=True)
    separate = copy_tasks(array)
    chosen = range(array.shape[0]) if dates is None else dates
    return [sample([separate[i][w.slices] for w in windows]) for i in chosen]


def copy_tasks(array: da.Array) -> da.Array:
    """Return the same array, computed by a copy of its tasks under other names.

    ``dask.graph_manipulation.clone`` does not work for an array that was sliced or
    rechunked (dask issue 12455): it renames the keys of the graph, but not in the tasks.
    """
    tasks = convert_legacy_graph(dict(array.__dask_graph__()))
    names = {key: _rename(key) for key in tasks}
    copies = {names[key]: task.substitute(names, key=names[key]) for key, task in tasks.items()}
    name = _rename(array.name)
    graph = HighLevelGraph.from_collections(name, copies, [])
    return da.Array(graph, name, array.chunks, meta=array._meta)


def _rename(key: Any) -> Any:
    if isinstance(key, tuple):
        return (_rename(key[0]), *key[1:])
    return f"sampled-{key}"
