"""Complex numbers (single look complex images): their intensity, and where they are nodata."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.readers.paths import public_path
from sarstack.readers.raster import Raster
from sarstack.speckle.complex_fields import NODATA, to_power
from sarstack.tiles import Window


def convert_complex(
    numbers: NDArray[Any],
    nodata: Sequence[float],
    result: Literal["intensity", "complex", "baseband"],
) -> NDArray[Any]:
    """Return the intensity of complex numbers, or the numbers with nodata.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), complex
    nodata : sequence of float
        See :func:`find_nodata`.
    result : {"intensity", "complex", "baseband"}
        The last two are equal here.

    Returns
    -------
    ndarray, shape (y, x)
        Intensity: float32, ``real**2 + imag**2`` computed in float64; NaN = nodata. Complex:
        complex64, NaN in both parts = nodata.
    """
    found = find_nodata(numbers, nodata)
    if result != "intensity":
        marked = numbers.astype(np.complex64)
        marked[found] = NODATA
        return marked
    intensity = to_power(numbers)
    intensity[found] = np.nan
    return intensity


def read_complex(
    raster: Raster, window: Window, *, baseband: bool = False
) -> NDArray[np.complex64]:
    """Read a window of an image as complex numbers, calibrated as its intensity is.

    Parameters
    ----------
    raster : Raster
    window : Window
        In pixels of the stack.
    baseband : bool, optional
        Remove the Doppler ramp of TOPS bursts, which products with its tables have (SAFE). Then
        the spectrum is the same in all parts of a burst, and centred at zero. Intensity does not
        change. Other images are read as they are.

    Returns
    -------
    ndarray, shape (y, x), complex64
        NaN in both parts = nodata. ``abs(z) ** 2`` is what ``raster.read`` returns.

    Raises
    ------
    UsageError
        If the image has no complex numbers.
    StackReadError
        As :meth:`sarstack.readers.raster.Raster.read`.
    """
    if not raster.complex_as:
        raise UsageError(
            f"{public_path(raster.path)} has no complex numbers",
            expected="a single look complex image",
            do="use a method for intensity",
        )
    as_complex = replace(raster, complex_as="baseband" if baseband else "complex")
    [(numbers, is_masked)] = as_complex.read_stored([window], cache_blocks=False)
    if is_masked is not None:
        numbers[is_masked] = NODATA
    return numbers


def find_nodata(numbers: NDArray[Any], nodata: Sequence[float] = ()) -> NDArray[np.bool_]:
    """Find the numbers that mean "no data".

    Parameters
    ----------
    numbers : ndarray, complex
    nodata : sequence of float, optional
        Declared by the file. A number is nodata if its real part is one of these, and its
        imaginary part is the same or zero. Zero and numbers that are not finite are always nodata.
    """
    found = (numbers == 0) | ~np.isfinite(numbers)
    for number in nodata:
        found |= (numbers.real == number) & np.isin(numbers.imag, (0, number))
    return np.asarray(found)
