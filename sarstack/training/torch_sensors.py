"""Simulate the observations of many sensors at once, in torch: on a CPU or a GPU.

The model is that of :mod:`sarstack.speckle.sensor`, with three effects of real products: looks that
are not even inside a scene, looks of unequal weights, and a noise floor that was subtracted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.speckle.sensor import (
    SpeckleSimulator,
    gaussian_transfer_function,
    look_weights,
    transfer_function,
)

MAX_LOOKS = 20

SMALLEST_CORRELATION = 1e-12
"""Smaller numbers are rounding errors."""

N_WEIGHT_SETS = 2
"""A sensor has two sets of weights of its looks. Scenes with uneven looks use both."""


class SensorTable(NamedTuple):
    """Sensors, tabulated for scenes of one size. The first axis counts the sensors.

    Attributes
    ----------
    looks : ndarray, shape (sensor, 2), float64
        Equivalent number of looks of each set of weights.
    correlation : ndarray, shape (sensor, 2), float64
        Lag-1 correlation of intensity along y and x.
    lags : ndarray, shape (sensor, 2, lag), float64
        Correlation of intensity along y and x at lags 0, 1, 2, ...
    n_looks : ndarray, shape (sensor,), int
        Number of single looks with a weight.
    weights : Tensor, shape (sensor, 2, 20), float32
        Two sets of weights of the single looks; the sum of each is 1.
    along_y, along_x : Tensor, shape (sensor, side), float64
        Transfer functions.
    """

    looks: NDArray[np.float64]
    correlation: NDArray[np.float64]
    lags: NDArray[np.float64]
    n_looks: NDArray[np.intp]
    weights: Tensor
    along_y: Tensor
    along_x: Tensor

    def take(self, numbers: NDArray[np.intp]) -> "SensorTable":
        """Return the sensors of some numbers, in their order."""
        on_device = torch.from_numpy(numbers).to(self.weights.device)
        host = (part[numbers] for part in self[:4])
        return SensorTable(*host, *(part[on_device] for part in self[4:]))  # type: ignore[arg-type]


def tabulate_sensors(
    sensors: Sequence[SpeckleSimulator],
    side_px: int,
    device: str = "cpu",
    weights: NDArray[np.float64] | None = None,
) -> SensorTable:
    """Tabulate the transfer functions and the weights of sensors.

    Parameters
    ----------
    sensors : sequence of SpeckleSimulator
        Sensors with at most 20 looks.
    side_px : int
        Height and width of the scenes, with their margins.
    device : str
        Torch device.
    weights : ndarray, shape (sensor, 2, 20), optional
        Weights of single looks. By default both sets are those of
        :func:`sarstack.speckle.sensor.look_weights`.
    """
    functions = np.array([_transfer_functions(sensor, side_px) for sensor in sensors])
    if weights is None:
        one = np.array([pad_weights(look_weights(sensor.looks)) for sensor in sensors])
        weights = np.repeat(one[:, None], N_WEIGHT_SETS, axis=1)
    # Intensity correlates as the square of the correlation of the complex field.
    lags = np.abs(np.fft.ifft(functions**2)[..., : side_px // 2]) ** 2
    lags[lags < SMALLEST_CORRELATION] = 0
    # The lag-1 correlation follows from the transfer function, also where it is not exactly that
    # which was asked for.
    return SensorTable(
        1 / (weights**2).sum(-1),
        lags[..., 1],
        lags,
        (weights > 0).any(1).sum(-1),
        torch.from_numpy(weights).to(device, torch.float32),
        *(torch.from_numpy(functions[:, axis]).to(device) for axis in (0, 1)),
    )


def pad_weights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append zeros up to 20 looks."""
    return np.pad(weights, (0, MAX_LOOKS - len(weights)))


def _transfer_functions(sensor: SpeckleSimulator, side_px: int) -> list[NDArray[np.float64]]:
    """Return the transfer functions along y and x."""
    if sensor.correlation == (0.0, 0.0):
        return [np.ones(side_px)] * 2
    if sensor.band_limited:
        return [transfer_function(side_px, c, sensor.taper) for c in sensor.correlation]
    return [gaussian_transfer_function(side_px, c) for c in sensor.correlation]


def observe_scenes(
    diffuse: Tensor,
    points: Tensor,
    sensors: SensorTable,
    generator: torch.Generator,
    *,
    floor: Tensor | None = None,
    share: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Observe periodic scenes, each with its sensor.

    Parameters
    ----------
    diffuse : Tensor, shape (scene, y, x), float32
        Mean linear power of rough surfaces.
    points : Tensor, shape (scene, y, x), complex64
        Amplitude of strong scatterers without speckle.
    sensors : SensorTable
        One sensor for each scene.
    generator : torch.Generator
        Random numbers, on the device of the scenes.
    floor : Tensor, shape (scene,), optional
        Linear power of noise that is added before detection, and subtracted afterwards. The
        observation may then be negative.
    share : Tensor, shape (scene, y, x), optional
        0 to 1 for each pixel: how much of the observation is weighted by the second set.

    Returns
    -------
    noisy, clean : Tensor, shape (scene, y, x), float32
        Observation, and its exact expectation.
    """
    clean = _expect(diffuse, points, sensors)
    total = diffuse if floor is None else diffuse + floor[:, None, None]
    noisy = torch.zeros_like(diffuse)
    # Scenes in the order of their looks: those that need one more look are the first ones.
    order = np.argsort(-sensors.n_looks, kind="stable")
    rows = torch.from_numpy(order).to(diffuse.device)
    sensors, root, points = sensors.take(order), total[rows].sqrt(), points[rows]
    blend = None if share is None else share[rows]
    is_white = bool((sensors.correlation == 0).all())
    transfer = None if is_white else _two_dimensional(sensors).to(torch.float32)
    for look in range(int(sensors.n_looks[0])):
        n = int((sensors.n_looks > look).sum())
        field = torch.randn(
            (n, *diffuse.shape[1:]), dtype=torch.complex64, device=diffuse.device,
            generator=generator,
        )  # fmt: skip
        field.mul_(root[:n]).add_(points[:n])
        if transfer is not None:
            field = torch.fft.ifft2(torch.fft.fft2(field).mul_(transfer[:n]))
        weight = sensors.weights[:n, :, look, None, None]
        factor = (
            weight[:, 0] if blend is None else torch.lerp(weight[:, 0], weight[:, 1], blend[:n])
        )
        real, imaginary = torch.view_as_real(field).unbind(-1)
        power = real.square().addcmul_(imaginary, imaginary)
        noisy[:n].addcmul_(power, factor)
    noisy = torch.empty_like(noisy).index_copy_(0, rows, noisy)
    return (noisy if floor is None else noisy - floor[:, None, None]), clean


def _two_dimensional(sensors: SensorTable) -> Tensor:
    return sensors.along_y[:, :, None] * sensors.along_x[:, None, :]


def _expect(diffuse: Tensor, points: Tensor, sensors: SensorTable) -> Tensor:
    """Return the exact expectation, as :meth:`SpeckleSimulator.expect` does.

    In float64: in float32 a strong point leaves rounding errors in dark water.
    """
    lowest = diffuse.amin((1, 2), keepdim=True) * 0.5
    power = diffuse.double()
    if not bool((sensors.correlation == 0).all()):
        along_y, along_x = (
            torch.fft.fft(torch.fft.ifft(part).abs().square()).real
            for part in (sensors.along_y, sensors.along_x)
        )
        response = along_y[:, :, None] * along_x[:, None, : diffuse.shape[-1] // 2 + 1]
        spectrum = torch.fft.rfft2(power).mul_(response)
        power = torch.fft.irfft2(spectrum, s=diffuse.shape[1:])
    power = torch.maximum(power, lowest.double())
    # To ask a GPU whether there are points takes longer than to compute without any.
    if points.is_cuda or bool(points.any()):
        steady = torch.fft.fft2(points.to(torch.complex128)).mul_(_two_dimensional(sensors))
        power = power + torch.view_as_real(torch.fft.ifft2(steady)).square().sum(-1)
    return power.float()
