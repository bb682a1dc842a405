"""Packed numbers: gain, offset and nodata, by one set of rules for files, stores and arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import NODATA_NUMBERS, Scale

# Some writers mark nodata with the lowest float32, -3.4e38.
_LOWEST_NUMBER = -1e30


def unpack(
    stored: NDArray[Any],
    *,
    scale: Scale,
    nodata: Sequence[float] = (),
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
        Stored numbers that mean "no data", besides NaN.
    gain, offset : float, optional
        ``stored * gain + offset`` is the number whose scale is `scale`.

    Returns
    -------
    ndarray, same shape, float32 or float64
        NaN = nodata; float64 for float64 and wide integers, else float32. Zeros stay.
    """
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    # The smaller of the two types that holds every stored number without rounding.
    dtype: Any = np.float32 if size <= 2 or (kind == "f" and size == 4) else np.float64
    numbers: NDArray[Any] = stored.astype(dtype)
    with np.errstate(over="ignore"):
        # At the precision of the file: its nodata value is declared as a float64, and 1e-7 in
        # float64 differs from 1e-7 in float32.
        nodata_values = {dtype(number) for number in {*nodata, *NODATA_NUMBERS}}
    # Most pixels are above all usual nodata values: two comparisons show that they are valid.
    # Only the other pixels are compared with each nodata value.
    maybe_nodata = ~((numbers > max(NODATA_NUMBERS)) & (numbers < np.inf))
    for value in nodata_values:
        if value > max(NODATA_NUMBERS):
            maybe_nodata |= numbers == value
    is_nodata = maybe_nodata
    if maybe_nodata.any():
        candidates = numbers[maybe_nodata]
        valid = np.isfinite(candidates) & (candidates >= _LOWEST_NUMBER)
        valid &= ~np.isin(candidates, list(nodata_values))
        is_nodata = maybe_nodata.copy()
        is_nodata[maybe_nodata] = ~valid
    if gain != 1 or offset != 0:
        # A stored zero is nodata, although the offset makes another number of it.
        if scale != "db":
            is_nodata |= numbers == 0
        numbers = numbers * dtype(gain) + dtype(offset)
        is_nodata |= ~np.isfinite(numbers)
    if is_nodata.any():
        numbers[is_nodata] = np.nan
    return numbers
