"""The grid of an xarray Dataset: CRS and transform, from wherever writers put them.

Own code, because rioxarray returns the identity for some axes, accepts uneven ones (CONTRIBUTING),
and does not know pixel-corner coordinates, GeoZarr attributes and the coordinate ``epsg``.
"""

import json
import math
import re
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.errors import SarstackWarning, StackError
from sarstack.readers.grid import Grid, GroundControlPoint, Transform
from sarstack.tiles import Shape

if TYPE_CHECKING:
    import xarray as xr

# Attributes with a CRS besides those of a grid mapping: rioxarray and stackstac, GeoZarr, STAC.
_CRS_NAMES = ("crs_wkt", "crs", "proj:wkt2", "proj:projjson", "proj:code", "epsg", "proj:epsg")
# Scalar coordinates with a CRS, of stackstac.
_CRS_COORDINATES = ("epsg", "proj:epsg", "proj:code")
# Affine transforms in the order of rasterio, with 6 or 9 numbers.
_TRANSFORM_NAMES = ("spatial:transform", "transform", "proj:transform")
# The attribute of stackstac, as object or text: RasterSpec(epsg=..., bounds=(...), ...).
_STACKSTAC_SPEC = re.compile(r"bounds=\(([^)]*)\).*resolutions_xy=\(([^)]*)\)", re.DOTALL)
_TOLERANCE_PX = 1e-3
_MAX_UNEVEN_PX = 0.01


@dataclass(frozen=True)
class _Axis:
    """A spatial coordinate: size, step (None for a single pixel), first value, and its rounding."""

    size: int
    step: float | None
    first: float
    rounding: float = 0.0


def read_grid(
    path: str, dataset: "xr.Dataset", variable: "xr.DataArray", y: Hashable, x: Hashable
) -> Grid:
    """Read the grid of a variable.

    Parameters
    ----------
    path : str
        Where it is stored, for messages.
    dataset : xarray.Dataset
    variable : xarray.DataArray
    y, x : str
        Dimensions of its rows and columns.

    Returns
    -------
    Grid
        CRS from the grid mapping (``crs_wkt``, ``spatial_ref``, CF attributes), attributes
        (``crs``, ``proj:code``) or the scalar coordinate ``epsg``. Transform from coordinates,
        made exact by the attribute ``GeoTransform``, ``transform``, ``spatial:transform`` or
        ``spec`` (stackstac), as numbers or text.

    Raises
    ------
    StackError
        If a coordinate is not evenly spaced.

    Notes
    -----
    Coordinates are pixel centres, as CF has it. They are pixel corners if the attribute says so:
    stackstac writes those. A warning tells if they may be, and no attribute says it.
    """
    shape = Shape(variable.sizes[y], variable.sizes[x])
    mapping, told = _read_attributes(dataset, variable)
    crs = read_crs(dataset, variable)
    if "gcps" in mapping:
        return Grid(shape, crs, gcps=_read_gcps(json.loads(mapping["gcps"])))
    axes = _read_axis(path, dataset, y), _read_axis(path, dataset, x)
    transform = _read_told_transform(mapping, told)
    if transform is None:
        if has_doubtful_coordinates(dataset, variable, y, x):
            error = StackError(
                f"{path}: {y} and {x} may be the upper left corners of pixels, as stackstac has "
                "them; they are used as centres, because no attribute says it",
                do="keep the attribute transform, or open the stack with xy_coords='center'",
            )
            warnings.warn(error.message(), SarstackWarning, stacklevel=2)
        return Grid(shape, crs, _from_axes(*axes))
    if None in axes:
        _check_shape(path, told, shape)
    return Grid(shape, crs, _place(transform, *axes))


def has_corner_coordinates(
    dataset: "xr.Dataset", variable: "xr.DataArray", y: Hashable, x: Hashable
) -> bool:
    """Return whether y and x are pixel corners, by an attribute with the transform."""
    told = _read_told_transform(*_read_attributes(dataset, variable))
    try:
        axes = _read_axis("", dataset, y), _read_axis("", dataset, x)
    except StackError:  # an uneven grid has no transform
        return False
    if told is None or told[1] or told[3] or axes[0] is None or axes[1] is None:
        return False
    shifts = _find_shift(axes[0], told[4], told[5]), _find_shift(axes[1], told[0], told[2])
    return all(shift is not None and shift[1] for shift in shifts)


def has_doubtful_coordinates(
    dataset: "xr.Dataset", variable: "xr.DataArray", y: Hashable, x: Hashable
) -> bool:
    """Return whether y and x can be the pixel corners of stackstac, without its attributes.

    Its arrays have the scalar coordinate `epsg`, and corners at multiples of the pixel size.
    """
    epsg = dataset.coords.get("epsg")
    try:
        axes = [_read_axis("", dataset, dim) for dim in (y, x)]
    except StackError:  # an uneven grid
        return False
    is_told = _read_told_transform(*_read_attributes(dataset, variable)) is not None
    if is_told or epsg is None or epsg.ndim:
        return False
    steps = [axis.first / axis.step for axis in axes if axis and axis.step]
    return bool(steps) and all(abs(step - round(step)) < _TOLERANCE_PX for step in steps)


def _read_attributes(
    dataset: "xr.Dataset", variable: "xr.DataArray"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of the grid mapping, and those of Dataset and variable."""
    name = _grid_mapping_name(dataset, variable)
    mapping = dataset[name].attrs if name else {}
    return mapping, {**dataset.attrs, **variable.attrs}


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


def read_crs(dataset: "xr.Dataset", variable: "xr.DataArray") -> str:
    """Return the CRS of a variable as WKT, empty if there is none; see :func:`read_grid`."""
    from pyproj import CRS as AnyCRS  # noqa: N811 (rasterio cannot read CF attributes)
    from rasterio.crs import CRS

    mapping, told = _read_attributes(dataset, variable)
    scalars = {n: dataset[n].values.item() for n in _CRS_COORDINATES
               if n in dataset.variables and dataset[n].ndim == 0}  # fmt: skip
    wkt = mapping.get("crs_wkt") or mapping.get("spatial_ref")
    if wkt:
        return str(CRS.from_user_input(wkt).to_wkt())
    if "grid_mapping_name" in mapping:
        return str(AnyCRS.from_cf(mapping).to_wkt())
    for places in (mapping, told, scalars):
        for name in _CRS_NAMES:
            found = places.get(name)
            if name == "proj:projjson" and found:
                found = AnyCRS.from_json(found if isinstance(found, str) else json.dumps(found))
                return str(found.to_wkt())
            if isinstance(found, float | np.number):
                found = int(found) if np.isfinite(found) else None
            if found:
                return str(CRS.from_user_input(found).to_wkt())
    return ""


def _read_told_transform(mapping: dict[str, Any], told: dict[str, Any]) -> Transform | None:
    if "GeoTransform" in mapping:
        c, a, b, f, d, e = parse_numbers(mapping["GeoTransform"])[:6]
        return (a, b, c, d, e, f)
    # Before the transform, whose text is rounded to two decimals.
    if spec := _STACKSTAC_SPEC.search(re.sub(r"np\.\w+\(([^)]*)\)", r"\1", str(told.get("spec")))):
        bounds, sizes = parse_numbers(spec[1]), parse_numbers(spec[2])
        if (len(bounds), len(sizes)) == (4, 2) and all(sizes):
            return (sizes[0], 0.0, bounds[0], 0.0, -sizes[1], bounds[3])
    for name in _TRANSFORM_NAMES:
        numbers = parse_numbers(mapping.get(name, told.get(name)))
        if len(numbers) in (6, 9) and numbers[0] * numbers[4] - numbers[1] * numbers[3]:
            a, b, c, d, e, f = numbers[:6]
            if name == "spatial:transform" and told.get("spatial:registration") == "node":
                # It leads to pixel centres.
                return (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
            return (a, b, c, d, e, f)
    return None


def parse_numbers(value: Any) -> list[float]:
    """Return the numbers of an attribute that is a list or a text; empty if it is neither."""
    if value is None:
        return []
    # Also the texts of a transform: "Affine(10.0, ...)" and "| 10.00, 0.00, ...|".
    is_text = isinstance(value, str)
    words = re.sub(r"Affine|[\[\]()|,]", " ", value).split() if is_text else value
    try:
        return [float(v) for v in words]
    except (TypeError, ValueError):
        return []


def _check_shape(path: str, told: dict[str, Any], shape: Shape) -> None:
    """Raise if a variable without coordinates is a part of the grid that its attribute has."""
    declared = parse_numbers(told.get("spatial:shape"))
    if declared and declared != list(shape):
        raise StackError(
            f"{path} has {shape.y} x {shape.x} pixels, but the attribute spatial:shape {declared}",
            expected="a transform of these pixels, or the coordinates y and x",
            do="write the coordinates y and x before taking a part",
        )


def _read_axis(path: str, dataset: "xr.Dataset", dim: Hashable) -> _Axis | None:
    """Return a spatial axis; None if it has no coordinate."""
    size = dataset.sizes[dim]
    if dim not in dataset.coords or dataset[dim].dtype.kind not in "iuf":
        return None
    values = dataset[dim].values.astype(np.float64)
    if size == 1:
        return _Axis(size, None, float(values[0]))
    first, step = float(values[0]), float((values[-1] - values[0]) / (size - 1))
    rounding = 0.0
    single = values.astype(np.float32)
    if np.array_equal(single, values) and not np.array_equal(
        values, first + step * np.arange(size)
    ):
        # Many writers keep coordinates as float32. The mean over all of them is exact again.
        rounding = float(np.spacing(np.abs(single).max())) / 2
        step, first = (float(v) for v in np.polyfit(np.arange(size), values, 1))
    uneven = np.abs(values - (first + step * np.arange(size))).max()
    if step == 0 or rounding > abs(step) / 2 or uneven > _MAX_UNEVEN_PX * abs(step) + rounding:
        raise StackError(
            f"{path}: the coordinate {dim} is not evenly spaced (off by up to {uneven:.3g})",
            expected="a regular grid",
            do="resample the data to a regular grid first",
        )
    return _Axis(size, step, first, rounding)


def _from_axes(y: _Axis | None, x: _Axis | None) -> Transform:
    """Return the transform of pixel centres; in pixels where there is no coordinate."""
    (step_y, first_y), (step_x, first_x) = (
        (1.0, 0.5) if axis is None else (axis.step or 1.0, axis.first) for axis in (y, x)
    )
    return (step_x, 0.0, first_x - step_x / 2, 0.0, step_y, first_y - step_y / 2)


def _place(told: Transform, y: _Axis | None, x: _Axis | None) -> Transform:
    """Return the transform that fits the coordinates, with the digits of the one in attributes.

    The attribute is not used if it contradicts the coordinates: a resampled Dataset has new
    coordinates and the old attribute. Of a part of a Dataset, it has the origin of the whole.
    """
    a, b, c, d, e, f = told
    if b or d or x is None or y is None:
        return told
    shift_x, shift_y = _find_shift(x, a, c), _find_shift(y, e, f)
    if shift_x is None or shift_y is None or shift_x[1] != shift_y[1]:
        return _from_axes(y, x)
    (column, _), (row, _) = shift_x, shift_y
    # A flipped axis begins at the other edge of its first pixel.
    step_x, step_y = x.step or a, y.step or e
    left = c + a * (column if step_x * a > 0 else column + 1)
    top = f + e * (row if step_y * e > 0 else row + 1)
    return (math.copysign(a, step_x), 0.0, left, 0.0, math.copysign(e, step_y), top)


def _find_shift(axis: _Axis, step: float, origin: float) -> tuple[int, bool] | None:
    """Return the position of the first pixel on the told axis, and whether values are corners.

    None if the axis does not fit.
    """
    tolerance = _TOLERANCE_PX + min(axis.rounding / abs(step), 0.2)
    # The error of the step is largest at the last pixel.
    allowed = _MAX_UNEVEN_PX * abs(step) + 2 * axis.rounding
    if axis.step is not None and abs(abs(axis.step) - abs(step)) * axis.size > allowed:
        return None
    position = (axis.first - origin) / step
    if abs(position - 0.5 - round(position - 0.5)) < tolerance:
        return round(position - 0.5), False
    if abs(position - round(position)) < tolerance:
        return round(position), True
    return None
