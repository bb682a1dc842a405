"""The times of the images in an xarray Dataset, also from axes that xarray does not decode."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError
from sarstack.readers.times import FIRST_YEAR, LAST_YEAR, NOT_A_TIME, parse_time

if TYPE_CHECKING:
    import xarray as xr

FIRST_TIME, LAST_TIME = (np.datetime64(f"{year}-01-01", "ns") for year in (FIRST_YEAR, LAST_YEAR))
_DAY = np.timedelta64(1, "D")
# Whole numbers without units whose order of magnitude leaves one meaning only.
_EPOCH_UNITS_NS = (10**9, 10**6, 10**3, 1)
_LAYOUTS = {7: "%Y%j", 8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}


def read_times(path: str, coordinate: "xr.DataArray") -> list[np.datetime64]:
    """Return the times of a time coordinate.

    Parameters
    ----------
    path : str
        Where it is stored, for messages.
    coordinate : xarray.DataArray, any shape
        Decoded times; or text (ISO 8601 and others that file names have); or numbers without
        units: ``20210304``, ``20210304053412``, ``2021063`` (day of the year), or seconds, milli-,
        micro- or nanoseconds since 1970.

    Returns
    -------
    list of numpy.datetime64
        UTC. NaT for all of them if the axis only counts: 0, 1, 2, ... or days from 1970-01-01.

    Raises
    ------
    StackError
        If they are not times, or not between 1978 and 2100.
    """
    values = np.atleast_1d(coordinate.values)
    if _is_count(values):
        return [NOT_A_TIME] * values.size
    if values.dtype.kind == "M":
        times = [np.datetime64(value, "ns") for value in values.astype("datetime64[ns]")]
    elif values.dtype.kind in "iuf":
        times = [_parse_number(value.item()) for value in values]
    else:
        # Text, and the dates of other calendars that xarray makes of some units.
        words = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
        times = [parse_time(word) for word in words]
    wrong = [
        f"number {i}: {value}"
        for i, (time, value) in enumerate(zip(times, values, strict=True), 1)
        if not (FIRST_TIME <= time < LAST_TIME) and not _is_missing(value)
    ]
    if wrong:
        raise StackError(
            f"{path}: {len(wrong)} of {len(times)} values of {coordinate.name} are no acquisition "
            "times between 1978 and 2100",
            expected="times with units such as 'seconds since 1970-01-01', or numbers as 20210304",
            where=wrong,
            do="write them as datetime64: ds.assign_coords(time=...)",
        )
    return times


def _is_missing(value: Any) -> bool:
    return isinstance(value, np.datetime64) and bool(np.isnat(value))


def _is_count(values: NDArray[Any]) -> bool:
    """Return whether values are the positions 0, 1, ... or 1, 2, ..., as numbers or as days."""
    if values.dtype.kind == "M":
        # sarstack gives undated series these days.
        days = (values.astype("datetime64[ns]") - np.datetime64("1970-01-01", "ns")) / _DAY
        values = np.asarray(days)
    if values.dtype.kind not in "iuf":
        return False
    return any(np.array_equal(values, np.arange(values.size) + first) for first in (0, 1))


def _parse_number(number: int | float) -> np.datetime64:
    """Return the time that a number without units means, NaT if that is not certain."""
    if not np.isfinite(number):
        return NOT_A_TIME
    digits = str(int(number))
    if layout := _LAYOUTS.get(len(digits)):
        # As CDO writes it: 20210304.25 is six o'clock.
        rest_ns = round((number - int(number)) * 86400e9) if len(digits) < 14 else 0
        time = _or_not_a_time(lambda: np.datetime64(datetime.strptime(digits, layout), "ns"))
        return time + np.timedelta64(rest_ns, "ns")
    for per_unit_ns in _EPOCH_UNITS_NS:
        time_ns = number * per_unit_ns
        if int(FIRST_TIME.astype(int)) <= time_ns < int(LAST_TIME.astype(int)):
            return np.datetime64(round(time_ns), "ns")
    return NOT_A_TIME


def _or_not_a_time(parse: Callable[[], np.datetime64]) -> np.datetime64:
    try:
        return parse()
    except ValueError:
        return NOT_A_TIME
