"""Measure the radiometric bias of a network on stationary speckle, for its card.

A network estimates the mean of what it cannot see exactly; on flat land a small bias that
depends on looks and correlation is left. It is measured on simulated flats and divided out
by the despeckler, so that the mean of a scene is kept.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.card import BiasTable, ModelCard
from sarstack.networks.date_sums import sum_dates
from sarstack.networks.inference import despeckle_image
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.landscapes import Reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics

LOOKS = (1.0, 1.25, 1.6, 2.1, 2.5, 3.0, 3.6, 4.4, 6.5, 10.0, 14.0, 20.0)
CORRELATION = (0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.85)
SIDE_PX = 448
SEED = 77
MULTI_TEMPORAL_VARIANTS = ("despecknet-mt",)
N_OTHER_DATES = (1, 3, 9)


def simulate_flat(
    looks: float,
    correlation: float,
    *,
    band_limited: bool,
    n_others: int = 0,
    seed: int = SEED,
    side_px: int = SIDE_PX,
) -> NDArray[np.float32]:
    """Simulate stationary speckle of mean 1 on one date and its others.

    Parameters
    ----------
    looks, correlation : float
        Of the speckle, the same along both axes.
    band_limited : bool
        Spectrum with a sharp band edge, or falling off smoothly.
    n_others, seed, side_px : int
        Of the simulation.

    Returns
    -------
    ndarray, shape (1 + n_others, side_px, side_px), float32
    """
    shape = (side_px, side_px)
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    rng = np.random.default_rng([seed, int(looks * 100), int(correlation * 100)])
    simulator = SpeckleSimulator(looks, (correlation, correlation), band_limited=band_limited)
    return np.stack([simulator.observe(flat, rng) for _ in range(1 + n_others)])


def flat_bias(
    network: DeSpeckNet,
    card: ModelCard,
    dates: NDArray[np.float32],
    looks: float,
    correlation: float,
    *,
    sensor_given: bool = True,
) -> float:
    """Return the mean of a despeckled flat over the mean of the noisy one.

    Parameters
    ----------
    network : DeSpeckNet
        Folded, in evaluation mode.
    card : ModelCard
        Its calibration table is applied.
    dates : ndarray, shape (time, y, x), float32
        From :func:`simulate_flat`; all but the first are the others.
    looks, correlation : float
        Of the simulated speckle.
    sensor_given : bool
        Whether the network is told them.
    """
    noisy, others = dates[0], sum_dates(dates[1:], dates.shape[1:]) if len(dates) > 1 else None
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    source = "given" if sensor_given else "estimated"
    known = SceneStatistics(looks, (correlation, correlation), bright, source)
    clean = despeckle_image(network, card, noisy, known, others)
    # The edge of the scene is another problem: the network sees less there.
    inner = (slice(card.halo, -card.halo),) * 2
    return float(clean[inner].mean(dtype=np.float64) / noisy[inner].mean(dtype=np.float64))


def measure_bias(
    network: DeSpeckNet,
    card: ModelCard,
    looks: tuple[float, ...] = LOOKS,
    correlation: tuple[float, ...] = CORRELATION,
    n_others: int = 0,
) -> BiasTable:
    """Measure the bias on a grid of looks and correlations.

    Parameters
    ----------
    network : DeSpeckNet
        In evaluation mode; not changed.
    card : ModelCard
        Of the network; its calibration is not looked at.
    looks, correlation : tuple of float
        The grid, increasing.
    n_others : int
        Other dates that the network sees.

    Returns
    -------
    BiasTable
        The middle of speckle with and without a sharp band edge, told and not told.
    """
    fused = network.fuse()
    plain = replace(card, calibration=BiasTable(), with_others=())
    tables = np.zeros((2, len(looks), len(correlation)))
    for row, n_looks in enumerate(looks):
        for column, lag1 in enumerate(correlation):
            for band_limited in (True, False):
                dates = simulate_flat(n_looks, lag1, band_limited=band_limited, n_others=n_others)
                tables[:, row, column] += [
                    flat_bias(fused, plain, dates, n_looks, lag1, sensor_given=given) / 2
                    for given in (True, False)
                ]
    bias, bias_without_sensor = (tuple(map(tuple, table.round(5).tolist())) for table in tables)
    return BiasTable(looks, correlation, bias, bias_without_sensor, n_others)


def add_bias_tables(network: DeSpeckNet, card: ModelCard) -> ModelCard:
    """Return the card with the bias of its network, alone and, if it sees any, beside others."""
    card = replace(card, calibration=measure_bias(network, card))
    if card.variant in MULTI_TEMPORAL_VARIANTS:
        tables = tuple(measure_bias(network, card, n_others=n) for n in N_OTHER_DATES)
        card = replace(card, with_others=tables)
    return card
