"""Score despeckled cubes: the scores of `sarstack evaluate` for xarray objects."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.cube.contract import as_cube
from sarstack.errors import StackError, UsageError
from sarstack.evaluation.image_pairs import MAX_OTHERS
from sarstack.evaluation.image_scores import COLUMNS, ImagePair, ReadWindow, score_image
from sarstack.speckle.samples import sample_speckle
from sarstack.speckle.statistics import combine_samples
from sarstack.tiles import Shape, Window, sample_windows

# A date of at most this number of pixels is computed once; a larger one window by window.
_MAX_PX_IN_MEMORY = 2**26


def score_cubes(
    noisy: Any, despeckled: Any, reference: Any = None, looks: float | None = None
) -> xr.Dataset:
    """Score each date and polarisation of a despeckled cube; see ``DespeckAccessor.evaluate``."""
    before, after = as_cube(noisy)[0], as_named_cube(despeckled, "despeckled")
    truth = None if reference is None else as_named_cube(reference, "reference")
    for name, cube in (("despeckled", after), ("reference", truth)):
        if cube is not None:
            check_same_images(before, cube, name)
    statistics = {p: _measure(before[p], looks) for p in before.data_vars}
    rows = [
        [_score(before[p], after[p], None if truth is None else truth[p], i, statistics[p][i])
         for i in range(before.sizes["time"])]
        for p in before.data_vars
    ]  # fmt: skip
    return xr.Dataset(
        {
            name: (("polarisation", "time"), [[values[name] for values in row] for row in rows],
                   {"long_name": column.meaning})
            for name, column in COLUMNS.items()
        },
        {"polarisation": [str(p) for p in before.data_vars], "time": before.time.values},
    )  # fmt: skip


def as_named_cube(obj: Any, name: str) -> xr.Dataset:
    """Return an argument as a cube; its errors name it."""
    try:
        return as_cube(obj)[0]
    except StackError as error:
        raise type(error)(
            f"{name}: {error.what}", expected=error.expected, where=error.where, do=error.do
        ) from None


def check_same_images(expected: xr.Dataset, cube: xr.Dataset, name: str) -> None:
    """Raise a UsageError unless a cube has the sizes and polarisations of another one."""
    one_date = name == "reference" and cube.sizes["time"] == 1
    wanted = {d: n for d, n in expected.sizes.items() if not (one_date and d == "time")}
    found = {d: cube.sizes[d] for d in wanted}
    missing = [str(p) for p in expected.data_vars if p not in cube.data_vars]
    if found != wanted or missing:
        raise UsageError(
            f"{name} has {found}" + (f" and no {', '.join(missing)}" if missing else ""),
            expected=f"{wanted}, and {', '.join(map(str, expected.data_vars))}, as the noisy cube",
            do="select the same dates, polarisations and pixels of both, for example "
            "cube.isel(time=[0, 1])",
        )


def _measure(array: xr.DataArray, looks: float | None) -> list[Any]:
    windows = sample_windows(_shape(array))
    samples = [
        sample_speckle(_read(array[i], in_memory=False)(w) for w in windows)
        for i in range(array.sizes["time"])
    ]
    return combine_samples(samples, looks=looks)


def _score(
    noisy: xr.DataArray,
    despeckled: xr.DataArray,
    reference: xr.DataArray | None,
    date: int,
    statistics: Any,
) -> dict[str, float]:
    shape = _shape(noisy)
    in_memory = shape.y * shape.x <= _MAX_PX_IN_MEMORY
    truth = None
    if reference is not None:
        truth = _read(reference[date if reference.sizes["time"] > 1 else 0], in_memory=in_memory)
    nearest = sorted(range(noisy.sizes["time"]), key=lambda i: abs(i - date))[1 : MAX_OTHERS + 1]
    others = _read(noisy[sorted(nearest)].mean("time"), in_memory=in_memory) if nearest else None
    pair = ImagePair(
        _read(noisy[date], in_memory=in_memory), _read(despeckled[date], in_memory=in_memory),
        shape, statistics.looks, statistics.correlation, truth, others,
    )  # fmt: skip
    return score_image(pair).values


def _read(array: xr.DataArray, *, in_memory: bool) -> ReadWindow:
    if in_memory:
        array = array.compute()

    def read(window: Window) -> NDArray[np.float32]:
        return np.asarray(array[window.slices].values, np.float32)

    return read


def _shape(array: xr.DataArray) -> Shape:
    return Shape(array.sizes["y"], array.sizes["x"])
