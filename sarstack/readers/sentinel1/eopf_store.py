"""The parts of an EOPF store of a Sentinel-1 GRD product: its images, attributes and positions.

Each product in a store is a group. It has one polarisation, or an axis of polarisations (stores of
2026). Tables and control points are placed by ``line`` and ``pixel``; their coordinates
``azimuth_time`` and ``ground_range`` are wrong in some stores, and are used only if the others are
missing and they fit the grid of the image.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sarstack.conventions import POLARISATIONS
from sarstack.readers.grid import GroundControlPoint
from sarstack.readers.sentinel1.look_up_table import Array
from sarstack.tiles import Shape

MEASUREMENT = "measurements/grd"
POLARISATION_AXIS = "polarization"
_UNITS = re.compile(r"(\w+) since (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?)$")
_NUMPY_UNITS = {
    "days": "D",
    "hours": "h",
    "minutes": "m",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}
# Coordinates that fit the grid are at whole pixels, up to rounding.
_MAX_OFF_PX = 0.01
_NOISE = "quality/noise"


@dataclass(frozen=True)
class EopfImage:
    """One polarisation in a store.

    Attributes
    ----------
    group : str
        Group of the product.
    polarisation : str
        ``VV``, ``VH``, ``HH`` or ``HV``.
    place : int or None
        Index along the axis of polarisations, None without this axis.
    """

    group: str
    polarisation: str
    place: int | None = None

    def read(self, array: Any) -> Any:
        """Read a small array of the product: of this polarisation if it has the axis."""
        values = np.asarray(array[...])
        names = axes_of(array)
        if POLARISATION_AXIS not in names or values.ndim != len(names):
            return values
        return np.take(values, self.place or 0, axis=names.index(POLARISATION_AXIS))


def open_store(path: str) -> Any:
    """Open a store as a group of zarr."""
    import zarr

    return zarr.open_group(path, mode="r")


def find_images(store: Any) -> list[EopfImage]:
    """List the GRD images of an open store, in order of group and polarisation."""
    found: list[EopfImage] = []
    for name in sorted(store.group_keys()):
        if f"{name}/{MEASUREMENT}" not in store:
            continue
        group = f"{name}/{MEASUREMENT.partition('/')[0]}"
        array = store[f"{name}/{MEASUREMENT}"]
        if array.ndim == 3:
            labels = [str(v).upper() for v in store[f"{group}/{POLARISATION_AXIS}"][...]]
            found += [EopfImage(name, label, i) for i, label in enumerate(labels)]
        else:
            found.append(EopfImage(name, name.rpartition("_")[2].upper()))
    return [image for image in found if image.polarisation.lower() in POLARISATIONS]


def axes_of(array: Any) -> tuple[str, ...]:
    """Return the names of the axes of an array, of either version of Zarr."""
    names = array.attrs.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
    return tuple(str(name) for name in names or ())


def read_properties(store: Any) -> dict[str, Any]:
    """Return the STAC properties of the product; empty if there are none."""
    found = store.attrs.get("stac_discovery")
    properties = found.get("properties") if isinstance(found, Mapping) else None
    return dict(properties) if isinstance(properties, Mapping) else {}


def is_unknown(value: Any) -> bool:
    """Return whether an attribute has a placeholder in place of its value, as in some stores."""
    return str(value) in ("MISSING", "0", "") or "metadataSection" in str(value)


def find_entries(attributes: Any, name: str) -> Iterator[Any]:
    """Yield the values of all entries of a name in nested attributes."""
    if isinstance(attributes, Mapping):
        for key, value in attributes.items():
            if key == name:
                yield value
            yield from find_entries(value, name)
    elif isinstance(attributes, list):
        for value in attributes:
            yield from find_entries(value, name)


def read_processor_version(store: Any) -> float:
    """Return the version of the processor (IPF), for example 4.03.

    Infinite if the store has none: then the rules of the newest version hold.
    """
    software = read_properties(store).get("processing:software")
    for key, value in software.items() if isinstance(software, Mapping) else ():
        if "IPF" in key:
            try:
                return float(value)
            except (TypeError, ValueError):
                return math.inf
    return math.inf


def read_times(array: Any) -> Any:
    """Return the times of a coordinate, datetime64[ns].

    Raises
    ------
    ValueError
        If it has no units of time.
    """
    match = _UNITS.match(str(array.attrs.get("units", "")).strip())
    if match is None or match[1] not in _NUMPY_UNITS or array.dtype.kind not in "iu":
        raise ValueError(f"{array.name} has no times")
    steps = np.asarray(array[...]).astype(f"timedelta64[{_NUMPY_UNITS[match[1]]}]")
    return np.datetime64(f"{match[2]}T{match[3]}", "ns") + steps.astype("timedelta64[ns]")


def read_start(store: Any, image: EopfImage) -> Any:
    """Return the time of the first line, datetime64[ns]; None if the store has no valid one."""
    try:
        return read_times(store[f"{image.group}/measurements/azimuth_time"])[0]
    except (KeyError, ValueError, IndexError):
        return None


def read_lines(store: Any, image: EopfImage, group: str, shape: Shape) -> Array:
    """Return the lines of a table or of control points.

    Parameters
    ----------
    store : zarr.Group
    image : EopfImage
    group : str
        Below the group of the product, for example ``quality/calibration``.
    shape : Shape
        Of the image.

    Returns
    -------
    ndarray, shape (n,) or (m, n), float64
        As stored; by ``azimuth_time`` if there is no ``line``.

    Raises
    ------
    KeyError, ValueError
        If it has no lines.
    """
    table = store[f"{image.group}/{group}"]
    if "line" in table:
        return np.asarray(image.read(table["line"]), np.float64)
    times = read_times(store[f"{image.group}/measurements/azimuth_time"])
    step_ns = float((times[-1] - times[0]).astype(np.int64)) / max(shape.y - 1, 1)
    if len(times) != shape.y or step_ns <= 0:
        raise ValueError(f"{group} has no line, and azimuth_time does not fit the image")
    since_ns = (read_times(table["azimuth_time"]) - times[0]).astype(np.int64)
    return np.asarray(np.round(since_ns / step_ns), np.float64)


def read_pixels(store: Any, image: EopfImage, group: str, shape: Shape) -> Array:
    """Return the pixels of a table or of control points; see :func:`read_lines`.

    By ``ground_range`` if there is no ``pixel``.
    """
    table = store[f"{image.group}/{group}"]
    if "pixel" in table:
        return np.asarray(image.read(table["pixel"]), np.float64)
    ranges = np.asarray(store[f"{image.group}/measurements/ground_range"][...], np.float64)
    step = (ranges[-1] - ranges[0]) / max(shape.x - 1, 1)
    if len(ranges) != shape.x or not step > 0:
        raise ValueError(f"{group} has no pixel, and ground_range does not fit the image")
    pixels = (np.asarray(table["ground_range"][...], np.float64) - ranges[0]) / step
    off = np.abs(pixels - np.round(pixels)).max()
    # All tables but those of noise have the first and the last pixel of the image.
    whole = round(pixels[0]) == 0 and round(pixels[-1]) == shape.x - 1
    if not (off < _MAX_OFF_PX and (whole or group.startswith(_NOISE))):
        raise ValueError(f"{group} has no pixel, and its ground_range does not fit the image")
    return np.asarray(np.round(pixels))


def read_control_points(
    store: Any, image: EopfImage, shape: Shape
) -> tuple[GroundControlPoint, ...]:
    """Return the ground control points, in degrees of WGS 84 (EPSG:4326).

    Raises
    ------
    KeyError, ValueError
        If they are missing, or are not finite.
    """
    group = "conditions/gcp"
    table = store[f"{image.group}/{group}"]
    places = [image.read(table[name]) for name in ("longitude", "latitude", "height")]
    size = places[0].shape
    lines = read_lines(store, image, group, shape)
    pixels = read_pixels(store, image, group, shape)
    rows = lines if lines.shape == size else np.broadcast_to(lines[:, np.newaxis], size)
    columns = pixels if pixels.shape == size else np.broadcast_to(pixels, size)
    numbers = np.stack([np.asarray(a, np.float64) for a in (rows, columns, *places)], axis=-1)
    if not np.isfinite(numbers).all():
        raise ValueError("a ground control point is not finite")
    return tuple(GroundControlPoint(*map(float, p)) for p in numbers.reshape(-1, 5))
