"""The blind-spot network does not see the pixel that it predicts; its distributions are right."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import integrate, special, stats
from simulated_stack import write_tif
from small_networks import small_network

from sarstack.networks.blind_spot import (
    BlindSpotNetwork,
    Spot,
    choose_spot,
    fade_out_surprise,
)
from sarstack.networks.half_plane import mean_of_rows_above
from sarstack.networks.inverse_gamma import InverseGammaPrior
from sarstack.networks.two_scale import encode_sensor
from sarstack.networks.variants import build_network
from sarstack.training.batch import Batch, to_tensors
from sarstack.training.losses import blind_loss
from sarstack.training.supervised import TrainingSettings, train

RECIPES = Path(__file__).parents[1] / "recipes"
SIDE = 44
SPOTS = [Spot(1, 1), Spot(2, 1), Spot(1, 2), Spot(2, 2)]


def blind_network(**shape: int) -> BlindSpotNetwork:
    torch.manual_seed(3)
    network = build_network(
        "speckle2void", **{"width": 6, "deep_width": 6, "head": 1, "body": 2, "tail": 1} | shape
    ).double()
    torch.nn.init.normal_(network.clean.join[-1].weight, std=0.5)
    return network


def draw_speckle(seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> torch.Tensor:
    drawn = np.random.default_rng(seed).exponential(1.0, (1, 1, *shape))
    return torch.from_numpy(drawn)


def influence(network: BlindSpotNetwork, image: torch.Tensor, y: int, x: int) -> np.ndarray:
    """Return where a pixel of the input changes the prior of one pixel."""
    given = image.clone().requires_grad_()
    prior = network(given, noise=False).prior
    total = 0.7 * prior.level[0, 0, y, x] + prior.log_shape[0, 0, y, x]
    return torch.autograd.grad(total, given)[0][0, 0].numpy() != 0


# The network is blind


@pytest.mark.parametrize("spot", SPOTS)
def test_the_prior_of_a_pixel_does_not_depend_on_its_blind_spot(spot: Spot) -> None:
    """At every pixel of a cell of the coarse grid, and at the edges of the scene."""
    network, image = blind_network(), draw_speckle()
    network.spot = spot
    inner = [(20 + i // 4, 20 + i % 4) for i in range(16)]
    neighbours = np.zeros((5, 5), bool)
    for y, x in [*inner, (0, 0), (SIDE - 1, SIDE - 1), (0, 23), (31, SIDE - 1)]:
        seen = influence(network, image, y, x)
        rows, columns = np.indices(seen.shape)
        blind = (abs(rows - y) < spot.y) & (abs(columns - x) < spot.x)
        assert not seen[blind].any()
        if (y, x) in inner:
            neighbours |= seen[y - 2 : y + 3, x - 2 : x + 3]
    hidden = np.maximum(
        np.abs(np.indices((5, 5)) - 2) - np.array([spot.y, spot.x])[:, None, None], -1
    )
    assert (neighbours == (hidden >= 0).any(axis=0)).all(), "all other neighbours are seen"


def test_a_changed_pixel_changes_its_own_result_through_bayes_rule_only() -> None:
    network, image = blind_network(), draw_speckle(1)
    brighter = image.clone()
    brighter[0, 0, 17, 22] *= 5
    with torch.inference_mode():
        before, after = (network(i, noise=False) for i in (image, brighter))
    for name in ("level", "log_shape"):
        a, b = (getattr(p.prior, name)[0, 0, 17, 22] for p in (before, after))
        assert float(a) == float(b)
    assert float(after.clean[0, 0, 17, 22]) > float(before.clean[0, 0, 17, 22])


@pytest.mark.parametrize("n_columns", [1, 30])
def test_the_mean_of_a_half_plane_is_that_of_the_valid_rows_above(n_columns: int) -> None:
    """It sees no row below, and a constant image has its value as mean, whatever is missing."""
    rng = np.random.default_rng(4)
    image = torch.from_numpy(rng.normal(size=(1, 1, 60, 4 * n_columns))).requires_grad_()
    valid = torch.from_numpy((rng.random(image.shape) < 0.6).astype(float))
    row, column = 33, 2 * n_columns
    mean = mean_of_rows_above(image, valid)
    mean.mean[0, 0, row, column].backward()
    used = image.grad[0, 0] != 0
    assert not used[row + 1 :].any()
    assert used[row - 20 : row - 3, column - 1 : column + 2].equal(
        valid[0, 0, row - 20 : row - 3, column - 1 : column + 2] > 0
    )
    constant = mean_of_rows_above(torch.full_like(image, 2.5), valid)
    has_data = constant.weight > 0
    assert_allclose(constant.mean[has_data].numpy(), 2.5, rtol=1e-9)
    assert (constant.mean[~has_data] == 0).all()


def test_the_blind_spot_is_wider_along_a_correlated_axis() -> None:
    def spot_of(y: float, x: float) -> Spot:
        sensor = torch.tensor([1.0]), torch.tensor([[y, x]]), torch.ones(1)
        return choose_spot(encode_sensor(*sensor))

    assert spot_of(0.0, 0.05) == Spot(1, 1)
    assert spot_of(0.4, 0.0) == Spot(2, 1)
    assert spot_of(0.4, 0.3) == Spot(2, 2)


def test_a_training_draws_the_blind_spot_and_a_validation_does_not() -> None:
    network = blind_network().train()
    drawn = []
    for step in range(40):
        network.prepare_step(step)
        drawn.append(network.spot)
    assert set(drawn) == set(SPOTS)
    network.prepare_step(7)
    assert network.spot == drawn[7], "the same when the training is resumed"
    assert network.eval().spot is None


# Distributions


@pytest.mark.parametrize(("alpha", "looks"), [(1.5, 1.0), (4.0, 1.0), (30.0, 3.3)])
def test_marginal_and_posterior_equal_numerical_integrals(alpha: float, looks: float) -> None:
    beta, y = 1.3 * alpha, 1.9

    def joint(log_x: float) -> float:
        x = np.exp(log_x)
        speckle = stats.gamma(looks, scale=x / looks).pdf(y)
        return float(stats.invgamma(alpha, scale=beta).pdf(x) * speckle * x)

    def integral(weight) -> float:
        return integrate.quad(lambda v: weight(v) * joint(v), -8, 8, limit=400)[0]

    density = integral(lambda v: 1.0)
    mean = integral(np.exp) / density
    first, second = (integral(lambda v, n=n: v**n) / density for n in (1, 2))
    shape = (1, 1, 1, 1)
    prior = InverseGammaPrior(
        torch.full(shape, np.log(beta / alpha)), torch.full(shape, np.log(alpha - 1)),
        torch.full(shape, looks),
    )  # fmt: skip
    observed = torch.full(shape, np.log(y))
    # The density of ln y is y times that of y.
    surprise = float(prior.negative_log_marginal(observed))
    assert surprise == pytest.approx(-np.log(density * y), abs=1e-4)
    assert float(prior.posterior_mean(observed).exp()) == pytest.approx(mean, rel=1e-4)
    deviation = np.sqrt(second - first**2)
    assert float(prior.posterior_deviation()) == pytest.approx(deviation, rel=1e-3)


def test_truths_lie_in_the_bands_of_the_posterior() -> None:
    """Drawn from the prior and its speckle: shares of truths within 1 and 2 deviations."""
    rng, alpha, n = np.random.default_rng(0), 5.0, 40_000
    x = stats.invgamma(alpha, scale=4.0).rvs(n, random_state=rng)
    y = x * rng.exponential(1.0, n)
    as_image = (1, 1, 200, 200)
    prior = InverseGammaPrior(
        torch.full(as_image, np.log(4.0 / alpha)), torch.full(as_image, np.log(alpha - 1)),
        torch.ones(1, 1, 1, 1),
    )  # fmt: skip
    observed = torch.from_numpy(np.log(y).reshape(as_image))
    # The mean of ln x lies below the logarithm of the mean, as that of any gamma law.
    shift = np.log(alpha) - float(torch.digamma(torch.tensor(alpha + 1.0)))
    middle = prior.posterior_mean(observed).numpy() + shift
    z = (np.log(x).reshape(as_image) - middle) / prior.posterior_deviation().numpy()
    assert abs(z.mean()) < 0.02
    assert z.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("alpha", "looks"), [(3.0, 1.0), (30.0, 1.0), (1000.0, 4.0)])
def test_points_keep_their_value_and_speckle_does_not(alpha: float, looks: float) -> None:
    rng, as_image = np.random.default_rng(2), (1, 1, 500, 500)
    x = stats.invgamma(alpha, scale=alpha).rvs(as_image, random_state=rng)
    speckle = rng.gamma(looks, 1 / looks, as_image)
    prior = InverseGammaPrior(
        torch.zeros(as_image, dtype=torch.double),
        torch.full(as_image, np.log(alpha - 1), dtype=torch.double),
        torch.full((1, 1, 1, 1), looks, dtype=torch.double),
    )
    kept = fade_out_surprise(torch.from_numpy(np.log(x * speckle)), prior)
    assert float((kept < 1).double().mean()) < 1e-4
    if alpha > 3:
        point = torch.full(as_image, np.log(100.0), dtype=torch.double)
        assert float(fade_out_surprise(point, prior).max()) == 0
    dark = torch.full(as_image, -20.0, dtype=torch.double)
    assert float(fade_out_surprise(dark, prior).min()) == 1


def test_the_uncertainty_is_the_deviation_of_the_posterior() -> None:
    network = small_network("speckle2void")
    image = draw_speckle(5).float()
    with torch.inference_mode():
        seen = network(image, noise=False, spread=True)
    expected = np.sqrt(special.polygamma(1, seen.prior.alpha.numpy() + 1))
    assert_allclose(seen.spread.exp().numpy(), expected, rtol=1e-4)


# Loss


def test_the_loss_is_smallest_at_the_truth_and_ignores_the_target() -> None:
    x = 3.0
    rng, shape = np.random.default_rng(1), (1, 1, 150, 150)
    noisy = (x * rng.exponential(1.0, shape)).astype(np.float32)
    network = small_network("speckle2void")
    losses = []
    for target in (noisy, np.full_like(noisy, 7.0)):
        batch = to_tensors(Batch(noisy, target, np.ones_like(noisy)), "cpu")
        prediction = network(batch.intensity, noise=False)
        narrow = torch.full_like(prediction.clean, 6.0)
        losses.append([
            float(blind_loss(prediction._replace(prior=InverseGammaPrior(
                torch.full_like(narrow, float(level)), narrow, torch.ones(1, 1, 1, 1)
            )), batch))
            for level in np.log(x) + np.array([-0.1, -0.02, 0.0, 0.02, 0.1])
        ])  # fmt: skip
    assert losses[0] == losses[1]
    assert np.argmin(losses[0]) in (1, 2, 3)
    # The entropy of the logarithm of one look.
    assert losses[0][2] == pytest.approx(1 + np.euler_gamma, abs=0.03)


def test_pixels_without_any_neighbour_keep_their_value() -> None:
    network = small_network("speckle2void")
    image = torch.full((1, 1, 9, 9), 5.0)
    valid = torch.zeros_like(image)
    valid[0, 0, 4, 4] = 1
    with torch.inference_mode():
        clean = network(image, valid, noise=False).clean[0, 0, 4, 4]
    assert float(clean) == pytest.approx(np.log(5.0))


# Training


def test_a_resumed_training_draws_the_same_blind_spots(tmp_path) -> None:
    class Patches:
        def batch(self, step: int) -> Batch:
            noisy = np.random.default_rng(step).exponential(1.0, (2, 1, 16, 16)).astype(np.float32)
            return Batch(noisy, noisy, np.ones_like(noisy))

    class Killed(Exception):
        pass

    def kill(progress) -> None:
        if progress.step == 5:
            raise Killed

    def run(folder: str, progress=None) -> dict[str, torch.Tensor]:
        network = small_network("speckle2void")
        settings = TrainingSettings(
            steps=8, learning_rate=1e-2, validate_every=4, checkpoint_every=4, tv=0.003
        )
        train(
            network, Patches(), [Patches().batch(99)], settings, tmp_path / folder,
            progress=progress,
        )  # fmt: skip
        return network.state_dict()

    whole = run("whole")
    with pytest.raises(Killed):
        run("halted", kill)
    for name, weights in run("halted").items():
        assert torch.equal(weights, whole[name]), name


def test_squares_of_a_complex_image_have_its_power_and_no_gap(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "train_despecknet"))
    pack = runpy.run_path(str(RECIPES / "train_despecknet/pack_single_looks.py"))
    read = runpy.run_path(str(RECIPES / "train_despecknet/packed_data.py"))["read_packed"]
    rng = np.random.default_rng(8)
    numbers = 30 * (rng.normal(size=(320, 330)) + 1j * rng.normal(size=(320, 330)))
    numbers[:50] = 0
    write_tif(tmp_path / "slc.tif", numbers.astype(np.complex64))
    pack["pack"]([tmp_path / "slc.tif"], tmp_path / "packed.npz")
    images, pairs = read(tmp_path / "packed.npz", "cpu")
    assert images == []
    assert pairs.images.shape == (4, 4, 160, 160)
    assert_allclose(pairs.sensor[:, 0], 1)
    assert pairs.images[:2, 0, :50].isnan().all()
    noisy = pairs.images[2:, 0]
    assert noisy.isfinite().all()
    # Divided by the median of each square: the median of one look is ln 2 of its mean.
    assert float(noisy.mean()) == pytest.approx(1 / np.log(2), rel=0.03)
