"""A stack on disk, as an index: which file holds which date and polarisation, on which grid.

Nothing here reads pixels except :meth:`Raster.read`. All classes are small, frozen
and picklable: this is what travels to the workers of a cluster, never an open file.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape, Window

Scale = Literal["linear", "amplitude", "db"]


@dataclass(frozen=True)
class GroundControlPoint:
    """A pixel whose position on the ground is known (swath data without an affine)."""

    row: float
    column: float
    x: float
    y: float
    z: float = 0.0


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a stack lie.

    Attributes
    ----------
    shape : Shape
        Rows and columns.
    crs_wkt : str
        Coordinate reference system as WKT, empty when there is none.
    transform : tuple of 6 float
        Affine coefficients a, b, c, d, e, f (identity when not georeferenced).
    gcps : tuple of GroundControlPoint
        Present instead of an affine for radar-geometry products.
    """

    shape: Shape
    crs_wkt: str = ""
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    gcps: tuple[GroundControlPoint, ...] = ()


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
    shape: Shape = Shape(0, 0)

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read one window as linear intensity.

        Parameters
        ----------
        window : Window
            In pixels of the stack.

        Returns
        -------
        ndarray, shape (y, x), float32
            Linear power, NaN = nodata. Never zero (a stored zero is nodata in linear
            and amplitude data); negative where thermal noise was subtracted.
        """
        from sarstack.readers.pixels import read_window

        return read_window(self, window)


@dataclass(frozen=True)
class Date:
    """One acquisition: its full UTC timestamp (NaT if unknown) and where it came from."""

    time: np.datetime64
    platform: str = ""
    orbit_direction: str = ""
    relative_orbit: int | None = None


@dataclass(frozen=True)
class Stack:
    """Everything known of a stack without reading its pixels.

    Attributes
    ----------
    path : str
        What the user gave.
    grid : Grid
        Common to all images.
    dates : tuple of Date
        In order of time.
    rasters : dict of str to tuple of (Raster or None)
        For each polarisation (``vv``, ``vh``, ``hh``, ``hv``), one entry per date;
        None where the date lacks the polarisation.
    calibration : str
        ``gamma0``, ``sigma0``, ``beta0`` or empty when unknown.
    """

    path: str
    grid: Grid
    dates: tuple[Date, ...]
    rasters: dict[str, tuple[Raster | None, ...]] = field(hash=False)
    calibration: str = ""

    @property
    def polarisations(self) -> tuple[str, ...]:
        """Names of the polarisations, in the order vv, vh, hh, hv."""
        return tuple(p for p in ("vv", "vh", "hh", "hv") if p in self.rasters)
