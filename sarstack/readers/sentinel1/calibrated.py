"""One image of digital numbers, calibrated while it is read: what all Sentinel-1 products share."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import CALIBRATIONS, Calibration
from sarstack.errors import StackReadError, UsageError
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.border import ReadNumbers, find_border
from sarstack.readers.sentinel1.look_up_table import LookUpTable
from sarstack.readers.sentinel1.noise_table import NoiseTable
from sarstack.tiles import Shape, Window, row_strips

# Smallest result of the subtraction of noise, as a fraction of the noise.
_MIN_OF_NOISE = 0.01


@dataclass(frozen=True)
class CalibratedRaster(Raster):
    """One polarisation of a product.

    A subclass reads digital numbers and tables.

    Attributes
    ----------
    calibration : {"sigma0", "beta0", "gamma0", "dn"}
        What the pixels are divided by; ``dn``: by nothing.
    remove_noise : bool
        Whether :meth:`subtract_noise` does so.
    dn_nodata : tuple of float
        Digital numbers that the file declares as nodata, besides zero.
    image_shape : Shape
        Size of the whole image; `shape` is that of the part in the stack.
    is_first, is_last : bool
        Whether no other slice was joined above or below.
    """

    calibration: Calibration = "sigma0"
    remove_noise: bool = False
    dn_nodata: tuple[float, ...] = ()
    image_shape: Shape = field(default=Shape(0, 0))
    is_first: bool = True
    is_last: bool = True

    @property
    @abstractmethod
    def product_path(self) -> str:
        """Folder, file or store of the product, for messages."""

    @abstractmethod
    def place_of_table(self, kind: str) -> str:
        """Return where the product has its table of ``calibration`` or ``noise``, for messages."""

    @abstractmethod
    def read_calibration_table(self, calibration: Calibration) -> LookUpTable:
        """Read the table of a calibration, any but ``dn``."""

    @abstractmethod
    def read_noise_table(self) -> NoiseTable:
        """Read the noise of each pixel, in squared digital numbers."""

    @abstractmethod
    def lacks_noise(self) -> bool:
        """Return whether thermal noise was already subtracted."""

    @abstractmethod
    def has_dark_border(self) -> bool:
        """Return whether the edges of the image are noise instead of zeros."""

    @abstractmethod
    def open_numbers(self, files: ExitStack, *, of_border: bool, cache_blocks: bool) -> ReadNumbers:
        """Return the function that reads digital numbers, until `files` is closed.

        Parameters
        ----------
        files : contextlib.ExitStack
        of_border : bool
            Not those of this image, but of the one that shows where the edges are noise.
        cache_blocks : bool
            Whether decoded blocks may be kept.
        """

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
        if self.lacks_noise():
            raise UsageError(
                f"{self.product_path}: thermal noise was already subtracted",
                do="leave out --remove-noise",
            )
        try:
            self.read_noise_table()
        except Exception as err:
            raise self._no_table_error("noise", "thermal noise", err) from err

    def read_table(self) -> LookUpTable | None:
        """Read the table of the calibration, None for ``dn``."""
        return None if self.calibration == "dn" else self.read_calibration_table(self.calibration)

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as calibrated intensity, float32, NaN = nodata."""
        table, has_border = self.read_table(), self.has_dark_border()
        with ExitStack() as files:
            numbers = self.open_numbers(files, of_border=False, cache_blocks=cache_blocks)
            if has_border:
                edges = self.open_numbers(files, of_border=True, cache_blocks=cache_blocks)
            for window in windows:
                intensity = self._to_intensity(numbers(window), window, table)
                if has_border:
                    ends = {"top": self.is_first, "bottom": self.is_last}
                    intensity[find_border(edges, self.image_shape, window, **ends)] = np.nan
                yield intensity

    def identity(self) -> dict[str, Any]:
        """Return all that decides the pixels.

        Not ``lowest``: it depends on the samples, which are fewer if there are more dates, and no
        square is below zero.
        """
        return {name: value for name, value in super().identity().items() if name != "lowest"}

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Subtract the noise of the product from despeckled pixels.

        The speckle of the noise is the speckle of the signal, so a method despeckles their sum.
        What remains is at least a hundredth of the noise: estimates below the noise cannot become
        negative, and stay visible in dB.
        """
        if not self.remove_noise:
            return intensity
        noise_table, table = self.read_noise_table(), self.read_table()
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
            strip = np.abs(numbers[rows].astype(np.result_type(numbers, np.float64)))
            strip[np.isin(numbers[rows], (0, *self.dn_nodata))] = np.nan
            if table is not None:
                y0 = window.y0 + rows.start
                strip /= table.interpolate(Window(y0, y0 + len(strip), window.x0, window.x1))
            intensity[rows] = strip * strip
        return intensity

    def _no_table_error(self, kind: str, what: str, err: Exception) -> StackReadError:
        reason = (str(err) or type(err).__name__).splitlines()[0]
        way = {
            "calibration": "use --calibration dn (not calibrated)",
            "noise": "leave out --remove-noise",
        }
        return StackReadError(
            f"{self.product_path} has no table for {what} that can be used ({reason})",
            expected=self.place_of_table(kind),
            do=f"download the product again, or {way[kind]}",
        )
