"""Validation on real stacks: each despeckled date against the mean of other dates.

There is no truth. Dates of one orbit show the same land with independent speckle. The standard
deviation of ln(despeckled date / mean of dates that the method has not seen) is called spread.
It contains the speckle that is left, the detail that is lost, the speckle of that mean, and
true change. The last two are the same for every method.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sarstack.despecklers import Despeckler
from sarstack.errors import ScaleError, UsageError
from sarstack.evaluation.metrics import score_result
from sarstack.evaluation.scores import Cube, Result, Scores
from sarstack.labels.statistics import leave_one_out_means, temporal_mean
from sarstack.readers import open_stack
from sarstack.speckle.statistics import measure_scene

if TYPE_CHECKING:
    import xarray as xr

MIN_DATES = 4


@dataclass(frozen=True)
class RealStack:
    """A stack of one polarisation in memory.

    Attributes
    ----------
    name : str
    intensity : ndarray, shape (time, y, x), float32
        Linear power, NaN = nodata.
    looks : float
        Equivalent number of looks, measured.
    """

    name: str
    intensity: Cube
    looks: float


def read_stack(path: str, scale: str | None = None) -> list[RealStack]:
    """Read a stack, one entry per polarisation.

    Parameters
    ----------
    path : str
        Folder, file or pattern, see :func:`sarstack.open_stack`.
    scale : {"linear", "amplitude", "db"}, optional
        Scale of stacks whose tags and values do not show it.

    Raises
    ------
    UsageError
        If there are fewer than four dates: each half must have two.
    """
    cube = open_cube(path, scale)
    if cube.sizes["time"] < MIN_DATES:
        raise UsageError(
            f"the stack has {cube.sizes['time']} dates",
            expected=f"{MIN_DATES} or more: each date is compared with the others",
            where=path,
            do="give a longer stack, or a single date with --scene",
        )
    stacks = []
    for polarisation in cube.data_vars:
        intensity = cube[polarisation].to_numpy()
        looks = measure_scene(intensity)[0].looks
        stacks.append(RealStack(f"{name_path(path)}-{polarisation}", intensity, looks))
    return stacks


def name_path(path: str) -> str:
    """Return a name for a stack or scene from its path, for file names."""
    return Path(path.replace("*", "")).stem.strip("_- ") or "stack"


def open_cube(path: str, scale: str | None) -> "xr.Dataset":
    """Open a stack or scene; `scale` is used only where the data do not show their scale."""
    if scale is None:
        return open_stack(path)
    try:
        # One option --scale is given for several stacks: it must not override a known scale.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the second call repeats them
            open_stack(path)
    except ScaleError:
        return open_stack(path, scale=scale)
    return open_stack(path)


def score_stack(stack: RealStack, despeckler: Despeckler | None) -> tuple[Cube, Scores]:
    """Score a method on a real stack: no date is part of its own reference.

    Parameters
    ----------
    stack : RealStack
    despeckler : Despeckler, optional
        None scores the input itself.

    Returns
    -------
    despeckled : ndarray, shape (time, y, x), float32
        Of a multi-temporal method: each date despeckled with the dates of its half.
    scores : dict of float
        ``spread`` is against the mean of all other dates; NaN for multi-temporal methods, which
        use these dates. ``spread_half`` is against the mean of the other half, for every method.
        Dates of even index are one half, dates of odd index the other.
    """
    noisy = stack.intensity
    halves = slice(0, None, 2), slice(1, None, 2)
    is_single_date = despeckler is None or not despeckler.n_summary
    despeckled = noisy.copy()
    if despeckler is not None:
        for dates in [slice(None)] if is_single_date else halves:
            despeckled[dates] = despeckler.apply(noisy[dates])
    other_half = np.empty_like(noisy)
    other_half[halves[0]], other_half[halves[1]] = (
        temporal_mean(noisy[half]) for half in reversed(halves)
    )
    others = leave_one_out_means(noisy) if is_single_date else None
    result = Result("stack", noisy, despeckled, other_half, stack.looks, others=others)
    return despeckled, score_result(result)
