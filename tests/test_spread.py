"""Networks that tell their uncertainty: layers, inference, training, calibration."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from small_networks import TWO_SCALE_VARIANTS, save_small_network, small_network

from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.law_images import draw_landscape
from sarstack.evaluation.laws import LAWS, Law, choose_arguments, view_second_image
from sarstack.networks.card import make_card
from sarstack.networks.inference import load_network
from sarstack.networks.model_file import load_model, model_sha256, save_model
from sarstack.networks.network import Prediction
from sarstack.networks.two_scale import encode_sensor
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.batch import Batch, PatchSource, to_tensors
from sarstack.training.losses import sum_means
from sarstack.training.simulated_patches import SimulatedPatches
from sarstack.training.spread import SpreadSettings, errors_of, log_bias, spread_loss, train_spread

RECIPE = Path(__file__).parents[1] / "recipes/train_despecknet"
# k times the input gives the same uncertainty, and its mean is not that of the image.
PIXEL_LAWS = [law for law in LAWS if law.name not in ("scale", "mean", "uncertainty")]
KNOWN = SceneStatistics(4.0, (0.3, 0.3), 2.0, "given")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: more do not make small tensors faster, and wait on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", ["despecknet", "despecknet-mt"])
@pytest.mark.parametrize("law", PIXEL_LAWS, ids=lambda law: law.name)
def test_the_uncertainty_keeps_the_laws_of_pixels(law: Law, variant: str, tmp_path: Path):
    model = save_small_network(tmp_path, variant, spread=4)
    method = make_despeckler(str(model), precision="float32")
    law.check(view_second_image(method), **next(iter(choose_arguments(law, 0))))


@pytest.mark.parametrize("variant", TWO_SCALE_VARIANTS)
def test_fused_layers_predict_the_same_uncertainty_in_any_block(variant: str):
    network = small_network(variant, spread=4)
    image = torch.from_numpy(draw_landscape(1, (120, 136), 1, holes=False))[None]
    sensor = encode_sensor(torch.tensor([2.0]), torch.tensor([[0.1, 0.5]]), torch.ones(1))
    given = {"sensor": sensor, "noise": False}
    with torch.inference_mode():
        whole = network(image, spread=True, **given)
        fused = network.fuse()(image, spread=True, **given)
        other = network(image, spread=True, noise=False)
        inside = (slice(50, 61), slice(56, 90))
        part = network.fuse()(image, spread=True, inside=inside, **given)
        assert_array_equal(network(image, **given).clean, whole.clean)
        assert_array_equal(network.fuse()(image, **given).clean, fused.clean)
    assert whole.spread.std() > 0.01, "the uncertainty differs between pixels"
    assert_allclose(fused.spread, whole.spread, atol=1e-5)
    assert (other.spread - whole.spread).abs().max() > 1e-3, "looks and correlation matter"
    assert_allclose(part.spread, whole.spread[(..., *inside)], atol=1e-5)


def test_an_ensemble_and_blocks_give_the_uncertainty_too(tmp_path: Path):
    model = str(save_small_network(tmp_path, "despecknet-lite", spread=4))
    image = draw_landscape(2, (50, 70), 1, holes=True)
    one = make_despeckler(model).apply_with_uncertainty(image, [KNOWN])
    eight = make_despeckler(model, ensemble=8).apply_with_uncertainty(image, [KNOWN])
    for images in (one, eight):
        assert_array_equal(np.isnan(images[1]), np.isnan(image))
    assert_array_equal(eight[0], make_despeckler(model, ensemble=8).apply(image, [KNOWN]))
    assert 0 < np.nanmax(np.abs(eight[1] - one[1])) < np.nanmax(one[1])


def test_areas_without_speckle_or_without_power_have_an_uncertainty(tmp_path: Path):
    method = make_despeckler(str(save_small_network(tmp_path, "despecknet", spread=4)))
    flat = np.full((1, 60, 64), 0.3, np.float32)
    assert_array_equal(method.apply_with_uncertainty(flat)[1], 0)
    assert_array_equal(method.apply_with_uncertainty(0 * flat, [KNOWN])[1], 13)
    assert np.isnan(method.apply_with_uncertainty(np.nan * flat, [KNOWN])[1]).all()


def test_complex_numbers_are_turned_into_power_or_required_as_without_uncertainty(tmp_path: Path):
    method = make_despeckler(str(save_small_network(tmp_path, "despecknet", spread=4)))
    rng = np.random.default_rng(1)
    parts = rng.normal(0, 0.3, (2, 1, 40, 44)).astype(np.float32)
    field = parts[0] + 1j * parts[1]
    found = method.apply_with_uncertainty(field, [KNOWN])
    for image, expected in zip(found, method.apply_with_uncertainty(to_power(field), [KNOWN]),
                               strict=True):  # fmt: skip
        assert_array_equal(image, expected)
    assert_array_equal(found[0], method.apply(field, [KNOWN]))
    with pytest.raises(UsageError, match="needs single look complex"):
        make_despeckler("merlin").apply_with_uncertainty(to_power(field), [KNOWN])


def test_a_model_without_it_is_refused_and_one_with_it_keeps_its_pixels(tmp_path: Path):
    add_spread = recipe("train_spread.py")["add_spread"]
    plain = small_network("despecknet")
    wider = add_spread(plain)
    image = draw_landscape(3, (64, 80), 1, holes=True)
    methods = []
    for name, network in (("plain", plain), ("wider", wider), ("again", add_spread(wider, 2))):
        file = save_model(tmp_path / f"{name}.safetensors", network, make_card(network))
        methods.append(make_despeckler(str(file)))
    assert [method.has_uncertainty for method in methods] == [False, True, True]
    with pytest.raises(UsageError, match="does not know how uncertain"):
        methods[0].despeckle_with_uncertainty(image[0], KNOWN)
    for method in methods[1:]:
        assert_array_equal(method.apply(image, [KNOWN]), methods[0].apply(image, [KNOWN]))
        assert_array_equal(method.apply_with_uncertainty(image, [KNOWN])[0],
                           methods[0].apply(image, [KNOWN]))  # fmt: skip


def test_the_loss_is_least_at_the_standard_deviation():
    errors = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (1, 1, 200, 200))).float()
    batch = to_tensors(Batch(*[np.ones((1, 1, 200, 200), np.float32)] * 3), "cpu")

    def loss(spread: float) -> float:
        prediction = Prediction(errors, errors, None, None, spread + 0 * errors)
        return float(sum_means([spread_loss(errors, prediction, batch)]))

    tried = torch.linspace(-2, -0.4, 81)
    losses = [loss(float(spread)) for spread in tried]
    assert tried[int(np.argmin(losses))] == pytest.approx(np.log(0.3), abs=0.03)


def test_errors_are_those_of_the_corrected_result():
    path = Path(make_despeckler("despecknet-lite").path)
    network, card = load_model(path)
    batch = SimulatedPatches(3, 2, 64).batch(0)
    with torch.inference_mode():
        tensors = to_tensors(batch, "cpu")
        prediction = tensors.predict(network, noise=False)
        errors = errors_of(prediction, tensors, torch.from_numpy(log_bias(card, batch)))
    fused = load_network(str(path), model_sha256(path), precision="float32")
    assert fused is not network
    looks, y, x, is_known = batch.sensor[1].tolist()
    source = "given" if is_known else "estimated"
    method = make_despeckler("despecknet-lite", precision="float32")
    result = method.apply(batch.intensity[1], [SceneStatistics(looks, (y, x), 1.0, source)])
    expected = np.log(result[0] / batch.target[1, 0])
    used = batch.weight[1, 0] > 0
    assert_allclose(errors[1, 0][used], expected[used], atol=2e-3)


def test_training_changes_the_spread_alone_and_continues(tmp_path: Path):
    patches = SimulatedPatches(5, 2, 32)
    validation = [patches.batch(100)]

    def train(folder: str, source: PatchSource) -> dict[str, torch.Tensor]:
        network = small_network("despecknet", spread=4)
        settings = SpreadSettings(steps=8, validate_every=4, checkpoint_every=4)
        card = make_card(network)
        history = train_spread(network, card, source, validation, settings, tmp_path / folder)
        assert len(history) == 2
        assert set(history[0]) > {"inside_50", "inside_80", "inside_95", "validation_loss"}
        return network.state_dict()

    with pytest.raises(InterruptedError):
        train("interrupted", Interrupted(patches, 5))
    before, whole, continued = (
        small_network("despecknet", spread=4).state_dict(), train("whole", patches),
        train("interrupted", patches),
    )  # fmt: skip
    changed = {name for name in whole if not torch.equal(whole[name], before[name])}
    assert changed == {name for name in whole if ".spread." in name}
    for name, weights in whole.items():
        torch.testing.assert_close(continued[name], weights)


class Interrupted:
    """A source of patches that fails at a step."""

    def __init__(self, patches: SimulatedPatches, last: int) -> None:
        self.patches, self.last = patches, last

    def batch(self, step: int) -> Batch:
        if step >= self.last:
            raise InterruptedError
        return self.patches.batch(step)


def recipe(name: str) -> dict[str, object]:
    """Return the names of a file of the recipe."""
    sys.path.insert(0, str(RECIPE))
    try:
        return runpy.run_path(str(RECIPE / name))
    finally:
        sys.path.remove(str(RECIPE))


def test_the_factor_of_the_card_widens_the_bands_to_the_nominal_share(tmp_path: Path):
    scale = recipe("scale_spread.py")
    measure = scale["measure_scale"]
    sizes = {"LOOKS": (4.0,), "CORRELATION": (0.3,), "N_MOSAICS": 1, "SIDE_PX": 48}
    measure.__globals__.update(sizes)
    network = small_network("despecknet", spread=4)
    card = make_card(network)
    table = measure(network, card)
    assert measure(network, dataclasses.replace(card, spread_scale=table)) == table
    image, told = draw_landscape(3, (64, 80), 1, holes=True), []
    for factors in (card.spread_scale, table):
        path = tmp_path / f"{len(told)}.safetensors"
        save_model(path, network, dataclasses.replace(card, spread_scale=factors))
        told.append(make_despeckler(str(path)).apply_with_uncertainty(image, [KNOWN])[1])
    assert_allclose(told[1], told[0] * np.float32(table.bias[0][0]), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["despecknet-lite", "despecknet-mt"])
def test_the_recipe_makes_a_model_with_the_same_pixels(variant: str, tmp_path: Path):
    start = save_small_network(tmp_path, variant)
    command = [
        sys.executable, str(RECIPE / "train_spread.py"), str(tmp_path / "made"),
        "--start", str(start), "--steps", "3", "--batch-size", "2", "--patch-px", "32",
        "--threads", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    image = draw_landscape(3, (64, 80), 2, holes=True)
    made = make_despeckler(str(tmp_path / "made" / start.name))
    assert_array_equal(made.apply(image), make_despeckler(str(start)).apply(image))
    assert made.has_uncertainty
    assert "train_spread.py" in made.card.command
