"""Measure a model's bias on stationary speckle and return the table for its card."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from sarstack.inference import despeckle_image, load_network
from sarstack.networks.card import (
    Calibration,
    load_model,
    model_sha256,
    read_card,
    save_model,
)
from sarstack.reflectivity import Reflectivity
from sarstack.simulation import SpeckleSimulator

LOOKS = (1.0, 1.4, 2.0, 3.0, 4.4, 6.5, 10.0, 14.0, 20.0)
CORRELATION = (0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.85)
SIDE_PX = 256
SEED = 77


def flat_bias(
    model: Path, looks: float, correlation: float, seed: int, side_px: int, *, sharp: bool
) -> float:
    """Mean of the despeckled over mean of the noisy flat field, the card's table applied."""
    card = read_card(model)
    network = load_network(str(model), model_sha256(model))
    shape = (side_px, side_px)
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    rng = np.random.default_rng([seed, int(looks * 100), int(correlation * 100)])
    simulator = SpeckleSimulator(looks, (correlation, correlation), band_limited=sharp)
    noisy = simulator.observe(flat, rng)
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    known = {"looks": looks, "correlation": (correlation, correlation), "bright": bright}
    clean = despeckle_image(network, card, noisy, **known)
    return float(clean.mean(dtype=np.float64) / noisy.mean(dtype=np.float64))


def calibrate(model: Path) -> Calibration:
    """Return the bias on a grid of looks and correlations; the card must have none yet."""

    def both(looks: float, correlation: float) -> float:
        # The middle of speckle with and without a sharp band edge.
        pair = [flat_bias(model, looks, correlation, SEED, SIDE_PX, sharp=s) for s in (True, False)]
        return round(float(np.mean(pair)), 5)

    bias = tuple(tuple(both(looks, c) for c in CORRELATION) for looks in LOOKS)
    print("flat-field bias before calibration [%]; rows looks, columns correlation", CORRELATION)
    for looks, row in zip(LOOKS, bias, strict=True):
        print(f"{looks:5.1f} " + " ".join(f"{100 * (b - 1):+6.2f}" for b in row))
    return Calibration(LOOKS, CORRELATION, bias)


def check(model: Path) -> None:
    """Print what is left of the bias on flats that were not used for the table."""
    worst = 0.0
    for looks in (1.0, 1.2, 2.5, 4.5, 8.0, 12.0, 20.0):
        for sharp in (True, False):
            row = [
                100 * (flat_bias(model, looks, c, 5, 300, sharp=sharp) - 1)
                for c in (0, 0.1, 0.35, 0.65, 0.75, 0.85)
            ]
            worst = max(worst, *map(abs, row))
            print(f"{looks:5.1f} sharp={sharp!s:5} " + " ".join(f"{b:+6.2f}" for b in row))
    print(f"largest bias left: {worst:.2f} %")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    if "--check" not in sys.argv:
        network, card = load_model(path)
        save_model(path, network, dataclasses.replace(card, calibration=Calibration()))
        save_model(path, network, dataclasses.replace(card, calibration=calibrate(path)))
    check(path)
