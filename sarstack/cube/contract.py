"""Convert xarray objects of users to cubes, and results back to their form.

A cube is a Dataset with variables ``vv vh hh hv``, dims ``(time, y, x)``, float32 linear
intensity, NaN = nodata. It is checked here; other modules do not check it again.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import xarray as xr

from sarstack.conventions import POLARISATIONS, TIME_NAMES, X_NAMES, Y_NAMES
from sarstack.cube.intensities import linear_attributes, make_intensities
from sarstack.errors import StackError
from sarstack.readers.names import find_polarisation
from sarstack.tiles import Window

_AXES = (*TIME_NAMES, *Y_NAMES, *X_NAMES)

Restore = Callable[[xr.Dataset], Any]
Convert = Callable[[xr.Dataset], xr.Dataset]


def as_cube(
    obj: xr.Dataset | xr.DataArray, convert: Convert = make_intensities
) -> tuple[xr.Dataset, Restore]:
    """Convert a Dataset or DataArray of a user to a checked cube.

    Parameters
    ----------
    obj : Dataset or DataArray
        Backscatter with dims y and x in any order, with or without a time dimension, in memory
        or backed by Dask. Dims and variables can have any usual name (``lat``/``lon``, ``t``,
        ``VV``). A DataArray can have any name. It can have one more dimension, of
        polarisations (``band``, ``pol``, ...) or of length one, as from
        ``rioxarray.open_rasterio``.
    convert : callable, optional
        Converts the numbers, and refuses wrong ones. Default: to intensity.

    Returns
    -------
    cube : Dataset
        Variables ``vv vh hh hv``, dims ``(time, y, x)``, float32 linear intensity, NaN =
        nodata, or what `convert` returns. A DataArray whose name is not a polarisation becomes
        ``vv``.
    restore : callable
        Converts a Dataset with the same variables and dims to the type, names, dimension order
        and other variables of `obj`. Values stay linear.

    Raises
    ------
    StackError
        If dims or variables are missing, or `obj` is of another type.
    ScaleError
        If the numbers contradict attributes that declare a scale, if no attribute declares it and
        the numbers are not clearly intensity (decibel, whole numbers), or if they are complex.

    Notes
    -----
    Packed numbers (``scale_factor``, ``_FillValue`` and so on in attributes, as
    ``rioxarray.open_rasterio`` leaves them) are unpacked. Lazy: no Dask array is computed. So
    numbers of a Dask array are refused when a block is computed, not before.
    """
    if isinstance(obj, xr.DataArray):
        return _from_array(obj, convert)
    if not isinstance(obj, xr.Dataset):
        raise StackError(
            f"an object of type {type(obj).__name__} is no cube",
            expected="an xarray Dataset or DataArray",
            do="open files with sarstack.open_stack(...)",
        )
    return _from_dataset(obj, convert)


def check_cube(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset as a checked cube; see :func:`as_cube`.

    Parameters
    ----------
    ds : Dataset
        See :func:`as_cube`.

    Returns
    -------
    Dataset
        The variables ``vv vh hh hv`` that are there, dims ``(time, y, x)``, float32 linear
        intensity, NaN = nodata. Other variables are left out.
    """
    return as_cube(ds)[0]


def select_part(obj: xr.Dataset | xr.DataArray, date: int, window: Window) -> Any:
    """Return one date and a window of an object of a user, under any usual names of its axes.

    Parameters
    ----------
    obj : Dataset or DataArray
        See :func:`as_cube`.
    date : int
        Index along the time axis, if it has one. The axis is kept.
    window : Window
    """
    parts = (slice(date, date + 1), *window.slices)
    wanted = {
        dim: part
        for names, part in zip((TIME_NAMES, Y_NAMES, X_NAMES), parts, strict=True)
        for dim in [d for d in obj.dims if str(d).lower() in names][:1]
    }
    return obj.isel(wanted)


def _from_dataset(ds: xr.Dataset, convert: Convert) -> tuple[xr.Dataset, Restore]:
    names = _find_polarisations(ds)
    dims = _find_dims(ds[next(iter(names))])
    for name in names:
        _check_array(ds[name], set(dims))
    cube = ds[list(names)].rename({**names, **dims}).reset_coords(drop=False)
    extra = [n for n in cube.data_vars if n not in names.values()]
    cube = cube.set_coords(extra)
    had_time = "time" in cube.sizes
    cube = convert(cube if had_time else _add_time(cube))

    def restore(result: xr.Dataset) -> xr.Dataset:
        result = result if had_time else result.isel(time=0, drop="time" not in ds.coords)
        back = {new: old for old, new in (names | dims).items() if new in result.variables}
        back |= {new: old for old, new in dims.items() if new in result.dims}
        result = result.rename(back)
        merged = ds.copy()
        for name in names:
            merged[name] = result[name].transpose(*ds[name].dims)
        return merged

    return cube, restore


def _from_array(array: xr.DataArray, convert: Convert) -> tuple[xr.Dataset, Restore]:
    single = [d for d in array.dims if array.sizes[d] == 1 and str(d).lower() not in _AXES]
    if single:
        cube, restore = _from_array(array.squeeze(single), convert)
        return cube, lambda result: restore(result).expand_dims(single).transpose(*array.dims)
    stacked = _find_polarisation_dim(array)
    if stacked is not None:
        labels = _polarisation_labels(array, stacked)
        ds = array.to_dataset(dim=stacked).rename(labels)
        cube, restore = _from_dataset(ds, convert)

        def restack(result: xr.Dataset) -> xr.DataArray:
            whole = restore(result).to_array(stacked).transpose(*array.dims)
            # The labels that to_array makes can have another type than those of the user.
            whole = whole.assign_coords({stacked: array[stacked]})
            restored: xr.DataArray = whole.rename(array.name).assign_attrs(
                linear_attributes(array.attrs)
            )
            return restored

        return cube, restack
    name = _polarisation_of(array) or "vv"
    ds = (
        array.to_dataset(name=name)
        if name not in array.coords
        else array.drop_vars(name).to_dataset(name=name)
    )
    cube, restore = _from_dataset(ds, convert)
    return cube, lambda result: restore(result)[name].rename(array.name)


def _find_polarisations(ds: xr.Dataset) -> dict[Hashable, str]:
    """Map the variable names of the user to ``vv vh hh hv``."""
    names = {n: str(n).lower() for n in ds.data_vars if str(n).lower() in POLARISATIONS}
    if not names:
        raise StackError(
            "the Dataset has no backscatter variable",
            expected=f"variables named {', '.join(POLARISATIONS)} (in any case)",
            where=[f"its variables are {', '.join(map(str, ds.data_vars)) or 'none'}"],
            do="rename them: ds.rename({'my_variable': 'vv'})",
        )
    if len(set(names.values())) < len(names):
        raise StackError(
            "the Dataset has two variables of one polarisation",
            expected="one variable for each polarisation, whatever the case of its name",
            where=[str(n) for n in names],
            do="drop one of them: ds.drop_vars(...)",
        )
    return names


def _find_dims(array: xr.DataArray) -> dict[Hashable, str]:
    """Map the dimension names of the user to ``time y x``."""
    dims: dict[Hashable, str] = {}
    for wanted, usual in (("time", TIME_NAMES), ("y", Y_NAMES), ("x", X_NAMES)):
        found = [d for d in array.dims if str(d).lower() in usual]
        if found:
            dims[found[0]] = wanted
    others = [str(d) for d in array.dims if d not in dims]
    if others or not {"y", "x"} <= set(dims.values()):
        raise StackError(
            f"{array.name or 'the DataArray'} has dimensions ({', '.join(map(str, array.dims))})",
            expected="(time, y, x) or (y, x), in any order, or one more with the labels vv and vh",
            where=[f"{d}: {', '.join(map(str, array[d].values[:9]))}" for d in others],
            do="select or rename the others: array.isel(band=0), array.sel(band=['vv', 'vh']), "
            "array.rename(rows='y')",
        )
    return dims


def _check_array(array: xr.DataArray, dims: set[Hashable]) -> None:
    """Raise unless an array holds real numbers on known and not empty axes, all those of `dims`."""
    sizes = ", ".join(f"{dim}: {size}" for dim, size in zip(array.dims, array.shape, strict=True))
    if set(array.dims) != dims:
        raise StackError(
            f"{array.name} has dimensions ({', '.join(map(str, array.dims))})",
            expected=f"those of the other variables: {', '.join(map(str, dims))}",
            do=f"drop it: ds.drop_vars({array.name!r}), or give all variables the same dimensions",
        )
    if any(np.isnan(size) for size in array.shape):
        raise StackError(
            f"{array.name} has chunks of unknown size ({sizes})",
            expected="a Dask array whose shape is known",
            do="compute the sizes first: array.data.compute_chunk_sizes()",
        )
    if 0 in array.shape:
        raise StackError(
            f"{array.name} is empty ({sizes})",
            expected="at least one date, one row and one column",
            do="check the selection that made it: sel() or isel() may have left nothing",
        )
    if array.dtype.kind not in "fiuc":  # complex numbers have their own message
        raise StackError(
            f"{array.name} holds values of type {array.dtype}",
            expected="real numbers",
            do="convert them: array.astype('float32')",
        )


def _find_polarisation_dim(array: xr.DataArray) -> Hashable | None:
    return next((dim for dim in array.dims if _polarisation_labels(array, dim)), None)


def _polarisation_labels(array: xr.DataArray, dim: Hashable) -> dict[Hashable, str]:
    """Return the labels of a dimension with their polarisations; empty unless each has its own."""
    if dim not in array.coords or array[dim].dtype.kind not in "UOT":
        return {}
    labels: dict[Hashable, str] = {v: find_polarisation(str(v)) for v in array[dim].values}
    return labels if all(labels.values()) and len(set(labels.values())) == array.sizes[dim] else {}


def _polarisation_of(array: xr.DataArray) -> str:
    words = [array.name, *(array.attrs.get(k) for k in ("polarisation", "polarization"))]
    return next((w for word in words if (w := str(word).lower()) in POLARISATIONS), "")


def _add_time(cube: xr.Dataset) -> xr.Dataset:
    if "time" in cube.coords:
        return cube.expand_dims("time")
    return cube.expand_dims(time=np.array(["NaT"], "datetime64[ns]"))
