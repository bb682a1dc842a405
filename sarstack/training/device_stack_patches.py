"""Training patches of stacks, simulated on the device that trains: one date, and sums over others.

As in :mod:`sarstack.training.simulated_stack_patches`, stacks change more than real land does.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.training.batch import TensorBatch
from sarstack.training.device_patches import DevicePatches, Numbers
from sarstack.training.patch_cuts import cut_patches, draw_sensor_inputs, make_batch, swap_axes
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
    """

    n_dates = MAX_DATES

    def _weigh(self, noisy: Tensor, clean: Tensor, looks: Numbers) -> tuple[Tensor, Tensor]:
        weight, detail = super()._weigh(noisy, clean, looks)
        return weight + CHANGED_WEIGHT * differs(clean, clean.median(1, keepdim=True)[0]), detail

    def _draw(self, groups: range, rng: np.random.Generator) -> TensorBatch:
        s, n = self.simulation, self.simulation.batch_size
        scenes = self._choose_scenes(groups, n, rng)
        images, is_turned = cut_patches(self._images, scenes, s.patch_px, rng)
        noisy, clean, weight, detail = images.unflatten(1, (4, self.n_dates)).unbind(1)
        dates, others, times = draw_dates(n, rng)
        looks = self._looks[scenes]
        sums = self._sum_others(noisy, clean, looks, others, times, rng)
        rows, date = torch.arange(n, device=self.device), torch.from_numpy(dates).to(self.device)
        own = [part[rows, date] for part in (noisy, clean, weight, detail)]
        used = torch.from_numpy(others).to(self.device)
        mean = torch.einsum("nd,ndyx->nyx", used, clean) / used.sum(1).clamp(min=1)[:, None, None]
        is_misled = differs(own[1], mean) & (used.sum(1) > 0)[:, None, None]
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
        others: NDArray[np.float32],
        times: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> Tensor:
        """Sum other dates; some patches get up to six further dates for each of them.

        The speckle of further dates is white, which is simpler to simulate: in sums over so many
        dates, little of it is left.
        """
        used = torch.from_numpy(others).to(self.device)
        sums = sum_dates_of(noisy, used)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        for time in range(1, int(times.max()) + 1):
            rows = np.nonzero(times >= time)[0]
            chosen = torch.from_numpy(rows).to(self.device)
            shape = torch.from_numpy(looks[rows].astype(np.float32)).to(self.device)
            shape = shape[:, None, None, None].expand_as(clean[chosen]).contiguous()
            speckle = torch._standard_gamma(shape, generator=generator) / shape
            sums.index_add_(0, chosen, sum_dates_of(clean[chosen] * speckle + 1e-12, used[chosen]))
        return sums


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


def sum_dates_of(intensity: Tensor, used: Tensor) -> Tensor:
    """Return the sums of :mod:`sarstack.networks.date_sums`, shape (patch, 4, y, x).

    Parameters
    ----------
    intensity : Tensor, shape (patch, date, y, x)
        Linear power; a pixel that is not positive adds nothing.
    used : Tensor, shape (patch, date)
        1 for the dates to sum, else 0.
    """
    positive = intensity > 0
    log = torch.where(positive, intensity, 1.0).log()
    terms = (positive.float(), torch.where(positive, intensity, 0.0), log, log.square())
    return torch.stack([torch.einsum("nd,ndyx->nyx", used, term) for term in terms], 1)


def differs(one: Tensor, other: Tensor) -> Tensor:
    """Return where two positive images differ by more than 1 dB."""
    smallest = torch.finfo(torch.float32).tiny
    return (one / other.clamp(min=smallest)).log().abs() > CHANGED_NAT
