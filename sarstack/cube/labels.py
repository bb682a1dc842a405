"""Compute the labels of a cube lazily, as tasks of a Dask graph."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.checks import check_between, check_choice, check_looks, check_odd_window
from sarstack.cube.despeckle import despeckle_array
from sarstack.cube.georeference import georeference
from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.labels.statistics import (
    ATTRIBUTES,
    DTYPES,
    LABELS,
    VARIATION,
    add_dates,
    finish_labels,
)
from sarstack.readers.sampling import sample_dates
from sarstack.speckle.statistics import choose_dates, combine_samples


def check_label_rule(
    *, looks: float | None, rule: str, threshold: float, quantile: float, multilook_px: int
) -> None:
    """Raise a UsageError if an argument of ``DespeckAccessor.labels`` is impossible."""
    check_looks(looks=looks)
    check_choice(tuple(VARIATION), rule=rule)
    check_between(0, math.inf, threshold=threshold)
    check_between(0, 1, quantile=quantile)
    check_odd_window(min_px=1, multilook_px=multilook_px)


def label_cube(cube: xr.Dataset, multilook_px: int, **options: Any) -> xr.Dataset:
    """Compute the labels of a cube lazily; see ``DespeckAccessor.labels``.

    Parameters
    ----------
    cube : Dataset
        Checked, with chunks.
    multilook_px : int
        Odd width of a spatial mean that is taken of each date first.
    **options
        As of :func:`label_arrays`.

    Raises
    ------
    UsageError
        If there are fewer than two dates.
    """
    if cube.sizes["time"] < 2:
        raise UsageError(
            f"the cube has {cube.sizes['time']} date",
            expected="two dates or more along the dimension 'time'",
            do="open the whole stack: labels are statistics over dates",
        )
    layers = []
    for name in cube.data_vars:
        data = cube[name].data
        if multilook_px > 1:
            data = despeckle_array(data, make_despeckler("boxcar", window_px=multilook_px))
        arrays = label_arrays(data, **options)
        layers.append(xr.Dataset({n: (("y", "x"), a, ATTRIBUTES[n]) for n, a in arrays.items()}))
    names = xr.Variable("polarisation", [str(name) for name in cube.data_vars])
    coords = {n: c for n, c in cube.coords.items() if "time" not in c.dims}
    labels = xr.concat(layers, names).assign_coords(coords)
    return georeference(labels, [name for name, dtype in DTYPES.items() if dtype.startswith("f")])


def label_arrays(
    array: da.Array,
    *,
    looks: float | None = None,
    rule: str = "cv",
    threshold: float = 0.1,
    quantile: float = 0.99,
) -> dict[str, da.Array]:
    """Compute the labels of one polarisation lazily.

    Parameters
    ----------
    array : dask array, shape (time, y, x), float32
        Linear power, NaN = nodata.
    looks, rule, threshold, quantile
        As in :func:`sarstack.labels.statistics.finish_labels`. Default of looks: measured lazily.

    Returns
    -------
    dict of dask array, shape (y, x)

    Notes
    -----
    Lazy. One task for each chunk sums its dates, and a tree sums the chunks. So memory does not
    depend on the number of dates.
    """
    moments = da.map_blocks(
        _moments_of, array, new_axis=1, chunks=((1,) * array.numblocks[0], 3, *array.chunks[1:]),
        dtype=np.float64, meta=np.empty((0, 0, 0, 0)),
    ).sum(axis=0)  # fmt: skip
    stack_looks: object = looks
    if looks is None:
        samples = sample_dates(array, choose_dates(array.shape[0]))
        stack_looks = dask.delayed(_looks_of, pure=True)(samples)
    options = {"rule": rule, "threshold": threshold, "quantile": quantile}
    finish = dask.delayed(finish_labels, pure=True)
    rows: list[list[dict[str, da.Array]]] = []
    for window_y in _spans(array.chunks[1]):
        row = []
        for window_x in _spans(array.chunks[2]):
            tile_labels = finish(moments[:, window_y, window_x], looks=stack_looks, **options)
            shape = (window_y.stop - window_y.start, window_x.stop - window_x.start)
            row.append({n: da.from_delayed(tile_labels[n], shape, dtype=DTYPES[n]) for n in LABELS})
        rows.append(row)
    return {
        name: da.block([[tile_labels[name] for tile_labels in row] for row in rows])
        for name in LABELS
    }


def _moments_of(block: NDArray[np.float32]) -> NDArray[np.float64]:
    moments = np.zeros((3, *block.shape[1:]))
    add_dates(moments, list(block))
    return moments[np.newaxis]


def _looks_of(samples: list[object]) -> float:
    return combine_samples(samples)[0].looks  # type: ignore[arg-type]


def _spans(sizes: Sequence[int]) -> list[slice]:
    edges = np.cumsum([0, *sizes]).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]
