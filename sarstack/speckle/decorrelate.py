"""Decorrelate the speckle of complex single-look images: make their spectrum flat inside its band.

One short separable filter for each image: the inverse of the sensor's spectral weighting, designed
from the measured spectrum of the image. It reaches eight pixels (17 taps: with 65 the correlation
differs by 0.001), so tiles agree with the whole image. Frequencies outside of the band are not
amplified.

References
----------
Lapini, A., Bianchi, T., Argenti, F., Alparone, L., "Blind speckle decorrelation for SAR image
despeckling", IEEE Transactions on Geoscience and Remote Sensing 52(2), 2014: blind estimate of the
spectrum, and points kept apart. There the filter is a division in the spectrum of the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.complex_fields import NODATA, to_power
from sarstack.speckle.point_targets import (
    FADE_PX,
    POINT_FACTOR,
    POINTS_HALO_PX,
    fade_around,
    find_areas,
    find_points,
)
from sarstack.speckle.system_response import BINS, AxisSpectrum, make_ramp, measure_response
from sarstack.tiles import row_strips

REACH_PX = 8
_STRIP_PX = 2**15
# Frequencies with a tenth of the power of the band or less are outside of it: -10 dB.
_EDGE = 0.1
# Wider bands are not resampled: neighbours of white speckle have a correlation of 0.05 or less.
_WIDE = 0.95
# Weight of frequencies outside of the band, where the gain should be small.
_OUTSIDE = 1e-3


@dataclass(frozen=True)
class AxisFilter:
    """The filter along one axis.

    Attributes
    ----------
    centre : float
        Centre of the band in cycles per pixel.
    taps : tuple of float
        The middle tap, and those to each side: the filter is symmetric around the centre.
    bandwidth : float
        Width of the band as a part of the sampling rate, 0 to 1.
    """

    centre: float
    taps: tuple[float, ...]
    bandwidth: float


@dataclass(frozen=True)
class Decorrelator:
    """Makes the speckle of one image white inside its band.

    Attributes
    ----------
    y, x : AxisFilter
    point_factor : float
        See :func:`sarstack.speckle.point_targets.find_points`.
    """

    y: AxisFilter
    x: AxisFilter
    point_factor: float = POINT_FACTOR

    @property
    def halo(self) -> int:
        """Number of pixels on each side of a pixel that its result depends on."""
        return POINTS_HALO_PX + max(REACH_PX, FADE_PX)

    def apply(
        self, numbers: NDArray[np.complex64], origin: tuple[int, int] = (0, 0)
    ) -> NDArray[np.complex64]:
        """Decorrelate a block.

        Parameters
        ----------
        numbers : ndarray, shape (y, x), complex64
            NaN in both parts = nodata.
        origin : tuple of int, optional
            Row and column of its first pixel in the image. They change rounding only.

        Returns
        -------
        ndarray, shape (y, x), complex64
            Same mean power and the same centre of the spectrum; NaN exactly where the input is
            NaN. Bright points keep their values.

        Notes
        -----
        Bright points and nodata are zero for the filter. The result fades to the input over four
        pixels beside points, areas of nodata (3 x 3 pixels or more) and the edges of the block, so
        no dark rim is left. Single pixels of nodata are mostly numbers that were rounded to zero.
        """
        power = to_power(numbers)
        missing = ~np.isfinite(power)
        points = find_points(power, self.point_factor)
        field = np.where(missing, np.complex64(0), numbers)
        ramp = self._ramp(field.shape, origin)
        baseband = _rotate(np.where(points, np.complex64(0), field), ramp.conj())
        filtered = _rotate(_convolve(_convolve(baseband, self.y.taps).T, self.x.taps).T, ramp)
        result = _mix(filtered, field, fade_around(points | find_areas(missing)))
        result[missing] = NODATA
        return result

    @property
    def bandwidths(self) -> tuple[float, float]:
        """Widths of the bands along y and x, to resample to; 1 if it is hardly narrower."""
        along_y, along_x = (
            1.0 if axis.bandwidth > _WIDE else axis.bandwidth for axis in (self.y, self.x)
        )
        return along_y, along_x

    def centre(
        self, numbers: NDArray[np.complex64], origin: tuple[int, int] = (0, 0)
    ) -> NDArray[np.complex64]:
        """Return a block with the centre of its spectrum at zero; see :meth:`apply`."""
        return _rotate(numbers, self._ramp(numbers.shape, origin).conj())

    def _ramp(self, shape: Sequence[int], origin: tuple[int, int]) -> NDArray[np.complex64]:
        """Return the phase ramp that moves the spectrum from zero to its centre."""
        rows, columns = (
            make_ramp(axis.centre, start, n)
            for axis, start, n in zip((self.y, self.x), origin, shape, strict=True)
        )
        return np.asarray(np.multiply.outer(rows, columns))


def fit_decorrelator(
    windows: Sequence[NDArray[np.complex64]], point_factor: float = POINT_FACTOR
) -> Decorrelator:
    """Design the filter of an image from parts of it.

    Parameters
    ----------
    windows : sequence of ndarray, shape (y, x), complex64
        Parts of one image, NaN in both parts = nodata.
    point_factor : float, optional
        See :func:`sarstack.speckle.point_targets.find_points`.

    Raises
    ------
    UsageError
        If fewer than 2,000 pixels can be used.

    Notes
    -----
    The mean power that the filter keeps is that of the windows, without points: the two axes of a
    real spectrum are not exactly independent (0.5 % in a Sentinel-1 image).
    """
    along_y, along_x = map(design_axis_filter, measure_response(windows))
    designed = Decorrelator(along_y, along_x, point_factor)
    before = after = 0.0
    for window in windows:
        powers = to_power(window), to_power(designed.apply(window))
        used = np.isfinite(powers[0]) & ~find_points(powers[0], point_factor)
        before += float(powers[0][used].sum(dtype=np.float64))
        after += float(powers[1][used].sum(dtype=np.float64))
    gain = (before / after) ** 0.5 if after > 0 else 1.0
    taps = tuple(tap * gain for tap in along_y.taps)
    return replace(designed, y=replace(along_y, taps=taps))


def design_axis_filter(spectrum: AxisSpectrum) -> AxisFilter:
    """Design the filter of one axis: weighted least squares in the frequencies.

    The wanted gain is the inverse square root of the power inside the band, at most that at -10 dB,
    and 0 outside. A frequency counts by its power, so the result is flat where there is a signal,
    and noise outside of the band is not amplified. Mean power is kept.
    """
    power = spectrum.power
    top = float(np.sort(power)[-BINS // 8 :].mean())
    relative = power / top
    inside = relative > _EDGE
    wanted = np.where(inside, 1 / np.sqrt(np.maximum(relative, _EDGE)), 0)
    weight = np.sqrt(np.where(inside, relative, 0) + _OUTSIDE)
    frequency = np.fft.fftfreq(BINS)
    waves = 2 * np.cos(2 * np.pi * np.multiply.outer(frequency, np.arange(REACH_PX + 1)))
    waves[:, 0] = 1
    taps = np.linalg.lstsq(waves * weight[:, np.newaxis], wanted * weight, rcond=None)[0]
    flat = power * (waves @ taps) ** 2
    taps *= np.sqrt(power.sum() / flat.sum())
    return AxisFilter(spectrum.centre, tuple(taps.tolist()), _find_bandwidth(flat))


def _find_bandwidth(flat: NDArray[np.float64]) -> float:
    """Return the width of a flat band: its power divided by that in the middle of the band."""
    frequency = np.abs(np.fft.fftfreq(BINS))
    width = 1.0
    for _ in range(3):
        middle = flat[frequency <= 0.35 * width].mean()
        width = float(np.clip(flat.mean() / middle, 4 / BINS, 1))
    return width


def _convolve(field: NDArray[np.complex64], taps: Sequence[float]) -> NDArray[np.complex64]:
    """Filter along axis 0, zeros outside; the order of the sums is the same for every pixel."""
    reach = len(taps) - 1
    contiguous = np.ascontiguousarray(field)
    parts = np.pad(contiguous.view(np.float32), ((reach, reach), (0, 0)))
    total = np.empty((len(field), parts.shape[1]), np.float32)
    for rows in row_strips(total.shape, _STRIP_PX):
        n = len(total[rows])
        first = rows.start + reach
        out = np.float32(taps[0]) * parts[first : first + n]
        for lag, tap in enumerate(taps[1:], 1):
            pair = parts[first - lag : first - lag + n] + parts[first + lag : first + lag + n]
            pair *= np.float32(tap)
            out += pair
        total[rows] = out
    return total.view(np.complex64)


def _rotate(field: NDArray[np.complex64], ramp: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Multiply complex numbers by parts: NumPy's product can round differently in short rows."""
    result = np.empty(field.shape, np.complex64)
    result.real = field.real * ramp.real - field.imag * ramp.imag
    result.imag = field.real * ramp.imag + field.imag * ramp.real
    return result


def _mix(
    filtered: NDArray[np.complex64], field: NDArray[np.complex64], weight: NDArray[np.float32]
) -> NDArray[np.complex64]:
    """Return the filtered field, and the field itself where its weight is 1."""
    result = np.empty(field.shape, np.complex64)
    result.real = filtered.real * (1 - weight) + field.real * weight
    result.imag = filtered.imag * (1 - weight) + field.imag * weight
    return result
