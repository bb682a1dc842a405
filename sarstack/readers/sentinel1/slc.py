"""One image of a SAFE SLC product: complex numbers in slant range, in bursts or without.

The bursts of a sub-swath (IW and EW) lie one below the other in the file, with black lines between
them. Neighbouring bursts show some of the same ground, from another direction of the antenna. So a
method must not see from one into the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackReadError
from sarstack.readers.complex_numbers import convert_complex
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.annotation import parse_xml, read_annotation, read_numbers, text_of
from sarstack.readers.sentinel1.doppler import DopplerRamp, read_doppler_ramp
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.readers.sentinel1.raster import SafeRaster
from sarstack.speckle.complex_fields import mark_nodata
from sarstack.tiles import Window


@dataclass(frozen=True)
class Bursts:
    """The bursts of a sub-swath.

    Attributes
    ----------
    rows : tuple of int
        First row of each burst, and the number of all rows; empty without bursts.
    first, last : ndarray, shape (rows,), int
        First and last valid sample of each row; -1 in rows without one.
    """

    rows: tuple[int, ...]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def find_invalid(self, window: Window) -> NDArray[np.bool_]:
        """Find the samples of a window that are not valid; `window` in pixels of the image."""
        if not self.rows:
            return np.zeros(window.shape, bool)
        columns = np.arange(window.x0, window.x1)
        first, last = (edge[window.y0 : window.y1, np.newaxis] for edge in (self.first, self.last))
        return np.asarray((first < 0) | (columns < first) | (columns > last))


def read_bursts(product: SafeProduct, member: str) -> Bursts:
    """Read the bursts of an image from its annotation.

    Raises
    ------
    OSError, KeyError, ValueError
        If the annotation is missing or damaged.
    """
    return _read_bursts(product, member, product.modified_ns(member))


@lru_cache(maxsize=16)
def _read_bursts(product: SafeProduct, member: str, _modified_ns: int) -> Bursts:
    root = parse_xml(product, member)
    elements = [*root.iter("burst")]
    if not elements:
        return Bursts((), np.empty(0, np.int64), np.empty(0, np.int64))
    n_lines = int(text_of(root, "swathTiming/linesPerBurst", member))
    edges = []
    for name in ("firstValidSample", "lastValidSample"):
        rows = [read_numbers(element, name, member).astype(np.int64) for element in elements]
        if any(row.size != n_lines for row in rows):
            raise ValueError(f"{name} in {member} has not one number for each line of a burst")
        edges.append(np.concatenate(rows))
    starts = range(0, n_lines * (len(elements) + 1), n_lines)
    return Bursts(tuple(starts), *edges)


@dataclass(frozen=True)
class SlcRaster(SafeRaster):
    """One polarisation of a sub-swath or a stripmap image, as intensity or as complex numbers.

    Attributes
    ----------
    burst_rows : tuple of int
        First row of each burst, and the number of all rows; empty without bursts.
    """

    burst_rows: tuple[int, ...] = ()

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows, calibrated: as intensity or complex numbers, NaN = nodata."""
        bursts = read_bursts(self.product, self.annotation)
        decoded = (
            self._decode_complex(windows)
            if self.complex_as in ("complex", "baseband")
            else super().decode(windows, cache_blocks=cache_blocks)
        )
        for window, pixels in zip(windows, decoded, strict=True):
            mark_nodata(pixels, bursts.find_invalid(window))
            yield pixels

    def _decode_complex(self, windows: Sequence[Window]) -> Iterator[NDArray[np.complex64]]:
        table = self.read_table()
        ramp = self.read_ramp() if self.complex_as == "baseband" else None
        with ExitStack() as files:
            read = self.open_numbers(files, of_border=False, cache_blocks=False)
            for window in windows:
                numbers = convert_complex(read(window), self.dn_nodata, "complex")
                if table is not None:
                    numbers /= table.interpolate(window).astype(np.float32)
                if ramp is not None:
                    numbers *= np.exp(-1j * ramp.phase(window)).astype(np.complex64)
                yield numbers

    def read_ramp(self) -> DopplerRamp:
        """Read the Doppler ramp of the bursts from the annotation."""
        return read_doppler_ramp(self.product, self.annotation)

    def check_baseband(self) -> None:
        """Raise StackReadError if the tables of the Doppler ramp cannot be read."""
        try:
            self.read_ramp()
        except (OSError, KeyError, ValueError, BadZipFile) as err:
            raise StackReadError(
                f"{self.product_path} has no Doppler tables that can be used ({err})",
                expected="orbit, azimuthFmRate and dcEstimate in the annotation",
                where=self.annotation,
                do="download the product again, or use a method for intensity",
            ) from err

    def describe_pixels(self) -> str:
        """Return the geometry of the image and its spacing."""
        place = read_annotation(self.product, self.annotation).slice
        bursts = f", {len(self.burst_rows) - 1} bursts" if self.burst_rows else ""
        return (
            "single look complex in slant range, used as intensity; "
            f"{place.azimuth_spacing_m:.3g} m along the azimuth x {place.spacing_m:.3g} m along "
            f"the range{bursts}"
        )


def split_bursts(raster: Raster, window: Window) -> list[tuple[Window, tuple[int, int]]]:
    """Return the parts of a window that a method must not see together.

    Parameters
    ----------
    raster : Raster
    window : Window
        In pixels of the stack.

    Returns
    -------
    list of (Window, (int, int))
        Each part, with the first row that it may see and the row after the last one: those of
        its burst. The whole window if the image has no bursts.
    """
    burst_rows = getattr(raster, "burst_rows", ())  # also of an SlcRaster in another raster
    if not burst_rows:
        return [(window, (0, 2**31))]
    found = []
    for first, end in pairwise(row - raster.origin[0] for row in burst_rows):
        common = window.overlap(Window(first, end, window.x0, window.x1))
        if common is not None:
            found.append((common, (first, end)))
    return found
