"""MERLIN learns from one part of complex images to predict the other, without clean images."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from small_networks import TWO_SCALES, save_small_network
from written_images import write_tif

from sarstack.errors import UsageError
from sarstack.networks.bias import add_bias_tables, flat_bias, measure_bias, simulate_flat
from sarstack.networks.card import make_card
from sarstack.networks.merlin import MerlinNetwork
from sarstack.networks.model_file import load_model, read_card, save_model, shipped_model
from sarstack.networks.variants import build_network
from sarstack.readers import index_stack
from sarstack.readers.decorrelated import read_centred
from sarstack.speckle.complex_parts import PART_LOOKS, split_parts
from sarstack.speckle.landscapes import Reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Window
from sarstack.training.batch import Batch, to_tensors
from sarstack.training.part_patches import PartPatches
from sarstack.training.parts import LARGEST_RATIO, PartsObjective, PartsValidation, other_part_loss
from sarstack.training.simulated_parts import SimulatedParts, draw_single_look
from sarstack.training.stack_patches import split_places
from sarstack.training.tuning import FinetuneSettings, finetune
from sarstack.workflows.learning import job
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.settings import FinetuneConfig

SENTINEL_1 = SpeckleSimulator(1.0, (0.25, 0.36))
SETTINGS = {"steps": 30, "learning_rate": 1e-3, "validate_every": 10, "checkpoint_every": 30}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors are not faster with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_merlin(seed=0):
    torch.manual_seed(seed)
    return build_network("merlin", **TWO_SCALES).eval()


def start_merlin():
    """A network that was trained on intensities: half a look is new to it."""
    network = MerlinNetwork().eval()
    network.initialise_from(load_model(shipped_model("despecknet-lite"))[0])
    return network


def save_small_merlin(folder: Path) -> Path:
    network = small_merlin()
    return save_model(folder / "merlin.safetensors", network, make_card(network))


def draw_field(shape=(160, 192), seed=0, simulator=SENTINEL_1):
    """A bright and a dark half, with the speckle of one look."""
    ground = np.ones(shape, np.float32)
    ground[:, shape[1] // 2 :] = 20
    scene = Reflectivity(ground, np.zeros(shape, np.complex64))
    return simulator.observe_field(scene, np.random.default_rng(seed))


def batch_of(field, side=32):
    """All whole patches of a field: the real part with the imaginary part as target."""
    rows, columns = (n // side for n in field.shape)
    whole = field[: rows * side, : columns * side].reshape(rows, side, columns, side)
    patches = whole.swapaxes(1, 2).reshape(-1, 1, side, side)
    first, second = split_parts(patches)
    sensor = np.tile(np.array([PART_LOOKS, 0.25, 0.36, 1], np.float32), (len(first), 1))
    return Batch(first, second, np.isfinite(first).astype(np.float32), sensor)


class Patches:
    """Sixteen random patches of a field, and their parts in random order."""

    def __init__(self, field):
        self.all = batch_of(field)

    def batch(self, step):
        rng = np.random.default_rng(step)
        chosen = rng.integers(0, len(self.all.intensity), 16)
        parts = [part[chosen] for part in self.all[:2]][:: rng.choice([-1, 1])]
        return Batch(*parts, self.all.weight[chosen], self.all.sensor[chosen])


# ---- patches ---------------------------------------------------------------------------------


def test_simulated_patches_have_the_truth_or_the_other_part_as_target():
    same = {"seed": 3, "batch_size": 4, "patch_px": 48, "simulator": SENTINEL_1}
    truth, other = (SimulatedParts(**same, target=t).batch(5) for t in ("truth", "other part"))
    assert_array_equal(truth.intensity, other.intensity)
    again = SimulatedParts(**same).batch(5)
    for first, second in zip(again, truth, strict=True):
        assert first is second is None or np.array_equal(first, second, equal_nan=True)
    valid = np.isfinite(truth.intensity)
    for part in (truth.intensity, other.target):
        ratio = (part / truth.target)[valid]
        assert ratio.mean() == pytest.approx(1, abs=0.1)
        assert 1.5 < ratio.var() < 2.5  # half a look
    assert abs(np.corrcoef(*(np.sqrt(p / truth.target)[valid] for p in
                             (truth.intensity, other.target)))[0, 1]) < 0.05  # fmt: skip


def test_drawn_sensors_are_single_looks_with_different_correlation_along_both_axes():
    drawn = [draw_single_look(np.random.default_rng(seed)) for seed in range(60)]
    assert {sensor.looks for sensor in drawn} == {1.0}
    correlation = np.array([sensor.correlation for sensor in drawn])
    assert (correlation[:, 0] != correlation[:, 1]).sum() > 40
    assert 0 < (correlation == 0).all(1).sum() < 25
    assert 0.5 < correlation.max() <= 0.75
    assert (correlation <= 0.5).mean() > 0.75


def test_patches_of_a_complex_image_are_both_parts_in_random_order(tmp_path):
    field = draw_field(shape=(64, 96))
    field[:8] = 0  # nodata
    stack = index_stack(str(write_tif(tmp_path / "slc_vv_20200101T000000.tif", field)))
    places, _ = split_places(stack, None, 16)
    statistics = {"vv": {0: SceneStatistics(PART_LOOKS, (0.1, 0.2), 1.0)}}
    patches = PartPatches(stack, None, places, 4, 0, statistics)
    centred = read_centred(stack.rasters["vv"][0], Window(0, 64, 0, 96))
    assert_array_equal(np.isnan(centred), field == 0)
    parts = split_parts(centred)
    found = set()
    for step in range(6):
        batch, again = patches.batch(step), patches.batch(step)
        assert_array_equal(batch.intensity, again.intensity)
        assert_array_equal(batch.sensor, np.float32([[PART_LOOKS, 0.1, 0.2, 1]] * 4))
        assert_array_equal(batch.weight, np.isfinite(batch.intensity))
        for first, second in zip(batch.intensity, batch.target, strict=True):
            for order in (0, 1):
                inside = [np.isin(p, q[np.isfinite(q)]).mean() for p, q in
                          zip((first, second), parts[:: 1 - 2 * order], strict=True)]  # fmt: skip
                if min(inside) == 1:
                    found.add(order)
    assert found == {0, 1}


# ---- loss ------------------------------------------------------------------------------------


def test_the_loss_is_smallest_at_the_expected_intensity():
    field = draw_field(shape=(256, 256), simulator=SpeckleSimulator(1.0))[:, :128]
    tensors = to_tensors(batch_of(field, 128), "cpu")
    levels = np.linspace(-1, 1, 81)
    losses = [
        float(other_part_loss(torch.full_like(tensors.target, level), tensors)) for level in levels
    ]
    mean = float(tensors.target.mean())
    assert levels[np.argmin(losses)] == pytest.approx(np.log(mean), abs=0.03)
    expected = [level / 2 + mean / 2 * np.exp(-level) for level in levels]
    assert_allclose(losses, expected, rtol=0.005)


def test_the_loss_is_finite_where_a_part_is_zero_missing_or_far_too_bright():
    shape = (1, 1, 4, 4)
    target = np.ones(shape, np.float32)
    target[..., 0, 0], target[..., 1, 1], target[..., 2, 2] = 0, np.nan, 1e30
    batch = Batch(np.ones(shape, np.float32), target, np.ones(shape, np.float32))
    predicted = torch.zeros(shape, requires_grad=True)
    loss = other_part_loss(predicted, to_tensors(batch, "cpu"))
    total = loss.total
    total.backward()
    assert torch.isfinite(predicted.grad).all()
    assert predicted.grad[0, 0, 1, 1] == 0
    assert float(loss.weight) == 15
    too_bright = LARGEST_RATIO * (1 + np.log(1e30 / LARGEST_RATIO))
    assert float(total.detach()) == pytest.approx((13 + too_bright) / 2, rel=1e-5)


# ---- tuning ----------------------------------------------------------------------------------


def tune(field, folder, held_out=None, **settings):
    network = start_merlin()
    held_out = draw_field(seed=9) if held_out is None else held_out
    validation = PartsValidation.from_batches([batch_of(held_out)], (0.25, 0.36))
    objective = PartsObjective(validation)
    chosen = FinetuneSettings(**SETTINGS | settings)
    return finetune(network, Patches(field), objective, chosen, folder)


def test_a_few_steps_predict_the_other_part_better_and_copy_no_noise(tmp_path):
    result = tune(draw_field(), tmp_path)
    assert result.improved, result.message
    assert result.after.loss < result.before.loss - 0.02
    # The ratio of the noisy image to the result varies nearly as speckle of one look.
    assert result.before.variance < 0.6
    assert result.after.variance > 0.75
    assert result.after.mean == pytest.approx(1, abs=0.15)


def test_with_a_spectrum_off_centre_noise_is_copied_and_the_ratio_image_shows_it(tmp_path):
    variance = {}
    for frequency in (0.0, 0.2):
        oversampled = SpeckleSimulator(1.0, (0.8, 0.8))
        fields = [draw_field(seed=seed, simulator=oversampled) for seed in (0, 9)]
        ramp = np.exp(2j * np.pi * frequency * np.arange(len(fields[0]))).astype(np.complex64)
        fields = [field * ramp[:, None] for field in fields]
        result = tune(fields[0], tmp_path / str(frequency), fields[1])
        variance[frequency] = result.history[-1]["ratio_variance"]
    assert variance[0.2] < 0.65 * variance[0.0]


def test_finetune_tunes_merlin_on_a_complex_image(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "measure_bias", partial(measure_bias, side_px=160))
    write_tif(tmp_path / "slc_vv_20200101T000000.tif", draw_field(shape=(192, 256)))
    config = FinetuneConfig.make(
        stack=str(tmp_path / "slc_vv_20200101T000000.tif"), output=str(tmp_path / "t.safetensors"),
        model=str(save_small_merlin(tmp_path)), steps=20, batch_size=8, learning_rate=2e-3,
        patch_px=32, precision="float32",
    )  # fmt: skip
    adapted = finetune_on_stack(config)
    assert adapted.improved, adapted.message
    assert "other part" in adapted.message
    card = read_card(adapted.model)
    assert (card.variant, card.looks) == ("merlin", (PART_LOOKS, PART_LOOKS))
    assert card.data.startswith("tuned (parts) on 1 dates of")
    assert card.calibration.looks == (PART_LOOKS,)


@pytest.mark.parametrize(
    ("variant", "dtype", "mode", "message"),
    [
        ("merlin", "complex64", "paper", "mode parts"),
        ("despecknet", "complex64", "parts", "mode parts"),
        ("merlin", "float32", "auto", "SLC of this acquisition"),
    ],
)
def test_modes_and_images_that_do_not_fit_are_refused(tmp_path, variant, dtype, mode, message):
    field = draw_field(shape=(64, 64))
    image = field if dtype == "complex64" else 0.01 * np.abs(field) ** 2
    path = write_tif(tmp_path / "slc_vv_20200101T000000.tif", image.astype(dtype))
    model = (
        save_small_merlin(tmp_path)
        if variant == "merlin"
        else save_small_network(tmp_path, variant)
    )
    config = FinetuneConfig.make(
        stack=str(path), output=str(tmp_path / "t.safetensors"), mode=mode, model=str(model)
    )
    with pytest.raises(UsageError, match=message):
        finetune_on_stack(config)


# ---- bias ------------------------------------------------------------------------------------


def test_the_bias_is_measured_on_one_part_and_removed():
    network = small_merlin()
    card = add_bias_tables(network, make_card(network), side_px=160)
    assert card.calibration.looks == (PART_LOOKS,)
    flat = simulate_flat(PART_LOOKS, 0.3, band_limited=True, side_px=160)
    assert flat.shape == (1, 160, 160)
    assert flat.var() / flat.mean() ** 2 == pytest.approx(2, rel=0.15)
    fused = network.fuse()
    assert flat_bias(fused, card, flat, PART_LOOKS, 0.3) == pytest.approx(1, abs=0.02)


def test_it_starts_from_the_weights_of_despecknet_lite():
    lite, network = build_network("despecknet-lite").eval(), MerlinNetwork().eval()
    network.initialise_from(lite)
    image = torch.rand(1, 1, 32, 32)
    assert_allclose(
        network(image, noise=False).clean.detach(), lite(image, noise=False).clean.detach()
    )
    assert network.halo == lite.halo
