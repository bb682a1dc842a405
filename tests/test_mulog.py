"""MuLoG: each pixel and whole iterations against closed forms, betas, gain over its denoiser."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from scipy.special import digamma, lambertw, polygamma

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.log_speckle import (
    adaptive_steps,
    fixed_steps,
    move_to_likelihood,
    solve,
    to_log_image,
)
from sarstack.despecklers.methods.mulog import VariationDenoiser
from sarstack.despecklers.mulog import choose_steps
from sarstack.speckle.statistics import SceneStatistics


def find_minimum(target, logs, weight):
    """Minimise (x - target)^2 / 2 + weight (x + exp(logs - x)) by the Lambert function."""
    return target - weight + lambertw(weight * np.exp(logs - target + weight)).real


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_each_pixel_moves_to_the_minimum(looks: float):
    rng = np.random.default_rng(1)
    beta = 1 + 2 / looks
    intensity = rng.gamma(looks, 0.3 / looks, (20, 20)).astype(np.float32)
    intensity[0, :2] = 1e-3, 1e2
    image = to_log_image(intensity, looks)
    target = rng.normal(np.log(0.3) / image.deviation, 1, (20, 20)).astype(np.float32)
    found = image.deviation * move_to_likelihood(target, image, beta)
    weight = looks * image.deviation**2 / beta
    expected = find_minimum(image.deviation * target, image.logs.astype(np.float64), weight)
    assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("looks", [1.0, 5.0])
def test_iterations_are_those_of_the_paper_and_of_the_program(looks: float, adaptive: bool):
    # Plain loop in float64 on ln y. The denoiser is a weighted mean that brightens, in units of
    # the deviation of the speckle: iterations do not shrink, so an adaptive beta grows.
    def denoise(image, noise):
        return image + noise * (gaussian_filter(image, 1.5) - image) + 3

    rng = np.random.default_rng(4)
    intensity = (np.where(np.arange(30) > 12, 4, 1) * rng.gamma(looks, 1 / looks, (30, 30))).astype(
        np.float32
    )
    image = to_log_image(intensity, looks)
    steps = adaptive_steps(image, 6, denoise) if adaptive else fixed_steps(looks, 6)
    found = image.deviation * solve(image, steps, denoise)

    logs, variance = image.logs.astype(np.float64), float(polygamma(1, looks))
    deviation = np.sqrt(variance)
    beta, noise = 1 + 2 / looks, 1 if adaptive else 1 / np.sqrt(1 + 2 / looks)
    x = logs - digamma(looks) + np.log(looks)
    smooth = deviation * denoise(x / deviation, noise)
    error = smooth - x
    old, old_length = [smooth + error, smooth, error], np.inf
    for _ in range(6):
        x = find_minimum(smooth + error, logs, looks * variance / beta)
        smooth = deviation * denoise((x - error) / deviation, 1 / np.sqrt(beta))
        error = error + smooth - x
        new = [x, smooth, error]
        length = sum(np.linalg.norm(a - b) for a, b in zip(new, old, strict=True))
        beta *= 1.05 if adaptive and length > 0.95 * old_length else 1
        old, old_length = new, length
    assert_allclose(found, x, atol=2e-5)
    assert (steps[-1].beta > steps[0].beta) == adaptive


def test_beta_is_that_of_the_paper_or_that_of_the_program():
    denoiser = VariationDenoiser(12, 1.0)
    fixed = choose_steps(denoiser, 4.0, (0.0, 0.0), 6, "fixed")
    assert_allclose(fixed, [(1.5**-0.5, 1.5)] * 6)
    noises, betas = zip(*choose_steps(denoiser, 1.0, (0.0, 0.0), 6, "adaptive"), strict=True)
    assert_allclose(noises, 1 / np.sqrt((1, *betas[:-1])))
    assert betas[:2] == (3, 3)
    ratios = np.divide(betas[1:], betas[:-1])
    assert all(np.isclose(ratio, 1) or np.isclose(ratio, 1.05) for ratio in ratios)


@pytest.mark.parametrize(("looks", "least"), [(1, 1.03), (8, 1.02)])
def test_it_is_better_than_the_same_variation_without_it(looks: int, least: float):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:160, :160] / 30
    truth = 0.1 * np.exp(np.sin(y) + np.cos(x)) * np.where(x > 2.6, 5, 1)
    noisy = (truth * rng.gamma(looks, 1 / looks, truth.shape)).astype(np.float32)[np.newaxis]
    statistics = [SceneStatistics(looks, (0.0, 0.0), 1.0)]

    def error(name: str) -> float:
        found = make_despeckler(name).apply(noisy, statistics)[0]
        return float(np.sqrt(np.mean(np.log(found / truth) ** 2)))

    assert error("total-variation") > least * error("mulog")


def test_strength_smooths_more():
    rng = np.random.default_rng(3)
    noisy = rng.gamma(4, 0.25, (1, 90, 90)).astype(np.float32)
    statistics = [SceneStatistics(4, (0.0, 0.0), 1.0)]
    weak, strong = (make_despeckler("mulog", strength=s).apply(noisy, statistics) for s in (0.3, 2))
    assert strong[0].std() < 0.5 * weak[0].std()
    assert_allclose(strong.mean(), noisy.mean(), rtol=0.02)
