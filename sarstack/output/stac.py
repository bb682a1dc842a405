"""STAC items and a collection for a finished run, so that catalogues find the results.

Core STAC 1.0 with the extensions SAR, satellite, projection, raster and processing; needs
the optional package pystac.
"""

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


@dataclass(frozen=True)
class Product:
    """The despeckled images of one date.

    Attributes
    ----------
    date : Date
        With a known time.
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
    """Write one item per date and the collection that holds them.

    Parameters
    ----------
    folder : Path
        Gets ``collection.json`` and one JSON file per date.
    name : str
        Identifier of the collection.
    grid : Grid
        Of all images; must be georeferenced by an affine.
    products : list of Product
    settings : mapping
        Method, model hash, version: goes into the processing fields.

    Returns
    -------
    Path
        The collection.

    Raises
    ------
    MissingDependencyError
        If pystac is not installed.
    """
    try:
        import pystac
    except ImportError as missing:
        raise MissingDependencyError(
            "STAC items were asked for, but pystac is not installed",
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
    # Self-contained: all links relative, so that the folder can be moved.
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
    """Say what is known; what is not known is left out, never guessed."""
    date = product.date
    known = {
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
    return {key: value for key, value in known.items() if value not in ("", None)}


def _epsg(grid: Grid) -> str | None:
    from rasterio.crs import CRS

    code = CRS.from_wkt(grid.crs_wkt).to_epsg()
    return f"EPSG:{code}" if code else None


def footprint(grid: Grid) -> tuple[list[float], dict[str, Any]]:
    """Return bounding box and outline of a grid in longitude and latitude."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    rows, columns = grid.shape
    a, b, c, d, e, f = grid.transform
    corners = ((0, 0), (0, rows), (columns, rows), (columns, 0))
    xs = [a * column + b * row + c for column, row in corners]
    ys = [d * column + e * row + f for column, row in corners]
    lon, lat = transform(CRS.from_wkt(grid.crs_wkt), CRS.from_epsg(4326), xs, ys)
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(lon, lat, strict=True)]
    bbox = [float(np.min(lon)), float(np.min(lat)), float(np.max(lon)), float(np.max(lat))]
    return bbox, {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
