"""The images in an xarray Dataset: variables ``vv vh hh hv`` over ``(time, y, x)``.

Formats that xarray opens (Zarr, netCDF) share this.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.conventions import TIME_NAMES, X_NAMES, Y_NAMES
from sarstack.errors import StackError
from sarstack.readers.grid import Grid, GroundControlPoint, Transform
from sarstack.readers.image import Image, complex_numbers_error, describe_image
from sarstack.readers.names import NOT_A_TIME, parse_name
from sarstack.readers.paths import file_stem
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape

if TYPE_CHECKING:
    import xarray as xr

# Coordinates over time that describe each date.
_DATE_COORDS = ("platform", "relative_orbit", "orbit_direction")


def list_dataset_images(
    path: str, dataset: "xr.Dataset", raster_class: type[Raster], bands: Sequence[str] | None
) -> list[Image]:
    """List the images of an open Dataset.

    Parameters
    ----------
    path : str
        Where the Dataset is stored.
    dataset : xarray.Dataset
        Opened with ``mask_and_scale=False``: packed values are unpacked by the raster.
    raster_class : type of Raster
        Reads the pixels.
    bands : sequence of str or None
        The first one names the polarisation of the only variable, if its name does not.

    Returns
    -------
    list of Image
        One for each date and polarisation.

    Raises
    ------
    StackError
        If no variable is of backscatter, or axes and coordinates are not those of an image.
    """
    default = parse_name(bands[0]).polarisation if bands else ""
    named = {name: parse_name(str(name)).polarisation for name in dataset.data_vars}
    chosen = {name: pol for name, pol in named.items() if pol}
    if not chosen and default and len(named) == 1:
        chosen = dict.fromkeys(named, default)
    if not chosen:
        raise StackError(
            f"{path} has no variable of backscatter",
            expected="variables named vv, vh, hh or hv",
            where=[f"its variables are {', '.join(map(str, named)) or 'none'}"],
            do="rename them in xarray: ds.rename({'my_variable': 'vv'})",
        )
    if len(set(chosen.values())) < len(chosen):
        raise StackError(
            f"{path} has several variables of one polarisation",
            where=[str(name) for name in chosen],
            do="keep one variable for each polarisation; detect complex parts (i_ and q_) first",
        )
    grid = _read_grid(path, dataset, dataset[next(iter(chosen))])
    return [
        image
        for name, polarisation in chosen.items()
        for image in _list_dates(path, dataset, name, polarisation, raster_class, grid)
    ]


def _list_dates(
    path: str,
    dataset: "xr.Dataset",
    name: Hashable,
    polarisation: str,
    raster_class: type[Raster],
    grid: Grid,
) -> list[Image]:
    variable = dataset[name]
    if variable.dtype.kind == "c":
        raise complex_numbers_error(f"{path}:{name}")
    time = _find_dims(path, variable)[2]
    tags = {**dataset.attrs, **variable.attrs, "POLARISATION": polarisation}
    stem = file_stem(path)
    whole = raster_class(
        path,
        f"{stem}_{polarisation}",
        variable=str(name),
        nodata=_read_nodata(tags),
        shape=grid.shape,
        gain=float(variable.attrs.get("scale_factor", 1.0)),
        offset=float(variable.attrs.get("add_offset", 0.0)),
    )
    images = []
    for index, moment in enumerate(_read_times(dataset, variable, time)):
        raster, date_tags = whole, {**tags, **_read_date_coords(dataset, time, index)}
        stamp = "" if np.isnat(moment) else str(moment.astype("datetime64[s]"))
        if stamp:
            date_tags["ACQUISITION_DATETIME"] = stamp
        if time is not None:
            label = stamp.replace("-", "").replace(":", "") or str(index + 1)
            raster = replace(whole, index=index, stem=f"{stem}_{label}_{polarisation}")
        image = describe_image(raster, grid, [str(name)], date_tags)
        images.append(replace(image, order=index, series=path))
    return images


def _read_date_coords(dataset: "xr.Dataset", time: Hashable | None, index: int) -> dict[str, str]:
    """Return platform and orbit of a date, as far as the dataset has them."""
    found = {}
    for key in _DATE_COORDS:
        if key in dataset.coords and set(dataset[key].dims) <= {time}:
            values = dataset[key].values
            found[key] = str(values[index] if values.ndim else values)
    return found


def _read_times(
    dataset: "xr.Dataset", variable: "xr.DataArray", time: Hashable | None
) -> list[np.datetime64]:
    """Return the time of each image of a variable, NaT if unknown."""
    if time is None:
        scalar = [variable.coords[n].values for n in TIME_NAMES if n in variable.coords]
        times = [s for s in scalar if s.dtype.kind == "M" and s.ndim == 0]
        return [times[0].astype("datetime64[ns]")[()] if times else NOT_A_TIME]
    if time in dataset.coords and dataset[time].dtype.kind == "M":
        return list(dataset[time].values.astype("datetime64[ns]"))
    return [NOT_A_TIME] * variable.sizes[time]


def _find_dims(path: str, variable: "xr.DataArray") -> tuple[Hashable, Hashable, Hashable | None]:
    """Return the dimensions y, x and time (None without one) of a variable."""
    dims = [str(d) for d in variable.dims]
    fits = (
        len(dims) in (2, 3)
        and dims[-2].lower() in Y_NAMES
        and dims[-1].lower() in X_NAMES
        and (len(dims) == 2 or dims[0].lower() in TIME_NAMES)
    )
    if not fits:
        raise StackError(
            f"{path}:{variable.name} has dimensions ({', '.join(dims)})",
            expected="(time, y, x) or (y, x)",
            do="rename or reorder them in xarray: ds.transpose('time', 'y', 'x')",
        )
    return variable.dims[-2], variable.dims[-1], variable.dims[0] if len(dims) == 3 else None


def _read_nodata(tags: dict[Any, Any]) -> tuple[float, ...]:
    """Return the stored numbers that attributes declare as nodata."""
    found = []
    for key in ("_FillValue", "missing_value", "nodata", "_nodata"):
        try:
            found.append(float(np.asarray(tags[key]).ravel()[0]))
        except (KeyError, ValueError, TypeError, IndexError):
            continue
    return tuple(dict.fromkeys(n for n in found if np.isfinite(n)))


def _read_grid(path: str, dataset: "xr.Dataset", variable: "xr.DataArray") -> Grid:
    y, x, _ = _find_dims(path, variable)
    shape = Shape(variable.sizes[y], variable.sizes[x])
    name = _grid_mapping_name(dataset, variable)
    mapping = dataset[name].attrs if name else {}
    crs = _read_crs(dataset, mapping)
    if "gcps" in mapping:
        return Grid(shape, crs, gcps=_read_gcps(json.loads(mapping["gcps"])))
    return Grid(shape, crs, _read_transform(path, dataset, y, x, mapping))


def _read_gcps(geojson: dict[str, Any]) -> tuple[GroundControlPoint, ...]:
    points = []
    for feature in geojson["features"]:
        place = [float(v) for v in feature["geometry"]["coordinates"]]
        row, column = (float(feature["properties"][k]) for k in ("row", "col"))
        points.append(GroundControlPoint(row, column, *place))
    return tuple(points)


def _grid_mapping_name(dataset: "xr.Dataset", variable: "xr.DataArray") -> str:
    given = variable.attrs.get("grid_mapping", variable.encoding.get("grid_mapping"))
    names = [str(given)] if given else []
    return next((n for n in [*names, "spatial_ref", "crs"] if n in dataset.variables), "")


def _read_crs(dataset: "xr.Dataset", mapping: dict[str, Any]) -> str:
    from rasterio.crs import CRS

    wkt = mapping.get("crs_wkt") or mapping.get("spatial_ref") or dataset.attrs.get("crs")
    if not wkt and mapping:
        from pyproj import CRS as AnyCRS  # noqa: N811 (rasterio cannot read CF attributes)

        return str(AnyCRS.from_cf(mapping).to_wkt()) if "grid_mapping_name" in mapping else ""
    return str(CRS.from_user_input(wkt).to_wkt()) if wkt else ""


def _read_transform(
    path: str, dataset: "xr.Dataset", y: Hashable, x: Hashable, mapping: dict[str, Any]
) -> Transform:
    step_y, first_y = _read_axis(path, dataset, y)
    step_x, first_x = _read_axis(path, dataset, x)
    if "GeoTransform" in mapping:
        c, a, b, f, d, e = (float(v) for v in str(mapping["GeoTransform"]).split())
        # The attribute has more digits than the coordinates. It is not used if it differs from
        # them: a subset taken in xarray has new coordinates and the old attribute.
        x_agrees = abs(a / 2 + c - first_x) < 1e-3 * abs(a)
        y_agrees = abs(e / 2 + f - first_y) < 1e-3 * abs(e)
        if b or d or (x_agrees and y_agrees):
            return (a, b, c, d, e, f)
    return (step_x, 0.0, first_x - step_x / 2, 0.0, step_y, first_y - step_y / 2)


def _read_axis(path: str, dataset: "xr.Dataset", dim: Hashable) -> tuple[float, float]:
    """Return step and first pixel centre of an axis, in pixels if it has no coordinate."""
    size = dataset.sizes[dim]
    if dim not in dataset.coords or dataset[dim].dtype.kind not in "iuf":
        return 1.0, 0.5
    values = dataset[dim].values.astype(np.float64)
    if size == 1:
        return 1.0, float(values[0])
    step = (values[-1] - values[0]) / (size - 1)
    uneven = np.abs(values - (values[0] + step * np.arange(size))).max()
    if step == 0 or uneven > 0.01 * abs(step):
        raise StackError(
            f"{path}: the coordinate {dim} is not evenly spaced (off by up to {uneven:.3g})",
            expected="a regular grid",
            do="resample the data to a regular grid first",
        )
    return float(step), float(values[0])
