"""A decorrelated image on fewer pixels: resampled to the band of its spectrum, burst by burst."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.decorrelated import DecorrelatedRaster, find_decorrelator
from sarstack.readers.grid import Grid
from sarstack.readers.sentinel1.slc import split_bursts
from sarstack.speckle.complex_fields import NODATA
from sarstack.speckle.resample import resample_window, resampled_length, source_window
from sarstack.tiles import Shape, Window


@dataclass(frozen=True)
class ResampledImage:
    """A decorrelated image, resampled to the width of its band.

    Attributes
    ----------
    raster : DecorrelatedRaster
    grid : Grid
        Of the image as it is stored.
    """

    raster: DecorrelatedRaster
    grid: Grid

    @property
    def bandwidths(self) -> tuple[float, float]:
        """Pixels of the result for each pixel of the input, along y and x."""
        return find_decorrelator(self.raster.stored).bandwidths

    @property
    def new_grid(self) -> Grid:
        """The grid of the result."""
        (y, x), (along_y, along_x) = self.grid.shape, self.bandwidths
        shape = Shape(resampled_length(y, along_y), resampled_length(x, along_x))
        return self.grid.resample(shape, self.bandwidths)

    def read(self, window: Window) -> NDArray[np.complex64]:
        """Read a window of the result, complex64, NaN in both parts = nodata.

        The middle of the spectrum is at zero, and the Doppler ramp of TOPS bursts is removed.
        """
        result = np.full(window.shape, NODATA, np.complex64)
        scene, widths = self.grid.shape, self.bandwidths
        everything = Window(0, scene.y, 0, scene.x)
        for burst, _ in split_bursts(self.raster, everything):
            # The rows whose centres lie in the burst.
            first, end = (int(np.ceil(y * widths[0] - 0.5)) for y in (burst.y0, burst.y1))
            part = window.overlap(Window(first, end, window.x0, window.x1))
            if part is None:
                continue
            outer = source_window(part, scene, widths)
            outer = Window(max(outer.y0, burst.y0), min(outer.y1, burst.y1), outer.x0, outer.x1)
            numbers = read_complex(self.raster, outer, baseband=True)
            result[part.slices_in(window)] = resample_window(numbers, outer, part, widths)
        return result
