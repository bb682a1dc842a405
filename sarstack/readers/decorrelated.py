"""A complex image whose speckle is decorrelated while it is read.

A process measures the filter from the sample windows of the image when it first needs it, and keeps
it. The windows depend on the size of the image only, so all workers find the same filter.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.image import name_file
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.slc import SlcRaster, split_bursts
from sarstack.readers.source_tags import SourceMetadata
from sarstack.readers.stack import Stack
from sarstack.readers.versions import FileVersion, Stamp
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.decorrelate import Decorrelator, fit_decorrelator
from sarstack.tiles import Shape, Window, sample_windows

_LOCK = threading.Lock()
# What decoding the stored numbers needs; here they are decoded by the source.
_OF_SOURCE = ("nodata", "nan_is_declared", "undeclared", "lowest", "gain", "offset")


def find_decorrelator(raster: Raster) -> Decorrelator:
    """Measure the spectrum of a complex image, and design its filter; kept for later calls.

    Raises
    ------
    UsageError
        If too few pixels can be used, or the image has no complex numbers.
    StackReadError
        If the image cannot be read.
    """
    with _LOCK:  # threads would measure the same image at the same time
        return _measure(raster)


@lru_cache(maxsize=64)
def _measure(raster: Raster) -> Decorrelator:
    windows = [
        part for window in sample_windows(raster.shape) for part, _ in split_bursts(raster, window)
    ]
    return fit_decorrelator([read_complex(raster, window, baseband=True) for window in windows])


def read_centred(raster: Raster, window: Window) -> NDArray[np.complex64]:
    """Read complex numbers with the middle of the spectrum at zero; see ``read_complex``.

    Then real and imaginary part are independent of each other. The middle is measured, also after
    the Doppler ramp of TOPS bursts was removed. A spectrum of too few pixels is not moved.
    """
    numbers = read_complex(raster, window, baseband=True)
    if isinstance(raster, DecorrelatedRaster):
        return numbers
    try:
        decorrelator = find_decorrelator(raster)
    except UsageError:
        return numbers
    return decorrelator.centre(numbers, (window.y0, window.x0))


@dataclass(frozen=True)
class DecorrelatedRaster(Raster):
    """The same image with decorrelated speckle, as intensity or as complex numbers.

    Attributes
    ----------
    source : Raster or None
        The image as it is stored.
    """

    source: Raster | None = None

    @classmethod
    def of(cls, source: Raster) -> Self:
        """Return an image with its speckle decorrelated."""
        common = {f.name: getattr(source, f.name) for f in fields(Raster)}
        kept = {name: value for name, value in common.items() if name not in _OF_SOURCE}
        return cls(**kept | {"complex_as": "intensity"}, source=source)

    @property
    def stored(self) -> Raster:
        """The image as it is stored."""
        assert self.source is not None
        return self.source

    @property
    def burst_rows(self) -> tuple[int, ...]:
        """First row of each burst, and the number of all rows; empty without bursts."""
        return self.stored.burst_rows if isinstance(self.stored, SlcRaster) else ()

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows, decorrelated: as intensity or complex numbers, NaN = nodata."""
        y0, x0 = self.origin
        for place in windows:
            window = Window(place.y0 - y0, place.y1 - y0, place.x0 - x0, place.x1 - x0)
            numbers = self._decorrelate(window)
            if self.complex_as == "intensity":
                yield to_power(numbers)
                continue
            if self.complex_as == "complex" and isinstance(self.stored, SlcRaster):
                numbers *= np.exp(1j * self.stored.read_ramp().phase(place)).astype(np.complex64)
            elif self.complex_as == "baseband":
                numbers = find_decorrelator(self.stored).centre(numbers, (window.y0, window.x0))
            yield numbers

    def _decorrelate(self, window: Window) -> NDArray[np.complex64]:
        """Decorrelate a window, in pixels of the stack, burst by burst."""
        decorrelator = find_decorrelator(self.stored)
        result = np.empty(window.shape, np.complex64)
        for part, (first, end) in split_bursts(self.stored, window):
            outer = part.expand(decorrelator.halo, self.shape)
            outer = Window(max(outer.y0, first), min(outer.y1, end), outer.x0, outer.x1)
            numbers = read_complex(self.stored, outer, baseband=True)
            found = decorrelator.apply(numbers, (outer.y0, outer.x0))
            result[part.slices_in(window)] = found[part.slices_in(outer)]
        return result

    def check_baseband(self) -> None:
        """Raise StackReadError if the tables of the Doppler ramp cannot be read."""
        self.stored.check_baseband()

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Return despeckled pixels without thermal noise, if the user wants that."""
        return self.stored.subtract_noise(intensity, window)

    def read_metadata(self) -> SourceMetadata:
        """Read the tags of the file."""
        return self.stored.read_metadata()

    @property
    def opened_path(self) -> str:
        """Path by which the file is opened."""
        return self.stored.opened_path

    @property
    def versions(self) -> Mapping[str, FileVersion | None]:
        """The versions of all files with pixels of this image, by path."""
        return self.stored.versions

    @property
    def layer_files(self) -> tuple[str, ...]:
        """Local files beside the image that decide its pixels."""
        return self.stored.layer_files

    def stamp(self) -> list[Stamp]:
        """Return what changes when the stored numbers change."""
        return self.stored.stamp()

    def identity(self) -> dict[str, Any]:
        """Return all that decides the pixels, as far as headers show it."""
        return self.stored.identity() | {"decorrelated": True}

    def cache_bytes(self, tile: Shape) -> int:
        """Return the limit of decoded blocks: complex numbers are read without keeping them."""
        return 0


def decorrelate_stack(stack: Stack) -> Stack:
    """Return a stack whose images have their speckle decorrelated while they are read.

    Raises
    ------
    UsageError
        If an image has no complex numbers.
    StackReadError
        If the tables of a Doppler ramp cannot be read.
    """
    images = [raster for own in stack.rasters.values() for raster in own if raster is not None]
    if without := [name_file(raster) for raster in images if not raster.complex_as]:
        raise UsageError(
            "speckle can be decorrelated in single look complex images only",
            expected="complex numbers: SAFE SLC products or complex GeoTIFFs",
            where=without,
            do="give the SLC of this acquisition: detected images have lost what it needs; or "
            "despeckle without --decorrelate",
        )
    for raster in images:
        raster.check_baseband()
    wrapped: dict[str, tuple[Raster | None, ...]] = {
        polarisation: tuple(r if r is None else DecorrelatedRaster.of(r) for r in own)
        for polarisation, own in stack.rasters.items()
    }
    return replace(stack, rasters=wrapped)
