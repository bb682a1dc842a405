"""Training patches of stacks, simulated on the device that trains: one date, and sums over others.

As in :mod:`sarstack.training.simulated_stack_patches`, stacks change more than real land does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sarstack.despecklers.first_pass import SMOOTHING_PX, weigh_difference
from sarstack.networks.date_sums import N_SUMS, UNKNOWN_COUNT, favour_agreeing
from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import TensorBatch
from sarstack.training.device_patches import DevicePatches, Group, Numbers, Simulation
from sarstack.training.patch_cuts import (
    cut_patches,
    draw_sensor_inputs,
    encode_numbers,
    make_batch,
    swap_axes,
)
from sarstack.training.simulated_stack_patches import (
    CHANGED_DB,
    CHANGED_WEIGHT,
    LONG_STACK_FRACTION,
    MAX_DATES,
    draw_date_count,
)

CHANGED_NAT = CHANGED_DB * math.log(10) / 10
MOST_TIMES = 6
"""Further dates for each simulated one, at most."""


class DeviceStackPatches(DevicePatches):
    """A source of batches for ``despecknet-mt``; see :class:`DevicePatches`.

    Pixels count more where the date differs by 1 dB from the median over time, or from the mean
    of the other dates of the patch. Without the second, changes of other dates leak into a date.

    Parameters
    ----------
    simulation, device, n_processes, references, pairs
        See :class:`DevicePatches`.
    first_passes : sequence of DeSpeckNet
        Trained networks. One of them, chosen at random for each scene, despeckles all dates; where
        its results agree, dates are summed for the second set of sums. Empty: there is one set.
    """

    n_dates = MAX_DATES

    def __init__(
        self,
        simulation: Simulation,
        device: str = "cpu",
        *,
        first_passes: Sequence[DeSpeckNet] = (),
        **options: Any,
    ) -> None:
        self.first_passes = [network.to(device).eval() for network in first_passes]
        if first_passes:
            self.n_planes = 5
        super().__init__(simulation, device, **options)

    def _observe(
        self, planes: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> Group:
        """Observe stacks; with a first pass, append ln of its results."""
        made = super()._observe(planes, rng, generator)
        if not self.first_passes:
            return made
        numbers = np.column_stack([made.looks, made.correlation, np.ones(len(made.looks))])
        sensors = encode_numbers(numbers, self.device)
        results = []
        for stack, sensor in zip(made.images[:, : self.n_dates], sensors, strict=True):
            used = torch.from_numpy(_draw_used_dates(rng)).to(self.device)
            network = self.first_passes[int(rng.integers(len(self.first_passes)))]
            results.append(compute_first_pass(network, stack, sensor, used))
        return made._replace(images=torch.cat([made.images, torch.stack(results)], 1))

    def _weigh(self, noisy: Tensor, clean: Tensor, looks: Numbers) -> tuple[Tensor, Tensor]:
        weight, detail = super()._weigh(noisy, clean, looks)
        return weight + CHANGED_WEIGHT * differs(clean, clean.median(1, keepdim=True)[0]), detail

    def _draw(self, groups: range, rng: np.random.Generator) -> TensorBatch:
        s, n = self.simulation, self.simulation.batch_size
        scenes = self._choose_scenes(groups, n, rng)
        images, is_turned = cut_patches(self._images, scenes, s.patch_px, rng)
        noisy, clean, weight, detail, *first = images.unflatten(1, (-1, self.n_dates)).unbind(1)
        dates, others, times = draw_dates(n, rng)
        looks = self._looks[scenes]
        rows, date = torch.arange(n, device=self.device), torch.from_numpy(dates).to(self.device)
        used = torch.from_numpy(others).to(self.device)[:, :, None, None]
        sets = [used, *(used * agreement(logs, logs[rows, date]) for logs in first)]
        sums = self._sum_others(noisy, clean, looks, sets, times, rng)
        if first:
            is_unknown = torch.from_numpy(rng.random(n) >= s.agreeing_fraction).to(self.device)
            favoured = favour_agreeing(*sums.split(N_SUMS, 1))
            sums[:, :N_SUMS] = torch.where(
                is_unknown[:, None, None, None], sums[:, :N_SUMS], favoured
            )
            sums[is_unknown, N_SUMS:] = UNKNOWN_COUNT
        own = [part[rows, date] for part in (noisy, clean, weight, detail)]
        mean = (used * clean).sum(1) / used.sum(1).clamp(min=1)
        is_misled = differs(own[1], mean) & (used.sum(1) > 0)
        own[2] = torch.where(is_misled & ~differs(own[1], clean.median(1)[0]),
                             own[2] + CHANGED_WEIGHT, own[2])  # fmt: skip
        correlation = swap_axes(self._correlation[scenes], is_turned)
        sensor = draw_sensor_inputs(looks, correlation, rng)
        return make_batch(torch.stack(own, 1), sensor, sums)

    def _sum_others(
        self,
        noisy: Tensor,
        clean: Tensor,
        looks: Numbers,
        sets: Sequence[Tensor],
        times: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> Tensor:
        """Sum other dates by each set of weights, (patch, 4 * set, y, x).

        Some patches get up to six further dates for each of them. The speckle of further dates is
        white, which is simpler to simulate: in sums over so many dates, little of it is left.
        """
        sums = sum_dates_of(noisy, *sets)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        for time in range(1, int(times.max()) + 1):
            rows = np.nonzero(times >= time)[0]
            chosen = torch.from_numpy(rows).to(self.device)
            shape = torch.from_numpy(looks[rows].astype(np.float32)).to(self.device)
            shape = shape[:, None, None, None].expand_as(clean[chosen]).contiguous()
            speckle = torch._standard_gamma(shape, generator=generator) / shape
            further = clean[chosen] * speckle + 1e-12
            added = sum_dates_of(further, *(weights[chosen] for weights in sets))
            sums.index_add_(0, chosen, added)
        return sums


def _draw_used_dates(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the dates that the first pass sees, 1 or 0: all, or at least two; shape (date,)."""
    used = np.ones(MAX_DATES, np.float32)
    if rng.random() < 0.5:
        used[rng.permutation(MAX_DATES)[int(rng.integers(2, MAX_DATES)) :]] = 0
    return used


@torch.no_grad()
def compute_first_pass(network: DeSpeckNet, stack: Tensor, sensor: Tensor, used: Tensor) -> Tensor:
    """Despeckle all dates of a stack, as :class:`sarstack.despecklers.first_pass.FirstPass` does.

    Parameters
    ----------
    network : DeSpeckNet
        On the device of the stack; of single dates, or ``despecknet-mt``.
    stack : Tensor, shape (date, y, x)
        Linear power.
    sensor : Tensor, shape (5,)
        See :func:`sarstack.networks.two_scale.encode_sensor`.
    used : Tensor, shape (date,)
        1 for the dates that the sums contain, else 0.

    Returns
    -------
    Tensor, shape (date, y, x)
        ln of the result, its mean over 3 x 3 pixels.
    """
    own = sum_dates_of(stack[:, None], used[:, None, None, None])
    others = own.sum(0, keepdim=True) - own
    with torch.autocast(stack.device.type, torch.bfloat16, enabled=stack.is_cuda):
        prediction = network(
            stack[:, None], sensor=sensor.expand(len(stack), -1), others=others, noise=False
        )
    smoothed = functional.avg_pool2d(
        prediction.clean, SMOOTHING_PX, 1, SMOOTHING_PX // 2, count_include_pad=False
    )
    return smoothed[:, 0]


def agreement(logs: Tensor, own: Tensor) -> Tensor:
    """Return the weight of each date, as :meth:`FirstPass.agreement`; shape (patch, date, y, x).

    Parameters
    ----------
    logs : Tensor, shape (patch, date, y, x)
        ln of the first pass.
    own : Tensor, shape (patch, y, x)
        That of the date of the patch.
    """
    return weigh_difference((logs - own[:, None]).abs())


def draw_dates(
    n: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Draw the date of each patch, its other dates, and how often these count further.

    Returns
    -------
    date : ndarray, shape (patch,), int
    others : ndarray, shape (patch, date), float32
        1 for the other dates that are used, else 0.
    times : ndarray, shape (patch,), int
        0 for most patches.
    """
    dates, others = np.empty(n, np.intp), np.zeros((n, MAX_DATES), np.float32)
    for patch in range(n):
        dates[patch], *rest = rng.permutation(MAX_DATES)[: 1 + draw_date_count(rng)]
        others[patch, rest] = 1
    is_long = (rng.random(n) < LONG_STACK_FRACTION) & others.any(1)
    return dates, others, np.where(is_long, rng.integers(1, MOST_TIMES + 1, n), 0)


def sum_dates_of(intensity: Tensor, *sets: Tensor) -> Tensor:
    """Return the sums of :mod:`sarstack.networks.date_sums`, shape (patch, 4 * set, y, x).

    Parameters
    ----------
    intensity : Tensor, shape (patch, date, y, x)
        Linear power; a pixel that is not positive adds nothing.
    *sets : Tensor, shape (patch, date, y, x) or (patch, date, 1, 1)
        Weights of the dates, one for each set of sums: 1 for the dates to sum, 0 for others.
    """
    positive = intensity > 0
    log = torch.where(positive, intensity, 1.0).log()
    terms = (positive.float(), torch.where(positive, intensity, 0.0), log, log.square())
    return torch.stack([(weights * term).sum(1) for weights in sets for term in terms], 1)


def differs(one: Tensor, other: Tensor) -> Tensor:
    """Return where two positive images differ by more than 1 dB."""
    smallest = torch.finfo(torch.float32).tiny
    return (one / other.clamp(min=smallest)).log().abs() > CHANGED_NAT
