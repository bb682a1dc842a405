"""Complex numbers of xarray objects, for methods that need them in place of intensity."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.cube.contract import Convert
from sarstack.cube.intensities import DIMS, linear_attributes, make_intensities
from sarstack.despecklers import Despeckler
from sarstack.errors import SarstackWarning
from sarstack.readers.attributes import read_packing
from sarstack.readers.complex_numbers import convert_complex
from sarstack.speckle.complex_parts import describe_asymmetry
from sarstack.tiles import Shape, sample_windows


def choose_conversion(despeckler: Despeckler | None) -> Convert:
    """Return the function that makes the numbers of a cube what a method needs.

    It raises UsageError if the method needs complex numbers, and a variable has none.
    """
    if despeckler is None or not despeckler.needs_complex:
        return make_intensities

    def convert(cube: xr.Dataset) -> xr.Dataset:
        without = [str(n) for n, array in cube.data_vars.items() if array.dtype.kind != "c"]
        despeckler.check_complex(without)
        return make_complex(cube)

    return convert


def make_complex(cube: xr.Dataset) -> xr.Dataset:
    """Return a cube of complex numbers, NaN in both parts = nodata.

    Parameters
    ----------
    cube : Dataset
        Complex variables ``vv vh hh hv`` with the dims ``(time, y, x)`` in any order, in memory or
        of Dask. Zeros, numbers that are not finite, and nodata that attributes declare are nodata.
        Their spectrum is not moved; in memory, a warning says if it is not symmetric around zero.

    Returns
    -------
    Dataset
        complex64, lazy if the input is lazy. Attributes are those of the intensity that becomes
        of it.
    """
    meta = np.empty((0, 0, 0), np.complex64)
    for name in cube.data_vars:
        array = cube[name].transpose(*DIMS)
        nodata = read_packing(array.attrs, array.dtype, encoding=array.encoding).nodata
        if array.chunks is None:
            values: Any = _convert(array.values, nodata)
            windows = sample_windows(Shape(*values.shape[1:]))
            fields = (date[window.slices] for date in values[:1] for window in windows)
            if text := describe_asymmetry(fields, str(name)):
                warnings.warn(SarstackWarning(text), stacklevel=2)
        else:
            values = array.data.map_blocks(_convert, nodata, dtype=np.complex64, meta=meta)
        cube[name] = (DIMS, values, linear_attributes(array.attrs, str(name)))
    return cube


def _convert(numbers: NDArray[Any], nodata: Sequence[float]) -> NDArray[np.complex64]:
    return convert_complex(numbers, nodata, "complex")
