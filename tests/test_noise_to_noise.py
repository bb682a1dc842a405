"""Noise2noise tuning: targets without input date and changed land, results closer to the truth."""

import math
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.evaluation.metrics import log_spread, rmse_db
from sarstack.labels.statistics import leave_one_out_means
from sarstack.networks.inference import run_network
from sarstack.networks.variants import build_network
from sarstack.readers.cube import index_cube
from sarstack.speckle.sensor import SpeckleSimulator, simulate_stack
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.batch import Batch, TensorBatch
from sarstack.training.noise_to_noise import (
    CHANGE_PX,
    NoiseToNoise,
    OtherDatesValidation,
    mean_of_other_dates,
)
from sarstack.training.ratio import RatioValidation
from sarstack.training.stack_patches import StackPatches, split_places
from sarstack.training.tuning import FinetuneSettings, finetune, is_significantly_smaller

LOOKS, CORRELATION = 4.5, (0.6, 0.6)
N_DATES, SIDE = 6, 96
SMALL = {"width": 8, "deep_width": 8, "head": 0, "body": 1, "tail": 0}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors are not faster with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def others_of(intensity, expected, looks=LOOKS):
    """Return target and weight of one place, each (date, y, x)."""
    image = torch.from_numpy(np.asarray(intensity, np.float32))[:, None]
    valid = torch.isfinite(image)
    batch = TensorBatch(image.nan_to_num(0.0), image, image, valid.float())
    level = torch.from_numpy(np.asarray(expected, np.float32))[:, None]
    found = mean_of_other_dates(batch, level, len(image), looks)
    return tuple(part[:, 0].numpy() for part in found)


def dates(*values, side=24):
    return np.stack([np.full((side, side), value, float) for value in values])


def test_the_target_is_the_mean_of_the_other_dates():
    target, weight = others_of(dates(1, 2, 3, 6), dates(0, 0, 0, 0))
    assert_allclose(target[:, 5, 5], [11 / 3, 10 / 3, 3, 2], rtol=1e-6)
    assert_array_equal(weight, 3)


def test_missing_dates_are_not_counted():
    intensity = dates(1, 2, 3, 6)
    intensity[3, :4] = np.nan
    target, weight = others_of(intensity, dates(0, 0, 0, 0))
    assert_allclose(target[0, 1, 1], 2.5)
    assert weight[0, 1, 1] == 2
    assert_array_equal(weight[3, :4], 0)


def test_a_brighter_date_is_scaled_and_one_far_brighter_left_out():
    intensity, expected = dates(1, 2, 3, 60), np.log(dates(1, 2, 2, 32))
    target, weight = others_of(intensity, expected)
    assert_allclose(target[0, 8, 8], (2 / 2 + 3 / 2) / 2, rtol=1e-5)
    assert_array_equal(weight[0], 2)
    assert_array_equal(weight[3], 0)


def test_an_object_on_a_single_date_is_not_in_the_target_of_the_others():
    rng = np.random.default_rng(0)
    expected = rng.normal(0, 0.1, (4, 40, 40))
    intensity = np.exp(expected) * rng.gamma(LOOKS, 1 / LOOKS, expected.shape)
    expected[2, 20, 20] += math.log(50)
    intensity[2, 20, 20] *= 50
    target, weight = others_of(intensity, expected)
    assert weight[0, 20, 20] <= 2
    assert target[0, 20, 20] < 5
    assert weight[2, 20, 20] == 0
    assert weight.mean() > 2.8


def test_residual_speckle_of_the_initial_network_is_not_in_the_target():
    rng = np.random.default_rng(0)
    residual = rng.normal(0, 0.4, (2, 64, 64))
    intensity = rng.gamma(LOOKS, 1 / LOOKS, (2, 64, 64))
    target, weight = others_of(intensity, residual)
    inner, used = (slice(CHANGE_PX, -CHANGE_PX),) * 2, weight[0] > 0
    log = np.log(np.where(used, target[0], 1))
    carried = np.corrcoef(log[inner][used[inner]], residual[0][inner][used[inner]])
    assert abs(carried[0, 1]) < 0.1


def test_pixels_with_the_same_speckle_on_all_dates_are_left_out():
    once = np.random.default_rng(0).gamma(LOOKS, 1 / LOOKS, (20, 20))
    _, weight = others_of([once] * 4, dates(0, 0, 0, 0, side=20))
    assert_array_equal(weight, 0)


@pytest.fixture(scope="module")
def untuned():
    """Weights of an untrained network, which hardly changes its input."""
    torch.manual_seed(0)
    return build_network("despecknet", **SMALL).state_dict()


def tune(weights, intensity, **settings):
    """Tune on a stack; return the network and the result."""
    network = build_network("despecknet", **SMALL)
    network.load_state_dict(weights)
    cube = xr.Dataset({"vv": (("time", "y", "x"), intensity)},
                      {"time": np.arange(len(intensity)).astype("datetime64[D]")})  # fmt: skip
    stack = index_cube(cube)
    known = {"vv": dict.fromkeys(range(len(intensity)), SceneStatistics(LOOKS, CORRELATION))}
    training, validation = (
        StackPatches(stack, None, places, 8, 0, known, n_dates=4)
        for places in split_places(stack, None, 32, validation_fraction=0.4)
    )
    all_dates = list(range(len(intensity)))
    batches = tuple(
        validation.read_with_others(*p, all_dates, all_dates) for p in validation.places
    )
    empty = tuple(np.zeros(b.intensity.shape, bool) for b in batches)
    other_dates = OtherDatesValidation(
        batches, (all_dates,) * len(batches), RatioValidation(batches, empty, LOOKS)
    )
    objective = NoiseToNoise.from_network(network, other_dates, 4, LOOKS)
    with TemporaryDirectory() as folder:
        return network, finetune(network, training, objective, FinetuneSettings(**settings), folder)


@pytest.fixture(scope="module")
def simulated():
    sensor = SpeckleSimulator(LOOKS, CORRELATION)
    return simulate_stack(N_DATES, (SIDE, SIDE), np.random.default_rng(3), sensor, n_changes=1)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_tuning_between_dates_reduces_the_error(untuned, simulated, bfloat16):
    settings = {"steps": 80, "learning_rate": 5e-3, "validate_every": 20, "bfloat16": bfloat16}
    tuned, result = tune(untuned, simulated.intensity, **settings)
    start = build_network("despecknet", **SMALL)
    start.load_state_dict(untuned)
    before, after = (
        rmse_db(
            run_network(network.eval(), simulated.intensity[0], sensor=(LOOKS, *CORRELATION)),
            simulated.truth[0],
        )
        for network in (start, tuned)
    )
    assert result.improved
    assert after < 0.75 * before
    assert result.after.spread < 0.9 * result.before.spread
    assert "other dates" in result.message
    assert f"step {result.best_step} is kept" in result.message


@pytest.mark.parametrize("rate", [0.3, 1e-9])
def test_weights_without_significant_improvement_are_not_kept(untuned, simulated, rate):
    tuned, result = tune(
        untuned, simulated.intensity, steps=6, learning_rate=rate, validate_every=3
    )
    assert not result.improved
    assert "unchanged" in result.message
    nearest = min(row["spread"] for row in result.history[1:])
    assert f"{result.before.spread:.4f} before tuning, at best {nearest:.4f}" in result.message
    assert "Do this:" in result.message
    for key, value in tuned.state_dict().items():
        assert torch.equal(value, untuned[key]), key


def test_the_validation_score_is_the_leave_one_date_out_score(untuned, simulated):
    batch = Batch(
        simulated.intensity[:, None], leave_one_out_means(simulated.intensity)[:, None],
        np.ones_like(simulated.intensity)[:, None],
    )  # fmt: skip
    network = build_network("despecknet", **SMALL)
    network.load_state_dict(untuned)
    ratio = RatioValidation((batch,), (np.zeros(batch.intensity.shape, bool),), LOOKS)
    score = OtherDatesValidation((batch,), (range(N_DATES),), ratio).score_network(network)
    spreads = [
        log_spread(run_network(network, date), others)
        for date, others in zip(simulated.intensity, batch.target[:, 0], strict=True)
    ]
    assert score.spread == pytest.approx(np.sqrt(np.mean(np.square(spreads))), rel=1e-4)
    assert score.n_pixels == simulated.intensity.size
    assert len(score.squares) == (SIDE // 16) ** 2
    assert not is_significantly_smaller(score.squares, score.squares)
    assert is_significantly_smaller(0.8 * score.squares, score.squares)
