"""One image of a SAFE product: digital numbers, calibrated while they are read."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import CALIBRATIONS, Calibration
from sarstack.errors import StackReadError, UsageError
from sarstack.readers.block_cache import read_blocks
from sarstack.readers.formats.gdal import open_gdal
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.annotation import read_annotation
from sarstack.readers.sentinel1.border import ReadNumbers, find_border
from sarstack.readers.sentinel1.calibration import read_calibration
from sarstack.readers.sentinel1.look_up_table import LookUpTable
from sarstack.readers.sentinel1.noise import read_noise
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.readers.versions import Stamp, stamp_sources
from sarstack.tiles import Shape, Window, row_strips

# Smallest result of the subtraction of noise, as a fraction of the noise.
_MIN_OF_NOISE = 0.01


@dataclass(frozen=True)
class SafeRaster(Raster):
    """One polarisation of a product.

    Attributes
    ----------
    product : SafeProduct
    annotation : str
        Member with the annotation of this image.
    calibration : {"sigma0", "beta0", "gamma0", "dn"}
        What the pixels are divided by; ``dn``: by nothing.
    remove_noise : bool
        Whether :meth:`subtract_noise` does so.
    pixels : str
        Path by which GDAL opens the digital numbers.
    dn_nodata : tuple of float
        Digital numbers that the file declares as nodata, besides zero.
    image_shape : Shape
        Size of the whole image; `shape` is that of the part in the stack.
    border : str
        Member with the digital numbers that show where the edges of the image are noise; empty
        if the edges are zero.
    """

    product: SafeProduct = field(default=SafeProduct(""))
    annotation: str = ""
    calibration: Calibration = "sigma0"
    remove_noise: bool = False
    pixels: str = ""
    dn_nodata: tuple[float, ...] = ()
    image_shape: Shape = field(default=Shape(0, 0))
    border: str = ""

    def choose_calibration(self, calibration: str | None, *, remove_noise: bool = False) -> Self:
        """Return the raster with a calibration, whose table is read as a check."""
        if calibration is not None and calibration not in CALIBRATIONS:
            raise UsageError(
                f"calibration = {calibration!r} is not known",
                expected=f"one of {', '.join(CALIBRATIONS)}",
                do="choose one of them",
            )
        chosen = replace(
            self, calibration=calibration or self.calibration, remove_noise=remove_noise
        )
        try:
            chosen.read_table()
        except Exception as err:  # each library has its own errors for a damaged file
            raise self._no_table_error("calibration", chosen.calibration, err) from err
        if remove_noise:
            self._check_noise()
        return chosen

    def _check_noise(self) -> None:
        """Raise if the noise table cannot be read, or the noise was already subtracted."""
        if read_annotation(self.product, self.annotation).noise_removed:
            raise UsageError(
                f"{self.product.path}: thermal noise was already subtracted",
                do="leave out --remove-noise",
            )
        try:
            read_noise(self.product, self._member("noise"))
        except Exception as err:
            raise self._no_table_error("noise", "thermal noise", err) from err

    def read_table(self) -> LookUpTable | None:
        """Read the table of the calibration, None for ``dn``."""
        if self.calibration == "dn":
            return None
        return read_calibration(self.product, self._member("calibration"), self.calibration)

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as calibrated intensity, float32, NaN = nodata."""
        table = self.read_table()
        with ExitStack() as files:
            numbers = _read_numbers(files, self.pixels, cache_blocks=cache_blocks)
            if self.border:
                copolarised = self.product.gdal_path(self.border)
                edges = _read_numbers(files, copolarised, cache_blocks=cache_blocks)
            for window in windows:
                intensity = self._to_intensity(numbers(window), window, table)
                if self.border:
                    intensity[find_border(edges, self.image_shape, window)] = np.nan
                yield intensity

    def stamp(self) -> list[Stamp]:
        """Return sizes and times of the digital numbers and of the tables."""
        members = [self._member("calibration"), self._member("noise"), self.border]
        files = {self.product.file_with(member) for member in members if member}
        return stamp_sources(sorted(files | {self.path}))

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Subtract the noise of the annotation from despeckled pixels.

        The speckle of the noise is the speckle of the signal, so a method despeckles their sum.
        What remains is at least a hundredth of the noise: estimates below the noise cannot become
        negative, and stay visible in dB.
        """
        if not self.remove_noise:
            return intensity
        noise_table = read_noise(self.product, self._member("noise"))
        table = self.read_table()
        result = np.empty_like(intensity)
        y0, x0 = window.y0 + self.origin[0], window.x0 + self.origin[1]
        for rows in row_strips(intensity.shape):
            first, n = y0 + rows.start, len(intensity[rows])
            strip = Window(first, first + n, x0, x0 + intensity.shape[1])
            noise = noise_table.interpolate(strip)
            if table is not None:
                noise /= table.interpolate(strip) ** 2
            result[rows] = np.maximum(intensity[rows] - noise, _MIN_OF_NOISE * noise)
        return result

    def _to_intensity(
        self, numbers: NDArray[Any], window: Window, table: LookUpTable | None
    ) -> NDArray[np.float32]:
        intensity = np.empty(numbers.shape, np.float32)
        for rows in row_strips(numbers.shape):
            strip = numbers[rows].astype(np.float64)
            strip[np.isin(numbers[rows], (0, *self.dn_nodata))] = np.nan
            if table is not None:
                y0 = window.y0 + rows.start
                strip /= table.interpolate(Window(y0, y0 + len(strip), window.x0, window.x1))
            intensity[rows] = strip * strip
        return intensity

    def _member(self, kind: str) -> str:
        """Return the member with the calibration or noise of this image."""
        return f"annotation/calibration/{kind}-{PurePosixPath(self.annotation).name}"

    def _no_table_error(self, kind: str, what: str, err: Exception) -> StackReadError:
        reason = (str(err) or type(err).__name__).splitlines()[0]
        way = {
            "calibration": "use --calibration dn (not calibrated)",
            "noise": "leave out --remove-noise",
        }
        return StackReadError(
            f"{self.product.path} has no table for {what} that can be used ({reason})",
            expected=self._member(kind),
            do=f"download the product again, or {way[kind]}",
        )


def _read_numbers(files: ExitStack, path: str, *, cache_blocks: bool) -> ReadNumbers:
    """Open a measurement until `files` is closed, and return the function that reads a window."""
    dataset = files.enter_context(open_gdal(path))

    def read(window: Window) -> NDArray[Any]:
        if cache_blocks:
            return read_blocks(dataset, path, 1, window)
        return dataset.read(1, window=((window.y0, window.y1), (window.x0, window.x1)))

    return read
