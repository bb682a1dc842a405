"""Simulate observations of a sensor: speckled intensity, and its exact expectation.

Model (Goodman; bandwidth and weighting as in the Sentinel-1 IW processor): each look is a
circular complex Gaussian field, shaped by the sensor's transfer function H = FFT(h); looks
are averaged with weights::

    y = sum_k w_k |h * (sqrt(x) g_k + a)|^2,      E[y] = |h|^2 * x + |h * a|^2

with x the diffuse reflectivity and a the steady point targets. The expectation, not x, is
the truth: no despeckler can remove the point response of the sensor.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from sarstack.errors import UsageError
from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity

Number = TypeVar("Number", np.float32, np.complex64)

# Pixels of scene needed beyond an edge: the point response is below -50 dB there.
MARGIN_PX = 16
MAX_CORRELATION = 0.9


def _edge_correlation(bandwidth: NDArray[np.float64], taper: float) -> NDArray[np.float64]:
    """Return the correlation of the complex field at lag 1 for a bandwidth B.

    The spectrum has the weights ``w(f) = taper + (1 - taper) cos(2 pi f / B)``, ``|f| < B / 2``.
    """
    c0 = taper**2 + (1 - taper) ** 2 / 2
    c1, c2 = 2 * taper * (1 - taper), (1 - taper) ** 2 / 2
    g = c0 * np.sinc(bandwidth)
    for order, weight in ((1, c1), (2, c2)):
        g = g + weight / 2 * (np.sinc(order + bandwidth) + np.sinc(order - bandwidth))
    return np.asarray(g / c0)


@lru_cache(maxsize=64)
def _bandwidth_table(taper: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bandwidth = np.linspace(1.0, 0.1, 400)
    return _edge_correlation(bandwidth, taper) ** 2, bandwidth


def transfer_function(n: int, correlation: float, taper: float = 0.7) -> NDArray[np.float64]:
    """Return the transfer function of the sensor along one axis.

    Parameters
    ----------
    n : int
        Samples along the axis.
    correlation : float
        Lag-1 correlation of the intensity speckle wanted, 0 to 0.9.
    taper : float
        Coefficient of the Hamming window, 0.5 to 1 (0.7: Sentinel-1 IW; 1: no weighting). For a
        correlation that is too small for it, the full band and a weaker weighting are used.

    Returns
    -------
    ndarray, shape (n,), float64
        In the order of ``numpy.fft.fftfreq``, mean square 1.
    """
    reachable, widths = _bandwidth_table(round(taper, 3))
    bandwidth = 1.0
    if correlation >= reachable[0]:
        bandwidth = float(np.interp(correlation, reachable, widths))
    else:
        tapers = np.linspace(1.0, round(taper, 3), 200)
        full = (tapers * (1 - tapers) / (tapers**2 + (1 - tapers) ** 2 / 2)) ** 2
        taper = float(np.interp(correlation, full, tapers))
    frequency = np.abs(np.fft.fftfreq(n))
    response = taper + (1 - taper) * np.cos(2 * np.pi * frequency / bandwidth)
    # A bin at the edge of the band counts by its part inside the band; matters for short axes.
    covered = np.clip((bandwidth / 2 - frequency) * n + 0.5, 0, 1) if bandwidth < 1 else 1.0
    response = response * np.sqrt(covered)
    return np.asarray(response / np.sqrt(np.mean(response**2)))


def gaussian_transfer_function(n: int, correlation: float) -> NDArray[np.float64]:
    """Return the transfer function for the correlation ``correlation**(lag**2)``.

    It has no sharp edge of the band, like products that were resampled.

    Parameters
    ----------
    n : int
        Samples along the axis.
    correlation : float
        Lag-1 correlation of the intensity speckle, 0 to 0.9.

    Returns
    -------
    ndarray, shape (n,), float64
        In the order of ``numpy.fft.fftfreq``, mean square 1.
    """
    lag = np.minimum(np.arange(n), n - np.arange(n)).astype(np.float64)
    field = np.where(lag == 0, 1.0, np.sqrt(correlation) ** (lag**2))
    power = np.maximum(np.fft.fft(field).real, 0)
    return np.asarray(np.sqrt(power / power.mean()))


def look_weights(looks: float) -> NDArray[np.float64]:
    """Return weights of independent looks whose mean has `looks` equivalent looks.

    There are as few looks as possible. All weights are equal except the last. Their sum is 1, and
    ``1 / sum(w**2) == looks``.
    """
    n = int(np.ceil(looks - 1e-9))
    # (n - 1 + a)^2 = L (n - 1 + a^2), the root in (0, 1].
    whole = n - 1
    if whole == 0:
        return np.ones(1)
    a, b, c = 1 - looks, 2.0 * whole, whole**2 - looks * whole
    last = (-b + np.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    weights = np.ones(n)
    weights[-1] = np.clip(last, 0, 1)
    return weights / weights.sum()


@dataclass(frozen=True)
class SpeckleSimulator:
    """A sensor with a number of looks and correlated speckle.

    Attributes
    ----------
    looks : float
        Equivalent number of looks, 1 or more, any real number.
    correlation : tuple of float
        Lag-1 correlation of intensity speckle along y and along x, 0 to 0.9.
    taper : float
        Spectral weighting, see :func:`transfer_function`.
    band_limited : bool
        False: use :func:`gaussian_transfer_function`, which has no `taper`.
    """

    looks: float = 4.4
    correlation: tuple[float, float] = (0.0, 0.0)
    taper: float = 0.7
    band_limited: bool = True

    def __post_init__(self) -> None:
        if not self.looks >= 1:
            raise UsageError(f"looks = {self.looks}", expected="a number of at least 1")
        if not all(0 <= c <= MAX_CORRELATION for c in self.correlation):
            raise UsageError(
                f"correlation = {self.correlation}", expected=f"two numbers, 0 to {MAX_CORRELATION}"
            )

    def transfer(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the two-dimensional transfer function, shape (y, x), mean square 1."""
        along_y, along_x = (
            transfer_function(n, correlation, self.taper)
            if self.band_limited
            else gaussian_transfer_function(n, correlation)
            for n, correlation in zip(shape, self.correlation, strict=True)
        )
        return along_y[:, None] * along_x[None, :]

    def expect(self, scene: Reflectivity) -> NDArray[np.float32]:
        """Return the exact expected intensity, shape (y, x), linear power."""
        return _crop(self._expect_periodic(_pad(scene)))

    def observe(self, scene: Reflectivity, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return one speckled observation, shape (y, x), linear power."""
        return _crop(self._observe_periodic(_pad(scene), rng))

    def observe_field(self, scene: Reflectivity, rng: np.random.Generator) -> NDArray[np.complex64]:
        """Return the complex field of a single look, shape (y, x).

        Its power equals :meth:`observe` for one look, to the bit.
        """
        padded = _pad(scene)
        return _crop(self._draw_look(padded, self._filter(padded), rng))

    def observe_field_inside(
        self, scene: Reflectivity, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the complex field of a single look, and the expectation of its power.

        Without the 16-pixel margin of the scene, as :meth:`observe_inside`. The transfer function
        is real, so the parts of the field are independent of each other, given the scene.
        """
        field = self._draw_look(scene, self._filter(scene), rng)
        return _crop(field), _crop(self._expect_periodic(scene))

    def observe_inside(
        self, scene: Reflectivity, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return observation and expectation of a scene without its 16-pixel margin.

        The margin gives the surroundings of the result, so the scene is not mirrored at its edges.
        """
        return _crop(self._observe_periodic(scene, rng)), _crop(self._expect_periodic(scene))

    def _expect_periodic(self, scene: Reflectivity) -> NDArray[np.float32]:
        transfer = self.transfer(scene.diffuse.shape)
        # float64: in float32 a strong point leaves rounding errors in dark water.
        response = np.abs(fft.ifft2(transfer)) ** 2
        power = fft.irfft2(
            fft.rfft2(scene.diffuse.astype(np.float64)) * fft.rfft2(response),
            s=scene.diffuse.shape,
        )
        power = np.maximum(power, float(scene.diffuse.min()) * 0.5)
        if scene.points.any():
            power = power + np.abs(fft.ifft2(fft.fft2(scene.points) * transfer)) ** 2
        return np.asarray(power, dtype=np.float32)

    def _observe_periodic(
        self, scene: Reflectivity, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        observed = np.zeros(scene.diffuse.shape, dtype=np.float32)
        transfer = self._filter(scene)
        for weight in look_weights(self.looks):
            field = self._draw_look(scene, transfer, rng)
            observed += np.float32(weight) * (field.real**2 + field.imag**2)
        return observed

    def _filter(self, scene: Reflectivity) -> NDArray[np.float32] | None:
        """Return the transfer function for a scene; None for white speckle."""
        if self.correlation == (0.0, 0.0):
            return None
        return self.transfer(scene.diffuse.shape).astype(np.float32)

    def _draw_look(
        self,
        scene: Reflectivity,
        transfer: NDArray[np.float32] | None,
        rng: np.random.Generator,
    ) -> NDArray[np.complex64]:
        """Draw one look of a periodic scene, as the sensor's complex field."""
        parts = rng.standard_normal((*scene.diffuse.shape, 2), dtype=np.float32)
        field = parts.view(np.complex64)[..., 0] * np.sqrt(scene.diffuse / 2) + scene.points
        return field if transfer is None else np.asarray(fft.ifft2(fft.fft2(field) * transfer))


def _pad(scene: Reflectivity) -> Reflectivity:
    # The ground is mirrored at the edges, point targets are not.
    return Reflectivity(
        np.pad(scene.diffuse, MARGIN_PX, mode="symmetric"), np.pad(scene.points, MARGIN_PX)
    )


def _crop(padded: NDArray[Number]) -> NDArray[Number]:
    return np.ascontiguousarray(padded[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


@dataclass(frozen=True)
class SimulatedStack:
    """A simulated stack with its truth.

    Attributes
    ----------
    intensity : ndarray, shape (time, y, x), float32
        Observed linear power.
    truth : ndarray, shape (time, y, x), float32
        Exact expectation at each date, linear power.
    changed : ndarray, shape (time, y, x), bool
        Pixels where a date differs from the landscape of most dates.
    """

    intensity: NDArray[np.float32]
    truth: NDArray[np.float32]
    changed: NDArray[np.bool_]


def simulate_stack(
    n_dates: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
    simulator: SpeckleSimulator | None = None,
    *,
    kind: str | None = None,
    n_changes: int = 3,
    drift_db: float = 0.3,
) -> SimulatedStack:
    """Simulate a landscape on many dates, with changes.

    Parameters
    ----------
    n_dates : int
        Number of dates.
    shape : tuple of int
        Rows and columns.
    rng : numpy.random.Generator
        Random numbers.
    simulator : SpeckleSimulator, optional
        The sensor. Default: 4.5 looks, lag-1 correlation 0.65, as Sentinel-1 GRD.
    kind : str, optional
        Land cover, see :func:`sarstack.speckle.landscapes.simulate_reflectivity`.
    n_changes : int
        Number of patches on each date that are 3 to 10 dB brighter or darker on this date only.
    drift_db : float
        Standard deviation of the brightness of whole dates (moisture, season).

    Returns
    -------
    SimulatedStack
    """
    sensor = simulator or SpeckleSimulator(4.5, (0.65, 0.65))
    landscape = simulate_reflectivity(shape, rng, kind)
    intensity = np.empty((n_dates, *shape), dtype=np.float32)
    truth, changed = np.empty_like(intensity), np.zeros(intensity.shape, dtype=bool)
    for date in range(n_dates):
        gain_db = np.full(shape, rng.normal(0, drift_db))
        for _ in range(n_changes):
            blob = draw_blob(shape, rng)
            gain_db[blob] += rng.choice([-1.0, 1.0]) * rng.uniform(3, 10)
            changed[date] |= blob
        gain = (10 ** (gain_db / 10)).astype(np.float32)
        scene = Reflectivity(landscape.diffuse * gain, landscape.points * np.sqrt(gain))
        truth[date] = sensor.expect(scene)
        intensity[date] = sensor.observe(scene, rng)
    return SimulatedStack(intensity, truth, changed)


def draw_blob(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the mask of a round patch with irregular outline, about a tenth of the scene wide."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    radius = rng.uniform(0.04, 0.12) * min(shape) + 1
    y, x = rng.random() * shape[0], rng.random() * shape[1]
    wobble = gaussian_filter(rng.standard_normal(shape), radius / 3, mode="wrap")
    wobble *= 0.4 / max(float(wobble.std()), 1e-12)
    return np.asarray(np.hypot(rows - y, columns - x) < radius * (1 + wobble))
