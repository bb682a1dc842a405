"""Measure the bias of a network on stationary speckle, for the tables in its card.

On stationary speckle the mean of the output of a network differs a little from the mean of its
input. This bias depends on looks and correlation. It is measured on simulated flat fields, and
inference divides by it, so that the mean of a scene is kept.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarstack.networks.card import BLIND_VARIANTS, PART_VARIANTS, BiasTable, ModelCard
from sarstack.networks.date_sums import sum_dates
from sarstack.networks.inference import despeckle_image
from sarstack.networks.network import DeSpeckNet
from sarstack.speckle.complex_parts import PART_LOOKS, split_parts
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
    """Simulate dates of a flat field: stationary speckle of mean 1.

    Parameters
    ----------
    looks : float
        Equivalent number of looks; 0.5: one part of a complex image.
    correlation : float
        Lag-1 correlation of intensity along both axes.
    band_limited : bool
        Whether the spectrum has a sharp edge; else it falls off smoothly.
    n_others : int
        Number of other dates.
    seed : int
        Seed of the random numbers.
    side_px : int
        Height and width.

    Returns
    -------
    ndarray, shape (1 + n_others, side_px, side_px), float32
        Linear power.
    """
    shape = (side_px, side_px)
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    rng = np.random.default_rng([seed, int(looks * 100), int(correlation * 100)])
    is_part = looks == PART_LOOKS
    simulator = SpeckleSimulator(
        1.0 if is_part else looks, (correlation, correlation), band_limited=band_limited
    )
    if is_part:
        return np.stack([split_parts(simulator.observe_field(flat, rng))[0]])
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
    """Return the ratio of the mean of the first date after despeckling to its mean before.

    Parameters
    ----------
    network : DeSpeckNet
        From :meth:`DeSpeckNet.fuse`.
    card : ModelCard
        Its bias tables are applied. To measure the bias itself, give a card without tables.
    dates : ndarray, shape (time, y, x), float32
        From :func:`simulate_flat`. The first is despeckled, the rest are the other dates.
    looks, correlation : float
        Looks and correlation of the simulation.
    sensor_given : bool
        Whether the network has them as input.
    """
    noisy, others = dates[0], sum_dates(dates[1:], dates.shape[1:]) if len(dates) > 1 else None
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    source = "given" if sensor_given else "estimated"
    statistics = SceneStatistics(looks, (correlation, correlation), bright, source)
    despeckled = despeckle_image(network, card, noisy, statistics, others)
    # Without the edge of the scene: there the network has less input and another bias.
    inner = (slice(card.halo, -card.halo),) * 2
    return float(despeckled[inner].mean(dtype=np.float64) / noisy[inner].mean(dtype=np.float64))


def measure_bias(
    network: DeSpeckNet,
    card: ModelCard,
    looks: tuple[float, ...] = LOOKS,
    correlation: tuple[float, ...] = CORRELATION,
    n_others: int = 0,
    side_px: int = SIDE_PX,
) -> BiasTable:
    """Measure the bias on a grid of looks and correlations.

    Parameters
    ----------
    network : DeSpeckNet
        In evaluation mode; not changed.
    card : ModelCard
        Card of the network; its bias tables are not used.
    looks, correlation : tuple of float
        Rows and columns of the table, increasing.
    n_others : int
        Number of other dates that the network has as input.
    side_px : int
        Height and width of the flat fields, more than twice the halo of the network.

    Returns
    -------
    BiasTable
        Mean of the bias on band-limited speckle and on speckle with a smooth spectrum; with looks
        and correlation as input of the network, and without.
    """
    fused = network.fuse()
    uncorrected = replace(card, calibration=BiasTable(), with_others=())
    # Networks that need the looks always get them.
    given = (True,) if card.variant in BLIND_VARIANTS else (True, False)
    tables = np.zeros((len(given), len(looks), len(correlation)))
    for row, n_looks in enumerate(looks):
        for column, lag1 in enumerate(correlation):
            for band_limited in (True, False):
                dates = simulate_flat(
                    n_looks, lag1, band_limited=band_limited, n_others=n_others, side_px=side_px
                )
                tables[:, row, column] += [
                    flat_bias(fused, uncorrected, dates, n_looks, lag1, sensor_given=told) / 2
                    for told in given
                ]
    with_sensor, *without = (tuple(map(tuple, table.round(5).tolist())) for table in tables)
    return BiasTable(looks, correlation, with_sensor, without[0] if without else (), n_others)


def add_bias_tables(network: DeSpeckNet, card: ModelCard, *, side_px: int = SIDE_PX) -> ModelCard:
    """Return the card with the bias of its network, measured on flat fields of `side_px`.

    A multi-temporal network has a table without other dates and one for each of `N_OTHER_DATES`.
    """
    if card.variant in PART_VARIANTS:  # half a look: more pixels for the same accuracy
        table = measure_bias(network, card, (PART_LOOKS,), side_px=2 * side_px)
    else:
        table = measure_bias(network, card, side_px=side_px)
    card = replace(card, calibration=table)
    if card.variant in MULTI_TEMPORAL_VARIANTS:
        tables = tuple(
            measure_bias(network, card, n_others=n, side_px=side_px) for n in N_OTHER_DATES
        )
        card = replace(card, with_others=tables)
    return card
