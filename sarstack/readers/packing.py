"""Packed numbers: gain, offset and nodata, by one set of rules for files, stores and arrays."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import NODATA_NUMBERS, Scale

HIGHEST_NUMBER = 9e36
"""No image has higher numbers. netCDF fills with 9.97e36, other writers with 3.4e38."""

# Some writers mark nodata with the lowest float32, -3.4e38.
_LOWEST_NUMBER = -1e30
# Decibel outside this range is no backscatter: the noise of a sensor is far above -98 dB, and the
# largest 16-bit amplitude is 96 dB.
_POSSIBLE_DB = (-98.0, 100.0)


def unpack(
    stored: NDArray[Any],
    *,
    scale: Scale,
    nodata: Sequence[float] = (),
    undeclared: Sequence[float] = (),
    lowest: float = -np.inf,
    gain: float = 1.0,
    offset: float = 0.0,
) -> NDArray[Any]:
    """Apply gain and offset to stored numbers; nodata becomes NaN.

    Parameters
    ----------
    stored : ndarray, any shape, real
        Numbers as they are stored.
    scale : {"linear", "amplitude", "db"}
        Scale of the unpacked numbers.
    nodata : sequence of float, optional
        Stored numbers that are declared to mean "no data"; NaN if NaN is declared. Only if it
        is empty, the unpacked numbers -9999, -99 and -32768 are nodata too.
    undeclared : sequence of float, optional
        Unpacked numbers that were found to mean "no data",
        see :mod:`sarstack.readers.fill_values`.
    lowest : float, optional
        Unpacked numbers up to this one are nodata: no backscatter is so low.
    gain, offset : float, optional
        ``stored * gain + offset`` is the number whose scale is `scale`.

    Returns
    -------
    ndarray, same shape, float32 or float64
        NaN = nodata; float64 for float64 and wide integers, else float32. Zeros stay. NaN also
        where no backscatter can be: decibel below -98 or above 100, numbers above 9e36.
    """
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    # The smaller of the two types that holds every stored number without rounding.
    dtype: Any = np.float32 if size <= 2 or (kind == "f" and size == 4) else np.float64
    numbers: NDArray[Any] = stored.astype(dtype)
    is_nodata = np.zeros(numbers.shape, bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for declared in nodata:
            # At the precision of the file: its nodata value is declared as a float64, and 1e-7
            # in float64 differs from 1e-7 in float32.
            is_nodata |= numbers == dtype(declared)
        is_packed = gain != 1 or offset != 0
        if is_packed:
            numbers = numbers * dtype(gain) + dtype(offset)
        low, high = possible_range(scale)
        low = max(low, lowest)
        is_nodata |= ~((numbers > low) & (numbers < high))
        for found in _list_undeclared(nodata, undeclared):
            if found > low:
                # Packed numbers are rounded: -990 * 0.1 is not exactly -99.
                is_nodata |= (
                    np.abs(numbers - dtype(found)) <= 1e-6 * abs(found)
                    if is_packed
                    else numbers == dtype(found)
                )
    if is_nodata.any():
        numbers[is_nodata] = np.nan
    return numbers


def possible_range(scale: Scale) -> tuple[float, float]:
    """Return the open interval of the numbers that can be backscatter on a scale."""
    return _POSSIBLE_DB if scale == "db" else (_LOWEST_NUMBER, HIGHEST_NUMBER)


def _list_undeclared(nodata: Sequence[float], undeclared: Sequence[float]) -> Iterable[float]:
    return undeclared if nodata else dict.fromkeys((*NODATA_NUMBERS, *undeclared))
