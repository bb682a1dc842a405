"""Training removes speckle, resumes to the same bits, masks, stops; tuning never does harm."""

import csv
import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors import safe_open
from scipy.optimize import minimize_scalar

from sarstack.errors import ModelCardError, ResumeMismatchError, UsageError
from sarstack.networks.variants import VARIANTS, build_network
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.training.batch import Batch, prefetch_batches, to_tensors
from sarstack.training.checkpoint import CHECKPOINT, CURVE, plot_curve
from sarstack.training.losses import clean_loss, noisy_loss, sum_means, variation_loss
from sarstack.training.pixel_weights import weigh_contrast
from sarstack.training.ratio import RatioValidation
from sarstack.training.simulated_patches import SimulatedPatches
from sarstack.training.supervised import TrainingSettings, train
from sarstack.training.tuning import FinetuneSettings, PaperObjective, finetune


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors are not faster with several threads, and slower on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class FlatPatches:
    """Flat fields of different brightness with white speckle: easy to learn."""

    def __init__(self, looks=4, side=20, batch_size=6):
        self.looks, self.shape = looks, (batch_size, 1, side, side)
        self.seen = []

    def batch(self, step):
        self.seen.append(step)
        rng = np.random.default_rng([step, 9])
        clean = np.exp(rng.normal(0, 0.5, (self.shape[0], 1, 1, 1))) * np.ones(self.shape)
        noisy = clean * rng.gamma(self.looks, 1 / self.looks, self.shape)
        return Batch(
            noisy.astype(np.float32), clean.astype(np.float32), np.ones(self.shape, np.float32)
        )


VALIDATION = [FlatPatches().batch(10_000 + i) for i in range(2)]
QUICK = TrainingSettings(
    steps=28, warmup_steps=4, decay_steps=14, learning_rate=3e-3, validate_every=7,
    checkpoint_every=7,
)  # fmt: skip


TWO_SCALES = {"width": 8, "deep_width": 8, "head": 0, "body": 1, "tail": 0}


def new_network(variant="despecknet", seed=0):
    torch.manual_seed(seed)
    plain = variant in ("despecknet-paper", "sar-cnn")
    return build_network(variant, **({"depth": 4, "width": 8} if plain else TWO_SCALES))


def weights_of(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def assert_same_weights(found, expected):
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_training_removes_speckle(variant, tmp_path):
    network = new_network(variant)
    settings = dataclasses.replace(QUICK, steps=90, validate_every=30)
    result = train(network, FlatPatches(), VALIDATION, settings, tmp_path)
    # Speckle of 4 looks is 2.4 dB; a constant estimate does not halve it.
    noisy_db = 10 * np.log10(VALIDATION[0].intensity / VALIDATION[0].target)
    assert result.history[-1]["rmse_db"] < 0.6 * np.sqrt(np.mean(noisy_db**2))
    assert result.best_loss == min(row["validation_loss"] for row in result.history)
    assert not network.training
    with (tmp_path / CURVE).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [30, 60, 90]
    assert float(rows[-1]["rmse_db"]) == result.history[-1]["rmse_db"]
    plot_curve(result.history, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("xi", [0.0, 0.01])
def test_resumed_training_ends_in_the_same_bits(xi, tmp_path):
    settings = dataclasses.replace(QUICK, xi=xi)
    whole, halted, resumed = new_network(), new_network(), new_network(seed=5)
    expected = train(whole, FlatPatches(), VALIDATION, settings, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 18:
            raise Killed

    with pytest.raises(Killed):
        train(halted, FlatPatches(), VALIDATION, settings, tmp_path / "halted", progress=kill)
    source = FlatPatches()
    found = train(resumed, source, VALIDATION, settings, tmp_path / "halted")
    assert min(source.seen) == 14  # the last checkpoint, not the beginning
    assert_same_weights(weights_of(resumed), weights_of(whole))
    assert found.best_step == expected.best_step
    assert found.history == expected.history
    with (
        safe_open(tmp_path / "whole" / CHECKPOINT, "pt") as a,
        safe_open(tmp_path / "halted" / CHECKPOINT, "pt") as b,
    ):
        assert set(a.keys()) == set(b.keys())
        for key in a.keys():  # noqa: SIM118 - not a mapping
            assert torch.equal(a.get_tensor(key), b.get_tensor(key)), key


@pytest.mark.parametrize("n_threads", [1, 8])
def test_batches_are_in_order_for_any_number_of_threads(monkeypatch, n_threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)

    class Uneven:
        """A source in which every other batch takes longer than the next."""

        def batch(self, step):
            time.sleep(0.02 * (step % 2 == 0))
            return step, threading.get_ident()

    batches = list(prefetch_batches(Uneven().batch, range(3, 15)))
    assert [step for step, _ in batches] == list(range(3, 15))
    threads = {thread for _, thread in batches}
    assert len(threads) == 1 if n_threads == 1 else len(threads) > 1


def test_a_finished_training_takes_no_more_steps(tmp_path):
    first, second, source = new_network(), new_network(seed=3), FlatPatches()
    train(first, FlatPatches(), VALIDATION, QUICK, tmp_path)
    result = train(second, source, VALIDATION, QUICK, tmp_path)
    assert_same_weights(weights_of(second), weights_of(first))
    assert result.steps == QUICK.steps


def test_resuming_with_other_settings_is_refused(tmp_path):
    train(new_network(), FlatPatches(), VALIDATION, QUICK, tmp_path)
    other = dataclasses.replace(QUICK, learning_rate=1e-4)
    with pytest.raises(ResumeMismatchError, match="other settings"):
        train(new_network(), FlatPatches(), VALIDATION, other, tmp_path)


def test_damaged_checkpoint_is_refused(tmp_path):
    train(new_network(), FlatPatches(), VALIDATION, QUICK, tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelCardError, match="truncated"):
        train(new_network(), FlatPatches(), VALIDATION, QUICK, tmp_path)


def test_training_stops_without_improvement(tmp_path):
    settings = dataclasses.replace(QUICK, steps=200, learning_rate=0.0, patience=2)
    network = new_network()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0  # otherwise, running statistics would still improve
    result = train(network, FlatPatches(), VALIDATION, settings, tmp_path)
    assert result.stopped_early
    assert result.steps == 3 * QUICK.validate_every


def test_without_xi_the_noise_branch_is_unchanged(tmp_path):
    network = new_network()
    before = weights_of(network.noise)
    train(network, FlatPatches(), VALIDATION, dataclasses.replace(QUICK, xi=0.0), tmp_path)
    assert_same_weights(weights_of(network.noise), before)


def test_bfloat16_training_reduces_the_error(tmp_path):
    network = new_network()
    settings = dataclasses.replace(QUICK, bfloat16=True)
    result = train(network, FlatPatches(), VALIDATION, settings, tmp_path)
    assert all(p.dtype == torch.float32 for p in network.parameters())
    # The last layer starts near zero, so the first steps change little.
    assert result.history[-1]["rmse_db"] < 0.95 * result.history[0]["rmse_db"]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_gradients_in_bfloat16_agree_with_float32(variant):
    network = new_network(variant).eval()
    tensors = to_tensors(VALIDATION[0], "cpu")
    losses, gradients = [], []
    for bfloat16 in (False, True):
        network.zero_grad()
        prediction = tensors.predict(network, noise=True, bfloat16=bfloat16)
        means = [clean_loss(network, prediction, tensors), noisy_loss(prediction, tensors)]
        loss = sum_means(means)
        loss.backward()
        assert loss.dtype == torch.float32
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.ravel() for p in network.parameters()]))
    assert not torch.equal(*gradients)
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


# Losses


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_masked_pixels_do_not_change_the_loss(variant):
    batch = VALIDATION[0]
    weight = batch.weight.copy()
    weight[:, :, 8:] = 0
    wild = np.where(weight > 0, batch.target, np.float32(1e6))
    missing = np.where(weight > 0, batch.target, np.float32(np.nan))
    network = new_network(variant).eval()
    losses = []
    for target in (batch.target, wild, missing):
        tensors = to_tensors(Batch(batch.intensity, target, weight), "cpu")
        with torch.inference_mode():
            losses.append(float(clean_loss(network, network(tensors.intensity), tensors)))
    assert losses[0] == losses[1] == losses[2]
    assert np.isfinite(losses[0])


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_nodata_in_a_patch_gives_finite_losses_and_gradients(variant):
    batch = VALIDATION[0]
    noisy = batch.intensity.copy()
    noisy[:, :, 5:9, 3:] = np.nan
    noisy[0] = np.nan
    noisy[1, 0, 0, 0] = -0.1
    tensors = to_tensors(Batch(noisy, batch.target, batch.weight), "cpu")
    network = new_network(variant)
    prediction = network(tensors.intensity, tensors.valid)
    loss = sum_means([clean_loss(network, prediction, tensors), noisy_loss(prediction, tensors)])
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_log_loss_has_its_minimum_at_the_truth_and_near_the_mean_of_noisy_labels():
    network = new_network()
    rng = np.random.default_rng(0)
    labels = rng.gamma(20, 1 / 20, (1, 1, 150, 150)).astype(np.float32)
    for target, slack in ((np.full_like(labels, 2.0), 0.01), (2 * labels, 0.04)):
        tensors = to_tensors(Batch(target, target, np.ones_like(target)), "cpu")
        levels = np.log(2) + np.linspace(-0.5, 0.5, 101)
        any_prediction = network(tensors.intensity, noise=False)
        losses = []
        for level in levels:
            prediction = any_prediction._replace(clean=torch.full(target.shape, level))
            losses.append(float(clean_loss(network, prediction, tensors)))
        assert levels[np.argmin(losses)] == pytest.approx(np.log(2), abs=slack)


def best_constant(batch: Batch) -> float:
    """Return the constant prediction (ln intensity) with the smallest loss."""
    network, tensors = new_network(), to_tensors(batch, "cpu")
    any_prediction = network(tensors.intensity, noise=False)

    def loss(level: float) -> float:
        clean = torch.full(tensors.target.shape, level)
        return float(clean_loss(network, any_prediction._replace(clean=clean), tensors))

    return minimize_scalar(loss, bounds=(-1, 2), method="bounded").x


def test_weights_that_follow_the_target_bias_the_estimate_unless_in_the_square_alone():
    """A fifth of the pixels are points; the prediction is the same for all pixels."""
    points = np.random.default_rng(1).random((1, 1, 60, 60)) < 0.2
    target = np.where(points, 4, 1).astype(np.float32)
    ones, weight = np.ones_like(target), np.where(points, 3, 1).astype(np.float32)
    mean = np.log(target.mean())
    assert best_constant(Batch(target, target, ones, detail=0 * ones)) == pytest.approx(mean, 1e-3)
    assert best_constant(Batch(target, target, ones, detail=ones)) < mean - 0.03
    assert best_constant(Batch(target, target, weight)) > mean + 0.2
    assert best_constant(Batch(target, target, ones, detail=weight)) == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_contrast_weights_of_arrays_and_tensors_are_equal(strength):
    contrast = np.random.default_rng(2).normal(0, 3, (30, 40)).astype(np.float32)
    weight = weigh_contrast(contrast, strength)
    assert weight.dtype == np.float32
    assert weight.min() == 1
    assert weight.max() == pytest.approx(1 + 6 * strength)
    assert np.array_equal(weigh_contrast(torch.from_numpy(contrast), strength).numpy(), weight)


def test_variation_loss_is_the_mean_absolute_gradient():
    network = new_network()
    prediction = network(torch.ones(1, 1, 4, 5), noise=False)
    slope = torch.arange(5.0)[None, None, None].expand(1, 1, 4, 5)
    found = variation_loss(prediction._replace(clean=3 * slope))
    assert float(sum_means(found)) == pytest.approx(3)


# Tuning (phase 2)


def held_out(looks=4.0, seed=3):
    rng = np.random.default_rng(seed)
    flat = rng.gamma(looks, 1 / looks, (4, 1, 45, 45)).astype(np.float32)
    flat[:, :, :, 30:] *= np.exp(rng.normal(0, 1, (4, 1, 45, 15))).astype(np.float32)
    return [Batch(flat, flat, np.ones_like(flat))]


def test_windows_with_texture_are_not_used():
    validation = RatioValidation.from_patches(held_out(), looks=4.0, fraction=0.5)
    assert validation.n_windows == 18
    mask = validation.masks[0]
    assert not mask[..., 30:].any()
    assert mask[..., :30].any()


def test_windows_with_nodata_are_not_used():
    batches = held_out()
    batches[0].intensity[:2] = np.nan
    validation = RatioValidation.from_patches(batches, looks=4.0, fraction=0.9)
    assert not validation.masks[0][:2].any()
    batches[0].intensity[:] = np.nan
    with pytest.raises(UsageError, match="free of nodata"):
        RatioValidation.from_patches(batches, looks=4.0)


def test_ratio_score_of_a_perfect_network_and_of_one_that_copies_noise():
    class Perfect:
        def __init__(self, clean):
            self.clean = clean

        def eval(self):
            return self

        def __call__(self, intensity, valid=None, **_):
            return type("P", (), {"clean": self.clean(intensity)})

        def to_intensity(self, clean):
            return clean

    flat = Batch(*(image[..., :30] for image in held_out()[0][:3]))
    validation = RatioValidation((flat,), (np.ones((4, 1, 45, 30), bool),), 4.0)
    ideal = validation.score_network(Perfect(torch.ones_like))
    copying = validation.score_network(Perfect(lambda y: y))
    assert ideal.mean == pytest.approx(1, abs=0.03)
    assert ideal.variance == pytest.approx(0.25, rel=0.08)
    assert ideal.distance < 0.15
    assert copying.variance == pytest.approx(0, abs=1e-9)
    assert copying.distance > 0.9


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network that despeckles flat fields."""
    network = new_network()
    settings = dataclasses.replace(QUICK, steps=120, validate_every=30)
    train(network, FlatPatches(), VALIDATION, settings, tmp_path_factory.mktemp("trained"))
    return network


def test_tuning_that_copies_noise_leaves_the_network_unchanged(trained, tmp_path):
    network = new_network()
    network.load_state_dict(trained.state_dict())
    before = weights_of(network)
    # The paper's loss, with a large weight on X = Y.
    objective = PaperObjective(
        RatioValidation.from_patches(held_out(), looks=4.0), mu2=1.0, xi=0.01
    )
    settings = FinetuneSettings(steps=40, learning_rate=1e-2, validate_every=5)
    result = finetune(network, FlatPatches(), objective, settings, tmp_path)
    assert result.history[-1]["ratio_variance"] < result.before.variance
    assert result.after.distance <= result.before.distance
    if not result.improved:
        assert_same_weights(weights_of(network), before)
        assert "unchanged" in result.message
    assert result.steps < 40  # stopped early


@pytest.mark.parametrize("bfloat16", [False, True])
def test_tuning_corrects_a_biased_network(trained, tmp_path, bfloat16):
    network = new_network()
    network.load_state_dict(trained.state_dict())
    with torch.no_grad():
        network.clean.leave.bias.add_(0.3)  # 26 % too dark
    validation = RatioValidation.from_patches(held_out(), looks=4.0)
    settings = FinetuneSettings(steps=60, learning_rate=3e-3, validate_every=2, bfloat16=bfloat16)
    objective = PaperObjective(validation, mu2=1.0, xi=0.01)
    result = finetune(network, FlatPatches(), objective, settings, tmp_path)
    assert result.improved
    assert result.after.distance < result.before.distance
    assert validation.score_network(network).distance == pytest.approx(
        result.after.distance, abs=1e-6
    )
    assert result.best_step in [row["step"] for row in result.history]
    assert str(result.best_step) in result.message


def test_total_variation_is_a_loss_of_tuning(trained):
    """The paper's lambda; oracle: the mean absolute step of the clean image, along each axis."""
    batch = held_out()[0]
    validation, settings = RatioValidation.from_patches([batch], looks=4.0), FinetuneSettings()
    without, with_it = (
        PaperObjective(validation, tv=tv).losses(trained, batch, settings) for tv in (0.0, 0.5)
    )
    with torch.inference_mode():
        clean = to_tensors(batch, "cpu").predict(trained, noise=False).clean.numpy()
    expected = [0.5 * np.abs(np.diff(clean, axis=axis)).mean() for axis in (-2, -1)]
    assert [float(loss) for loss in with_it[:2]] == [float(loss) for loss in without]
    assert [float(loss) for loss in with_it[2:]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("at", [4, 12])
def test_resumed_tuning_ends_in_the_same_bits(trained, tmp_path, at):
    """The best step lies before the interruption in one case."""
    validation = RatioValidation.from_patches(held_out(), looks=4.0)
    objective = PaperObjective(validation, mu2=1.0, xi=0.01)
    settings = FinetuneSettings(steps=16, learning_rate=1e-3, validate_every=2, checkpoint_every=2)

    def darker():
        network = new_network()
        network.load_state_dict(trained.state_dict())
        with torch.no_grad():
            network.clean.leave.bias.add_(0.3)
        return network

    def kill(progress):
        if progress.step == at:
            raise InterruptedError

    whole, halted, resumed = darker(), darker(), darker()
    expected = finetune(whole, FlatPatches(), objective, settings, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        finetune(halted, FlatPatches(), objective, settings, tmp_path / "halted", progress=kill)
    for _ in range(2):  # the second time, no steps are left
        found = finetune(resumed, FlatPatches(), objective, settings, tmp_path / "halted")
        assert found.message == expected.message
        assert found.history[1:] == expected.history[1:]
        assert_same_weights(weights_of(resumed), weights_of(whole))
        assert expected.improved
        resumed = darker()


def test_zero_steps_leave_the_network_unchanged(trained, tmp_path):
    network = new_network()
    network.load_state_dict(trained.state_dict())
    before = weights_of(network)
    objective = PaperObjective(RatioValidation.from_patches(held_out(), looks=4.0))
    result = finetune(network, FlatPatches(), objective, FinetuneSettings(steps=0), tmp_path)
    assert not result.improved
    assert_same_weights(weights_of(network), before)


def test_simulated_patches_train_the_network_used_for_the_recipe(tmp_path):
    source = SimulatedPatches(1, batch_size=4, patch_px=24, simulator=SpeckleSimulator(4.0))
    validation = [source.batch(1000)]
    result = train(new_network(), source, validation, QUICK, tmp_path)
    losses = [row["validation_loss"] for row in result.history]
    assert losses[-1] < losses[0] or losses[-1] < 0.3
    assert_allclose(source.batch(3).target, source.batch(3).target)
