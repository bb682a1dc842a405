"""Measure the factor on the uncertainty of a model, by looks and correlation, for its card.

    python recipes/train_despecknet/scale_spread.py MODEL

The training mixes all sensors. What a network cannot tell from an image of one sensor remains, and
is corrected by a table. The scenes are neither those of the training nor those of the suites.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from spread_patches import draw_mosaic

from sarstack.networks.card import BiasTable, ModelCard
from sarstack.networks.inference import despeckle_image
from sarstack.networks.model_file import load_model, save_model
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.landscapes import LANDS, simulate_reflectivity
from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.spread import DEVIATIONS, SHARES

LOOKS = (1.0, 4.5, 10.0)
CORRELATION = (0.0, 0.3, 0.65, 0.85)
SIDE_PX, SEED, N_MOSAICS, OBJECTS = 160, 41, 7, 0.2


def make_scenes(sensor: SpeckleSimulator) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Yield observation and truth: a landscape of each kind, and mosaics of flat ground."""
    side = SIDE_PX + 2 * MARGIN_PX
    for index, kind in enumerate([*LANDS, *["mosaic"] * N_MOSAICS]):
        rng = np.random.default_rng([SEED, index])
        if kind == "mosaic":
            scene = draw_mosaic((side, side), rng, OBJECTS)
        else:
            scene = simulate_reflectivity((side, side), rng, kind)
        yield sensor.observe_inside(scene, rng)


def measure_scale(network: DeSpeckNet, card: ModelCard) -> BiasTable:
    """Return the factors for a network with looks and correlation as input, and without."""
    fused, card = network.fuse(), dataclasses.replace(card, spread_scale=BiasTable())
    tables = np.ones((2, len(LOOKS), len(CORRELATION)))
    for row, looks in enumerate(LOOKS):
        for column, lag1 in enumerate(CORRELATION):
            scenes = [*make_scenes(SpeckleSimulator(looks, (lag1, lag1)))]
            for table, source in zip(tables, ("given", "estimated"), strict=True):
                statistics = SceneStatistics(looks, (lag1, lag1), 1.0, source)
                table[row, column] = find_scale(fused, card, scenes, statistics)
        print(f"{looks:5.1f} looks", *tables[:, row].round(2), flush=True)
    given, without = (tuple(map(tuple, table.round(4).tolist())) for table in tables)
    return BiasTable(LOOKS, CORRELATION, given, without)


def find_scale(
    network: DeSpeckNet,
    card: ModelCard,
    scenes: list[tuple[NDArray[np.float32], ...]],
    statistics: SceneStatistics,
) -> float:
    """Return the factor with which the mean share inside the bands is the nominal one."""
    scaled = []
    for noisy, truth in scenes:
        result, told_db = despeckle_image(network, card, noisy, statistics, spread=True)
        scaled.append(np.abs(10 * np.log10(result / truth)) / np.maximum(told_db, 1e-6))
    errors = np.sort(np.concatenate(scaled, axis=None))

    def excess(log_factor: float) -> float:
        inside = np.searchsorted(errors, np.exp(log_factor) * np.array(DEVIATIONS)) / errors.size
        return float(np.mean(inside - np.array(SHARES)))

    return float(np.exp(brentq(excess, -2.0, 2.0, xtol=1e-3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="is written again, with the table in its card")
    path: Path = parser.parse_args().model
    torch.set_num_threads(1)
    network, card = load_model(path)
    scale = measure_scale(network, card)
    save_model(path, network, dataclasses.replace(card, spread_scale=scale))


if __name__ == "__main__":
    main()
