"""STAC items and a collection that describe the results of a run.

Core STAC with the extensions SAR, satellite, projection, processing and rendering. Needs the
optional packages pystac and antimeridian.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
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
    "renders": "render/v2.0.0",
}
# Linear power (dB for the uncertainty, a ratio for the speckle) from black to white, the same for
# all dates, so that they can be compared.
_STRETCH = {"vv": (0.0, 0.4), "hh": (0.0, 0.4), "vh": (0.0, 0.1), "hv": (0.0, 0.1)}
_STRETCH_OF_CONTENT = {"noise": (0.0, 3.0), "uncertainty": (0.0, 3.0), "support": (0.0, 10.0)}
# Files of a run beside its images: title, media type, role.
_RUN_FILES = {
    "quicklook.png": ("Input, result and ratio", "image/png", "overview"),
    "report.html": ("Report of the last run", "text/html", "overview"),
    "run.json": ("Record of all runs", "application/json", "metadata"),
}
LOGGER = logging.getLogger("sarstack")
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
        uncertainty, ``vv-uncertainty``; of the dates that agree, ``vv-support``.
    looks : float
        Equivalent number of looks of the input.
    instrument_mode : str
        Such as ``IW``; empty if it is unknown.
    seen_dates : str
        Number and period of the dates that a multi-temporal method has seen; else empty.
    """

    date: Date
    grid: Grid
    images: Mapping[str, Path]
    looks: float
    instrument_mode: str = ""
    seen_dates: str = ""


def write_catalogue(
    folder: Path,
    name: str,
    products: list[Product],
    settings: Mapping[str, Any],
) -> Path:
    """Write one item for each date, and a collection of them.

    A collection that is there keeps its other items, as long as their images exist. So it grows
    with an archive, also if old inputs are deleted. Results of another method or stack in the same
    folder keep their collection; the new one is beside it.

    Parameters
    ----------
    folder : Path
        Folder for ``collection.json`` (``collection-NAME.json`` if there is one of another name),
        and one JSON file for each date.
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
    path = _choose_file(folder, name)
    items = [_make_item(folder, name, product, settings) for product in products]
    items += _keep_items(path, name, {item.id for item in items})
    items.sort(key=lambda item: (item.datetime, item.id))
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
    collection.set_self_href(str(path))
    for file, (title, media_type, role) in _RUN_FILES.items():
        if (folder.parent / file).exists():
            asset = pystac.Asset(str(folder.parent / file), title, None, media_type, [role])
            collection.add_asset(Path(file).stem, asset)
    for item in items:
        collection.add_item(item)
        item.set_self_href(str(folder / f"{item.id}.json"))
    collection.make_asset_hrefs_relative()
    collection.make_all_asset_hrefs_relative()
    # Self-contained: all links are relative, so the folder can be moved.
    collection.save(pystac.CatalogType.SELF_CONTAINED)
    return path


def _choose_file(folder: Path, name: str) -> Path:
    """Return the file of a collection: one of its own if the first one is of another name."""
    path = folder / "collection.json"
    try:
        other = json.loads(path.read_text("utf-8"))["id"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one
        return path
    return path if other == name else folder / f"collection-{name}.json"


def _keep_items(path: Path, name: str, made: set[str]) -> list["pystac.Item"]:
    """Return the items of an existing collection that are not made now, if their images exist."""
    import pystac

    if not path.exists():
        return []
    try:
        collection = pystac.Collection.from_file(str(path))
        found = list(collection.get_items()) if collection.id == name else []
        kept = [item for item in found if item.id not in made and _has_images(item)]
    except (OSError, ValueError, KeyError, TypeError, pystac.STACError) as failure:
        LOGGER.warning("%s cannot be read, and is written anew: %s", path, failure)
        return []
    for item in kept:
        item.make_asset_hrefs_absolute()
        item.clear_links()
    return kept


def _has_images(item: "pystac.Item") -> bool:
    return all(Path(asset.get_absolute_href() or "").exists() for asset in item.assets.values())


def _make_item(
    folder: Path, name: str, product: Product, settings: Mapping[str, Any]
) -> "pystac.Item":
    import pystac

    time = product.date.time.astype("datetime64[s]").item().replace(tzinfo=UTC)
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


def _describe_rendering(name: str) -> dict[str, Any]:
    """Return how to draw an asset in grey."""
    polarisation, _, content = name.partition("-")
    stretch = _STRETCH_OF_CONTENT.get(content) or _STRETCH.get(polarisation, (0.0, 0.4))
    title = " ".join(filter(None, (polarisation.upper(), content)))
    return {
        "title": title,
        "assets": [name],
        "rescale": [list(stretch)],
        "colormap_name": "gray",
        "resampling": "average",
    }


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
    seen = f", which has seen {product.seen_dates}" if product.seen_dates else ""
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
        "processing:lineage": f"despeckled with {settings['method']}{seen}",
        "processing:software": {
            "sarstack": str(settings["version"]),
            **{k: str(v) for k, v in settings.items() if k == "model_sha256"},
        },
    }
    properties["renders"] = {name: _describe_rendering(name) for name in product.images}
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
