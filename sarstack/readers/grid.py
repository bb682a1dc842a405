"""The grid of a stack: the places of its pixels on the ground."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import UsageError
from sarstack.tiles import Shape, Window

Transform = tuple[float, float, float, float, float, float]
IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class GroundControlPoint:
    """A pixel with a known position on the ground (swath data without an affine transform).

    Row and column in pixels; x, y, z in units of the CRS.
    """

    row: float
    column: float
    x: float
    y: float
    z: float = 0.0


@dataclass(frozen=True)
class Grid:
    """The places of the pixels of a stack.

    Attributes
    ----------
    shape : Shape
        Rows and columns.
    crs_wkt : str
        Coordinate reference system as WKT, empty if there is none.
    transform : tuple of 6 float
        Affine coefficients a, b, c, d, e, f, from pixel corner to ground: ``x = a * column +
        b * row + c``, ``y = d * column + e * row + f``. Identity without a georeference.
    gcps : tuple of GroundControlPoint
        Instead of an affine transform in products in radar geometry.
    rpcs : tuple of (str, str)
        Rational polynomial coefficients, as GDAL names them. In the grid of a stack only if
        nothing else tells the place of the pixels.
    """

    shape: Shape
    crs_wkt: str = ""
    transform: Transform = IDENTITY
    gcps: tuple[GroundControlPoint, ...] = ()
    rpcs: tuple[tuple[str, str], ...] = ()

    @property
    def affine(self) -> Any:
        """The transform as ``affine.Affine`` (pixel corner to ground)."""
        from affine import Affine

        return Affine(*self.transform)

    @property
    def crs(self) -> Any:
        """The CRS as ``rasterio.crs.CRS``, None if there is none."""
        from rasterio.crs import CRS

        return CRS.from_wkt(self.crs_wkt) if self.crs_wkt else None

    @property
    def crs_name(self) -> str:
        """Short name of the CRS, ``EPSG:32632`` if it has a code."""
        if not self.crs_wkt:
            return "none"
        code, name = self.crs.to_epsg(), self.crs_wkt.split('"')[1]
        return f"EPSG:{code}" if code else f"{name} (no EPSG code)"

    @property
    def is_georeferenced(self) -> bool:
        """Whether an affine transform, ground control points or RPCs give pixels a place."""
        return (
            bool(self.gcps) or bool(self.rpcs) or bool(self.crs_wkt) or self.transform != IDENTITY
        )

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in units of the CRS, positive."""
        a, b, _, d, e, _ = self.transform
        return float(np.hypot(b, e)), float(np.hypot(a, d))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(xmin, ymin, xmax, ymax)`` of the whole grid, in units of the CRS."""
        a, b, c, d, e, f = self.transform
        corners = [(y, x) for y in (0, self.shape.y) for x in (0, self.shape.x)]
        xs = [a * x + b * y + c for y, x in corners]
        ys = [d * x + e * y + f for y, x in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def pixel_centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the pixel centres along y and along x, in units of the CRS.

        In pixels if the grid is rotated or has only ground control points: then the pixels of
        a row have no common coordinate.
        """
        a, b, c, d, e, f = self.transform
        if b or d:
            a, c, e, f = 1.0, 0.0, 1.0, 0.0
        rows, columns = (np.arange(n, dtype=np.float64) + 0.5 for n in self.shape)
        return np.asarray(rows * e + f), np.asarray(columns * a + c)

    def find_window(self, bbox: tuple[float, float, float, float]) -> Window:
        """Return the window of all pixels that a rectangle touches, clipped to the grid.

        Parameters
        ----------
        bbox : tuple of 4 float
            ``(xmin, ymin, xmax, ymax)`` in units of the CRS (pixels without a CRS).

        Raises
        ------
        UsageError
            If the rectangle is empty or outside, or the grid has only ground control points.
        """
        xmin, ymin, xmax, ymax = (float(v) for v in bbox)
        if self.gcps:
            raise UsageError(
                f"bbox = {tuple(bbox)} cannot be used: the images have only ground control points",
                do="leave out the bbox, or geocode the images first",
            )
        if not all(math.isfinite(v) for v in (xmin, ymin, xmax, ymax)):
            raise UsageError(
                f"bbox = {tuple(bbox)} is not four finite numbers",
                expected=f"xmin ymin xmax ymax within {self.bounds} ({self.crs_name})",
                do="give the corners of the part, or leave out the bbox for all",
            )
        a, b, c, d, e, f, *_ = ~self.affine
        corners = [(x, y) for x in (xmin, xmax) for y in (ymin, ymax)]
        columns = [a * x + b * y + c for x, y in corners]
        rows = [d * x + e * y + f for x, y in corners]
        # A tolerance of a millionth of a pixel, for coordinates that were rounded as decimals.
        window = Window(
            max(int(np.floor(min(rows) + 1e-6)), 0),
            min(int(np.ceil(max(rows) - 1e-6)), self.shape.y),
            max(int(np.floor(min(columns) + 1e-6)), 0),
            min(int(np.ceil(max(columns) - 1e-6)), self.shape.x),
        )
        if xmin >= xmax or ymin >= ymax or min(window.shape) <= 0:
            raise UsageError(
                f"bbox = {tuple(bbox)} holds no pixel of the stack",
                expected=f"xmin ymin xmax ymax within {self.bounds} ({self.crs_name})",
                do="give the bbox in the coordinates of the images, smallest values first",
            )
        return window

    def crop(self, window: Window) -> "Grid":
        """Return the grid of a window of this grid. The pixels keep their places."""
        a, b, c, d, e, f = self.transform
        y0, x0 = window.y0, window.x0
        gcps = tuple(
            GroundControlPoint(p.row - y0, p.column - x0, p.x, p.y, p.z) for p in self.gcps
        )
        moved = (a, b, c + a * x0 + b * y0, d, e, f + d * x0 + e * y0)
        rpcs = crop_rpcs(self.rpcs, y0, x0)
        return Grid(window.shape, self.crs_wkt, self.transform if self.gcps else moved, gcps, rpcs)

    def resample(self, shape: Shape, factors: tuple[float, float]) -> "Grid":
        """Return the grid of the same place with other pixels.

        Parameters
        ----------
        shape : Shape
            Its rows and columns.
        factors : tuple of float
            New pixels for each old one, along y and x.
        """
        a, b, c, d, e, f = self.transform
        fy, fx = factors
        gcps = tuple(
            GroundControlPoint(p.row * fy, p.column * fx, p.x, p.y, p.z) for p in self.gcps
        )
        transform = self.transform if self.gcps else (a / fx, b / fy, c, d / fx, e / fy, f)
        scaled = {"LINE_OFF": fy, "LINE_SCALE": fy, "SAMP_OFF": fx, "SAMP_SCALE": fx}
        rpcs = tuple(
            (name, repr(float(value) * scaled[name]) if name in scaled else value)
            for name, value in self.rpcs
        )
        return Grid(shape, self.crs_wkt, transform, gcps, rpcs)


def crop_rpcs(rpcs: Iterable[tuple[str, str]], y0: int, x0: int) -> tuple[tuple[str, str], ...]:
    """Return rational polynomial coefficients for an image that begins at another pixel."""
    moved = {"LINE_OFF": y0, "SAMP_OFF": x0}
    return tuple(
        (name, repr(float(value) - moved[name]) if moved.get(name) else value)
        for name, value in rpcs
    )
