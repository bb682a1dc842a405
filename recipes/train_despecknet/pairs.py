"""Training patches from pairs of real dates: one date, and the mean of dates far from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import sarstack
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.training.batch import Batch, to_tensors
from sarstack.training.noise_to_noise import mean_of_other_dates
from sarstack.training.pixel_weights import weigh_detail, weigh_looks
from sarstack.training.simulated_patches import (
    SimulatedPatches,
    apply_symmetry,
    draw_sensor_input,
)

FloatImage = NDArray[np.float32]

MIN_DATES_APART = 4
"""Without vegetation, neighbouring dates have the same speckle: a network that has one as input
and another as target would learn to keep it."""

MIN_DATES = 12


@dataclass(frozen=True)
class DatePair:
    """One date of a place, and the mean of other dates at its brightness as target.

    Attributes
    ----------
    noisy, target, weight, detail : ndarray, shape (y, x), float32
        See :class:`sarstack.training.batch.Batch`.
    statistics : SceneStatistics
        Of the noisy date.
    """

    noisy: FloatImage
    target: FloatImage
    weight: FloatImage
    detail: FloatImage
    statistics: SceneStatistics


def load_pairs(folder: Path, network: DeSpeckNet) -> list[DatePair]:
    """Make pairs from all stacks in a folder (``stacks/*/``) that have 12 dates or more.

    Parameters
    ----------
    folder : Path
    network : DeSpeckNet
        Trained network; distinguishes change of the land from speckle.
    """
    pairs: list[DatePair] = []
    for path in sorted(path for path in folder.glob("stacks/*") if path.is_dir()):
        for dates in sarstack.open_stack(path).data_vars.values():
            intensity = dates.transpose("time", "y", "x").to_numpy().astype(np.float32)
            if len(intensity) >= MIN_DATES and np.isfinite(intensity).all():
                pairs += _pair_dates(intensity, network)
    return pairs


def _pair_dates(intensity: FloatImage, network: DeSpeckNet) -> Iterator[DatePair]:
    statistics = measure_scene(intensity)
    looks, correlation = statistics[0].looks, statistics[0].correlation
    images = intensity[:, None]
    sensor = np.tile(np.array([looks, *correlation, 1], np.float32), (len(images), 1))
    batch = to_tensors(Batch(images, images, np.ones_like(images), sensor), "cpu")
    network.eval()
    with torch.inference_mode():
        expected = batch.predict(network, noise=False).clean
        for date, noisy in enumerate(intensity):
            far = [i for i in range(len(images)) if abs(i - date) >= MIN_DATES_APART]
            used = [date, *far]
            dates = to_tensors(Batch(images[used], images[used], np.ones_like(images[used])), "cpu")
            target, count = mean_of_other_dates(dates, expected[used], len(used), looks)
            detail = weigh_detail(expected[date, 0].exp().numpy(), 1.0)
            weight = count[0, 0].numpy() / (len(used) - 1) * weigh_looks(looks)
            yield DatePair(noisy, target[0, 0].numpy(), weight, detail, statistics[date])


class PairedPatches:
    """Simulated patches, some of each batch replaced by pairs of real dates.

    Parameters
    ----------
    simulated : SimulatedPatches
    pairs : list of DatePair
        Pairs smaller than a patch are padded with nodata.
    per_batch : int
        Number of real patches in each batch.
    """

    def __init__(
        self, simulated: SimulatedPatches, pairs: list[DatePair], per_batch: int = 1
    ) -> None:
        self.simulated, self.pairs, self.per_batch = simulated, pairs, per_batch

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x), float32."""
        batch = self.simulated.batch(step)
        rng = np.random.default_rng([self.simulated.seed, 3, step])
        for patch in range(self.per_batch):
            *images, sensor = self._draw(rng)
            fields = (batch.intensity, batch.target, batch.weight, batch.detail)
            for field, image in zip(fields, images, strict=True):
                if field is not None:
                    field[patch, 0] = image
            if batch.sensor is not None:
                batch.sensor[patch] = sensor
        return batch

    def _draw(self, rng: np.random.Generator) -> tuple[FloatImage, ...]:
        pair, side = self.pairs[int(rng.integers(len(self.pairs)))], self.simulated.patch_px
        y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in pair.noisy.shape)
        symmetry = int(rng.integers(8))
        images = []
        for image in (pair.noisy, pair.target, pair.weight, pair.detail):
            cut = image[y : y + side, x : x + side]
            missing = [(0, side - n) for n in cut.shape]
            images.append(apply_symmetry(np.pad(cut, missing, constant_values=np.nan), symmetry))
        correlation = pair.statistics.correlation[:: -1 if symmetry % 2 else 1]
        sensor = draw_sensor_input(pair.statistics.looks, correlation, rng)
        # As in use: looks estimated from a single date are not an input of the network.
        sensor[-1] *= pair.statistics.sensor is not None
        return (*images, sensor)
