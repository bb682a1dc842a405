"""The lazy cube of a stack, and a cube read like a stack."""

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from sarstack.conventions import CF_CONVENTIONS, POLARISATIONS, intensity_attributes
from sarstack.readers.grid import Grid
from sarstack.readers.paths import file_name, public_path
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Date, Stack, find_product_looks
from sarstack.tiles import Shape, Window


def build_cube(stack: Stack, chunk_px: int = 1024) -> xr.Dataset:
    """Build the lazy cube of a stack.

    Parameters
    ----------
    stack : Stack
    chunk_px : int, optional
        Side of a chunk in pixels; a chunk holds one date.

    Returns
    -------
    xarray.Dataset
        Variables ``vv vh hh hv`` as present, dims ``(time, y, x)``, float32 linear
        intensity, NaN = nodata (also where a date lacks the polarisation). Coordinates
        ``time`` (UTC), ``y`` and ``x`` (pixel centres), ``spatial_ref`` (CRS, affine or
        ground control points, readable by rioxarray), and per date ``platform``,
        ``orbit_direction``, ``relative_orbit`` and ``source_file`` where known.

    Notes
    -----
    Looks that the product tells are the attribute ``product_looks`` of a variable. The accessor
    does not use it, because it would stay when pixels are averaged: ``apply(looks=...)``.

    Lazy: no pixel is read here. Computing needs one chunk of memory for each thread.
    """
    variables = {
        p: xr.Variable(
            ("time", "y", "x"),
            _lazy_array(stack.rasters[p], stack.grid.shape, chunk_px),
            intensity_attributes(p, stack.calibration) | _looks_attribute(stack.rasters[p]),
        )
        for p in stack.polarisations
    }
    attributes = {
        "Conventions": CF_CONVENTIONS,
        "title": "Sentinel-1 backscatter intensity",
        "source": public_path(stack.path),
        **({"calibration": stack.calibration} if stack.calibration else {}),
    }
    return xr.Dataset(variables, _coordinates(stack), attributes)


def _looks_attribute(rasters: Sequence[Raster | None]) -> dict[str, Any]:
    """Return the looks that a product tells, for the user: arithmetic may keep the attribute."""
    looks = find_product_looks(rasters)
    return {} if looks is None else {"product_looks": round(looks, 2)}


def make_spatial_ref(grid: Grid) -> xr.Variable:
    """Make the ``spatial_ref`` variable: CRS, with GeoTransform or ground control points.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    xarray.Variable
        Scalar. The attributes follow CF and GDAL; ground control points are GeoJSON, as
        rioxarray writes them.
    """
    attributes: dict[str, Any] = {}
    if grid.crs_wkt:
        from pyproj import CRS

        attributes |= CRS.from_wkt(grid.crs_wkt).to_cf()
        attributes |= {"crs_wkt": grid.crs_wkt, "spatial_ref": grid.crs_wkt}
    if grid.gcps:
        attributes["gcps"] = json.dumps(_gcps_as_geojson(grid))
    else:
        a, b, c, d, e, f = grid.transform
        attributes["GeoTransform"] = " ".join(repr(float(v)) for v in (c, a, b, f, d, e))
    return xr.Variable((), np.int64(0), attributes)


def _gcps_as_geojson(grid: Grid) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "properties": {"id": str(i), "info": "", "row": p.row, "col": p.column},
            "geometry": {"type": "Point", "coordinates": [p.x, p.y, p.z]},
        }
        for i, p in enumerate(grid.gcps, 1)
    ]
    return {"type": "FeatureCollection", "features": features}


def _coordinates(stack: Stack) -> dict[Hashable, Any]:
    y, x = stack.grid.pixel_centres()
    y_attributes, x_attributes = _axis_attributes(stack.grid)
    times = np.array([date.time for date in stack.dates], "datetime64[ns]")
    coordinates: dict[Hashable, Any] = {
        "time": ("time", times, {"standard_name": "time", "long_name": "acquisition time, UTC"}),
        "y": ("y", y, y_attributes),
        "x": ("x", x, x_attributes),
        "spatial_ref": make_spatial_ref(stack.grid),
        "source_file": _text_coordinate([_first_file(stack, i) for i in range(stack.n_dates)]),
    }
    platforms = [date.platform for date in stack.dates]
    if any(platforms):
        coordinates["platform"] = _text_coordinate(platforms)
    directions = [date.orbit_direction for date in stack.dates]
    if any(directions):
        coordinates["orbit_direction"] = _text_coordinate(directions)
    orbits = [date.relative_orbit for date in stack.dates]
    if any(o is not None for o in orbits):
        # Integers have no NaN: with an unknown orbit, all are float.
        all_known = all(o is not None for o in orbits)
        values = np.array([np.nan if o is None else o for o in orbits])
        coordinates["relative_orbit"] = ("time", values.astype(np.int16) if all_known else values)
    return coordinates


def _text_coordinate(values: list[str]) -> tuple[str, NDArray[np.object_]]:
    # Objects, because Zarr format 3 specifies no type for text of fixed width.
    return "time", np.array(values, object)


def _axis_attributes(grid: Grid) -> tuple[dict[str, str], dict[str, str]]:
    if not grid.crs_wkt or grid.gcps or grid.transform[1] or grid.transform[3]:
        return {"long_name": "row, pixel centre"}, {"long_name": "column, pixel centre"}
    if grid.crs.is_geographic:
        return (
            {"standard_name": "latitude", "units": "degrees_north"},
            {"standard_name": "longitude", "units": "degrees_east"},
        )
    unit = str(grid.crs.linear_units or "metre")
    return (
        {"standard_name": "projection_y_coordinate", "units": unit},
        {"standard_name": "projection_x_coordinate", "units": unit},
    )


def _first_file(stack: Stack, index: int) -> str:
    rasters = [r for p in stack.polarisations if (r := stack.rasters[p][index]) is not None]
    return file_name(rasters[0].opened_path) if rasters else ""


def _lazy_array(rasters: tuple[Raster | None, ...], shape: Shape, chunk_px: int) -> da.Array:
    """Make one task for each date and chunk.

    Opening each file as an array and concatenating them would make four times as many tasks.
    """
    ys, xs = (_split_axis(length, chunk_px) for length in shape)
    # With the stamps of its sources in its name, a changed file gives a new array: Dask could
    # otherwise use chunks that it computed from the old file.
    identities = [repr(sorted(r.identity().items())) for r in rasters if r is not None]
    name = f"read-{tokenize(rasters, chunk_px, identities)}"
    graph: dict[tuple[str, int, int, int], tuple[Any, ...]] = {}
    for t, raster in enumerate(rasters):
        for i, (y0, y1) in enumerate(ys):
            for j, (x0, x1) in enumerate(xs):
                graph[name, t, i, j] = (_read_chunk, raster, y0, y1, x0, x1)
    chunks = ((1,) * len(rasters), tuple(b - a for a, b in ys), tuple(b - a for a, b in xs))
    layers = HighLevelGraph.from_collections(name, graph, dependencies=())
    return da.Array(layers, name, chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))


def _split_axis(length: int, chunk_px: int) -> list[tuple[int, int]]:
    return [(start, min(start + chunk_px, length)) for start in range(0, length, chunk_px)]


def _read_chunk(raster: Raster | None, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
    if raster is None:
        return np.full((1, y1 - y0, x1 - x0), np.nan, np.float32)
    return raster.read(Window(y0, y1, x0, x1), cache_blocks=False)[np.newaxis]


@dataclass(frozen=True)
class CubeRaster:
    """One date and polarisation of a cube, read by windows."""

    image: xr.DataArray

    def read(self, window: Window) -> NDArray[np.float32]:
        """Compute one window, shape (y, x), linear intensity, NaN = nodata."""
        return np.asarray(self.image[window.slices].values, dtype=np.float32)

    def read_each(self, windows: Iterable[Window]) -> Iterator[NDArray[np.float32]]:
        """Compute windows one after the other."""
        return (self.read(window) for window in windows)


@dataclass(frozen=True)
class CubeStack:
    """A cube in memory or of Dask with the attributes of a stack, so that training can read it.

    Attributes
    ----------
    grid : Grid
        Shape only: training needs no place on the ground.
    dates : tuple of Date
    polarisations : tuple of str
    rasters : dict of str to tuple of CubeRaster
    path : str
        Name for messages.
    """

    grid: Grid
    dates: tuple[Date, ...]
    polarisations: tuple[str, ...]
    rasters: dict[str, tuple[CubeRaster, ...]] = field(hash=False)
    path: str = "cube"


def index_cube(cube: xr.Dataset) -> CubeStack:
    """List the images of a cube.

    Parameters
    ----------
    cube : xarray.Dataset
        Checked, dims ``(time, y, x)``.

    Returns
    -------
    CubeStack
        Computes pixels when they are read.
    """
    return CubeStack(
        grid=Grid(Shape(cube.sizes["y"], cube.sizes["x"])),
        dates=tuple(Date(time) for time in cube["time"].values),
        polarisations=tuple(p for p in POLARISATIONS if p in cube.data_vars),
        rasters={str(p): tuple(CubeRaster(image) for image in cube[p]) for p in cube.data_vars},
    )
