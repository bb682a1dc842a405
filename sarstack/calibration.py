"""Measure the radiometric bias of a network on stationary speckle, for its card.

A network estimates the mean of what it cannot see exactly; on flat land a small bias that
depends on looks and correlation is left. It is measured on simulated flats and divided out
by the despeckler, so that the mean of a scene is kept.
"""

from dataclasses import replace

import numpy as np

from sarstack.inference import despeckle_image
from sarstack.networks.card import Calibration, ModelCard
from sarstack.networks.despecknet import DeSpeckNet
from sarstack.reflectivity import Reflectivity
from sarstack.simulation import SpeckleSimulator
from sarstack.speckle import SceneStatistics

LOOKS = (1.0, 1.25, 1.6, 2.1, 3.0, 4.4, 6.5, 10.0, 14.0, 20.0)
CORRELATION = (0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.85)
SIDE_PX = 320
SEED = 77


def flat_bias(
    network: DeSpeckNet,
    card: ModelCard,
    looks: float,
    correlation: float,
    *,
    sharp: bool,
    seed: int = SEED,
    side_px: int = SIDE_PX,
) -> float:
    """Return the mean of a despeckled flat over the mean of the noisy one.

    Parameters
    ----------
    network : DeSpeckNet
        Folded, in evaluation mode.
    card : ModelCard
        Its calibration table is applied.
    looks, correlation : float
        Of the simulated speckle.
    sharp : bool
        Spectrum with a sharp band edge, or falling off smoothly.
    seed, side_px : int
        Of the simulation.
    """
    shape = (side_px, side_px)
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    rng = np.random.default_rng([seed, int(looks * 100), int(correlation * 100)])
    simulator = SpeckleSimulator(looks, (correlation, correlation), band_limited=sharp)
    noisy = simulator.observe(flat, rng)
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    known = SceneStatistics(looks, (correlation, correlation), bright)
    clean = despeckle_image(network, card, noisy, known)
    # The edge of the scene is another problem: the network sees less there.
    inner = (slice(card.halo, -card.halo),) * 2
    return float(clean[inner].mean(dtype=np.float64) / noisy[inner].mean(dtype=np.float64))


def calibrate(
    network: DeSpeckNet,
    card: ModelCard,
    looks: tuple[float, ...] = LOOKS,
    correlation: tuple[float, ...] = CORRELATION,
) -> Calibration:
    """Measure the bias on a grid of looks and correlations.

    Parameters
    ----------
    network : DeSpeckNet
        In evaluation mode; not changed.
    card : ModelCard
        Of the network; its calibration is not looked at.
    looks, correlation : tuple of float
        The grid, increasing.

    Returns
    -------
    Calibration
        The middle of speckle with and without a sharp band edge.
    """
    folded, plain = network.fold(), replace(card, calibration=Calibration())

    def both(n_looks: float, lag1: float) -> float:
        kinds = (flat_bias(folded, plain, n_looks, lag1, sharp=s) for s in (True, False))
        return round(sum(kinds) / 2, 5)

    bias = tuple(tuple(both(n, c) for c in correlation) for n in looks)
    return Calibration(looks, correlation, bias)
