"""Decorrelate the speckle of complex arrays: NumPy, xarray, Dask."""

import json
import warnings
from collections.abc import Hashable
from functools import partial
from typing import Any, TypeVar

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.checks import check_between
from sarstack.conventions import X_NAMES, Y_NAMES
from sarstack.cube.despeckle import by_windows, one_chunk
from sarstack.errors import SarstackWarning, UsageError
from sarstack.readers.complex_numbers import convert_complex
from sarstack.speckle.complex_parts import check_powers, describe_asymmetry
from sarstack.speckle.decorrelate import Decorrelator, fit_decorrelator
from sarstack.speckle.point_targets import POINT_FACTOR
from sarstack.speckle.resample import (
    resample_window,
    resampled_length,
    resampled_positions,
    source_window,
)
from sarstack.tiles import Shape, Window, sample_windows

Numbers = TypeVar("Numbers", NDArray[Any], xr.DataArray)
_ON_GROUND = ("GeoTransform", "gcps")


def decorrelate(
    numbers: Numbers, *, resample: bool = False, point_factor: float = POINT_FACTOR
) -> Numbers:
    """Decorrelate the speckle of a single look complex image.

    Parameters
    ----------
    numbers : ndarray or DataArray, complex
        One image: shape (y, x), a DataArray in any order of its dims. Zeros, NaN and infinities
        are nodata. A burst of TOPS data is one image, without its Doppler ramp.
    resample : bool, optional
        Resample to the band of the spectrum: fewer pixels, whose speckle is white. The middle of
        the spectrum then is at zero.
    point_factor : float, optional
        A pixel so many times brighter than the local median is a point, and keeps its value.

    Returns
    -------
    ndarray or DataArray, complex64
        NaN in both parts = nodata; same mean power. Same shape; with `resample` the rows and
        columns of the band, and coordinates and the place on the ground follow (coordinates over
        both axes are left out). Of a Dask array, sample windows are read at once, and the rest is
        lazy.

    Raises
    ------
    UsageError
        If the numbers are not one complex image, real and imaginary part have different mean
        powers, or fewer than 2,000 pixels can be used.

    Warns
    -----
    SarstackWarning
        If the spectrum is not symmetric: a Doppler ramp is left.
    """
    check_between(1, 1e9, point_factor=point_factor)
    if not isinstance(numbers, xr.DataArray):
        if not isinstance(numbers, np.ndarray | da.Array):
            raise _not_one_image(f"an object of type {type(numbers).__name__}")
        return _decorrelate(numbers, resample=resample, point_factor=point_factor)[0]
    y, x = (
        next((dim for dim in numbers.dims if str(dim).lower() in names), None)
        for names in (Y_NAMES, X_NAMES)
    )
    if y is None or x is None or numbers.ndim != 2:
        raise _not_one_image(f"an array with dimensions ({', '.join(map(str, numbers.dims))})")
    image = numbers.transpose(y, x, transpose_coords=False)
    data, widths = _decorrelate(image.data, resample=resample, point_factor=point_factor)
    if not resample:
        found = image.copy(data=data)
    else:
        factors = dict(zip((y, x), widths, strict=True))
        coords = _resample_coordinates(image, dict(zip((y, x), data.shape, strict=True)), factors)
        found = xr.DataArray(data, coords, image.dims, image.name, image.attrs)
    return found.transpose(*numbers.dims, transpose_coords=False)


def _not_one_image(found: str) -> UsageError:
    return UsageError(
        f"{found} cannot be decorrelated",
        expected="one image of complex numbers, of shape (y, x)",
        do="select one date and polarisation of a single look complex stack",
    )


def _decorrelate(
    array: Any, *, resample: bool, point_factor: float
) -> tuple[Any, tuple[float, float]]:
    """Return the decorrelated image, and the pixels of the result for each one of the input."""
    if array.ndim != 2 or array.dtype.kind != "c":
        raise _not_one_image(f"an array with {array.ndim} dimensions of {array.dtype}")
    scene = Shape(*array.shape)
    places = sample_windows(scene)
    windows = dask.compute(*(array[w.slices] for w in places))
    numbers = [convert_complex(np.asarray(window), (), "complex") for window in windows]
    check_powers(numbers, "the array")
    decorrelator = fit_decorrelator(numbers, point_factor)
    centred = (decorrelator.centre(n, (w.y0, w.x0)) for n, w in zip(numbers, places, strict=True))
    if text := describe_asymmetry(centred, "the array"):
        warnings.warn(SarstackWarning(text), stacklevel=3)
    widths = decorrelator.bandwidths if resample else (1.0, 1.0)
    compute = partial(
        _decorrelate_block, scene=scene, decorrelator=decorrelator, widths=widths, centre=resample
    )
    if not isinstance(array, da.Array):
        size = Shape(*(resampled_length(n, b) for n, b in zip(scene, widths, strict=True)))
        everything = Window(0, scene.y, 0, scene.x)
        whole = Window(0, size.y, 0, size.x)
        return compute(np.asarray(array), outer=everything, window=whole), widths

    def compute_window(window: Window, outer: Window) -> da.Array:
        return one_chunk(array[outer.slices]).map_blocks(
            compute, outer=outer, window=window, chunks=((window.shape.y,), (window.shape.x,)),
            dtype=np.complex64, meta=np.empty((0, 0), np.complex64),
        )  # fmt: skip

    chunks = [_resample_chunks(own, b) for own, b in zip(array.chunks, widths, strict=True)]

    def input_window(window: Window) -> Window:
        return source_window(window, scene, widths).expand(decorrelator.halo, scene)

    return by_windows(chunks, input_window, compute_window), widths


def _decorrelate_block(
    block: NDArray[Any],
    *,
    outer: Window,
    window: Window,
    scene: Shape,
    decorrelator: Decorrelator,
    widths: tuple[float, float],
    centre: bool,
) -> NDArray[np.complex64]:
    """Compute a window of the result from a block of the input that covers `outer`."""
    numbers = decorrelator.apply(convert_complex(block, (), "complex"), (outer.y0, outer.x0))
    if not centre:
        return numbers[window.slices_in(outer)]
    numbers = decorrelator.centre(numbers, (outer.y0, outer.x0))
    needed = source_window(window, scene, widths)
    return resample_window(numbers[needed.slices_in(outer)], needed, window, widths)


def _resample_chunks(chunks: tuple[int, ...], width: float) -> tuple[int, ...]:
    ends = [resampled_length(int(end), width) for end in np.cumsum(chunks)]
    return tuple(size for size in np.diff([0, *ends]).tolist() if size)


def _resample_coordinates(
    image: xr.DataArray, sizes: dict[Hashable, int], factors: dict[Hashable, float]
) -> dict[Hashable, xr.Variable]:
    """Return the coordinates of the pixels of the result."""
    found = {}
    for name, coordinate in image.coords.items():
        variable = coordinate.variable
        if variable.ndim == 1 and variable.dims[0] in factors and variable.dtype.kind in "fiuM":
            dim = variable.dims[0]
            places = resampled_positions(0, sizes[dim], factors[dim])
            start = variable.values[0]  # times since the first: as float, they are exact
            numbers = (variable.values - start).astype(float)
            beyond = np.concatenate([numbers[:1] * 2 - numbers[1:2], numbers,
                                     numbers[-1:] * 2 - numbers[-2:-1]])  # fmt: skip
            index = np.arange(len(beyond)) - (1 if len(numbers) > 1 else 0)
            distance: Any = np.interp(places, index, beyond)
            if variable.dtype.kind == "M":
                distance = distance.round().astype((variable.values - start).dtype)
            found[name] = xr.Variable(dim, start + distance, variable.attrs)
        elif not set(variable.dims) & set(factors):
            found[name] = xr.Variable(variable.dims, variable.values, variable.attrs)
            if set(_ON_GROUND) & set(variable.attrs):
                found[name].attrs = _move_to_pixels(variable.attrs, tuple(factors.values()))
    return found


def _move_to_pixels(attributes: dict[Any, Any], factors: tuple[float, ...]) -> dict[Any, Any]:
    """Return the attributes of a grid mapping for the pixels of the result."""
    moved = dict(attributes)
    if "GeoTransform" in moved:
        c, a, b, f, d, e = (float(n) for n in str(moved["GeoTransform"]).split())
        numbers = (c, a / factors[1], b / factors[0], f, d / factors[1], e / factors[0])
        moved["GeoTransform"] = " ".join(map(repr, numbers))
    if "gcps" in moved:
        points = json.loads(moved["gcps"])
        for point in points["features"]:
            point["properties"]["row"] *= factors[0]
            point["properties"]["col"] *= factors[1]
        moved["gcps"] = json.dumps(points)
    return moved
