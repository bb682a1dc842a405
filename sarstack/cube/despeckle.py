"""Despeckle a Dask array lazily, chunk by chunk, each with its halo.

The kernel is that of the runs over files (`sarstack.despecklers.window`).
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import SUPPORT, UNCERTAINTY, Extra
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import SarstackWarning
from sarstack.readers.sampling import sample_dates
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.plausibility import describe_doubt
from sarstack.speckle.statistics import combine_samples
from sarstack.tiles import Shape, Window


def despeckle_array(
    array: da.Array,
    despeckler: Despeckler,
    looks: float | None = None,
    *,
    extras: Sequence[Extra] = (),
) -> da.Array:
    """Despeckle a Dask array lazily, chunk by chunk with its halo.

    Parameters
    ----------
    array : dask array, shape (time, y, x), float32 (complex64 if the method needs that)
        Linear power, NaN = nodata. The last two axes cover the whole scene.
    despeckler : Despeckler
        The method.
    looks : float, optional
        Equivalent number of looks. Default: measured from the scene.
    extras : sequence of Extra
        Further images of each date to return.

    Returns
    -------
    dask array, shape and chunks of `array`, float32
        With `extras` an axis before the others: the result, then these.

    Notes
    -----
    Lazy: nothing is computed here; the scene statistics are tasks of the same graph. The halo of
    a chunk is sliced from its neighbours, whatever their size. So chunks can be smaller than
    the halo, and no chunk is padded at the edge of the scene.
    """
    power = array
    if array.dtype.kind == "c":
        power = array.map_blocks(to_power, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    statistics = _statistics_array(power, looks)
    sums: list[Any] = []
    first = None
    if despeckler.n_summary:
        summary = _summary_array(array, despeckler, statistics)
        sums = [(summary, "cyx")]
        if compared := despeckler.first_pass:
            first = _despeckle(array, compared, statistics, sums)
            sums.append((_agreeing_array(array, first, despeckler, statistics), "tcyx"))
    with_uncertainty = UNCERTAINTY in extras
    result = _despeckle(array, despeckler, statistics, sums, with_uncertainty=with_uncertainty)
    if not extras:
        return result
    images = {UNCERTAINTY: result[1]} if with_uncertainty else {}
    if SUPPORT in extras and first is not None and despeckler.first_pass:
        images[SUPPORT] = _support_array(first, despeckler.first_pass)
    image = result[0] if with_uncertainty else result
    return da.stack([image, *(images[extra] for extra in extras)])


def _despeckle(
    array: da.Array,
    despeckler: Despeckler,
    statistics: da.Array,
    sums: Sequence[tuple[da.Array, str]],
    *,
    with_uncertainty: bool = False,
) -> da.Array:
    """Despeckle all dates lazily; sums over dates come with the names of their axes."""
    scene = Shape(*array.shape[1:])
    work, axes = (_despeckle_both, "ktyx") if with_uncertainty else (_despeckle_dates, "tyx")

    def compute(window: Window, outer: Window) -> da.Array:
        parts: list[Any] = []
        for values, names in sums:
            parts += [one_chunk(values[(..., *outer.slices)]), names]
        return da.blockwise(
            work, axes, one_chunk(array[(..., *outer.slices)]), "tyx", statistics, "t", *parts,
            outer=outer, window=window, scene=scene, despeckler=despeckler,
            new_axes={"k": 2} if with_uncertainty else {},
            adjust_chunks={"y": window.shape.y, "x": window.shape.x},
            concatenate=True, dtype=np.float32, meta=np.empty((0,) * len(axes), np.float32),
        )  # fmt: skip

    return by_windows(array.chunks[1:], partial(despeckler.input_window, scene=scene), compute)


def _despeckle_dates(
    block: NDArray[Any],
    statistics: NDArray[np.object_],
    *sums: NDArray[np.float32],
    **place: Any,
) -> NDArray[np.float32]:
    dates = [
        despeckle_window(date, statistics=statistics[k], summary=_sums_of(k, sums), **place)
        for k, date in enumerate(block)
    ]
    return np.stack(dates)


def _despeckle_both(
    block: NDArray[np.float32],
    statistics: NDArray[np.object_],
    *sums: NDArray[np.float32],
    window: Window,
    **place: Any,
) -> NDArray[np.float32]:
    both = np.empty((2, len(block), *window.shape), np.float32)
    for k, date in enumerate(block):
        both[0, k] = despeckle_window(
            date, window=window, statistics=statistics[k], summary=_sums_of(k, sums),
            uncertainty_db=both[1, k], **place,
        )  # fmt: skip
    return both


def _sums_of(k: int, sums: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """Return the sums for one date: those over all dates, and its own ones if there are any."""
    if not sums:
        return None
    return np.concatenate([values[k] if values.ndim == 4 else values for values in sums])


def _summary_array(array: da.Array, despeckler: Despeckler, statistics: da.Array) -> da.Array:
    """Sum the contributions of all dates lazily, first within chunks of dates, then as a tree."""
    scene = Shape(*array.shape[1:])

    def compute(window: Window, outer: Window) -> da.Array:
        by_chunk = da.blockwise(
            _contribute_dates, "tcyx", one_chunk(array[(slice(None), *outer.slices)]), "tyx",
            statistics, "t",
            outer=outer, window=window, scene=scene, despeckler=despeckler,
            new_axes={"c": despeckler.n_summary},
            adjust_chunks={"t": 1, "y": window.shape.y, "x": window.shape.x},
            concatenate=True, dtype=np.float64, meta=np.empty((0, 0, 0, 0)),
        )  # fmt: skip
        return by_chunk.sum(axis=0).astype(np.float32)

    def input_window(window: Window) -> Window:
        return despeckler.contribution_window(window, scene)

    return by_windows(array.chunks[1:], input_window, compute)


def _contribute_dates(
    block: NDArray[Any], statistics: NDArray[np.object_], **place: Any
) -> NDArray[np.float64]:
    total: Any = sum(
        contribute_window(date, statistics=date_statistics, **place)
        for date, date_statistics in zip(block, statistics, strict=True)
    )
    return total[np.newaxis]


def _agreeing_array(
    array: da.Array, first: da.Array, despeckler: Despeckler, statistics: da.Array
) -> da.Array:
    """Sum the contributions of the dates that agree with each date lazily, shape (t, c, y, x).

    Each pair of chunks of dates is one task, so that memory does not grow with their number.
    """
    scene = Shape(*array.shape[1:])

    def compute(window: Window, outer: Window) -> da.Array:
        place = one_chunk(first[(..., *window.slices)])
        by_pair = da.blockwise(
            _contribute_pairs, "tscyx", place, "tuv", place, "suv",
            one_chunk(array[(..., *outer.slices)]), "syx", statistics, "s",
            outer=outer, window=window, scene=scene, despeckler=despeckler,
            new_axes={"c": despeckler.n_summary},
            adjust_chunks={"s": 1, "y": window.shape.y, "x": window.shape.x},
            concatenate=True, dtype=np.float64, meta=np.empty((0, 0, 0, 0, 0)),
        )  # fmt: skip
        return by_pair.sum(axis=1).astype(np.float32)

    def input_window(window: Window) -> Window:
        return despeckler.contribution_window(window, scene)

    return by_windows(array.chunks[1:], input_window, compute)


def _contribute_pairs(
    own: NDArray[np.float32],
    first: NDArray[np.float32],
    block: NDArray[Any],
    statistics: NDArray[np.object_],
    *,
    window: Window,
    despeckler: Despeckler,
    **place: Any,
) -> NDArray[np.float64]:
    total = np.zeros((len(own), 1, despeckler.n_summary, *window.shape))
    compared = despeckler.first_pass
    if compared is None:
        return total
    for other, date, date_statistics in zip(first, block, statistics, strict=True):
        terms = contribute_window(
            date, window=window, despeckler=despeckler, statistics=date_statistics, **place
        )
        for image, sums in zip(own, total, strict=True):
            sums[0] += compared.agreement(image, other) * terms
    return total


def _support_array(first: da.Array, compared: Despeckler) -> da.Array:
    """Sum the weights of the other dates lazily, shape (t, y, x)."""
    by_pair = da.blockwise(
        _count_pairs, "tsyx", first, "tyx", first, "syx", compared=compared,
        adjust_chunks={"s": 1}, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32),
    )  # fmt: skip
    others = da.maximum(by_pair.sum(axis=1, dtype=np.float32) - np.float32(1), np.float32(0))
    return da.where(da.isnan(first), first, others)


def _count_pairs(
    own: NDArray[np.float32], first: NDArray[np.float32], *, compared: Despeckler
) -> NDArray[np.float32]:
    counts = [sum(compared.agreement(image, other) for other in first) for image in own]
    return np.stack(counts)[:, np.newaxis]


def by_windows(
    chunks: Sequence[Sequence[int]],
    input_window: Callable[[Window], Window],
    compute: Callable[[Window, Window], da.Array],
) -> da.Array:
    """Call `compute` for the window of each spatial chunk, and assemble the results."""
    ys, xs = (np.cumsum([0, *sizes]).tolist() for sizes in chunks)
    rows = []
    for y0, y1 in pairwise(ys):
        windows = [Window(y0, y1, x0, x1) for x0, x1 in pairwise(xs)]
        rows.append([compute(window, input_window(window)) for window in windows])
    return da.block(rows)


def one_chunk(array: da.Array) -> da.Array:
    """Return an array whose rows and columns are one chunk."""
    return array.rechunk({array.ndim - 2: -1, array.ndim - 1: -1})


def _statistics_array(array: da.Array, looks: float | None) -> da.Array:
    """Measure the scene lazily: one SceneStatistics for each date, in chunks like the dates."""
    combined = dask.delayed(_as_objects, pure=True)(sample_dates(array), looks)
    statistics = da.from_delayed(
        combined, (array.shape[0],), dtype=object, meta=np.empty(0, object)
    )
    return statistics.rechunk((array.chunks[0],))


def _as_objects(samples: list[Any], looks: float | None) -> NDArray[np.object_]:
    statistics = combine_samples(samples, looks=looks)
    if warning := describe_doubt("the stack", samples):
        warnings.warn(SarstackWarning(warning), stacklevel=2)
    objects = np.empty(len(statistics), object)
    objects[:] = statistics
    return objects
