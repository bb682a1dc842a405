"""STAC items and a collection that describe the results of a run.

Core STAC 1.0 with the extensions SAR, satellite, projection, raster and processing. Needs the
optional packages pystac and antimeridian.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.errors import MissingDependencyError
from sarstack.readers.grid import Grid
from sarstack.readers.stack import Date

if TYPE_CHECKING:
    import pystac

EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("sar/v1.3.0", "sat/v1.0.0", "projection/v2.0.0", "raster/v2.0.0",
                 "processing/v1.2.0")
]  # fmt: skip
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
C_BAND_GHZ = 5.405
EDGE_POINTS = 11


@dataclass(frozen=True)
class Product:
    """The despeckled images of one date.

    Attributes
    ----------
    date : Date
        Date with a time.
    images : dict of str to Path
        COG of each polarisation.
    looks : float
        Equivalent number of looks of the input.
    """

    date: Date
    images: Mapping[str, Path]
    looks: float


def write_catalogue(
    folder: Path,
    name: str,
    grid: Grid,
    products: list[Product],
    settings: Mapping[str, Any],
) -> Path:
    """Write one item for each date, and a collection of them.

    Parameters
    ----------
    folder : Path
        Folder for ``collection.json`` and one JSON file for each date.
    name : str
        Identifier of the collection.
    grid : Grid
        Grid of all images, one that :func:`has_longitudes`.
    products : list of Product
    settings : mapping
        Method, model hash and version, for the processing fields.

    Returns
    -------
    Path
        Path of the collection.

    Raises
    ------
    MissingDependencyError
        If pystac or antimeridian is not installed.
    """
    try:
        import antimeridian  # noqa: F401
        import pystac
    except ImportError as missing:
        raise MissingDependencyError(
            f"--stac: the package {missing.name} is not installed",
            expected="the optional packages for STAC items",
            do="pip install 'sarstack[stac]', or leave out --stac",
        ) from missing
    folder.mkdir(parents=True, exist_ok=True)
    items = [_make_item(folder, name, grid, product, settings) for product in products]
    times = [item.datetime for item in items]
    extent = pystac.Extent(
        pystac.SpatialExtent([items[0].bbox]), pystac.TemporalExtent([[min(times), max(times)]])
    )
    text = f"Sentinel-1 backscatter, despeckled with {settings['method']} by sarstack"
    collection = pystac.Collection(name, text, extent, title=name)
    path = folder / "collection.json"
    collection.set_self_href(str(path))
    for item in items:
        collection.add_item(item)
        item.set_self_href(str(folder / f"{item.id}.json"))
    collection.make_all_asset_hrefs_relative()
    # Self-contained: all links are relative, so the folder can be moved.
    collection.save(pystac.CatalogType.SELF_CONTAINED)
    return path


def _make_item(
    folder: Path, name: str, grid: Grid, product: Product, settings: Mapping[str, Any]
) -> "pystac.Item":
    import pystac

    time = product.date.time.astype("datetime64[s]").item()
    bbox, outline = footprint(grid)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    item = pystac.Item(
        f"{name}_{stamp}", outline, bbox, time, _properties(grid, product, settings),
        stac_extensions=EXTENSIONS, collection=name,
    )  # fmt: skip
    item.set_self_href(str(folder / f"{item.id}.json"))
    for polarisation, path in product.images.items():
        band = {"name": polarisation, "data_type": "float32", "nodata": "nan", "unit": "1"}
        extra = {"bands": [band], "sar:polarizations": [polarisation.upper()]}
        item.add_asset(polarisation, pystac.Asset(str(path), path.stem, None, COG, ["data"], extra))
    return item


def _properties(grid: Grid, product: Product, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of an item; unknown ones are left out."""
    date = product.date
    properties = {
        "platform": date.platform,
        "constellation": "sentinel-1",
        "gsd": abs(grid.transform[0]),
        "sar:frequency_band": "C",
        "sar:center_frequency": C_BAND_GHZ,
        "sar:polarizations": [p.upper() for p in product.images],
        "sar:looks_equivalent_number": round(product.looks, 2),
        "sat:orbit_state": date.orbit_direction,
        "sat:relative_orbit": date.relative_orbit,
        "proj:code": _epsg(grid),
        "proj:wkt2": grid.crs_wkt,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform),
        "processing:lineage": f"despeckled with {settings['method']}",
        "processing:software": {
            "sarstack": str(settings["version"]),
            **{k: str(v) for k, v in settings.items() if k == "model_sha256"},
        },
    }
    return {key: value for key, value in properties.items() if value not in ("", None)}


def _epsg(grid: Grid) -> str | None:
    from rasterio.crs import CRS

    code = CRS.from_wkt(grid.crs_wkt).to_epsg()
    return f"EPSG:{code}" if code else None


def has_longitudes(grid: Grid) -> bool:
    """Return whether the pixels of a grid have longitudes and latitudes.

    Not so without a CRS, with the local CRS of a site, or with ground control points only.
    """
    from rasterio.crs import CRS

    if not grid.is_georeferenced or grid.gcps or not grid.crs_wkt:
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
        Polygon, or MultiPolygon with one part on each side of the antimeridian. Each edge has
        `EDGE_POINTS` points, since straight edges of a map are curves in longitude and latitude.
    """
    import antimeridian
    import shapely
    from rasterio.crs import CRS
    from rasterio.warp import transform

    rows, columns = grid.shape
    a, b, c, d, e, f = grid.transform
    corners = np.array([(0, 0), (0, rows), (columns, rows), (columns, 0), (0, 0)], float)
    steps = np.arange(0, len(corners) - 1, 1 / (EDGE_POINTS - 1))
    column, row = (np.interp(steps, range(len(corners)), axis) for axis in corners.T)
    xs, ys = a * column + b * row + c, d * column + e * row + f
    lon, lat = transform(CRS.from_wkt(grid.crs_wkt), CRS.from_epsg(4326), xs, ys)
    ring = np.round(np.stack([lon, lat], axis=1), 7)
    fixed = antimeridian.fix_polygon(shapely.Polygon(ring))
    outline = json.loads(shapely.to_geojson(fixed))
    return [float(edge) for edge in antimeridian.bbox(fixed)], outline
