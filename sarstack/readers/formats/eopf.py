"""EOPF Sentinel-1 GRD: a Zarr store in ESA's new format, calibrated while it is read.

The store has the digital numbers and tables of a SAFE product. Stores of other EOPF products (SLC,
OCN, Sentinel-2) are recognised and refused.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarstack.errors import SarstackWarning, StackError
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image, describe_image, unreadable_error
from sarstack.readers.names import parse_name
from sarstack.readers.paths import file_name, file_stem, is_remote
from sarstack.readers.sentinel1.border import FIRST_VERSION_WITHOUT
from sarstack.readers.sentinel1.eopf_raster import EopfRaster, open_chunks
from sarstack.readers.sentinel1.eopf_store import (
    MEASUREMENT,
    EopfImage,
    find_images,
    open_store,
    read_control_points,
    read_processor_version,
    read_properties,
    read_start,
)
from sarstack.tiles import Shape

TITLE = "EOPF Sentinel-1 GRD"
SUFFIXES = ()  # a store is a folder
# Names of products as ESA gives them; a plain Zarr store may have any other name.
_NAME = re.compile(r"(?i)^(S1[A-Z]_\w\w_(GRD|SLC|OCN)\w_|S2[A-Z]_MSIL|S3[A-Z]_)\w*\.zarr$")
_METADATA_FILES = (".zattrs", "zarr.json", ".zmetadata")
_MAX_METADATA_BYTES = 64 * 2**20
# A time in the store is used if it agrees with the name of the product.
_SAME_TIME = np.timedelta64(60, "s")


def matches(path: str) -> bool:
    """Return whether a path is an EOPF store: by its attributes; a URL, by its name."""
    if is_remote(path):
        return bool(_NAME.match(file_name(path)))
    return Path(path).is_dir() and is_eopf(Path(path))


def is_eopf(path: Path) -> bool:
    """Return whether a folder is a Zarr store with the attributes of EOPF."""
    if not any((path / name).is_file() for name in (".zgroup", *_METADATA_FILES)):
        return False
    return bool(_NAME.match(path.name)) or "stac_discovery" in _read_attributes(path)


def _read_attributes(path: Path) -> Mapping[str, Any]:
    """Return the attributes of the root of a local store; empty if they cannot be read."""
    places = {"zarr.json": ("attributes",), ".zmetadata": ("metadata", ".zattrs")}
    for name in _METADATA_FILES:
        with suppress(OSError, ValueError, RecursionError):
            if (path / name).stat().st_size <= _MAX_METADATA_BYTES:
                found: Any = json.loads((path / name).read_bytes())
                for key in places.get(name, ()):
                    found = found.get(key, {}) if isinstance(found, Mapping) else None
                if isinstance(found, Mapping):
                    return found
    return {}


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a store, see :class:`sarstack.readers.registry.Format`."""
    if bands is not None:
        raise StackError(
            f"bands = {list(bands)} cannot be used: {path} names its polarisations itself",
            do="leave it out; --pol VV (in Python polarisations) chooses among them",
        )
    store = open_store(path)
    images = find_images(store)
    if not images:
        raise _not_grd_error(path, store)
    if len({image.polarisation for image in images}) < len(images):
        raise unreadable_error(path, "it has several images of one polarisation")
    border = _find_border_image(store, images)
    return [_make_image(path, store, image, border) for image in images]


def _find_border_image(store: Any, images: Sequence[EopfImage]) -> EopfImage | None:
    """Return the co-polarised image if the edges are noise."""
    if read_processor_version(store) >= FIRST_VERSION_WITHOUT:
        return None
    return next((i for i in images if i.polarisation in ("VV", "HH")), None)


def _make_image(path: str, store: Any, image: EopfImage, border: EopfImage | None) -> Image:
    array = store[f"{image.group}/{MEASUREMENT}"]
    if array.dtype.kind != "u" or array.ndim != (2 if image.place is None else 3):
        what = f"{array.name} has {array.ndim} axes of {array.dtype}, not digital numbers"
        raise unreadable_error(path, what)
    shape = Shape(*array.shape[-2:])
    chunks = open_chunks(path, image)
    raster = EopfRaster(
        path,
        f"{file_stem(path)}_{image.polarisation.lower()}",
        shape=shape,
        image_shape=shape,
        image=image,
        border=border,
        block=chunks.block,
    )
    _check_chunks(path, image, chunks, array)
    found = describe_image(raster, _read_grid(path, store, image, shape), [], {
        **_read_tags(store, image, path),
        "POLARIZATION": image.polarisation,
        "BACKSCATTER_SCALE": "linear",
        "CALIBRATION": raster.calibration,
    })  # fmt: skip
    return replace(found, order=None, series=path, in_radar_geometry=True)


def _check_chunks(path: str, image: EopfImage, chunks: Any, array: Any) -> None:
    """Raise if chunks are missing and nothing says that they are empty; else warn."""
    if is_remote(path):
        return
    files = chunks.list_files()
    missing = [file for file in files if not Path(file).is_file()]
    if missing and array.fill_value is None:
        what = f"{len(missing)} of {len(files)} chunks of {image.polarisation} are missing"
        raise unreadable_error(path, what)
    if missing:
        what = (
            f"{path}: {len(missing)} of {len(files)} chunks of {image.polarisation} were not "
            "written, their pixels are nodata. If the download was not complete, repeat it"
        )
        warnings.warn(what, SarstackWarning, stacklevel=4)


def _read_grid(path: str, store: Any, image: EopfImage, shape: Shape) -> Grid:
    from rasterio.crs import CRS

    try:
        points = read_control_points(store, image, shape)
    except (KeyError, ValueError, IndexError) as err:
        what = (
            f"{path}: {image.polarisation} has no ground control points that can be used "
            f"({(str(err) or type(err).__name__).splitlines()[0]}): it has no place on the ground"
        )
        warnings.warn(what, SarstackWarning, stacklevel=4)
        return Grid(shape)
    return Grid(shape, CRS.from_epsg(4326).to_wkt(), gcps=points)


def _read_tags(store: Any, image: EopfImage, path: str) -> dict[str, str]:
    """Return time, platform and orbit: from the store if valid there, else from its name.

    In some stores, attributes have texts such as ``MISSING`` in place of values.
    """
    properties = read_properties(store)
    # The folder may have been renamed; the name of the group has no platform.
    names = [parse_name(name) for name in (file_stem(path), image.group)]
    platform = str(properties.get("platform", "")).lower()
    if not re.fullmatch(r"sentinel-1[a-z]", platform):
        platform = names[0].platform
    direction = str(properties.get("sat:orbit_state", "")).lower()
    orbit = str(properties.get("sat:relative_orbit", ""))
    if not (orbit.isdigit() and 1 <= int(orbit) <= 175):
        orbit = str(names[0].relative_orbit or "")
    times = [name.time for name in names if not np.isnat(name.time)]
    start = read_start(store, image)
    if start is None or (times and abs(start - times[0]) > _SAME_TIME):
        start = times[0] if times else None
    return {
        "ACQUISITION_DATETIME": "" if start is None else str(start),
        "PLATFORM": platform,
        "ORBIT_DIRECTION": direction if direction in ("ascending", "descending") else "",
        "RELATIVE_ORBIT": orbit,
    }


def _not_grd_error(path: str, store: Any) -> StackError:
    groups = sorted(store.group_keys())
    about = str(read_properties(store).get("product:type", ""))
    told = " ".join([about, *groups[:1], file_name(path)])
    if "SLC" in told:
        kind, do = "an EOPF Sentinel-1 SLC", "download the GRD of this acquisition"
    elif "OCN" in told:
        kind, do = "an EOPF Sentinel-1 OCN", "download the GRD of this acquisition"
    elif "S02" in told or "MSIL" in told or "S03" in told:
        kind, do = "an EOPF store of an optical sensor", "use images of backscatter"
    else:
        kind, do = "an EOPF store", "download the product again, or use a GRD"
    return StackError(
        f"{path} is {kind} {f'({about}) ' if about else ''}without GRD images",
        expected=f"groups such as S01SIWGRD_..._VV with {MEASUREMENT}",
        where=[f"its groups are {', '.join(groups[:4]) or 'none'}"],
        do=do,
    )
