"""STAC items and a collection that describe the results of a run.

Core STAC with the extensions SAR, satellite, projection and processing. Needs the optional
packages pystac and antimeridian.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarstack.conventions import find_sensor
from sarstack.errors import MissingDependencyError
from sarstack.output.footprint import footprint, pixel_size_m
from sarstack.readers.grid import Grid
from sarstack.readers.stack import Date

if TYPE_CHECKING:
    import pystac

# By the prefix of their fields. An item declares the extensions of which it has fields.
_EXTENSIONS = {
    "sar": "sar/v1.3.2",
    "sat": "sat/v1.2.0",
    "proj": "projection/v2.0.0",
    "processing": "processing/v1.2.0",
}
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class Product:
    """The despeckled images of one date.

    Attributes
    ----------
    date : Date
        Date with a time.
    grid : Grid
        One that :func:`~sarstack.output.footprint.has_longitudes`.
    images : dict of str to Path
        COG of each polarisation, ``vv``; of its estimated speckle, ``vv-noise``; of its
        uncertainty, ``vv-uncertainty``.
    looks : float
        Equivalent number of looks of the input.
    instrument_mode : str
        Such as ``IW``; empty if it is unknown.
    """

    date: Date
    grid: Grid
    images: Mapping[str, Path]
    looks: float
    instrument_mode: str = ""


def write_catalogue(
    folder: Path,
    name: str,
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
    items = [_make_item(folder, name, product, settings) for product in products]
    times = [item.datetime for item in items]
    boxes = [*dict.fromkeys(tuple(item.bbox) for item in items)]
    if len(boxes) > 1:
        boxes.insert(0, _surround(boxes))  # as STAC wants it
    extent = pystac.Extent(
        pystac.SpatialExtent([list(box) for box in boxes]),
        pystac.TemporalExtent([[min(times), max(times)]]),
    )
    text = f"Radar backscatter, despeckled with {settings['method']} by sarstack"
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
    folder: Path, name: str, product: Product, settings: Mapping[str, Any]
) -> "pystac.Item":
    import pystac

    time = product.date.time.astype("datetime64[s]").item()
    bbox, outline = footprint(product.grid)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    properties = _properties(product, settings)
    prefixes = {key.split(":")[0] for key in properties}
    extensions = [
        f"https://stac-extensions.github.io/{version}/schema.json"
        for prefix, version in _EXTENSIONS.items()
        if prefix in prefixes
    ]
    item = pystac.Item(
        f"{name}_{stamp}", outline, bbox, time, properties,
        stac_extensions=extensions, collection=name,
    )  # fmt: skip
    item.set_self_href(str(folder / f"{item.id}.json"))
    for name, path in product.images.items():
        polarisation, _, content = name.partition("-")
        unit = "dB" if content == "uncertainty" else "1"
        band = {"name": name, "data_type": "float32", "nodata": "nan", "unit": unit}
        extra = {"bands": [band], "sar:polarizations": [polarisation.upper()]}
        roles = ["metadata"] if content else ["data"]
        item.add_asset(name, pystac.Asset(str(path), path.stem, None, COG, roles, extra))
    return item


def _surround(boxes: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the box around others."""
    west, south, east, north = zip(*boxes, strict=True)
    if any(left > right for left, right in zip(west, east, strict=True)):
        return -180.0, min(south), 180.0, max(north)  # across the antimeridian
    return min(west), min(south), max(east), max(north)


def _properties(product: Product, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of an item; unknown ones are left out."""
    date, grid = product.date, product.grid
    sensor = find_sensor(date.platform)
    properties = {
        "platform": date.platform,
        "constellation": sensor.constellation,
        "gsd": pixel_size_m(grid),
        "sar:instrument_mode": product.instrument_mode,
        "sar:frequency_band": sensor.band,
        "sar:center_frequency": sensor.frequency_ghz,
        "sar:polarizations": [name.upper() for name in product.images if "-" not in name],
        "sar:looks_equivalent_number": round(product.looks, 2),
        "sat:orbit_state": date.orbit_direction,
        "sat:relative_orbit": date.relative_orbit,
        "proj:shape": list(grid.shape),
        "processing:lineage": f"despeckled with {settings['method']}",
        "processing:software": {
            "sarstack": str(settings["version"]),
            **{k: str(v) for k, v in settings.items() if k == "model_sha256"},
        },
    }
    known = {key: value for key, value in properties.items() if value not in ("", None)}
    if grid.gcps:
        # Pixels in radar geometry have no CRS; the extension asks for a null then.
        return known | {"proj:code": None}
    from pyproj import CRS

    code = grid.crs.to_epsg()
    return known | {
        "proj:code": f"EPSG:{code}" if code else None,
        "proj:wkt2": CRS.from_wkt(grid.crs_wkt).to_wkt(),  # that of GDAL is WKT 1
        "proj:transform": list(grid.transform),
    }
