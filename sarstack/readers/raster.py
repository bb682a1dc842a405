"""One image on disk, and its pixels as linear intensity.

Every call opens the file, reads and closes it: nothing is shared between threads, and
nothing but a path travels to a worker. Windows that are read in one call share what is decoded,
and so do those of several calls that ask for it.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import NODATA_NUMBERS, Scale
from sarstack.errors import StackReadError
from sarstack.readers.block_cache import read_blocks
from sarstack.readers.radiometry import to_intensity
from sarstack.tiles import Shape, Window, strips

# Some writers mark nodata with the lowest float32, -3.4e38.
_LOWEST_NUMBER = -1e30


@dataclass(frozen=True)
class Raster:
    """The pixels of one date and polarisation on disk.

    Attributes
    ----------
    path : str
        File, store or URL, readable by every worker.
    stem : str
        First part of the name of what is made from this image.
    driver : {"gdal", "zarr", "netcdf", "npy"}
        How the pixels are read.
    band : int
        Band of a GDAL raster, from 1.
    variable : str
        Variable of a Zarr store or netCDF file.
    index : int or None
        Position along the time axis of that variable.
    scale : {"linear", "amplitude", "db"}
        What the stored numbers are.
    nodata : tuple of float
        Stored numbers that mean "no data", besides NaN.
    origin : tuple of int
        Row and column in the file of the stack's first pixel (not zero after a crop).
    shape : Shape
        Size of the part that belongs to the stack.
    gain, offset : float
        ``stored * gain + offset`` is the number whose scale is `scale` (packed data).
    """

    path: str
    stem: str
    driver: Literal["gdal", "zarr", "netcdf", "npy"] = "gdal"
    band: int = 1
    variable: str = ""
    index: int | None = None
    scale: Scale = "linear"
    nodata: tuple[float, ...] = ()
    origin: tuple[int, int] = (0, 0)
    shape: Shape = field(default=Shape(0, 0))
    gain: float = 1.0
    offset: float = 0.0

    def read(self, window: Window, *, keep: bool = False) -> NDArray[np.float32]:
        """Read one window as linear intensity.

        Parameters
        ----------
        window : Window
            In pixels of the stack.
        keep : bool
            Whether what is decoded is kept for windows that overlap this one, see
            :mod:`sarstack.readers.block_cache`.

        Returns
        -------
        ndarray, shape (y, x), float32
            Linear power. NaN where the file has nodata of any kind: its tag, -9999, -99,
            -32768, NaN, an infinity, or zero in linear and amplitude data. Negative where
            thermal noise was subtracted.

        Raises
        ------
        StackReadError
            If the file is gone, truncated or damaged; names the file.
        """
        [intensity] = self.read_each([window], keep=keep)
        return intensity

    def read_each(
        self, windows: Iterable[Window], *, keep: bool = False
    ) -> Iterator[NDArray[np.float32]]:
        """Read windows one after the other, as :meth:`read` does; blocks they share once.

        The file is open until the last one was taken.
        """
        for stored in read_stored(self, windows, keep=keep):
            plain = stored.dtype == np.float32 and self._is_plain
            intensity = stored if plain else np.empty(stored.shape, np.float32)
            for rows in strips(stored.shape):
                if not (plain and _all_known(stored[rows])):
                    intensity[rows] = to_intensity(unpack(stored[rows], self), self.scale)
            yield intensity

    @property
    def _is_plain(self) -> bool:
        """Whether every finite float32 above zero is an intensity as it stands."""
        packed = self.gain != 1 or self.offset != 0
        return self.scale == "linear" and not packed and not any(tag > 0 for tag in self.nodata)


def _all_known(values: NDArray[np.float32]) -> bool:
    """Tell that every number is an intensity or NaN, as is the rule, in two quick passes."""
    low, high = (extreme.reduce(values, axis=None) for extreme in (np.fmin, np.fmax))
    return not (low <= 0 or high == np.inf)


def read_numbers(raster: Raster, windows: Iterable[Window]) -> Iterator[NDArray[Any]]:
    """Read windows as the numbers of the file, unpacked, with nodata as NaN.

    Parameters
    ----------
    raster : Raster
        Its `scale` is not used.
    windows : iterable of Window
        In pixels of the stack.

    Yields
    ------
    ndarray, shape (y, x), float32 or float64
        float64 for float64 and wide integer files, else float32.
    """
    for stored in read_stored(raster, windows):
        yield unpack(stored, raster)


def read_stored(
    raster: Raster, windows: Iterable[Window], *, keep: bool = False
) -> Iterator[NDArray[Any]]:
    """Read windows as they are stored, whatever the numbers mean; each of its window's shape.

    Raises
    ------
    StackReadError
        If the file is gone, truncated or damaged; names the file.
    """
    y0, x0 = raster.origin
    places = [Window(w.y0 + y0, w.y1 + y0, w.x0 + x0, w.x1 + x0) for w in windows]
    read = _read_kept if keep and raster.driver == "gdal" else _READERS[raster.driver]
    reader = read(raster, places)
    for place in places:
        try:
            stored = next(reader)
        except Exception as err:  # every driver has errors of its own; all mean the same here
            raise StackReadError(
                f"{raster.path} cannot be read ({_first_line(err)})",
                where=f"rows {place.y0} to {place.y1}, columns {place.x0} to {place.x1}",
                do="copy or download the file again, or remove it from the stack",
            ) from err
        if stored.shape != place.shape:
            raise StackReadError(
                f"{raster.path} cannot be read (it has fewer pixels than its header says)",
                expected=f"{tuple(place.shape)} pixels, got {stored.shape}",
                do="copy or download the file again, or remove it from the stack",
            )
        yield stored


def unpack(stored: NDArray[Any], raster: Raster) -> NDArray[Any]:
    """Turn stored numbers into those they stand for, with nodata as NaN."""
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    wide: Any = np.float32 if size <= 2 or (kind == "f" and size == 4) else np.float64
    numbers: NDArray[Any] = stored.astype(wide)
    # Most pixels are no one's nodata: they are looked at twice, the others one by one.
    suspect = ~((numbers > max(NODATA_NUMBERS)) & (numbers < np.inf))
    with np.errstate(over="ignore"):
        # Compared at the precision of the file: a nodata tag of 1e-7 is written as a float64.
        tags = {wide(number) for number in {*raster.nodata, *NODATA_NUMBERS}}
    for tag in tags:
        if tag > max(NODATA_NUMBERS):
            suspect |= numbers == tag
    empty = suspect
    if suspect.any():
        odd = numbers[suspect]
        known = np.isfinite(odd) & (odd >= _LOWEST_NUMBER) & ~np.isin(odd, list(tags))
        empty = suspect.copy()
        empty[suspect] = ~known
    if raster.gain != 1 or raster.offset != 0:
        # A stored zero is still nodata once an offset has moved it.
        if raster.scale != "db":
            empty |= numbers == 0
        numbers = numbers * wide(raster.gain) + wide(raster.offset)
        empty |= ~np.isfinite(numbers)
    if empty.any():
        numbers[empty] = np.nan
    return numbers


def open_gdal(path: str) -> Any:
    """Open a raster with GDAL, unshared, without rasterio's warning on missing georeference."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # Not catch_warnings: it is not thread safe. Images without a georeference are welcome here.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    return rasterio.open(path, sharing=False)


def _read_gdal(raster: Raster, places: Sequence[Window]) -> Iterator[NDArray[Any]]:
    with open_gdal(raster.path) as dataset:
        for place in places:
            yield dataset.read(raster.band, window=((place.y0, place.y1), (place.x0, place.x1)))


def _read_kept(raster: Raster, places: Sequence[Window]) -> Iterator[NDArray[Any]]:
    with open_gdal(raster.path) as dataset:
        for place in places:
            yield read_blocks(dataset, raster.path, raster.band, place)


def _read_zarr(raster: Raster, places: Sequence[Window]) -> Iterator[NDArray[Any]]:
    import zarr

    array: Any = zarr.open_group(raster.path, mode="r")[raster.variable]
    for place in places:
        yield np.asarray(array[_index(raster, place)])


def _read_netcdf(raster: Raster, places: Sequence[Window]) -> Iterator[NDArray[Any]]:
    if is_classic_netcdf(raster.path):
        from scipy.io import netcdf_file

        with netcdf_file(raster.path, mmap=True) as classic:
            for place in places:
                yield np.array(classic.variables[raster.variable][_index(raster, place)])
        return
    import h5netcdf

    with h5netcdf.File(raster.path, "r") as file:
        for place in places:
            yield np.asarray(file[raster.variable][_index(raster, place)])


def _read_npy(raster: Raster, places: Sequence[Window]) -> Iterator[NDArray[Any]]:
    array = np.load(raster.path, mmap_mode="r", allow_pickle=False)
    for place in places:
        yield np.array(array[_index(raster, place)])


def _index(raster: Raster, place: Window) -> tuple[Any, ...]:
    """Return where a window is in a variable with or without a time axis."""
    return place.slices if raster.index is None else (raster.index, *place.slices)


_READERS = {
    "gdal": _read_gdal,
    "zarr": _read_zarr,
    "netcdf": _read_netcdf,
    "npy": _read_npy,
}


def is_classic_netcdf(path: str) -> bool:
    """Return whether a file is netCDF 3, which HDF5 cannot open."""
    with Path(path).open("rb") as file:
        return file.read(3) == b"CDF"


def _first_line(err: BaseException) -> str:
    """Return what happened: rasterio only says that something did, and GDAL is its cause."""
    while err.__cause__ is not None:
        err = err.__cause__
    return (str(err) or type(err).__name__).splitlines()[0]
