"""An EOPF store of the same digital numbers and tables as a SAFE product, in its three layouts.

``complete``: Zarr 2, one group a polarisation, lines and pixels. ``holes``: the same as in a sample
of Sentinel-1C, without noise and with broken coordinates and attributes. ``axis``: Zarr 3 of 2026,
one group with an axis of polarisations, without lines and pixels.
"""

from pathlib import Path

import numpy as np
import zarr
from numcodecs import Blosc
from written_safe import grid_points

GROUP = "S01SIWGRD_20211223T051122_0025_B164_5371_039993"
FIRST_LINE = "2021-12-23T05:11:22.594441"
LINE_US, PIXEL_M = 1500, 10.0
LAYOUTS = ("complete", "holes", "axis")
_ATTRIBUTES = {
    "platform": "sentinel-1b",
    "product:type": "S01SIWGRD",
    "sat:orbit_state": "descending",
    "sat:relative_orbit": 22,
    "sat:absolute_orbit": 30148,
    "sar:frequency_band": "C",
    "processing:software": {"Sentinel-1 IPF": "003.40"},
    "sar:polarizations": ["VV", "VH"],
}
_BROKEN = {
    "platform": "metadataSection/metadataObject[@ID='platform']",
    "product:type": "S01SIWGRD",
    "sat:orbit_state": "MISSING",
    "sat:relative_orbit": 0,
}


def write_eopf(folder, written, *, layout="complete", chunks=(40, 90), codec="zstd", **attributes):
    """Write the store of a SAFE product beside nothing else; return its path."""
    path = Path(folder) / f"{written.path.stem}.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3 if layout == "axis" else 2)
    properties = dict(_BROKEN if layout == "holes" else _ATTRIBUTES) | attributes
    root.attrs.update({"stac_discovery": {"properties": properties}, "other_metadata": {}})
    arrays = {p: _arrays(written, p, layout) for p in written.numbers}
    if layout == "axis":
        _write_axis(root, written, arrays, chunks)
    else:
        for polarisation, own in arrays.items():
            group = f"{GROUP}_{polarisation.upper()}"
            for name, (dims, values) in own.items():
                fill = None if name == "measurements/grd" else 0
                kind = {"compressors": Blosc(codec, shuffle=Blosc.SHUFFLE), "fill_value": fill}
                size = chunks if name == "measurements/grd" else values.shape
                _write(root, f"{group}/{name}", dims, values, size, layout, **kind)
        zarr.consolidate_metadata(str(path))
    return path


def _arrays(written, polarisation, layout):
    """Return axes and values of each array of a polarisation, by its name in the group."""
    numbers = written.numbers[polarisation]
    height, width = numbers.shape
    yx = ("azimuth_time", "ground_range")
    us = np.arange(height) * LINE_US
    arrays = {
        "measurements/grd": (yx, numbers),
        "measurements/azimuth_time": (yx[:1], us),
        "measurements/ground_range": (yx[1:], np.arange(width) * PIXEL_M),
        "measurements/line": (yx[:1], np.arange(height)),
        "measurements/pixel": (yx[1:], np.arange(width)),
        **_calibration_arrays(written.calibration[polarisation]),
        **_noise_arrays(*written.noise[polarisation]),
        **_point_arrays(numbers.shape),
    }
    if layout == "holes":
        for name in ("ground_range", "line", "pixel"):
            del arrays[f"measurements/{name}"]
        arrays["measurements/azimuth_time"] = (yx[:1], np.arange(height).astype(np.uint16))
        arrays = {n: a for n, a in arrays.items() if "/noise_" not in n}
    return arrays


def _calibration_arrays(vectors):
    names = {"sigmaNought": "sigma_nought", "betaNought": "beta_nought", "gamma": "gamma"}
    found = {
        f"quality/calibration/{new}": (
            ("azimuth_time", "ground_range"),
            np.stack([quantities[old] for _, _, quantities in vectors]).astype(np.float32),
        )
        for old, new in names.items()
    }
    lines, pixels = np.array([line for line, _, _ in vectors]), vectors[0][1]
    found["quality/calibration/line"] = (("azimuth_time",), lines)
    found["quality/calibration/pixel"] = (("ground_range",), pixels)
    found["quality/calibration/azimuth_time"] = (("azimuth_time",), lines * LINE_US)
    # As in real stores: not the ground range of these pixels.
    found["quality/calibration/ground_range"] = (("ground_range",), pixels * PIXEL_M * 0.97)
    return found


def _noise_arrays(vectors, blocks):
    """Vectors of different lengths, filled with -1 and NaN; factors of swaths likewise."""
    longest = max(len(pixels) for _, pixels, _ in vectors)
    pixels = np.full((len(vectors), longest), -1)
    powers = np.full((len(vectors), longest), np.nan, np.float32)
    for i, (_, own, quantities) in enumerate(vectors):
        pixels[i, : len(own)], powers[i, : len(own)] = own, quantities["noise"]
    n = max(len(block[5]) for block in blocks) + 2
    lines, factors = np.zeros((len(blocks), n), int), np.full((len(blocks), n), np.nan, np.float32)
    for i, block in enumerate(blocks):
        lines[i, : len(block[5])], factors[i, : len(block[5])] = block[5:7]
    yx, swath = ("azimuth_time", "ground_range"), ("swath",)
    found = {
        "noise_range/noise_range_lut": (yx, powers),
        "noise_range/line": (yx[:1], np.array([line for line, _, _ in vectors])),
        "noise_range/pixel": (yx, pixels),
        "noise_azimuth/noise_azimuth_lut": ((*swath, "azimuth_time"), factors),
        "noise_azimuth/line": ((*swath, "azimuth_time"), lines),
    }
    names = ("first_azimuth_time", "first_range_sample", "last_azimuth_time", "last_range_sample")
    for name, i in zip(names, range(1, 5), strict=True):
        found[f"noise_azimuth/{name}"] = (swath, np.array([block[i] for block in blocks]))
    return {f"quality/{name}": array for name, array in found.items()}


def _point_arrays(shape):
    points = np.array(grid_points(shape))
    lines, pixels = (np.unique(points[:, i]).astype(int) for i in (0, 1))
    table = points.reshape(len(lines), len(pixels), 4)
    yx = ("azimuth_time", "ground_range")
    return {
        "conditions/gcp/longitude": (yx, table[..., 2]),
        "conditions/gcp/latitude": (yx, table[..., 3]),
        "conditions/gcp/height": (yx, np.zeros(table.shape[:2])),
        "conditions/gcp/line": (yx[:1], lines),
        "conditions/gcp/pixel": (yx[1:], pixels),
        "conditions/gcp/azimuth_time": (yx[:1], lines * LINE_US),
        "conditions/gcp/ground_range": (yx[1:], pixels * PIXEL_M),
    }


def _write(root, name, dims, values, chunks, layout, **kind):
    is_v3 = layout == "axis"
    array = root.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=tuple(chunks),
        **({"dimension_names": dims} if is_v3 else {}), **kind,
    )  # fmt: skip
    if not is_v3:
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    if name.endswith("azimuth_time") and not (layout == "holes" and "measurements" in name):
        units = f"microseconds since {FIRST_LINE.replace('T', ' ')}"
        array.attrs.update({"units": units, "calendar": "proleptic_gregorian"})
    array[...] = values


def _write_axis(root, written, arrays, chunks):
    """Stack the polarisations; on common axes, as the writer of 2026 does it."""
    first = next(iter(arrays.values()))
    labels = np.array([p.upper() for p in written.numbers])
    taken = {}
    for name, (dims, _) in first.items():
        folder, _, last = name.rpartition("/")
        if last in ("line", "pixel") or folder.startswith("quality/noise_"):
            continue
        if last in ("azimuth_time", "ground_range"):
            taken[name] = (dims, first[name][1])
        else:
            stacked = np.stack([own[name][1] for own in arrays.values()])
            taken[name] = (("polarization", *dims), stacked)
    ground = first["quality/calibration/pixel"][1] * PIXEL_M
    taken["quality/calibration/ground_range"] = (("ground_range",), ground)
    taken |= _noise_on_common_axes(written)
    for name, (dims, values) in taken.items():
        size = (1, *chunks) if name == "measurements/grd" else values.shape
        _write(root, f"{GROUP}/{name}", dims, values, size, "axis", fill_value=0)
    for folder in ("measurements", "quality/calibration"):
        _write(root, f"{GROUP}/{folder}/polarization", ("polarization",), labels, (len(labels),),
               "axis")  # fmt: skip


def _noise_on_common_axes(written):
    noise = [written.noise[p] for p in written.numbers]
    pixels = np.unique(np.concatenate([own for vectors, _ in noise for _, own, _ in vectors]))
    lines = np.array([line for line, _, _ in noise[0][0]])
    powers = np.full((len(noise), len(lines), len(pixels)), np.nan, np.float32)
    for i, (vectors, _) in enumerate(noise):
        for j, (_, own, quantities) in enumerate(vectors):
            powers[i, j, np.searchsorted(pixels, own)] = quantities["noise"]
    blocks = [own for _, own in noise]
    at = np.unique(np.concatenate([block[5] for own in blocks for block in own]))
    factors = np.full((len(noise), len(at), len(blocks[0])), np.nan)
    for i, own in enumerate(blocks):
        for j, block in enumerate(own):
            factors[i, np.searchsorted(at, block[5]), j] = block[6]
    pol, yx = ("polarization",), ("azimuth_time", "ground_range")
    found = {
        "noise_range/noise_range_lut": ((*pol, *yx), powers),
        "noise_range/azimuth_time": (yx[:1], lines * LINE_US),
        "noise_range/ground_range": (yx[1:], pixels * PIXEL_M),
        "noise_azimuth/noise_azimuth_lut": ((*pol, "azimuth_time", "swath"), factors),
        "noise_azimuth/azimuth_time": (yx[:1], at * LINE_US),
    }
    names = ("first_azimuth_line", "first_range_sample", "last_azimuth_line", "last_range_sample")
    for name, i in zip(names, range(1, 5), strict=True):
        values = np.array([[float(block[i]) for block in own] for own in blocks])
        found[f"noise_azimuth/{name}"] = ((*pol, "swath"), values)
    return {f"quality/{name}": array for name, array in found.items()}
