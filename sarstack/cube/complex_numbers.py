"""Complex numbers of xarray objects, for methods that need them in place of intensity."""

import warnings
from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.cube.contract import Convert
from sarstack.cube.intensities import DIMS, linear_attributes, make_intensities
from sarstack.despecklers import Despeckler
from sarstack.errors import SarstackWarning
from sarstack.readers.attributes import read_packing
from sarstack.readers.complex_numbers import convert_complex
from sarstack.readers.sampling import copy_tasks
from sarstack.speckle.complex_parts import check_powers, describe_asymmetry
from sarstack.speckle.system_response import make_ramp, measure_centre
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
        The middle of the spectrum of each date is moved to zero, so that real and imaginary part
        are independent; in memory, a warning says if they are not, even so.

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
            values: Any = _centre_numbers(_convert(array.values, nodata))
            windows = sample_windows(Shape(*values.shape[1:]))
            fields = [date[window.slices] for date in values[:1] for window in windows]
            check_powers(fields, str(name))
            if text := describe_asymmetry(fields, str(name)):
                warnings.warn(SarstackWarning(text), stacklevel=2)
        else:
            marked = array.data.map_blocks(_convert, nodata, dtype=np.complex64, meta=meta)
            values = _centre_lazily(marked)
        cube[name] = (DIMS, values, linear_attributes(array.attrs, str(name)))
    return cube


def _centre_numbers(numbers: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Move the middle of the spectrum of each date to zero; shape (time, y, x)."""
    scene = Shape(*numbers.shape[1:])
    centred = np.empty_like(numbers)
    for date, result in zip(numbers, centred, strict=True):
        rows, columns = _make_ramps([date[w.slices] for w in sample_windows(scene)], scene)
        np.multiply(date * rows[:, np.newaxis], columns, out=result)
    return centred


def _centre_lazily(array: da.Array) -> da.Array:
    """Move the middle of the spectrum of each date to zero, from its sample windows."""
    scene = Shape(*array.shape[1:])
    separate = copy_tasks(array)  # as for the statistics: chunks need not stay in memory
    make_ramps = dask.delayed(_make_ramps, pure=True, nout=2)
    ramps: tuple[list[da.Array], list[da.Array]] = ([], [])
    for date in separate:
        found = make_ramps([date[window.slices] for window in sample_windows(scene)], scene)
        for own, ramp, length in zip(ramps, found, scene, strict=True):
            own.append(da.from_delayed(ramp, (length,), dtype=np.complex64))
    along_y, along_x = (
        da.stack(own).rechunk((array.chunks[0], array.chunks[axis]))
        for axis, own in enumerate(ramps, 1)
    )
    return array * along_y[:, :, np.newaxis] * along_x[:, np.newaxis, :]


def _make_ramps(
    windows: Sequence[NDArray[np.complex64]], scene: Shape
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    rows, columns = (
        make_ramp(-centre, 0, n) for centre, n in zip(measure_centre(windows), scene, strict=True)
    )
    return rows, columns


def _convert(numbers: NDArray[Any], nodata: Sequence[float]) -> NDArray[np.complex64]:
    return convert_complex(numbers, nodata, "complex")
