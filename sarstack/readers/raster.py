"""One image on disk, and its pixels as linear intensity.

A raster holds paths and numbers, never an open file: it is small, and travels to workers. Each
call opens the file, reads and closes it, so threads share no file. Decoded blocks of compressed
files are shared by the threads of a process, see :mod:`sarstack.readers.block_cache`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import MaskWord, Scale
from sarstack.errors import UsageError
from sarstack.readers.block_cache import CACHE_BYTES
from sarstack.readers.grid import Grid
from sarstack.readers.packing import HIGHEST_NUMBER, unpack
from sarstack.readers.paths import file_name, is_remote
from sarstack.readers.problems import UnreadableFileError, changed_error, root_cause
from sarstack.readers.product_layers import ListFolder
from sarstack.readers.radiometry import to_intensity
from sarstack.readers.source_tags import SourceMetadata
from sarstack.readers.versions import (
    FileVersion,
    Stamp,
    has_changed,
    list_with_side_cars,
    stamp_sources,
)
from sarstack.tiles import Shape, Window, row_strips

# A folder that was moved, or another name of the result, does not change pixels. The last two are
# paths of a SAFE product.
_NOT_DECISIVE = ("path", "stem", "version", "mask_version", "product", "pixels")


class IntensityReader(Protocol):
    """One image whose pixels can be read by windows: a file, or one date of a cube."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read a window as linear intensity, shape (y, x), NaN = nodata."""

    def read_each(self, windows: Iterable[Window]) -> Iterator[NDArray[np.float32]]:
        """Read windows one after the other."""


@dataclass(frozen=True)
class Raster(ABC):
    """The pixels of one date and polarisation on disk; each format has a subclass.

    Pixels are read in three steps. :meth:`decode`, which the subclass defines, returns the numbers
    as they are stored. :func:`~sarstack.readers.packing.unpack` applies gain and offset,
    and replaces nodata by NaN.
    :func:`~sarstack.readers.radiometry.to_intensity` converts dB and amplitude.
    :meth:`read` (one window) and :meth:`read_each` (several windows) take all three steps,
    :meth:`read_unpacked` the first two.

    Attributes
    ----------
    path : str
        File, store or URL, readable by every worker.
    stem : str
        First part of the name of each output made from this image.
    band : int
        Band of a GDAL raster, from 1.
    variable : str
        Variable of a Zarr store or netCDF file.
    index : int or None
        Position along the time axis of the variable or array, None without a time axis.
    scale : {"linear", "amplitude", "db"}
        Scale of the stored numbers.
    nodata : tuple of float
        Stored numbers that the file declares as "no data", besides NaN.
    nan_is_declared : bool
        Whether the file declares NaN as "no data". Only without any declared number,
        -9999, -99 and -32768 are nodata too.
    undeclared : tuple of float
        Numbers after gain and offset that were found to be nodata in this image.
    lowest : float
        Numbers up to this one are nodata: no backscatter of this image is so low.
    origin : tuple of int
        Row and column in the file of the stack's first pixel (not zero after a crop).
    shape : Shape
        Size of the part that belongs to the stack.
    gain, offset : float
        ``stored * gain + offset`` is the number whose scale is `scale` (packed data).
    complex_as : {"", "intensity", "complex", "baseband"}
        What :meth:`decode` returns of complex numbers; empty if the file has none. "baseband":
        complex, without the Doppler ramp of TOPS bursts.
    gain_db : float
        Decibels that are added to the backscatter: a calibration factor.
    version : FileVersion or None
        The version of the file that was indexed. Another version is not read: a result would be a
        mixture of both. None is not checked.
    item, href : str
        Identifier of the STAC item that lists the file, and the reference to the file in it,
        without secrets; empty otherwise.
    looks : float or None
        Equivalent number of looks that the product tells; None if it tells none. A layer that
        counts averaged pixels is not this number, because these pixels are correlated.
    masked_parts : tuple of {"shadow", "layover"}
        Parts of the mask of the product that are nodata, because the user wants that.
    """

    # Not in the text that a worker logs when its task fails: a URL can contain a password.
    path: str = field(repr=False)
    stem: str
    band: int = 1
    variable: str = ""
    index: int | None = None
    scale: Scale = "linear"
    nodata: tuple[float, ...] = ()
    nan_is_declared: bool = False
    undeclared: tuple[float, ...] = ()
    lowest: float = -np.inf
    origin: tuple[int, int] = (0, 0)
    shape: Shape = field(default=Shape(0, 0))
    gain: float = 1.0
    offset: float = 0.0
    complex_as: Literal["", "intensity", "complex", "baseband"] = ""
    gain_db: float = 0.0
    version: FileVersion | None = None
    item: str = ""
    href: str = ""
    looks: float | None = None
    masked_parts: tuple[MaskWord, ...] = ()

    @abstractmethod
    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows of the file one after the other; return the numbers as they are stored.

        Parameters
        ----------
        windows : sequence of Window
            In pixels of the file.
        cache_blocks : bool
            Whether decoded blocks may be kept for later calls.

        Yields
        ------
        ndarray, shape of the window, of the type of the file
            A masked array if the file has a mask; masked pixels are nodata.
        """

    def check_baseband(self) -> None:  # noqa: B027 - most formats have no Doppler ramp
        """Raise StackReadError if the tables of the Doppler ramp cannot be read."""

    def choose_calibration(self, calibration: str | None, *, remove_noise: bool = False) -> Self:
        """Return the raster with the calibration that the user chose.

        Formats whose pixels are not calibrated override this method and :meth:`subtract_noise`.

        Raises
        ------
        UsageError
            If the user chose one, and the format leaves no choice.
        """
        if calibration is not None or remove_noise:
            option = "remove_noise" if calibration is None else f"calibration = {calibration}"
            raise UsageError(
                f"{option} cannot be used: {self.path} is no SAFE or EOPF product, its pixels are "
                "used as they are",
                do="leave it out, or calibrate and correct the images first",
            )
        return self

    def use_layers(self, grid: Grid, mask: Sequence[MaskWord], list_folder: ListFolder) -> Self:
        """Return the raster with mask and number of looks of its product; formats override it.

        Parameters
        ----------
        grid : Grid
            Of the image; that of a layer must be the same.
        mask : sequence of {"shadow", "layover"}
            Parts of the mask that the user wants as nodata.
        list_folder : callable
            Returns the files of a folder.

        Raises
        ------
        UsageError
            If the user wants a mask, and the image has none.
        """
        if mask:
            raise UsageError(
                f"mask = {','.join(mask)} cannot be used: {self.path} has no mask beside it",
                expected="the mask file of an OPERA RTC-S1 or HyP3 RTC product (_mask.tif, "
                "_ls_map.tif) in the folder or zip file of the image",
                do="download the mask files, or leave the option out",
            )
        return self

    @property
    def layer_files(self) -> tuple[str, ...]:
        """Local files beside the image that decide its pixels, too: masks of its product."""
        return ()

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Return despeckled pixels without thermal noise, if the user wants that.

        Parameters
        ----------
        intensity : ndarray, shape of `window`, float32
            Linear power, NaN = nodata.
        window : Window
            In pixels of the stack.

        Returns
        -------
        ndarray, shape of `window`, float32
        """
        return intensity

    def read(self, window: Window, *, cache_blocks: bool = True) -> NDArray[np.float32]:
        """Read one window as linear intensity.

        Parameters
        ----------
        window : Window
            In pixels of the stack.
        cache_blocks : bool, optional
            Keep decoded blocks for windows that overlap this one. False if every pixel is
            read once: the cache would only take memory.

        Returns
        -------
        ndarray, shape (y, x), float32
            Linear power. NaN where the file has nodata of any kind: masked pixels, its declared
            nodata value, without one -9999, -99 and -32768, NaN, an infinity, zero in linear and
            amplitude data, numbers that are no backscatter. Negative where thermal noise was
            subtracted.

        Raises
        ------
        StackReadError
            If the file is missing, truncated or damaged, or has changed since it was indexed;
            names the file.
        """
        [intensity] = self.read_each([window], cache_blocks=cache_blocks)
        return intensity

    def read_each(
        self, windows: Iterable[Window], *, cache_blocks: bool = True
    ) -> Iterator[NDArray[np.float32]]:
        """Read windows one after the other, as :meth:`read` does.

        The file is opened once, and stays open until the last window was taken.
        """
        for stored, is_masked in self.read_stored(windows, cache_blocks=cache_blocks):
            is_intensity = stored.dtype == np.float32 and self._holds_intensity
            intensity = stored if is_intensity else np.empty(stored.shape, np.float32)
            for rows in row_strips(stored.shape):
                # The shortcut for most files: a strip that needs no change is not copied.
                if not (is_intensity and _needs_no_change(stored[rows])):
                    numbers = self._unpack(stored[rows])
                    intensity[rows] = to_intensity(numbers, self.scale, self.gain_db)
            if is_masked is not None:
                intensity[is_masked] = np.nan
            yield intensity

    def read_unpacked(self, windows: Iterable[Window]) -> Iterator[NDArray[Any]]:
        """Read windows in the scale of the file (linear, amplitude or dB), without conversion.

        Parameters
        ----------
        windows : iterable of Window
            In pixels of the stack.

        Yields
        ------
        ndarray, shape (y, x), float32 or float64
            Unpacked, NaN = nodata; float64 for float64 and wide integer files, else float32.
        """
        for stored, is_masked in self.read_stored(windows, cache_blocks=False):
            numbers = self._unpack(stored)
            if is_masked is not None:
                numbers[is_masked] = np.nan
            yield numbers

    @property
    def opened_path(self) -> str:
        """Path by which the file is opened: `path`, or that of a file inside a zip file."""
        return self.path

    @property
    def versions(self) -> Mapping[str, FileVersion | None]:
        """The versions of all files with pixels of this image, by path."""
        return {self.path: self.version}

    def index_of(self, window: Window) -> tuple[Any, ...]:
        """Return the index of a window of the file in an array with or without a time axis."""
        return window.slices if self.index is None else (self.index, *window.slices)

    def stamp(self) -> list[Stamp]:
        """Return what changes when the stored numbers change: sizes and times of all sources.

        Empty for a URL. A later run compares it, see :mod:`sarstack.workflows.fingerprint`, and it
        is part of the names of lazy cubes.
        """
        return [] if is_remote(self.path) else stamp_sources(list_with_side_cars(self.path))

    def identity(self) -> dict[str, Any]:
        """Return all that decides the pixels of this image, as far as headers show it."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_DECISIVE}
        return {"file": file_name(self.path), **own, "stamp": self.stamp()}

    def read_metadata(self) -> SourceMetadata:
        """Read the tags of the file; empty for formats without tags, or if it cannot be read."""
        return SourceMetadata()

    def cache_bytes(self, tile: Shape) -> int:
        """Return the limit of decoded blocks that a process keeps while it reads this image.

        Parameters
        ----------
        tile : Shape
            Rows and columns of a tile with its halo.
        """
        return CACHE_BYTES

    @property
    def declared_nodata(self) -> tuple[float, ...]:
        """Stored numbers that the file declares as "no data", NaN included."""
        return (*self.nodata, np.nan) if self.nan_is_declared else self.nodata

    @property
    def is_masked(self) -> bool:
        """Whether the file has a mask of valid pixels."""
        return False

    @property
    def _holds_intensity(self) -> bool:
        """Whether every stored number that is finite and above zero is an intensity."""
        packed = self.gain != 1 or self.offset != 0 or self.gain_db != 0
        special = (*self.nodata, *self.undeclared)
        return self.scale == "linear" and not packed and not any(n > 0 for n in special)

    def read_stored(
        self, windows: Iterable[Window], *, cache_blocks: bool
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Yield the stored numbers of each window, and where they are masked if there is a mask."""
        for path, version in self.versions.items():
            if version is not None and has_changed(path, version):
                raise changed_error(path)
        y0, x0 = self.origin
        places = [Window(w.y0 + y0, w.y1 + y0, w.x0 + x0, w.x1 + x0) for w in windows]
        decoded = self.decode(places, cache_blocks=cache_blocks)
        for place in places:
            try:
                stored = next(decoded)
            except UnreadableFileError:
                raise
            except Exception as err:  # each library has its own errors for a damaged file
                where = f"rows {place.y0} to {place.y1}, columns {place.x0} to {place.x1}"
                raise UnreadableFileError.of(self.path, root_cause(err), where=where) from err
            if stored.shape != place.shape:
                raise UnreadableFileError.of(
                    self.path,
                    "it has fewer pixels than its header says",
                    expected=f"{tuple(place.shape)} pixels, got {stored.shape}",
                )
            is_masked = None
            if isinstance(stored, np.ma.MaskedArray):
                is_masked = np.ma.getmaskarray(stored)
            yield np.ma.getdata(stored), is_masked

    def _unpack(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Apply gain and offset to stored numbers; nodata becomes NaN."""
        return unpack(
            stored,
            scale=self.scale,
            nodata=self.declared_nodata,
            undeclared=self.undeclared,
            lowest=self.lowest,
            gain=self.gain,
            offset=self.offset,
        )


def _needs_no_change(values: NDArray[np.float32]) -> bool:
    """Return whether every number is NaN or a finite intensity above zero, in two fast passes."""
    low, high = (extreme.reduce(values, axis=None) for extreme in (np.fmin, np.fmax))
    return not (low <= 0 or high >= HIGHEST_NUMBER)
