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
        Stored numbers that are declared as nodata, besides NaN.
    nan_is_declared : bool
        Whether a declared number was replaced by NaN when the file was read. A declared NaN does
        not count: xarray declares it by itself, whatever the numbers are.
    gain, offset : float
        ``stored * gain + offset`` is the number.
    valid : tuple of 2 float or None
        Lowest and highest stored number that is valid, if declared.
    stored_as : str
        Type code of the integers behind the stored bytes (``_Unsigned``), empty if it is that of
        the variable.
    """

    nodata: tuple[float, ...] = ()
    nan_is_declared: bool = False
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
    if gain == 0 or not np.isfinite((gain, offset)).all():
        raise StackError(
            f"the attributes scale_factor = {gain}, add_offset = {offset} unpack no number",
            expected="finite numbers, scale_factor not zero",
            do="correct or delete the attributes",
        )
    numbers = [n for key in NODATA_ATTRIBUTES for n in _read_numbers(told, key, stored)]
    before = [n for key in NODATA_ATTRIBUTES for n in _read_numbers(encoding, key, stored)]
    valid = _read_valid(told, stored)
    if valid and _limits_are_unpacked(told) and stored.kind in "iu":
        # A millionth, because the limits were rounded when they were written.
        margin = 1e-6 * max(abs(n) for n in valid if np.isfinite(n))
        valid = _sorted((valid[0] - margin - offset) / gain, (valid[1] + margin - offset) / gain)
    elif valid and unpacked_before and not _limits_are_unpacked(told):
        # Limits of the integers that were stored, and numbers that xarray unpacked.
        gain_before = _read_number(encoding, ("scale_factor", "scales"), 1.0, band)
        offset_before = _read_number(encoding, ("add_offset", "offsets"), 0.0, band)
        valid = _sorted(*(n * gain_before + offset_before for n in valid))
    return Packing(
        tuple(dict.fromkeys(n for n in numbers if not np.isnan(n))),
        unpacked_before and not np.isnan(before).all(),
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


def _read_valid(told: Mapping[Any, Any], stored: np.dtype[Any]) -> tuple[float, float] | None:
    pair = _read_numbers(told, "valid_range", stored)
    if len(pair) not in (0, 2):
        raise StackError(
            f"the attribute valid_range = {pair} has {len(pair)} numbers",
            expected="2",
            do="correct or delete the attribute",
        )
    low = (_read_numbers(told, "valid_min", stored) or pair[:1] or [-np.inf])[0]
    high = (_read_numbers(told, "valid_max", stored) or pair[1:] or [np.inf])[0]
    return None if (low, high) == (-np.inf, np.inf) else (low, high)


def _limits_are_unpacked(told: Mapping[Any, Any]) -> bool:
    """Return whether limits are floating-point numbers: those of packed numbers are integers."""
    given = [told[key] for key in _VALID_ATTRIBUTES if told.get(key) is not None]
    return any(np.asarray(value).dtype.kind == "f" for value in given)


def _sorted(first: float, second: float) -> tuple[float, float]:
    return min(first, second), max(first, second)


def _as_numbers(key: str, value: Any) -> list[float]:
    try:
        return [float(n) for n in np.asarray(value).ravel()]
    except (TypeError, ValueError) as error:
        raise StackError(
            f"the attribute {key} = {str(value)[:80]!r} is not a number",
            expected="a number, or a list of numbers",
            do="correct or delete the attribute",
        ) from error
