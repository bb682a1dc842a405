"""Convert the numbers of xarray objects to intensity, by the rules of the file readers.

Each date is an image as those of files: the same code decides its scale and its nodata, and
unpacks it. Of Dask arrays, this happens when a result is computed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.conventions import (
    CALIBRATION_WORDS,
    SCALE_WORDS,
    Scale,
    intensity_attributes,
)
from sarstack.errors import ScaleError
from sarstack.readers.attributes import PACKING_ATTRIBUTES, read_packing
from sarstack.readers.dataset import DatasetRaster
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image
from sarstack.readers.names import Metadata
from sarstack.readers.problems import Problems
from sarstack.readers.radiometry import scale_conflict
from sarstack.readers.samples import list_places, read_samples
from sarstack.readers.sampling import copy_tasks
from sarstack.readers.scales import GivenScale, judge_samples
from sarstack.tiles import Shape, Window

DIMS = ("time", "y", "x")

_SCALE_ATTRS = ("scale", "units", "unit", "backscatter_scale")
_ATTRS_OF_SCALE = (*_SCALE_ATTRS, "long_name", "standard_name")
_SET_SCALE = (
    "set array.attrs['scale'] = 'linear', 'amplitude' or 'dB' and it is converted, or convert it "
    "yourself"
)
_FEW_PIXELS = 16
_SAMPLE_PX = 256


@dataclass(frozen=True)
class ArrayRaster(DatasetRaster):
    """One date of an array in memory, or windows of it.

    Attributes
    ----------
    numbers : ndarray, shape (y, x), or dict of such arrays by Window
        As the user has them.
    """

    numbers: Any = field(default=None, compare=False, repr=False)

    def decode(
        self,
        windows: Sequence[Window],
        *,
        cache_blocks: bool,  # noqa: ARG002 (all is in memory)
    ) -> Iterator[NDArray[Any]]:
        """Yield copies: conversion works in place, and the array is the user's."""
        for window in windows:
            by_window = isinstance(self.numbers, Mapping)
            yield np.array(self.numbers[window] if by_window else self.numbers[window.slices])

    def convert(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Return numbers of this date as intensity, NaN = nodata."""
        shape = Shape(*numbers.shape)
        return replace(self, numbers=numbers, shape=shape).read(Window(0, shape.y, 0, shape.x))


def make_intensities(cube: xr.Dataset) -> xr.Dataset:
    """Return a cube with all its variables as float32 intensity, NaN = nodata.

    Parameters
    ----------
    cube : Dataset
        Variables ``vv vh hh hv`` with the dims ``(time, y, x)`` in any order, and with the
        attributes and the encoding of the user.

    Raises
    ------
    ScaleError
        If the scale is unclear, or attributes and numbers contradict each other.
    StackError
        If an attribute of the packing is not a number.
    """
    for name in cube.data_vars:
        array = cube[name].transpose(*DIMS)
        images = _list_images(array)
        if array.chunks is None:
            rasters = _decide(_with_numbers(images, array.values))
            values: Any = np.stack([raster.convert(raster.numbers) for raster in rasters])
        else:
            values = _convert_lazily(array, images)
        cube[name] = (DIMS, values, linear_attributes(array.attrs, str(name)))
    return cube


def _list_images(array: xr.DataArray) -> list[Image]:
    """Return the image of each date, without its numbers."""
    if array.dtype.kind == "c":
        raise ScaleError(
            f"{array.name} holds complex numbers (single look complex)",
            expected="linear intensity",
            do="compute the intensity first: abs(array) ** 2; or apply a method that needs complex "
            "numbers: array.despeck.apply('merlin')",
        )
    band = _band_of(array)
    packing = read_packing(array.attrs, array.dtype, encoding=array.encoding, band=band)
    shape = Shape(array.sizes["y"], array.sizes["x"])
    raster = ArrayRaster(
        str(array.name),
        str(array.name),
        shape=shape,
        **asdict(packing),
    )
    declared = _find_declared(array, band)
    grid, n_dates = Grid(shape), array.sizes["time"]
    return [
        Image(replace(raster, index=i if n_dates > 1 else None), grid, Metadata(), declared)
        for i in range(n_dates)
    ]


def _band_of(array: xr.DataArray) -> int | None:
    """Return the number of the band, of an array that rioxarray opened."""
    band = array.coords.get("band")
    is_number = band is not None and band.ndim == 0 and band.dtype.kind in "iu"
    return int(band) if is_number else None  # type: ignore[arg-type]


def _find_declared(array: xr.DataArray, band: int | None) -> tuple[tuple[Scale, str], ...]:
    """Return the scale that attributes declare, with its source."""
    found: dict[str, Scale] = {}
    for key in _SCALE_ATTRS:
        value = array.attrs.get(key, "")
        words = [str(word) for word in value] if isinstance(value, tuple | list) else [str(value)]
        if len(set(words)) > 1 and band is not None and band <= len(words):
            words = [words[band - 1]]
        if len(set(words)) == 1 and (scale := SCALE_WORDS.get(words[0].strip().lower())):
            found[f"{key} = {words[0]!r}"] = scale
    if len(set(found.values())) > 1:
        raise ScaleError(
            f"the attributes of {array.name} contradict each other on the scale",
            where=list(found),
            do="set one: array.attrs['units'] = '1' for linear intensity, 'dB' for decibel",
        )
    return tuple((scale, source) for source, scale in found.items())


def _with_numbers(images: Sequence[Image], numbers: Iterable[Any]) -> list[Image]:
    rasters: list[Any] = [image.raster for image in images]
    return [
        replace(image, raster=replace(raster, numbers=date))
        for image, raster, date in zip(images, rasters, numbers, strict=True)
    ]


def _decide(images: Sequence[Image]) -> list[ArrayRaster]:
    """Decide scale and fill values of all dates; return their rasters, or raise."""
    problems = Problems(images[0].raster.path)
    samples = read_samples(images, problems)
    # Too few for a guess: arrays without attributes are intensity.
    is_tiny = sum(sample.valid.size for sample in samples) < _FEW_PIXELS
    assumed: Scale | None = "linear" if is_tiny and not images[0].declared else None
    given = GivenScale(assumed, "array.attrs['scale'] =")
    scale, fills = judge_samples(images, samples, given, problems)
    try:
        problems.report()
    except ScaleError as error:
        raise ScaleError(
            f"{images[0].raster.path}: {error.what}",
            expected=error.expected,
            where=error.where,
            do=_SET_SCALE,
        ) from None
    if scale != "linear" and not images[0].declared:
        raise _refuse(images[0].raster.path, "this looks like decibel")
    rasters: list[Any] = [
        replace(image.raster, scale=scale, undeclared=fill.undeclared, lowest=fill.lowest)
        for image, fill in zip(images, fills, strict=True)
    ]
    return rasters


def _refuse(name: str, conflict: str) -> ScaleError:
    return ScaleError(
        f"{name} should hold linear numbers (no attribute declares another scale), but {conflict}",
        expected="linear intensity, or attributes that declare the scale",
        do=_SET_SCALE,
    )


def _convert_lazily(array: xr.DataArray, images: Sequence[Image]) -> da.Array:
    """Convert a Dask array lazily: windows of all dates decide for all chunks."""
    meta = np.empty((0, 0, 0), np.float32)
    data, name = array.data, str(array.name)
    if _is_of_sarstack(array) and array.dtype == np.float32:
        return data.map_blocks(_check_block, label=name, dtype=np.float32, meta=meta)
    places = list_places(images[0].grid.shape)
    # Other tasks than those of the chunks, which could stay in memory until all windows are read.
    separate = copy_tasks(data)
    windows = [[separate[i][place.slices] for place in places] for i in range(len(images))]
    decided = dask.delayed(_decide_from_windows, pure=True)(list(images), places, windows)
    rasters = da.from_delayed(decided, (len(images),), dtype=object, meta=np.empty(0, object))
    return da.blockwise(
        _convert_block, "tyx", data, "tyx", rasters.rechunk((data.chunks[0],)), "t",
        dtype=np.float32, meta=meta,
    )  # fmt: skip


def _is_of_sarstack(array: xr.DataArray) -> bool:
    """Return whether attributes are those of a cube that sarstack opened, and so checked."""
    attributes, own = array.attrs, intensity_attributes(str(array.name))
    return all(attributes.get(key) == own[key] for key in ("scale", "polarisation", "long_name"))


def _decide_from_windows(
    images: Sequence[Image], places: Sequence[Window], windows: Sequence[Sequence[NDArray[Any]]]
) -> NDArray[np.object_]:
    found = [dict(zip(places, of_date, strict=True)) for of_date in windows]
    rasters = _decide(_with_numbers(images, found))
    decided = np.empty(len(rasters), object)
    decided[:] = [replace(raster, numbers=None) for raster in rasters]
    return decided


def _convert_block(block: NDArray[Any], rasters: NDArray[np.object_]) -> NDArray[np.float32]:
    return np.stack([r.convert(date) for r, date in zip(rasters, block, strict=True)])


def _check_block(block: NDArray[np.float32], *, label: str) -> NDArray[np.float32]:
    """Return a block of intensity; raise if arithmetic made decibel of it, attributes kept."""
    thinned = block.ravel()[:: max(1, block.size // _SAMPLE_PX**2)]
    if conflict := scale_conflict(thinned[thinned != 0], "linear"):
        raise _refuse(label, conflict)
    return (
        ArrayRaster(label, label).convert(block.reshape(-1, block.shape[-1])).reshape(block.shape)
    )


def linear_attributes(attrs: Mapping[Any, Any], polarisation: str = "") -> dict[Any, Any]:
    """Return the attributes of the user without those that unpacking and a change of scale end."""
    words = {str(attrs.get(key, "")).strip().lower() for key in _SCALE_ATTRS}
    kept = {k: v for k, v in attrs.items() if k not in PACKING_ATTRIBUTES}
    if {SCALE_WORDS.get(word) for word in words} & {"db", "amplitude"}:
        kept = {k: v for k, v in kept.items() if k not in _ATTRS_OF_SCALE}
        calibration = CALIBRATION_WORDS.get(str(attrs.get("calibration", "")).lower(), "")
        kept |= intensity_attributes(polarisation, calibration)
        if "grid_mapping" not in attrs:
            kept.pop("grid_mapping")
    return {**kept, "units": "1", "scale": "linear"}
