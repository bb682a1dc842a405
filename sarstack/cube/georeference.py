"""Name axes, CRS and nodata of results so that ``result.rio.to_raster("x.tif")`` works."""

from collections.abc import Collection
from typing import TypeVar

import rioxarray  # noqa: F401 - registers the accessor `rio`
import xarray as xr
from pyproj.exceptions import CRSError

from sarstack.conventions import X_NAMES, Y_NAMES
from sarstack.errors import StackError

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
    check_crs(result)
    if result.rio.crs is not None:
        result = result.rio.write_crs(result.rio.crs, grid_mapping_name=result.rio.grid_mapping)
    arrays = [result] if isinstance(result, xr.DataArray) else result.data_vars.values()
    for array in arrays:
        if isinstance(result, xr.DataArray) or str(array.name).lower() in names:
            array.encoding["_FillValue"] = float("nan")
    return result


def check_crs(obj: xr.Dataset | xr.DataArray) -> None:
    """Raise a StackError if an object declares a CRS that is none."""
    try:
        obj.rio.crs  # noqa: B018 (reading it parses it)
    except (CRSError, ValueError, TypeError) as error:
        raise StackError(
            f"the CRS cannot be read ({str(error).splitlines()[0][:200]})",
            expected="WKT, PROJ text or a code such as EPSG:32632",
            where="the attribute 'crs', or those of 'spatial_ref' or another grid mapping",
            do="write another one: ds.rio.write_crs('EPSG:32632'), or drop it",
        ) from error


def _coordinates_with_axis(result: xr.Dataset | xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the spatial coordinates with the CF attribute ``axis``."""
    found = {}
    for axis, names in (("Y", Y_NAMES), ("X", X_NAMES)):
        for dim in result.dims:
            if str(dim).lower() in names and dim in result.coords:
                coordinate = result.coords[dim]
                found[str(dim)] = coordinate.assign_attrs({"axis": axis} | coordinate.attrs)
    return found
