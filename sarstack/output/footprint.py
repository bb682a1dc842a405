"""The place of a grid on the globe: outline in longitude and latitude, and size of a pixel."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.grid import Grid

EDGE_POINTS = 11
_MAX_GCPS = 400  # the time of the fit grows with the third power of their number
_SAME_SIZE = 0.01


def has_longitudes(grid: Grid) -> bool:
    """Return whether the pixels of a grid have longitudes and latitudes.

    Not so without a CRS, with the local CRS of a site, or with ground control points on a line.
    """
    from rasterio.crs import CRS

    if not grid.is_georeferenced or not grid.crs_wkt:
        return False
    if grid.gcps:
        places = np.array([(p.row, p.column) for p in grid.gcps])
        if np.linalg.matrix_rank(places - places.mean(axis=0), tol=1e-3 * np.ptp(places)) < 2:
            return False
    crs = CRS.from_wkt(grid.crs_wkt)
    return bool(crs.is_projected or crs.is_geographic)


def footprint(grid: Grid) -> tuple[list[float], dict[str, Any]]:
    """Return bounding box and outline of a grid in longitude and latitude (GeoJSON).

    Parameters
    ----------
    grid : Grid
        One that :func:`has_longitudes`.

    Returns
    -------
    bbox : list of float
        West, south, east, north in degrees. West is larger than east if the scene crosses the
        antimeridian.
    outline : dict
        Polygon, or MultiPolygon with one part on each side of the antimeridian. A scene with a
        pole in it has a polygon of all longitudes. Each edge has `EDGE_POINTS` points, since
        straight edges of a map are curves in longitude and latitude.
    """
    import antimeridian
    import shapely
    from shapely.geometry.polygon import orient

    rows, columns = grid.shape
    corners = np.array([(0, 0), (0, rows), (columns, rows), (columns, 0), (0, 0)], float)
    steps = np.arange(0, len(corners) - 1, 1 / (EDGE_POINTS - 1))
    column, row = (np.interp(steps, range(len(corners)), axis) for axis in corners.T)
    lon, lat = _to_lonlat(grid, row, column)
    turned = np.unwrap([*lon, lon[0]], period=360)
    if abs(turned[-1] - turned[0]) > 180:  # once around a pole
        is_north = bool(np.mean(lat) > 0)
        polygon = shapely.Polygon(np.stack([lon, lat], axis=1))
        fixed = antimeridian.fix_polygon(
            polygon, force_north_pole=is_north, force_south_pole=not is_north
        )
    else:
        ring = np.stack([turned[:-1], lat], axis=1)
        fixed = antimeridian.fix_polygon(orient(shapely.Polygon(ring)), fix_winding=True)
    fixed = shapely.transform(fixed, lambda points: np.round(points, 7))  # a centimetre
    outline = json.loads(shapely.to_geojson(fixed))
    return [float(edge) for edge in antimeridian.bbox(fixed)], outline


def pixel_size_m(grid: Grid) -> float:
    """Return the distance of neighbouring pixels at the centre of a grid, on the ground.

    Parameters
    ----------
    grid : Grid
        One that :func:`has_longitudes`.

    Returns
    -------
    float
        In metres, the larger one of both directions. The nominal size of a projected grid in
        metres, if it is within 1 % of the size on the ground; else three digits.
    """
    from pyproj import Geod
    from rasterio.crs import CRS

    y, x = grid.shape.y / 2, grid.shape.x / 2
    lon, lat = _to_lonlat(grid, np.array([y, y + 1, y]), np.array([x, x, x + 1]))
    _, _, sizes = Geod(ellps="WGS84").inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
    size = max(sizes)
    crs = CRS.from_wkt(grid.crs_wkt)
    if not grid.gcps and crs.is_projected:
        nominal = max(grid.pixel_size) * float(crs.linear_units_factor[1])
        if abs(size - nominal) <= _SAME_SIZE * nominal:
            return nominal
    return float(f"{size:.3g}")


def _to_lonlat(
    grid: Grid, row: NDArray[np.float64], column: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude of places in a grid, in pixels from its upper left corner."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    lonlat, crs = CRS.from_epsg(4326), CRS.from_wkt(grid.crs_wkt)
    if grid.gcps:
        return _interpolate_gcps(grid, row, column)
    a, b, c, d, e, f = grid.transform
    lon, lat = transform(crs, lonlat, a * column + b * row + c, d * column + e * row + f)
    return np.asarray(lon), np.asarray(lat)


def _interpolate_gcps(
    grid: Grid, row: NDArray[np.float64], column: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interpolate ground control points with thin-plate splines, as GDAL does it."""
    from rasterio.crs import CRS
    from rasterio.warp import transform
    from scipy.interpolate import RBFInterpolator

    by_place = {(p.row, p.column): (p.x, p.y) for p in grid.gcps}
    chosen = np.unique(np.linspace(0, len(by_place) - 1, _MAX_GCPS).round().astype(int))
    places = np.array(list(by_place), float)[chosen]
    xs, ys = np.array(list(by_place.values()), float)[chosen].T
    lon, lat = transform(CRS.from_wkt(grid.crs_wkt), CRS.from_epsg(4326), xs, ys)
    # Across the antimeridian, longitudes must not jump between the points.
    near_first = lon[0] + (np.asarray(lon) - lon[0] + 180) % 360 - 180
    values = np.stack([near_first, lat], axis=1)
    spline = RBFInterpolator(places, values, kernel="thin_plate_spline", degree=1)
    found = spline(np.stack([row, column], axis=1))
    return found[:, 0], found[:, 1]
