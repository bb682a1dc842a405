"""The networks, their model files, and what the despecklers built on them promise."""

import dataclasses
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from torch import nn

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.despecknet import DeSpeckNetDespeckler
from sarstack.errors import ModelCardError
from sarstack.inference import (
    TEXTURE_WINDOW_PX,
    despeckle_image,
    give_texture_back,
    load_network,
    run_network,
)
from sarstack.networks.card import (
    CARD_KEY,
    Calibration,
    ModelCard,
    load_model,
    make_card,
    model_sha256,
    read_card,
    save_model,
    shipped_model,
)
from sarstack.networks.despecknet import (
    LOCAL_MEAN_WINDOW_PX,
    VARIANTS,
    Branch,
    build_network,
    centre_log,
)
from sarstack.speckle import SceneStatistics

KNOWN = SceneStatistics(4.0, (0.3, 0.3), 2.0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors gain nothing from threads, and wait for each other on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_network(variant: str = "despecknet", seed: int = 0):
    """A small network whose batch norms have statistics and gains worth folding."""
    torch.manual_seed(seed)
    network = build_network(variant, depth=5, width=8)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias, 0, 0.2)
    for branch in (network.clean, network.noise):
        nn.init.normal_(branch.layers[-1].weight, std=0.1)
    return network.eval()


@pytest.fixture(params=sorted(VARIANTS))
def model(request, tmp_path):
    network = small_network(request.param)
    path = tmp_path / "small.safetensors"
    return save_model(path, network, make_card(network, licence="Apache-2.0"))


def speckle(shape, seed=0, looks=4.0):
    return np.random.default_rng(seed).gamma(looks, 1 / looks, shape).astype(np.float32)


def test_published_architecture():
    branch = Branch()
    assert branch.radius_px == 17
    # The paper's two branches have 1.11 million parameters.
    assert sum(p.numel() for p in branch.parameters()) == 557_057
    assert [c.out_channels for c in branch.layers] == [64] * 16 + [1]
    assert len(branch.norms) == 15
    assert build_network("despecknet").halo == 24
    assert build_network("despecknet-paper").halo == 17


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_halo_is_the_reach_of_a_pixel_and_no_less(variant):
    network = small_network(variant).double()
    image = torch.from_numpy(speckle((1, 1, 61, 61)).astype(np.float64)).requires_grad_()
    network(image, noise=False).clean[0, 0, 30, 30].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1)).ravel()
    columns = torch.nonzero(image.grad[0, 0].abs().sum(0)).ravel()
    for reached in (rows, columns):
        assert int(reached.min()) >= 30 - network.halo
        assert int(reached.max()) <= 30 + network.halo
        # ReLU may block a corner, not the whole rim.
        assert int(reached.max()) >= 30 + network.halo - 1


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_folding_the_batch_norms_changes_nothing(variant):
    network = small_network(variant)
    image = torch.from_numpy(speckle((2, 1, 20, 30)))
    with torch.inference_mode():
        before = network(image)
        folded = network.fold()
        after = folded(image)
        again = folded.fold()(image)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert_allclose(again.clean.numpy(), after.clean.numpy())
    for a, b in zip(before, after, strict=True):
        assert_allclose(b.numpy(), a.numpy(), rtol=2e-5, atol=2e-5)


def test_local_mean_is_of_positive_valid_pixels_in_a_clipped_window():
    image = speckle((23, 31))
    image[3, 4], image[10, 12], image[11, 12] = -1, 0, np.nan
    valid = np.isfinite(image)
    u, mean = centre_log(
        torch.from_numpy(np.nan_to_num(image))[None, None],
        torch.from_numpy(valid.astype(np.float32))[None, None],
    )
    half = LOCAL_MEAN_WINDOW_PX // 2
    for y, x in [(0, 0), (10, 12), (22, 30), (5, 17)]:
        window = image[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        expected = np.log(window[window > 0]).mean()
        assert float(mean[0, 0, y, x]) == pytest.approx(expected, abs=1e-5)
        if image[y, x] > 0:
            assert float(u[0, 0, y, x]) == pytest.approx(np.log(image[y, x]) - expected, abs=1e-5)
    assert float(u[0, 0, 3, 4]) == float(u[0, 0, 10, 12]) == -8


def test_product_of_the_model_becomes_a_sum_of_logarithms():
    image = torch.from_numpy(speckle((1, 1, 25, 25)))
    with torch.inference_mode():
        log = small_network("despecknet")(image)
        linear = small_network("despecknet-paper")(image)
    assert_allclose(log.observed.numpy(), image.log().numpy(), atol=1e-5)
    assert_allclose(log.reconstruction.numpy(), (log.clean + log.noise).numpy())
    assert_allclose(linear.reconstruction.numpy(), (linear.clean * linear.noise).numpy())


# Model files


def test_model_file_brings_back_the_network_and_its_card(model):
    network, card = load_model(model)
    again = small_network(card.variant)
    for key, value in again.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key
    assert card == read_card(model)
    assert (card.halo, card.depth, card.width) == (network.halo, 5, 8)
    assert card.licence == "Apache-2.0"
    assert card.created.endswith("+00:00")


def test_card_survives_json_with_its_table():
    table = Calibration((1.0, 4.0), (0.0, 0.5), ((1.1, 1.2), (1.0, 0.9)))
    card = ModelCard("despecknet", "log", 24, calibration=table, polarisations=("vv", "vh"))
    assert ModelCard.from_json(card.to_json()) == card
    assert table.at(1, (0, 0)) == pytest.approx(1.1)
    assert table.at(2, (0.5, 0.5)) == pytest.approx(1.05)  # half way in log looks
    assert table.at(4, (0.25, 0.25)) == pytest.approx(0.95)
    assert table.at(100, (0.9, 0.9)) == pytest.approx(0.9)  # beyond the table: its edge


def damage_nothing(path):
    path.unlink()


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage_pickle(path):
    torch.save({"weights": torch.zeros(3)}, path)


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_text("this is not a model, but it is longer than eight bytes")


def damage_no_card(path):
    save_file({"a": torch.zeros(2)}, str(path))


def damage_other_card(path):
    save_file({"a": torch.zeros(2)}, str(path), metadata={CARD_KEY: json.dumps({"variant": 3})})


def damage_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_unusable_model_files_are_refused_in_four_parts(model, damage):
    name = read_card(model).variant
    damage(model)
    for attempt in (lambda: make_despeckler(name, model=model), lambda: load_model(model)):
        with pytest.raises(ModelCardError) as caught:
            attempt()
        error = caught.value
        assert error.what
        assert error.expected
        assert error.where == [str(model)]
        assert error.do


@pytest.mark.parametrize(
    "change", [{"width": 9}, {"depth": 6}, {"halo": 3}, {"variant": "despecknet-next"}]
)
def test_card_that_does_not_fit_the_weights_is_refused(model, change):
    network, card = load_model(model)
    changed = dataclasses.replace(card, **change)
    weights = dict(network.state_dict())
    save_file(weights, str(model), metadata={CARD_KEY: changed.to_json()})
    with pytest.raises(ModelCardError, match="expected"):
        load_model(model)


def test_card_of_another_network_cannot_be_saved(tmp_path):
    network = small_network()
    card = dataclasses.replace(make_card(network), width=99)
    with pytest.raises(ModelCardError, match="99"):
        save_model(tmp_path / "a.safetensors", network, card)
    assert not list(tmp_path.iterdir())


def test_model_of_the_other_variant_is_refused(model):
    variant = read_card(model).variant
    (other,) = set(VARIANTS) - {variant}
    with pytest.raises(ModelCardError, match=f"expected: a {other}"):
        make_despeckler(other, model=model)
    assert make_despeckler(str(model)).name == variant


def test_file_changed_after_planning_is_refused(model):
    planned = model_sha256(model)
    network, card = load_model(model)
    save_model(model, network, dataclasses.replace(card, licence="other"))
    with pytest.raises(ModelCardError, match="SHA-256"):
        load_network(str(model), planned)


def test_networks_are_loaded_once_for_all_threads(model):
    sha256, found = model_sha256(model), []
    threads = [
        threading.Thread(target=lambda: found.append(load_network(str(model), sha256)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


# Despecklers


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_shipped_models_load_fit_and_are_small(variant):
    path = shipped_model(variant)
    assert path.stat().st_size < 5e6
    _, card = load_model(path)
    assert (card.variant, card.depth, card.width) == (variant, 17, 64)
    assert card.licence == "Apache-2.0"
    assert card.command
    assert card.data
    assert len(card.calibration.looks) > 3


def test_despeckler_is_small_to_ship_and_the_same_after(model):
    despeckler = make_despeckler(str(model))
    shipped = pickle.dumps(despeckler)
    assert len(shipped) < 4000
    block = speckle((1, 20, 20))
    again = pickle.loads(shipped)
    assert np.array_equal(again.apply(block, [KNOWN]), despeckler.apply(block, [KNOWN]))
    assert again.sha256 == despeckler.sha256


def test_planning_needs_no_torch(model):
    code = (
        "import sys\n"
        "from sarstack.despecklers import make_despeckler\n"
        f"print(make_despeckler({str(model)!r}).halo, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    card = read_card(model)
    reach = TEXTURE_WINDOW_PX // 2 if card.domain == "log" else 0
    assert said.stdout.split() == [str(card.halo + reach), "False"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 5)])
def test_any_size_works(model, shape):
    despeckler = make_despeckler(str(model))
    image = speckle(shape)
    out = despeckler.despeckle(image, KNOWN)
    assert out.shape == shape
    assert out.dtype == np.float32
    assert (out > 0).all()
    assert np.isnan(despeckler.despeckle(np.full(shape, np.nan, np.float32), KNOWN)).all()


def test_a_hole_acts_as_the_edge_of_the_scene(model):
    despeckler = make_despeckler(str(model))
    image = speckle((40, 60))
    cut = image.copy()
    cut[:, 35:] = np.nan
    cut[:7] = np.nan
    expected = despeckler.despeckle(np.ascontiguousarray(image[7:, :35]), KNOWN)
    found = despeckler.despeckle(cut, KNOWN)
    assert_allclose(found[7:, :35], expected, rtol=1e-5)
    assert np.isnan(found[:, 35:]).all()
    assert np.isnan(found[:7]).all()


def test_pixels_that_are_not_positive_give_small_positive_ones(model):
    despeckler = make_despeckler(str(model))
    image = speckle((40, 40))
    image[5, 5], image[6, 6], image[20, 20] = 0, -0.3, np.nan
    out = despeckler.despeckle(image, KNOWN)
    assert np.array_equal(np.isnan(out), np.isnan(image))
    assert (out[np.isfinite(out)] > 0).all()
    nothing = despeckler.despeckle(-speckle((30, 30)), KNOWN)
    assert np.isfinite(nothing).all()
    assert (nothing > 0).all()


@pytest.mark.parametrize("gain", [1e-4, 0.37, 1e4])
def test_a_brighter_scene_gives_a_brighter_result(model, gain):
    despeckler = make_despeckler(str(model))
    image = speckle((30, 30))
    brighter = dataclasses.replace(KNOWN, bright=KNOWN.bright * gain)
    expected = gain * despeckler.despeckle(image, KNOWN)
    found = despeckler.despeckle(np.float32(gain) * image, brighter)
    assert_allclose(found, expected, rtol=3e-5)


def test_calibration_divides_by_the_bias(model):
    network, card = load_model(model)
    network = network.fold()
    image = speckle((20, 20)) + 5  # far above any floor
    plain = despeckle_image(network, card, image, looks=4, correlation=(0, 0), bright=6)
    table = Calibration((1.0, 4.0), (0.0,), ((1.0,), (1.25,)))
    known = dataclasses.replace(card, calibration=table)
    halved = despeckle_image(network, known, image, looks=4, correlation=(0, 0), bright=6)
    clear = plain > 0.1
    assert_allclose(halved[clear], plain[clear] / 1.25, rtol=1e-5)


def test_run_network_is_exact_beyond_the_halo(model):
    despeckler = make_despeckler(str(model))
    network = load_network(str(model), despeckler.sha256)
    image = speckle((70, 70))
    halo = despeckler.halo
    whole = run_network(network, image)
    part = run_network(network, np.ascontiguousarray(image[10:64, 5:63]))
    inner = (slice(10 + halo, 64 - halo), slice(5 + halo, 63 - halo))
    assert_allclose(part[halo:-halo, halo:-halo], whole[inner], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.65])
@pytest.mark.parametrize("looks", [1.0, 4.5, 20.0])
def test_shipped_network_removes_speckle_and_keeps_the_mean(looks, correlation):
    from sarstack.reflectivity import Reflectivity
    from sarstack.simulation import SpeckleSimulator

    side = 256
    flat = Reflectivity(np.ones((side, side), np.float32), np.zeros((side, side), np.complex64))
    simulator = SpeckleSimulator(looks, (correlation, correlation))
    noisy = simulator.observe(flat, np.random.default_rng(99))
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    known = SceneStatistics(looks, (correlation, correlation), bright)
    out = DeSpeckNetDespeckler().despeckle(noisy, known)
    assert out.mean() / noisy.mean() == pytest.approx(1, abs=0.01)
    assert out.mean() ** 2 / out.var() > 8 * looks


# ---- texture is not speckle ----------------------------------------------------------------


def _flat_and_textured(looks: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, speckled image and an over-smoothed estimate; the right half has white texture."""
    rng = np.random.default_rng(8)
    truth = np.full((120, 240), 0.1)
    truth[:, 120:] *= rng.gamma(3, 1 / 3, (120, 120))
    noisy = (truth * rng.gamma(looks, 1 / looks, truth.shape)).astype(np.float32)
    return truth, noisy, np.full(truth.shape, 0.1, np.float32)


def test_texture_taken_for_speckle_is_given_back_and_speckle_is_not() -> None:
    truth, noisy, smooth = _flat_and_textured(8.0)
    noisy[40:50, 100:140] = np.nan
    smooth[np.isnan(noisy)] = np.nan
    result = give_texture_back(noisy, smooth, 8.0, (0.0, 0.0))
    assert_array_equal(np.isnan(result), np.isnan(noisy))
    flat, textured = np.s_[8:-8, 8:100], np.s_[8:-8, 140:-8]
    assert np.mean(result[flat] == smooth[flat]) > 0.9
    assert result[flat].mean() == pytest.approx(0.1, rel=0.005)
    valid = np.isfinite(result[textured])

    def error(image: np.ndarray) -> float:
        return float(np.log(image[textured] / truth[textured])[valid].std())

    assert error(result) < 0.7 * error(smooth)
    assert error(result) < error(noisy)
    assert np.nanmean(result[textured]) == pytest.approx(np.nanmean(noisy[textured]), rel=0.06)


def test_nothing_is_given_back_where_the_looks_are_only_nominal() -> None:
    noisy = np.random.default_rng(0).gamma(1, 0.1, (48, 48)).astype(np.float32)
    despeckler = make_despeckler("despecknet")
    known = SceneStatistics(4.4, (0.0, 0.0), 1.0, "nominal")
    sure = SceneStatistics(4.4, (0.0, 0.0), 1.0, "given")
    assert despeckler.despeckle(noisy, known).std() < 0.7 * despeckler.despeckle(noisy, sure).std()
