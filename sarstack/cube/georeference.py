"""Name axes, CRS and nodata of results so that ``result.rio.to_raster("x.tif")`` works."""

import warnings
from collections.abc import Collection
from typing import Any, TypeVar

import rioxarray  # noqa: F401 - registers the accessor `rio`
import xarray as xr
from pyproj.exceptions import CRSError
from rasterio.crs import CRS

from sarstack.conventions import X_NAMES, Y_NAMES
from sarstack.errors import SarstackWarning, StackError
from sarstack.readers.dataset_grid import (
    has_corner_coordinates,
    has_doubtful_coordinates,
    parse_numbers,
    read_crs,
)

Result = TypeVar("Result", xr.Dataset, xr.DataArray)


def georeference(result: Result, names: Collection[str]) -> Result:
    """Name the axes, the CRS and the nodata value of a result as rioxarray and CF expect them.

    Parameters
    ----------
    result : Dataset or DataArray
        Result of the accessor, with the coordinates and attributes of the user's object.
    names : collection of str
        Variables of a Dataset, in lower case, in which NaN is nodata.

    Returns
    -------
    Dataset or DataArray
        The same values. Coordinates of the spatial axes have the attribute ``axis``, whatever
        their name. A CRS that stood in ``attrs["crs"]`` or in a variable of another name is a
        grid mapping that rioxarray finds. The encoding declares NaN as nodata.
    """
    result = result.assign_coords(_coordinates_with_axis(result))
    _write_transforms_as_numbers(result)
    check_crs(result)
    crs = result.rio.crs or _find_crs(result)
    if crs is not None:
        result = result.rio.write_crs(crs, grid_mapping_name=result.rio.grid_mapping)
    _warn_of_corners(result)
    arrays = [result] if isinstance(result, xr.DataArray) else result.data_vars.values()
    for array in arrays:
        if isinstance(result, xr.DataArray) or str(array.name).lower() in names:
            array.encoding["_FillValue"] = float("nan")
    return result


def _write_transforms_as_numbers(result: xr.Dataset | xr.DataArray) -> None:
    """Replace attributes `transform` that are text: rioxarray expects numbers."""
    variables = [] if isinstance(result, xr.DataArray) else [*result.data_vars.values()]
    for holder in (result, *variables):
        if isinstance(holder.attrs.get("transform"), str):
            numbers = parse_numbers(holder.attrs["transform"])
            others = {key: value for key, value in holder.attrs.items() if key != "transform"}
            told = {"transform": tuple(numbers)} if len(numbers) in (6, 9) else {}
            holder.attrs = others | told


def check_crs(obj: xr.Dataset | xr.DataArray) -> None:
    """Raise a StackError if an object declares a CRS that is none."""
    try:
        obj.rio.crs or _find_crs(obj)
    except (CRSError, ValueError, TypeError) as error:
        raise StackError(
            f"the CRS cannot be read ({str(error).splitlines()[0][:200]})",
            expected="WKT, PROJ text or a code such as EPSG:32632",
            where="the attribute 'crs', or those of 'spatial_ref' or another grid mapping",
            do="write another one: ds.rio.write_crs('EPSG:32632'), or drop it",
        ) from error


def _find_crs(obj: xr.Dataset | xr.DataArray) -> Any:
    """Return a CRS that rioxarray does not find: in the coordinate `epsg`, or as GeoZarr has it."""
    dataset = _as_dataset(obj)
    wkt = next((wkt for v in dataset.data_vars.values() if (wkt := read_crs(dataset, v))), "")
    return CRS.from_wkt(wkt) if wkt else None


def _as_dataset(obj: xr.Dataset | xr.DataArray) -> xr.Dataset:
    return obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name="image of the user")


def _warn_of_corners(result: xr.Dataset | xr.DataArray) -> None:
    """Warn if x and y are pixel corners: rioxarray and CF take them as pixel centres."""
    dataset = _as_dataset(result)
    y, x = (next((d for d in result.dims if str(d).lower() in names), None)
            for names in (Y_NAMES, X_NAMES))  # fmt: skip
    if y is None or x is None:
        return
    images = [v for v in dataset.data_vars.values() if {y, x} <= set(v.dims)]
    what = ""
    if any(has_corner_coordinates(dataset, v, y, x) for v in images):
        what = "are the upper left corners of pixels, as the attribute with the transform says"
    elif any(has_doubtful_coordinates(dataset, v, y, x) for v in images):
        what = "may be the upper left corners of pixels, as stackstac has them"
    if what:
        error = StackError(
            f"{y} and {x} {what}: rio.to_raster places the result half a pixel off",
            do="open the stack with xy_coords='center' (stackstac), or shift the coordinates by "
            "half a pixel",
        )
        warnings.warn(error.message(), SarstackWarning, stacklevel=4)


def _coordinates_with_axis(result: xr.Dataset | xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the spatial coordinates with the CF attribute ``axis``."""
    found = {}
    for axis, names in (("Y", Y_NAMES), ("X", X_NAMES)):
        for dim in result.dims:
            if str(dim).lower() in names and dim in result.coords:
                coordinate = result.coords[dim]
                found[str(dim)] = coordinate.assign_attrs({"axis": axis} | coordinate.attrs)
    return found
