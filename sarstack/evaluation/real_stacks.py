"""Real stacks as judges: what the other dates say of a despeckled one.

There is no truth, but dates of one orbit share the land and not the speckle. The spread of
ln(despeckled date / mean of dates it has not seen) holds the speckle left, the detail lost,
the speckle of that mean and true change; the last two are the same for every method.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sarstack.despecklers import Despeckler
from sarstack.errors import ScaleError, UsageError
from sarstack.evaluation.metrics import bias_db, log_spread
from sarstack.evaluation.scores import NAN, SCORES, Cube, Scores, pool, score_ratio
from sarstack.labels.statistics import mean_of_dates, mean_of_others
from sarstack.readers import open_stack
from sarstack.speckle.statistics import measure_scene

if TYPE_CHECKING:
    import xarray as xr

MIN_DATES = 4


@dataclass(frozen=True)
class RealStack:
    """A stack in memory, of one polarisation.

    Attributes
    ----------
    name : str
    intensity : ndarray, shape (time, y, x), float32
        Linear power, NaN = nodata.
    looks : float
        Measured.
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
    scale : str, optional
        What the numbers are where neither tags nor numbers tell.

    Raises
    ------
    UsageError
        If there are fewer than four dates: halves of two are the least.
    """
    cube = open_cube(path, scale)
    if cube.sizes["time"] < MIN_DATES:
        raise UsageError(
            f"the stack has {cube.sizes['time']} dates",
            expected=f"{MIN_DATES} or more: each date is judged by the others",
            where=path,
        )
    stacks = []
    for polarisation in cube.data_vars:
        intensity = cube[polarisation].to_numpy()
        looks = measure_scene(intensity)[0].looks
        stacks.append(RealStack(f"{name_path(path)}-{polarisation}", intensity, looks))
    return stacks


def name_path(path: str) -> str:
    """Name a stack or scene after its path, for file names."""
    return Path(path.replace("*", "")).stem.strip("_- ") or "stack"


def open_cube(path: str, scale: str | None) -> "xr.Dataset":
    """Open a stack or scene; `scale` serves those only that do not tell theirs."""
    if scale is None:
        return open_stack(path)
    try:
        # A stack that tells its scale keeps it: one option serves several stacks.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the second try tells them again
            open_stack(path)
    except ScaleError:
        return open_stack(path, scale=scale)
    return open_stack(path)


def score_stack(stack: RealStack, despeckler: Despeckler | None) -> tuple[Cube, Scores]:
    """Score a method on a real stack by leaving each date out of its own reference.

    Parameters
    ----------
    stack : RealStack
    despeckler : Despeckler, optional
        None scores the input itself.

    Returns
    -------
    despeckled : ndarray, shape (time, y, x), float32
        What is to be seen: of a multi-temporal method, each date with its half only.
    scores : dict of float
        ``spread`` is against the mean of all other dates (NaN for multi-temporal methods,
        which have seen them); ``spread_half`` against the mean of the other half, the same
        for every method. Even dates are one half, odd ones the other.
    """
    noisy = stack.intensity
    halves = slice(0, None, 2), slice(1, None, 2)
    alone = despeckler is None or not despeckler.n_summary
    despeckled = noisy.copy()
    if despeckler is not None:
        for dates in [slice(None)] if alone else halves:
            despeckled[dates] = despeckler.apply(noisy[dates])
    other_half = np.empty_like(noisy)
    other_half[halves[0]], other_half[halves[1]] = (
        mean_of_dates(noisy[half]) for half in reversed(halves)
    )
    others = mean_of_others(noisy)
    spreads = [log_spread(d, r) for d, r in zip(despeckled, others, strict=True)]
    by_half = [log_spread(d, r) for d, r in zip(despeckled, other_half, strict=True)]
    return despeckled, {
        "spread": pool(spreads, SCORES["spread"].pool) if alone else NAN,
        "spread_half": pool(by_half, SCORES["spread_half"].pool),
        "bias_db": bias_db(despeckled, noisy),
        **score_ratio(noisy, despeckled, other_half, stack.looks),
    }
