"""STAC documents of images on disk, for the tests of the reader."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from written_images import speckle, write_tif

DAYS = ("2021-01-04", "2021-01-16", "2021-01-28")
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def make_item(name: str, time: str | None, assets: Mapping[str, Any], **properties: Any) -> dict:
    """Make an item as a JSON object."""
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "bbox": [10, 45, 11, 46],
        "geometry": {"type": "Point", "coordinates": [10.5, 45.5]}, "links": [],
        "properties": {"datetime": time, **properties}, "assets": dict(assets),
    }  # fmt: skip


def make_asset(href: str, **fields: Any) -> dict[str, Any]:
    """Make an asset as a JSON object."""
    return {"href": href, "type": COG, "roles": ["data"], **fields}


def write_json(path: Path, document: Any) -> Path:
    """Write a JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def collect(items: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Make an item collection."""
    return {"type": "FeatureCollection", "features": items, **fields}


def write_scenes(folder: Path) -> tuple[list[dict[str, Any]], dict[tuple[str, int], np.ndarray]]:
    """Write three dates whose files are called vv.tif and vh.tif, each in a folder of its own.

    Returns
    -------
    items : list
        With references relative to `folder`. The time, the orbit and the platform of each image
        stand only there.
    truth : dict
        Pixels by polarisation and date.
    """
    items, truth = [], {}
    for date, day in enumerate(DAYS):
        assets = {}
        for polarisation, mean in (("vv", 0.1), ("vh", 0.02)):
            pixels = speckle(10 * date + (polarisation == "vh"), mean)
            file = folder / f"scene{date}" / f"{polarisation}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tif(file, pixels, tiled=True, blockxsize=32, blockysize=32)
            truth[polarisation, date] = pixels
            assets[polarisation] = make_asset(f"scene{date}/{polarisation}.tif")
        items.append(
            make_item(
                f"farm-{date}", f"{day}T05:34:12.345678Z", assets, platform="SENTINEL-1A",
                **{"sat:orbit_state": "descending", "sat:relative_orbit": 66},
            )
        )  # fmt: skip
    return items, truth
