"""MuLoG: the compromise of each pixel against SciPy, betas, gain over its denoiser alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.special import digamma, polygamma

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.methods.mulog import choose_betas, move_to_likelihood
from sarstack.speckle.statistics import SceneStatistics


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_each_pixel_moves_to_the_minimum(looks: float):
    rng = np.random.default_rng(1)
    deviation, beta = float(np.sqrt(polygamma(1, looks))), 1 + 2 / looks
    intensity = rng.gamma(looks, 0.3 / looks, 40)
    intensity[:2] = 1e-7, 1e4
    target = rng.normal(np.log(0.3) / deviation, 1, 40).astype(np.float32)
    logs = np.log(intensity)
    start = (logs - digamma(looks) + np.log(looks)) / deviation
    found = move_to_likelihood(
        target, *(a.astype(np.float32) for a in (logs, start)), looks, deviation, beta
    )
    for u, v, y in zip(found, target, intensity, strict=True):

        def cost(x: float, v: float = v, y: float = y) -> float:
            likelihood = deviation * x + y * np.exp(-deviation * x)
            return (x - v) ** 2 / 2 + looks / beta * likelihood

        expected = minimize_scalar(cost, bounds=(u - 30, u + 30), method="bounded",
                                   options={"xatol": 1e-7})  # fmt: skip
        assert cost(float(u)) <= expected.fun + 1e-5 * abs(expected.fun)


def test_beta_is_that_of_the_paper_or_grows_where_steps_do_not_shrink():
    assert choose_betas(4.0, (0.0, 0.0), 6, "fixed", 12, 1.0) == (1.5,) * 6
    adaptive = choose_betas(4.0, (0.0, 0.0), 6, "adaptive", 12, 1.0)
    assert adaptive[:2] == (1.5, 1.5)
    ratios = np.divide(adaptive[1:], adaptive[:-1])
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
