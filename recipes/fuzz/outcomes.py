"""Run one input and name its outcome; the truth comes from rasterio, xarray and SciPy."""

import gc
import sys
from collections.abc import Callable, Sequence

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

    def note(raised: "sys.UnraisableHookArgs") -> None:
        # rasterio cannot log a message of GDAL that quotes damaged text; it is only not logged.
        if not isinstance(raised.exc_value, UnicodeDecodeError):
            ignored.append(str(raised.exc_value))

    sys.unraisablehook = note
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
    stored: NDArray,
    nodata: Sequence[float | None] = (),
    gain: float = 1.0,
    offset: float = 0.0,
    found: Sequence[float] = (),
    lowest: float = -np.inf,
) -> NDArray[np.float64]:
    """Convert stored numbers to linear power by plain arithmetic; NaN = nodata.

    `nodata` are the declared numbers. `found` and `lowest` are what sarstack found out about the
    image: they are no part of the truth that is tested here.
    """
    numbers = stored.astype(np.float64)
    declared = [number for number in nodata if number is not None]
    is_float, packed = stored.dtype.kind == "f", bool(gain != 1 or offset != 0)

    def as_stored(number: float) -> np.float64:
        return np.float64(stored.dtype.type(number) if is_float else number)

    with np.errstate(over="ignore", invalid="ignore"):
        power = numbers * gain + offset
        empty = ~((power > max(lowest, -1e30)) & (power < 9e36))
        for number in declared:
            empty |= numbers == as_stored(number)
        for number in (*found, *([] if declared else NODATA_NUMBERS)):
            near = np.abs(power - number) <= 1e-6 * abs(number)
            empty |= near if packed else numbers == as_stored(number)
        empty |= (power.astype(np.float32) == 0) | ((numbers == 0) & (not packed))
    return np.where(empty, np.nan, power)


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
