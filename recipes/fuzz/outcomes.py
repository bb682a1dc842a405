"""Run one input and name its outcome; the truth comes from rasterio, xarray and SciPy."""

import gc
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import NODATA_NUMBERS
from sarstack.errors import SarstackError

GOOD = ("right", "clear error")
BAD = ("wrong", "unclear error", "traceback", "crash", "hang")


class WrongResultError(Exception):
    """A result that differs from the truth, without an error."""


def run_input(case: Callable[[], None]) -> tuple[str, str]:
    """Return outcome and reason of an input; `case` returns nothing if the result is right.

    A traceback that Python prints when it deletes an object counts as a traceback.
    """
    ignored: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda raised: ignored.append(str(raised.exc_value))
    try:
        outcome = _run(case)
        gc.collect(1)  # the youngest objects: those of this input
    finally:
        sys.unraisablehook = before
    return ("traceback", f"in a destructor: {ignored[0]}") if ignored else outcome


def _run(case: Callable[[], None]) -> tuple[str, str]:
    try:
        case()
    except SarstackError as error:
        clear = bool(error.what and error.do)
        return ("clear error" if clear else "unclear error"), error.what.splitlines()[0]
    except WrongResultError as error:
        return "wrong", str(error)
    except BaseException as error:  # whatever it is, it is an outcome
        return "traceback", f"{type(error).__name__}: {str(error)[:300]}"
    return "right", ""


def require(condition: object, reason: str) -> None:
    if not condition:
        raise WrongResultError(reason)


def linear_intensity(
    stored: NDArray, nodata: float | None = None, gain: float = 1.0, offset: float = 0.0
) -> NDArray[np.float64]:
    """Convert stored numbers to linear power by plain arithmetic; NaN = nodata."""
    numbers = stored.astype(np.float64)
    empty = ~np.isfinite(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        if nodata is not None:
            # A tag is compared at the precision of the file.
            own = stored.dtype.type(nodata) if stored.dtype.kind == "f" else nodata
            empty |= numbers == np.float64(own)
        power = (numbers * gain + offset).astype(np.float32).astype(np.float64)
        empty |= (np.abs(power) > 9e36) | (power < -1e30) | (power == 0)
    if nodata is None:
        for number in NODATA_NUMBERS:
            empty |= np.isclose(power, number, rtol=1e-6, atol=0)
    return np.where(empty | ~np.isfinite(power), np.nan, power)


def require_equal(found: NDArray, truth: NDArray, what: str, offset: float = 0.0) -> None:
    """Compare pixels; those of packed data have the rounding error of their offset."""
    require(found.shape == truth.shape, f"{what}: shape {found.shape}, truth {truth.shape}")
    differ = np.isnan(found) != np.isnan(truth)
    require(not differ.any(), f"{what}: {differ.sum()} pixels differ in being nodata")
    valid = ~np.isnan(truth)
    # Below the smallest normal float32, numbers have fewer digits.
    atol = 1e-38 + 1e-6 * abs(offset)
    close = np.isclose(found[valid], truth[valid], rtol=2e-5, atol=atol)
    require(close.all(), f"{what}: {(~close).sum()} of {close.size} pixels differ")
