"""Attributes of a variable that say how its numbers are packed, for stores and arrays.

Own code, because xarray decodes whole variables, and the readers decode windows: reading each
window through xarray is four times slower (CONTRIBUTING). xarray also ignores ``valid_range``,
and the ``scales`` of rioxarray.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError

NODATA_ATTRIBUTES = ("_FillValue", "missing_value", "nodata", "_nodata")
_VALID_ATTRIBUTES = ("valid_range", "valid_min", "valid_max")
PACKING_ATTRIBUTES = (
    *NODATA_ATTRIBUTES, *_VALID_ATTRIBUTES, "actual_range",
    "scale_factor", "add_offset", "scales", "offsets", "_Unsigned",
)  # fmt: skip


@dataclass(frozen=True)
class Packing:
    """How the numbers of a variable are packed.

    Attributes
    ----------
    nodata : tuple of float
        Stored numbers that are declared as nodata; NaN if NaN is.
    gain, offset : float
        ``stored * gain + offset`` is the number.
    valid : tuple of 2 float or None
        Lowest and highest stored number that is valid, if declared.
    stored_as : str
        Type code of the integers behind the stored bytes (``_Unsigned``), empty if it is that of
        the variable.
    """

    nodata: tuple[float, ...] = ()
    gain: float = 1.0
    offset: float = 0.0
    valid: tuple[float, float] | None = None
    stored_as: str = ""


def read_packing(
    attributes: Mapping[Any, Any],
    dtype: np.dtype[Any],
    *,
    encoding: Mapping[Any, Any] | None = None,
    band: int | None = None,
) -> Packing:
    """Read how the numbers of a variable are packed.

    Parameters
    ----------
    attributes : mapping
        Attributes of the variable.
    dtype : numpy.dtype
        Type of its numbers.
    encoding : mapping, optional
        ``encoding`` of an xarray variable. It describes numbers that were unpacked already,
        unless they are still integers.
    band : int, optional
        Band of a file opened with rioxarray, from 1: attributes can be lists over bands.

    Returns
    -------
    Packing

    Raises
    ------
    StackError
        If an attribute that must be a number is none, or bands have different packings.

    Notes
    -----
    CF conventions 8.1 and 2.5.1; ``_Unsigned`` of the netCDF Users Guide. A ``valid_range`` of
    floating-point numbers belongs to unpacked numbers if the stored ones are integers.
    """
    encoding = encoding or {}
    unpacked_before = dtype.kind == "f"
    told = dict(attributes) if unpacked_before else {**encoding, **attributes}
    stored = _integers_behind(told, dtype)
    gain = _read_number(told, ("scale_factor", "scales"), 1.0, band)
    offset = _read_number(told, ("add_offset", "offsets"), 0.0, band)
    nodata = [n for key in NODATA_ATTRIBUTES for n in _read_numbers(told, key, stored)]
    if unpacked_before and any(key in encoding for key in NODATA_ATTRIBUTES):
        nodata.append(np.nan)  # declared, and replaced by NaN when the file was read
    valid = _read_valid(told, stored, gain, offset)
    if valid and unpacked_before and "scale_factor" not in attributes:
        was_gain = _read_number(encoding, ("scale_factor", "scales"), 1.0, band)
        was_offset = _read_number(encoding, ("add_offset", "offsets"), 0.0, band)
        first, last = (n * was_gain + was_offset for n in valid)
        valid = min(first, last), max(first, last)
    return Packing(
        # As text, because two NaN are not equal.
        tuple({str(n): n for n in nodata}.values()),
        gain,
        offset,
        valid,
        "" if stored == dtype else stored.str[1:],
    )


def view_as(stored: NDArray[Any], stored_as: str) -> NDArray[Any]:
    """Return stored integers as those of another sign with the same bytes (``_Unsigned``)."""
    if not stored_as:
        return stored
    return np.ascontiguousarray(stored).view(stored.dtype.byteorder + stored_as)


def _integers_behind(told: Mapping[Any, Any], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that ``_Unsigned`` declares; without it, the type of the variable."""
    word = str(told.get("_Unsigned", "")).lower()
    kind = {("true", "i"): "u", ("false", "u"): "i"}.get((word, dtype.kind))
    return np.dtype(dtype.str.replace(dtype.kind, kind)) if kind else dtype


def _read_number(
    told: Mapping[Any, Any], keys: tuple[str, str], default: float, band: int | None
) -> float:
    one, of_bands = keys
    if one in told:
        return _as_numbers(one, told[one])[0]
    numbers = _as_numbers(of_bands, told[of_bands]) if of_bands in told else [default]
    if len(set(numbers)) == 1:
        return numbers[0]
    if band is None or not 1 <= band <= len(numbers):
        raise StackError(
            f"the bands have different packings: {of_bands} = {tuple(numbers)}",
            expected="one band, or the same packing in all",
            do="open the file with rioxarray.open_rasterio(path, mask_and_scale=True)",
        )
    return numbers[band - 1]


def _read_numbers(told: Mapping[Any, Any], key: str, stored: np.dtype[Any]) -> list[float]:
    """Return the numbers of an attribute as the type of the stored numbers has them."""
    if told.get(key) is None:
        return []
    if key in ("nodata", "_nodata") and isinstance(told[key], str) and not told[key].strip():
        return []
    numbers = _as_numbers(key, told[key])
    if stored.kind == "u":
        # A signed attribute of unsigned integers: -1 is 255 in one byte.
        return [n + 2.0 ** (8 * stored.itemsize) if n < 0 and "_Unsigned" in told else n
                for n in numbers]  # fmt: skip
    return numbers


def _read_valid(
    told: Mapping[Any, Any], stored: np.dtype[Any], gain: float, offset: float
) -> tuple[float, float] | None:
    if not any(told.get(key) is not None for key in _VALID_ATTRIBUTES):
        return None
    limits = [-np.inf, np.inf]
    is_unpacked = False
    for key, places in zip(_VALID_ATTRIBUTES, ((0, 1), (0,), (1,)), strict=True):
        numbers = _read_numbers(told, key, stored)
        if numbers:
            is_unpacked |= stored.kind in "iu" and np.asarray(told[key]).dtype.kind == "f"
        for place, number in zip(places, numbers, strict=bool(numbers)):
            limits[place] = number
    if is_unpacked:
        limits = sorted((n - offset) / gain for n in limits)
        # A millionth, because the limits were rounded when they were written.
        margin = 1e-6 * max(abs(n) for n in limits if np.isfinite(n))
        limits = [limits[0] - margin, limits[1] + margin]
    return limits[0], limits[1]


def _as_numbers(key: str, value: Any) -> list[float]:
    try:
        return [float(n) for n in np.asarray(value).ravel()]
    except (TypeError, ValueError) as error:
        raise StackError(
            f"the attribute {key} = {str(value)[:80]!r} is not a number",
            expected="a number, or a list of numbers",
            do="correct or delete the attribute",
        ) from error
