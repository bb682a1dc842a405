"""Convert xarray objects of users to cubes, and results back to their form.

A cube is a Dataset with variables ``vv vh hh hv``, dims ``(time, y, x)``, float32 linear
intensity, NaN = nodata. It is checked here; other modules do not check it again.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import xarray as xr

from sarstack.conventions import (
    CALIBRATION_WORDS,
    NODATA_NUMBERS,
    POLARISATIONS,
    SCALE_WORDS,
    TIME_NAMES,
    X_NAMES,
    Y_NAMES,
    Scale,
    intensity_attributes,
)
from sarstack.errors import ScaleError, StackError
from sarstack.readers.radiometry import scale_conflict, to_intensity

DIMS = ("time", "y", "x")

_SCALE_ATTRS = ("scale", "units", "unit", "backscatter_scale")
_NODATA_ATTRS = ("_FillValue", "missing_value", "nodata", "_nodata")
_ATTRS_OF_SCALE = (*_SCALE_ATTRS, *_NODATA_ATTRS, "long_name", "standard_name")
_SAMPLE_PX = 256
_AXES = (*TIME_NAMES, *Y_NAMES, *X_NAMES)

Restore = Callable[[xr.Dataset], Any]


def as_cube(obj: xr.Dataset | xr.DataArray) -> tuple[xr.Dataset, Restore]:
    """Convert a Dataset or DataArray of a user to a checked cube.

    Parameters
    ----------
    obj : Dataset or DataArray
        Backscatter with dims y and x in any order, with or without a time dimension, in memory
        or backed by Dask. Dims and variables can have any usual name (``lat``/``lon``, ``t``,
        ``VV``). A DataArray can have any name. It can have one more dimension, of
        polarisations (``band``, ``pol``, ...) or of length one, as from
        ``rioxarray.open_rasterio``.

    Returns
    -------
    cube : Dataset
        Variables ``vv vh hh hv``, dims ``(time, y, x)``, float32 linear intensity, NaN =
        nodata. A DataArray whose name is not a polarisation becomes ``vv``.
    restore : callable
        Converts a Dataset with the same variables and dims to the type, names, dimension order
        and other variables of `obj`. Values stay linear.

    Raises
    ------
    StackError
        If dims or variables are missing.
    ScaleError
        If the numbers contradict attributes that declare amplitude or decibel, if numbers look
        like decibel but no attribute declares it, or if they are complex.

    Notes
    -----
    Lazy: no Dask array is computed. So undeclared decibel is refused when a block is computed,
    not before.
    """
    if isinstance(obj, xr.DataArray):
        return _from_array(obj)
    return _from_dataset(obj)


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


def _from_dataset(ds: xr.Dataset) -> tuple[xr.Dataset, Restore]:
    names = _find_polarisations(ds)
    dims = _find_dims(ds[next(iter(names))])
    for name in names:
        _check_array(ds[name], set(dims))
    cube = ds[list(names)].rename({**names, **dims}).reset_coords(drop=False)
    extra = [n for n in cube.data_vars if n not in names.values()]
    cube = cube.set_coords(extra)
    had_time = "time" in cube.sizes
    cube = _make_intensities(cube if had_time else _add_time(cube))

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


def _from_array(array: xr.DataArray) -> tuple[xr.Dataset, Restore]:
    single = [d for d in array.dims if array.sizes[d] == 1 and str(d).lower() not in _AXES]
    if single:
        cube, restore = _from_array(array.squeeze(single))
        return cube, lambda result: restore(result).expand_dims(single).transpose(*array.dims)
    stacked = _find_polarisation_dim(array)
    if stacked is not None:
        ds = array.to_dataset(dim=stacked)
        cube, restore = _from_dataset(ds)

        def restack(result: xr.Dataset) -> xr.DataArray:
            whole = restore(result).to_array(stacked).transpose(*array.dims)
            # The labels that to_array makes can have another type than those of the user.
            whole = whole.assign_coords({stacked: array[stacked]})
            restored: xr.DataArray = whole.rename(array.name).assign_attrs(
                _linear_attrs(array.attrs)
            )
            return restored

        return cube, restack
    name = _polarisation_of(array) or "vv"
    ds = (
        array.to_dataset(name=name)
        if name not in array.coords
        else array.drop_vars(name).to_dataset(name=name)
    )
    cube, restore = _from_dataset(ds)
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
            expected="(time, y, x) or (y, x), in any order",
            do="select or rename the others: array.isel(band=0), array.rename(rows='y')",
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
    for dim in array.dims:
        if dim in array.coords and array[dim].dtype.kind in "UOT":
            labels = [str(v).lower() for v in array[dim].values]
            if labels and set(labels) <= set(POLARISATIONS):
                return dim
    return None


def _polarisation_of(array: xr.DataArray) -> str:
    words = [array.name, *(array.attrs.get(k) for k in ("polarisation", "polarization"))]
    return next((w for word in words if (w := str(word).lower()) in POLARISATIONS), "")


def _add_time(cube: xr.Dataset) -> xr.Dataset:
    if "time" in cube.coords:
        return cube.expand_dims("time")
    return cube.expand_dims(time=np.array(["NaT"], "datetime64[ns]"))


def _make_intensities(cube: xr.Dataset) -> xr.Dataset:
    for name in cube.data_vars:
        array = cube[name].transpose(*DIMS)
        scale, declared = _find_scale(array)
        nodata = _nodata_of(array)
        if array.chunks is None:
            values = _convert(array.values, scale=scale, nodata=nodata)
        else:
            values = array.data.map_blocks(
                _convert,
                scale=scale,
                nodata=nodata,
                undeclared="" if declared else str(array.name),
                dtype=np.float32,
                meta=np.empty((0, 0, 0), np.float32),
            )
        cube[name] = (DIMS, values, _linear_attrs(array.attrs, str(name)))
    return cube


def _convert(values: Any, *, scale: Scale, nodata: tuple[float, ...], undeclared: str = "") -> Any:
    values = np.where(np.isin(values, nodata), np.nan, values)
    if undeclared:
        # Here lazy numbers are seen for the first time.
        thinned = values.ravel()[:: max(1, values.size // _SAMPLE_PX**2)]
        if conflict := scale_conflict(thinned[thinned != 0], scale):
            raise _refuse_scale(undeclared, scale, conflict)
    return to_intensity(values, scale)


def _refuse_scale(name: Any, scale: Scale, conflict: str, source: str = "") -> ScaleError:
    source = source or "no attribute declares another scale"
    return ScaleError(
        f"{name} should hold {scale} numbers ({source}), but {conflict}",
        expected="linear intensity, or attributes that declare the scale",
        do="set array.attrs['units'] = 'dB' and it is converted, or convert it yourself",
    )


def _find_scale(array: xr.DataArray) -> tuple[Scale, bool]:
    """Return the scale, and whether an attribute declares it.

    Numbers in memory are checked against it.
    """
    if array.dtype.kind == "c":
        raise ScaleError(
            f"{array.name} holds complex numbers (single look complex)",
            expected="linear intensity",
            do="detect it first: abs(array) ** 2",
        )
    declared = {
        f"{key} = {array.attrs[key]!r}": found
        for key in _SCALE_ATTRS
        if (found := SCALE_WORDS.get(str(array.attrs.get(key, "")).strip().lower()))
    }
    if len(set(declared.values())) > 1:
        raise ScaleError(
            f"the attributes of {array.name} contradict each other on the scale",
            where=list(declared),
            do="set one: array.attrs['units'] = '1' for linear intensity, 'dB' for decibel",
        )
    scale: Scale = next(iter(declared.values()), "linear")
    conflict = "" if array.chunks is not None else scale_conflict(_sample(array), scale)
    if conflict:
        raise _refuse_scale(array.name, scale, conflict, next(iter(declared), ""))
    return scale, bool(declared)


def _sample(array: xr.DataArray) -> Any:
    """Return a strided sample, float64, without zeros and nodata."""
    steps = {d: slice(None, None, max(1, array.sizes[d] // _SAMPLE_PX)) for d in ("y", "x")}
    steps["time"] = slice(None, None, max(1, array.sizes["time"] // 8))
    values = np.asarray(array.isel(steps).values, np.float64)
    return values[(values != 0) & ~np.isin(values, _nodata_of(array))]


def _nodata_of(array: xr.DataArray) -> tuple[float, ...]:
    found = list(NODATA_NUMBERS)
    for key in _NODATA_ATTRS:
        declared = array.attrs.get(key)
        if isinstance(declared, int | float | np.number) and np.isfinite(declared):
            found.append(float(declared))
    return tuple(dict.fromkeys(found))


def _linear_attrs(attrs: dict[Any, Any], polarisation: str = "") -> dict[Any, Any]:
    """Return the attributes of the user without those that a change of scale makes wrong."""
    was = {SCALE_WORDS.get(str(attrs.get(key, "")).strip().lower()) for key in _SCALE_ATTRS}
    kept = {k: v for k, v in attrs.items() if k not in _NODATA_ATTRS}
    if was & {"db", "amplitude"}:
        kept = {k: v for k, v in kept.items() if k not in _ATTRS_OF_SCALE}
        words = str(attrs.get("calibration", "")).lower()
        kept |= intensity_attributes(polarisation, CALIBRATION_WORDS.get(words, ""))
        if "grid_mapping" not in attrs:
            kept.pop("grid_mapping")
    return {**kept, "units": "1", "scale": "linear"}
