"""The Doppler ramp of TOPS bursts (IW and EW): the phase that turns each burst into baseband.

The antenna turns along the track during a burst, so the Doppler centroid sweeps over several times
the azimuth sampling rate. Without the ramp, every part of a burst has the same spectrum, around
zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.sentinel1.annotation import LIGHT_M_S, parse_xml, read_numbers, text_of
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.tiles import Window

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RangePolynomial:
    """A quantity along the range: a polynomial of the two-way time minus `origin_s`."""

    time: np.datetime64
    origin_s: float
    coefficients: tuple[float, ...]

    def at(self, range_time_s: Array) -> Array:
        """Return the quantity at two-way times."""
        powers = range_time_s - self.origin_s
        return np.asarray(np.polynomial.polynomial.polyval(powers, self.coefficients))


@dataclass(frozen=True)
class Burst:
    """What the ramp of one burst depends on.

    Attributes
    ----------
    first, end : int
        Its first row, and the row after its last one.
    steering_hz_s : float
        Doppler rate that the turning antenna causes.
    fm_rate, centroid : RangePolynomial
        Azimuth FM rate in Hz/s and Doppler centroid in Hz in the middle of the burst.
    """

    first: int
    end: int
    steering_hz_s: float
    fm_rate: RangePolynomial
    centroid: RangePolynomial

    def phase(self, rows: Array, interval_s: float, range_s: Array, middle_s: Array) -> Array:
        """Return the phase of the ramp.

        Parameters
        ----------
        rows : ndarray, shape (y,)
            Rows of the image.
        interval_s : float
            Time between two rows.
        range_s : ndarray, shape (x,)
            Two-way times of the columns.
        middle_s : ndarray, shape (1,)
            That of the middle of the swath.

        Returns
        -------
        ndarray, shape (y, x), float64
            In radians.
        """
        rate, centroid = self.fm_rate.at(range_s), self.centroid.at(range_s)
        sweep = rate * self.steering_hz_s / (rate - self.steering_hz_s)
        reference = self.centroid.at(middle_s) / self.fm_rate.at(middle_s) - centroid / rate
        time = (rows - (self.first + self.end) / 2)[:, np.newaxis] * interval_s - reference
        return np.asarray(2 * np.pi * (sweep / 2 * time + centroid) * time)


@dataclass(frozen=True)
class DopplerRamp:
    """The Doppler ramp of an image.

    Attributes
    ----------
    bursts : tuple of Burst
        Empty for an image without bursts: it has no ramp.
    interval_s : float
        Time between two rows.
    near_range_s, sampling_hz : float
        Two-way time of the first column, and columns in a second.
    n_columns : int
    """

    bursts: tuple[Burst, ...]
    interval_s: float
    near_range_s: float
    sampling_hz: float
    n_columns: int

    def phase(self, window: Window) -> Array:
        """Return the phase in radians of a window, in pixels of the image.

        Subtract it from the phase of the image to remove the ramp. Shape (y, x), float64; 0 outside
        of bursts.
        """
        phase = np.zeros(window.shape)
        middle, *columns = (
            self.near_range_s + np.atleast_1d(column) / self.sampling_hz
            for column in (self.n_columns / 2, np.arange(window.x0, window.x1))
        )
        for burst in self.bursts:
            common = window.overlap(Window(burst.first, burst.end, window.x0, window.x1))
            if common is not None:
                rows = np.arange(common.y0, common.y1, dtype=np.float64)
                found = burst.phase(rows, self.interval_s, columns[0], middle)
                phase[common.slices_in(window)] = found
        return phase


def read_doppler_ramp(product: SafeProduct, member: str) -> DopplerRamp:
    """Read the Doppler ramp of an image from its annotation.

    Raises
    ------
    OSError, KeyError, ValueError
        If the annotation is missing or damaged, or lacks a table.

    Notes
    -----
    Formulas of ESA's note on TOPS deramping (COPE-GSEG-EOPG-TN-14-0025): k_s = 2 v f_c k_psi / c,
    k_t = k_a k_s / (k_a - k_s), phase pi k_t (t - t_ref)^2 + 2 pi f_dc (t - t_ref) with t_ref =
    -f_dc / k_a minus its value in the middle of the swath. Of polynomials in time the nearest to
    the middle of the burst counts.
    """
    return _read(product, member, product.modified_ns(member))


@lru_cache(maxsize=16)
def _read(product: SafeProduct, member: str, _modified_ns: int) -> DopplerRamp:
    root = parse_xml(product, member)
    information = "imageAnnotation/imageInformation/"

    def number(path: str) -> float:
        return float(text_of(root, path, member))

    bursts = [*root.iter("burst")]
    interval_s = number(information + "azimuthTimeInterval")
    return DopplerRamp(
        _read_bursts(root, bursts, interval_s, member) if bursts else (),
        interval_s,
        number(information + "slantRangeTime"),
        number("generalAnnotation/productInformation/rangeSamplingRate") if bursts else 1.0,
        int(number(information + "numberOfSamples")),
    )


def _read_bursts(
    root: ET.Element, elements: Sequence[ET.Element], interval_s: float, member: str
) -> tuple[Burst, ...]:
    general = "generalAnnotation/productInformation/"
    n_lines = int(text_of(root, "swathTiming/linesPerBurst", member))
    turning = np.deg2rad(float(text_of(root, general + "azimuthSteeringRate", member)))
    frequency = float(text_of(root, general + "radarFrequency", member))
    rates = _read_polynomials(root, "azimuthFmRate", "azimuthFmRatePolynomial", member)
    centroids = _read_polynomials(root, "dcEstimate", "dataDcPolynomial", member)
    half = np.timedelta64(round(n_lines / 2 * interval_s * 1e9), "ns")
    found = []
    for index, element in enumerate(elements):
        middle = _parse_time(text_of(element, "azimuthTime", member)) + half
        speed = _read_speed(root, middle, member)
        fm_rate, centroid = (
            min(known, key=lambda p: abs(p.time - middle)) for known in (rates, centroids)
        )
        steering = 2 * speed / LIGHT_M_S * frequency * turning
        first = index * n_lines
        found.append(Burst(first, first + n_lines, float(steering), fm_rate, centroid))
    return tuple(found)


def _read_polynomials(
    root: ET.Element, tag: str, name: str, member: str
) -> tuple[RangePolynomial, ...]:
    found = []
    for element in root.iter(tag):
        if element.find(name) is not None:
            numbers = read_numbers(element, name, member)
        else:  # processor versions of 2015 and before
            numbers = np.array([float(text_of(element, f"c{i}", member)) for i in range(3)])
        time = _parse_time(text_of(element, "azimuthTime", member))
        origin_s = float(text_of(element, "t0", member))
        found.append(RangePolynomial(time, origin_s, tuple(numbers.tolist())))
    if not found:
        raise ValueError(f"{member} has no {tag}")
    return tuple(found)


def _read_speed(root: ET.Element, time: np.datetime64, member: str) -> float:
    """Return the speed of the satellite, interpolated between the states of its orbit, in m/s."""
    times, speeds = [], []
    for state in root.iter("orbit"):
        velocity = [float(text_of(state, f"velocity/{axis}", member)) for axis in "xyz"]
        times.append((_parse_time(text_of(state, "time", member)) - time) / np.timedelta64(1, "s"))
        speeds.append(float(np.linalg.norm(velocity)))
    if not times:
        raise ValueError(f"{member} has no orbit")
    return float(np.interp(0, times, speeds))


def _parse_time(text: str) -> np.datetime64:
    return np.datetime64(text.removesuffix("Z"), "ns")
