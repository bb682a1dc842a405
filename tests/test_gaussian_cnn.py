"""MuLoG with a network and with BM3D: what the network removes, what it is told, what it keeps."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.despecklers import block_matching_method, make_despeckler
from sarstack.despecklers.block_matching.compiler import STEP_PX
from sarstack.despecklers.block_matching.gaussian import HALO_PX
from sarstack.despecklers.methods import mulog_cnn
from sarstack.errors import ModelCardError, UsageError
from sarstack.networks.gaussian_cnn import GaussianCNN, ImageDenoiser
from sarstack.networks.inference import load_network
from sarstack.networks.model_file import load_model, model_sha256, read_card, shipped_model
from sarstack.speckle.statistics import SceneStatistics

NAMES = ("mulog-cnn", "mulog-cnn-sar")
WHITE = (0.0, 0.0)


def draw_logs(side: int = 200) -> np.ndarray:
    """Draw fields whose brightness changes slowly inside and suddenly at their edges, in nat."""
    y, x = np.mgrid[:side, :side] / 40
    return 0.5 * np.sin(y) + 0.3 * np.cos(2 * x) + np.where(y + 0.3 * x > 3, 1.5, 0)


def bind(name: str, logs: np.ndarray, deviation: float = 1.0, usable: np.ndarray | None = None):
    path = str(shipped_model(name))
    network = load_network(path, model_sha256(path), "cpu", "float32")
    usable = np.ones(logs.shape, bool) if usable is None else usable
    return ImageDenoiser(network, logs.astype(np.float32), usable, deviation, WHITE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_it_removes_most_of_the_noise(name: str, noise: float) -> None:
    truth = draw_logs()
    noisy = truth + np.random.default_rng(1).normal(0, noise, truth.shape)
    found = bind(name, noisy)(noisy.astype(np.float32), noise)
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.4 * noise


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_and_the_brightness_of_the_image_do_not_matter(name: str) -> None:
    truth = draw_logs(80)
    noisy = (truth + np.random.default_rng(1).normal(0, 0.4, truth.shape)).astype(np.float32)
    expected = bind(name, noisy)(noisy, 0.4)
    brighter = bind(name, noisy + 3)(noisy + 3, 0.4)
    assert_allclose(brighter, expected + 3, atol=1e-4)
    in_deviations = bind(name, noisy, deviation=0.4)(noisy / 0.4, 1.0)
    assert_allclose(0.4 * in_deviations, expected, atol=1e-4)


def test_pixels_that_take_no_part_do_not_change_others() -> None:
    noisy = np.random.default_rng(1).normal(0, 0.4, (60, 70)).astype(np.float32)
    usable = np.ones(noisy.shape, bool)
    usable[20:30, 40:] = False
    changed = np.where(usable, noisy, 5).astype(np.float32)
    found = [bind("mulog-cnn", image, usable=usable)(image, 0.4) for image in (noisy, changed)]
    assert_array_equal(found[0][usable], found[1][usable])


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_are_small_and_say_what_they_saw(name: str) -> None:
    path = shipped_model(name)
    network, card = load_model(path)
    assert isinstance(network, GaussianCNN)
    assert path.stat().st_size < 3e6
    assert card.licence == "Apache-2.0"
    assert ("simulated landscapes" in card.data) == (name == "mulog-cnn-sar")
    assert ("Landsat" in card.data) == (name == "mulog-cnn")
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_the_class_has_the_constants_of_network_and_compiled_part() -> None:
    card = read_card(shipped_model("mulog-cnn"))
    network, _ = load_model(shipped_model("mulog-cnn"))
    assert card.halo - network.radius_px == mulog_cnn._LOCAL_MEAN_PX
    assert block_matching_method.HALO_PX == HALO_PX
    assert make_despeckler("mulog-bm3d").alignment == STEP_PX


def test_another_network_is_refused_and_the_own_one_taken(tmp_path) -> None:
    with pytest.raises(ModelCardError, match="the model is a despecknet-lite"):
        make_despeckler("mulog-cnn", model=str(shipped_model("despecknet-lite")))
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(shipped_model("mulog-cnn-sar").read_bytes())
    settings = make_despeckler("mulog-cnn", model=str(mine)).settings()
    assert settings["model_sha256"] == model_sha256(shipped_model("mulog-cnn-sar"))
    with pytest.raises(UsageError, match="does not estimate the speckle"):
        make_despeckler("mulog-cnn").estimate_noise()


def test_a_worker_has_the_precision_of_the_plan() -> None:
    planned = make_despeckler("mulog-cnn", precision="float32", n_iterations=2)
    again = pickle.loads(pickle.dumps(planned))
    assert again.settings() == planned.settings()
    assert (again.halo, again.n_iterations) == (planned.halo, 2)


def error_db(name: str, looks: float, **settings: object) -> float:
    truth = 0.05 * np.exp(draw_logs(160))
    rng = np.random.default_rng(2)
    noisy = (truth * rng.gamma(looks, 1 / looks, truth.shape)).astype(np.float32)
    statistics = [SceneStatistics(looks, WHITE, float(np.quantile(noisy, 0.98)))]
    found = make_despeckler(name, **settings).apply(noisy[np.newaxis], statistics)[0]
    return float(np.sqrt(np.mean((10 * np.log10(found / truth)) ** 2)))


@pytest.mark.parametrize("looks", [1, 8])
@pytest.mark.parametrize("name", [*NAMES, "mulog-bm3d"])
def test_a_better_denoiser_makes_a_better_mulog(name: str, looks: float) -> None:
    settings = {"precision": "float32"} if name in NAMES else {}
    assert error_db(name, looks, **settings) < 0.95 * error_db("mulog", looks)
