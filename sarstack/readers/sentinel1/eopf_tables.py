"""Calibration and thermal noise of an EOPF store, as tables of lines and pixels."""

from functools import lru_cache
from typing import Any

import numpy as np

from sarstack.conventions import Calibration
from sarstack.readers.sentinel1.eopf_store import (
    EopfImage,
    axes_of,
    open_store,
    read_lines,
    read_pixels,
    read_processor_version,
)
from sarstack.readers.sentinel1.look_up_table import (
    Array,
    LookUpTable,
    Vector,
    check_axis,
    make_calibration,
)
from sarstack.readers.sentinel1.noise_table import (
    FIRST_VERSION,
    NoiseBlock,
    NoiseTable,
    make_block,
    make_noise_table,
)
from sarstack.readers.versions import FileVersion
from sarstack.tiles import Shape, Window

CALIBRATION, NOISE_OF_RANGE = "quality/calibration", "quality/noise_range"
NOISE_OF_AZIMUTH = "quality/noise_azimuth"
_ARRAYS = {"sigma0": "sigma_nought", "beta0": "beta_nought", "gamma0": "gamma"}


@lru_cache(maxsize=16)
def read_calibration(
    path: str,
    image: EopfImage,
    shape: Shape,
    calibration: Calibration,
    _version: FileVersion | None,
) -> LookUpTable:
    """Read the factors ``A`` of the formula ``DN**2 / A**2``.

    Parameters
    ----------
    path : str
        Of the store.
    image : EopfImage
    shape : Shape
        Of the image.
    calibration : {"sigma0", "beta0", "gamma0"}
        All but ``dn``, which has no table here.
    _version : FileVersion or None
        Of the store: a process keeps the last tables that it read.

    Raises
    ------
    KeyError, ValueError
        If a table is missing or damaged, or a factor is not above zero.
    """
    vectors = _read_vectors(open_store(path), image, shape, CALIBRATION, _ARRAYS[calibration])
    return make_calibration(vectors, f"{_ARRAYS[calibration]} in {CALIBRATION}")


@lru_cache(maxsize=16)
def read_noise(
    path: str, image: EopfImage, shape: Shape, _version: FileVersion | None
) -> NoiseTable:
    """Read the noise table of an image; parameters as of :func:`read_calibration`.

    Raises
    ------
    KeyError, ValueError
        If it is missing or damaged, has zeros only, or is of a processor before version 2.50.
    """
    store = open_store(path)
    version = read_processor_version(store)
    if version < FIRST_VERSION:
        raise ValueError(
            f"noise of processor version {version:.2f} is not in squared digital numbers"
        )
    vectors = _read_vectors(store, image, shape, NOISE_OF_RANGE, "noise_range_lut")
    blocks = []
    if f"{image.group}/{NOISE_OF_AZIMUTH}/noise_azimuth_lut" in store:
        blocks = _read_blocks(store, image, shape, vectors)
    return make_noise_table(blocks, vectors)


def _read_vectors(
    store: Any, image: EopfImage, shape: Shape, group: str, name: str
) -> tuple[Vector, ...]:
    """Read the vectors of a table, one for each line."""
    if f"{image.group}/{group}/{name}" not in store:
        raise ValueError(f"{group}/{name} is missing")
    values = np.asarray(image.read(store[f"{image.group}/{group}/{name}"]), np.float64)
    lines = read_lines(store, image, group, shape)
    pixels = np.broadcast_to(read_pixels(store, image, group, shape), values.shape)
    has_gaps = "pixel" not in store[f"{image.group}/{group}"]
    if values.ndim != 2 or lines.shape != values.shape[:1] or not np.isfinite(lines).all():
        raise ValueError(f"{name} does not fit its lines")
    found = {}
    for line, own_pixels, own in zip(lines, pixels, values, strict=True):
        what = f"{name} of line {line:g}"
        found[int(line)] = Vector(
            int(line), *_without_padding(own_pixels, own, what, has_gaps=has_gaps)
        )
    if not found:
        raise ValueError(f"{group} has no vector of {name}")
    return tuple(found[line] for line in sorted(found))


def _read_blocks(
    store: Any, image: EopfImage, shape: Shape, vectors: tuple[Vector, ...]
) -> list[NoiseBlock]:
    """Read the parts of the image that have azimuth factors of their own, one for each swath."""
    table = store[f"{image.group}/{NOISE_OF_AZIMUTH}"]

    def bounds(*names: str) -> Array:
        name = next(name for name in names if name in table)
        return np.atleast_1d(np.asarray(image.read(table[name]), np.float64))

    factors = np.atleast_2d(np.asarray(image.read(table["noise_azimuth_lut"]), np.float64))
    axes = [axis for axis in axes_of(table["noise_azimuth_lut"]) if axis != "polarization"]
    if len(axes) == 2 and axes[1] == "swath":
        factors = factors.T
    lines = np.broadcast_to(read_lines(store, image, NOISE_OF_AZIMUTH, shape), factors.shape)
    corners = zip(
        bounds("first_azimuth_line", "first_azimuth_time"),
        bounds("last_azimuth_line", "last_azimuth_time"),
        bounds("first_range_sample"),
        bounds("last_range_sample"),
        lines,
        factors,
        strict=True,
    )
    blocks = []
    for y0, y1, x0, x1, own_lines, own in corners:
        place = Window(int(y0), int(y1) + 1, int(x0), int(x1) + 1)
        used = _without_padding(own_lines, own, "noise_azimuth_lut", has_gaps="line" not in table)
        blocks.append(make_block(place, vectors, *used))
    return blocks


def _without_padding(
    positions: Array, values: Array, what: str, *, has_gaps: bool
) -> tuple[Array, Array]:
    """Return positions and values without those that fill the array up to the longest vector.

    Padding is NaN, or a constant that is not above the last position. With gaps, all vectors share
    one axis, and NaN stands where a vector has no value.

    Raises
    ------
    ValueError
        If the rest does not increase, is empty or is not finite.
    """
    known = np.isfinite(positions) & (np.isfinite(values) | (not has_gaps))
    positions, values = positions[known], values[known]
    falls = np.flatnonzero(np.diff(positions) <= 0)
    if len(falls):
        end = int(falls[0]) + 1
        if len(set(positions[end:])) > 1:
            raise ValueError(f"{what} does not fit its positions")
        positions, values = positions[:end], values[:end]
    if not len(positions):
        raise ValueError(f"{what} has no numbers")
    check_axis(positions, values, what)
    return positions, values
