"""Manifests with which Earth Engine takes the COGs of a run from a bucket, one for each date.

The fields are those of the reference of `ImageManifest` in Earth Engine's REST interface.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import rasterio


def make_manifests(results: str | Path, bucket: str, collection: str) -> list[dict[str, Any]]:
    """Make the manifests of all images in the record of a run.

    Parameters
    ----------
    results : str or Path
        Output folder of ``sarstack despeckle``.
    bucket : str
        Where the COGs are copied to, for instance ``gs://my-bucket/despeckled``.
    collection : str
        Image collection in Earth Engine: ``projects/my-project/assets/despeckled``.

    Returns
    -------
    list of dict
        One for each date; its bands are the polarisations. NaN is nodata in the files, and
        Earth Engine masks it.
    """
    record = json.loads((Path(results) / "run.json").read_text(encoding="utf-8"))
    by_date: dict[str, dict[str, tuple[str, dict[str, str]]]] = defaultdict(dict)
    for image in record["images"]:
        with rasterio.open(Path(results) / image["output"]) as file:
            tags = file.tags()
        band = tags["POLARIZATION"].upper()
        by_date[tags["ACQUISITION_DATETIME"]][band] = image["output"], tags
    return [_make(date, images, bucket, collection) for date, images in sorted(by_date.items())]


def _make(
    date: str, images: dict[str, tuple[str, dict[str, str]]], bucket: str, collection: str
) -> dict[str, Any]:
    second = date[:19]
    tags = next(iter(images.values()))[1]
    name = f"{second.replace('-', '').replace(':', '')}_{tags['SPECKLE_FILTER']}"
    return {
        "name": f"{collection}/{name.replace('.', '_')}",
        "uriPrefix": f"{bucket.rstrip('/')}/",
        "tilesets": [
            {"id": band, "sources": [{"uris": [file]}]} for band, (file, _) in images.items()
        ],
        "bands": [{"id": band, "tilesetId": band, "tilesetBandIndex": 0} for band in images],
        "pyramidingPolicy": "MEAN",  # right for linear intensity, not for dB
        "startTime": f"{second}Z",
        "properties": {
            key.lower(): tags[key]
            for key in ("SPECKLE_FILTER", "SARSTACK_VERSION", "CALIBRATION", "PLATFORM")
            if tags.get(key)
        },
    }
