"""Pairs of real dates to learn from: one goes in, the mean of dates far from it is the target."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import sarstack
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.training.losses import Batch, to_tensors
from sarstack.training.noise_to_noise import mean_of_other_dates
from sarstack.training.simulated_patches import (
    SimulatedPatches,
    tell_sensor,
    turn_image,
    weigh_detail,
    weigh_looks,
)

FloatImage = NDArray[np.float32]

# Where nothing grows, neighbouring dates share speckle: as target it would teach to keep it.
APART = 4
ENOUGH_DATES = 12


@dataclass(frozen=True)
class DatePair:
    """One date of a place, the mean of the others brought to its level, and how far it counts.

    Attributes
    ----------
    noisy, target, weight, detail : ndarray, shape (y, x), float32
    known : SceneStatistics
        Of the noisy date.
    """

    noisy: FloatImage
    target: FloatImage
    weight: FloatImage
    detail: FloatImage
    known: SceneStatistics


def load_pairs(folder: Path, network: DeSpeckNet) -> list[DatePair]:
    """Pair the dates of all stacks in a folder (``stacks/*/``), 12 dates or more each.

    Parameters
    ----------
    folder : Path
    network : DeSpeckNet
        Trained; tells change of the land from speckle.
    """
    pairs: list[DatePair] = []
    for path in sorted(path for path in folder.glob("stacks/*") if path.is_dir()):
        for dates in sarstack.open_stack(path).data_vars.values():
            intensity = dates.transpose("time", "y", "x").to_numpy().astype(np.float32)
            if len(intensity) >= ENOUGH_DATES and np.isfinite(intensity).all():
                pairs += _pair_dates(intensity, network)
    return pairs


def _pair_dates(intensity: FloatImage, network: DeSpeckNet) -> Iterator[DatePair]:
    statistics = measure_scene(intensity)
    looks, correlation = statistics[0].looks, statistics[0].correlation
    images = intensity[:, None]
    told = np.tile(np.array([looks, *correlation, 1], np.float32), (len(images), 1))
    batch = to_tensors(Batch(images, images, np.ones_like(images), told), "cpu")
    network.eval()
    with torch.inference_mode():
        expected = batch.predict(network, noise=False).clean
        for date, noisy in enumerate(intensity):
            used = [date, *(i for i in range(len(images)) if abs(i - date) >= APART)]
            seen = to_tensors(Batch(images[used], images[used], np.ones_like(images[used])), "cpu")
            target, weight = mean_of_other_dates(seen, expected[used], len(used), looks)
            detail = weigh_detail(expected[date, 0].exp().numpy(), 1.0)
            counted = weight[0, 0].numpy() / (len(used) - 1) * weigh_looks(looks)
            yield DatePair(noisy, target[0, 0].numpy(), counted, detail, statistics[date])


class PairedPatches:
    """Simulated patches, some in each batch replaced by pairs of real dates.

    Parameters
    ----------
    simulated : SimulatedPatches
    pairs : list of DatePair
        Those smaller than a patch are surrounded by nodata.
    per_batch : int
        How many patches of each batch are real.
    """

    def __init__(
        self, simulated: SimulatedPatches, pairs: list[DatePair], per_batch: int = 1
    ) -> None:
        self.simulated, self.pairs, self.per_batch = simulated, pairs, per_batch

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, arrays (batch, 1, y, x), float32."""
        made = self.simulated.batch(step)
        rng = np.random.default_rng([self.simulated.seed, 3, step])
        for patch in range(self.per_batch):
            *images, sensor = self._draw(rng)
            fields = (made.intensity, made.target, made.weight, made.detail)
            for field, image in zip(fields, images, strict=True):
                if field is not None:
                    field[patch, 0] = image
            if made.sensor is not None:
                made.sensor[patch] = sensor
        return made

    def _draw(self, rng: np.random.Generator) -> tuple[FloatImage, ...]:
        pair, side = self.pairs[int(rng.integers(len(self.pairs)))], self.simulated.patch_px
        y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in pair.noisy.shape)
        way = int(rng.integers(8))
        images = []
        for image in (pair.noisy, pair.target, pair.weight, pair.detail):
            cut = image[y : y + side, x : x + side]
            missing = [(0, side - n) for n in cut.shape]
            images.append(turn_image(np.pad(cut, missing, constant_values=np.nan), way))
        correlation = pair.known.correlation[:: -1 if way % 2 else 1]
        sensor = tell_sensor(pair.known.looks, correlation, rng)
        # As in use: what a single date seems to have is not told.
        sensor[-1] *= pair.known.sensor is not None
        return (*images, sensor)
