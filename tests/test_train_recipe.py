"""The recipe of the shipped weights: the same commands, with a few steps."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_stack import write_tif

from sarstack.networks.model_file import load_model, read_card, shipped_model
from sarstack.speckle.sensor import SpeckleSimulator

RECIPE = Path(__file__).parents[1] / "recipes/train_despecknet"
N_DATES, SIDE_PX, LOOKS = 14, 48, 8.0


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """An aerial photograph, and a stack whose right half is brighter on the last two dates."""
    rng = np.random.default_rng(5)
    aerial, stack = tmp_path / "clean/aerial", tmp_path / "clean/stacks/site"
    aerial.mkdir(parents=True)
    stack.mkdir(parents=True)
    write_tif(aerial / "photo.tif", rng.integers(1, 255, (64, 64)).astype(np.uint8), nodata=0)
    for date in range(N_DATES):
        scene = np.full((SIDE_PX, SIDE_PX), 0.1, np.float32)
        scene[:, SIDE_PX // 2 :] *= 3 if date >= N_DATES - 2 else 1
        noisy = rng.gamma(LOOKS, 1 / LOOKS, scene.shape).astype(np.float32) * scene
        write_tif(stack / f"S1_202101{date + 1:02d}T060000_vv.tif", noisy)
    return tmp_path / "clean"


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names defined in pairs.py of the recipe."""
    monkeypatch.syspath_prepend(str(RECIPE))
    return runpy.run_path(str(RECIPE / "pairs.py"))


def test_target_of_a_pair_has_the_brightness_of_its_date(
    references: Path, pairs: dict[str, object]
) -> None:
    network, _ = load_model(shipped_model("despecknet-lite"))
    made = pairs["load_pairs"](references, network)
    assert len(made) == N_DATES
    for date, pair in enumerate(made):
        bright = 3 if date >= N_DATES - 2 else 1
        inner = slice(SIDE_PX // 2 + 8, -4)
        for half, level in ((slice(4, SIDE_PX // 2 - 8), 0.1), (inner, 0.1 * bright)):
            used = pair.weight[:, half] > 0
            assert used.mean() > 0.9
            assert pair.target[:, half][used].mean() == pytest.approx(level, rel=0.1)
        # The speckle of the input date must not be in its target.
        flat = np.s_[4:-4, 4 : SIDE_PX // 2 - 8]
        correlation = np.corrcoef(pair.noisy[flat].ravel(), pair.target[flat].ravel())[0, 1]
        assert abs(correlation) < 0.15


def test_pairs_replace_some_patches_of_each_batch(
    references: Path, pairs: dict[str, object]
) -> None:
    from sarstack.training.simulated_patches import SimulatedPatches

    network, _ = load_model(shipped_model("despecknet-lite"))
    simulated = SimulatedPatches(3, 4, 32)
    source = pairs["PairedPatches"](simulated, pairs["load_pairs"](references, network), 1)
    first, again, plain = source.batch(7), source.batch(7), simulated.batch(7)
    for one, other in zip(first[:4], again[:4], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.intensity[1:], plain.intensity[1:])
    assert 0.02 < first.target[0].mean() < 0.5
    assert (first.intensity[0] != plain.intensity[0]).all()


def test_packed_data_are_the_images_and_pairs_of_the_folder(
    references: Path, pairs: dict[str, object], tmp_path: Path
) -> None:
    packed = runpy.run_path(str(RECIPE / "packed_data.py"))
    model = shipped_model("despecknet-lite")
    packed["pack_data"](references, tmp_path / "data.npz", model)
    images, read = packed["read_packed"](tmp_path / "data.npz", "cpu")
    expected = runpy.run_path(str(RECIPE / "references.py"))["load_references"](references)
    assert len(images) == len(expected)
    for image, wanted in zip(images, expected, strict=True):
        near = np.abs(image - (wanted - np.median(wanted)))
        assert near[np.abs(wanted - np.median(wanted)) < 15].max() < 0.13, "steps of 1/8 dB"
    made = pairs["load_pairs"](references, load_model(model)[0])
    assert read.images.shape == (len(made), 4, SIDE_PX, SIDE_PX)
    for image, pair in zip(read.images.numpy(), made, strict=True):
        np.testing.assert_allclose(image[0], np.maximum(pair.noisy, 1e-8), rtol=0.01)
        np.testing.assert_allclose(image[2], pair.weight, rtol=0.01, atol=1e-3)
        assert image[3] == pytest.approx(pair.detail, rel=0.01)
    told = [pair.statistics.sensor is not None for pair in made]
    assert read.sensor[:, 3].tolist() == told


@pytest.mark.slow
def test_recipe_makes_a_model_with_a_card(references: Path, tmp_path: Path) -> None:
    start = shipped_model("despecknet-lite")
    command = [
        sys.executable, str(RECIPE / "run.py"), str(tmp_path / "made"),
        "--variant", "despecknet-lite", "--start", str(start), "--references", str(references),
        "--pairs", "1", "--steps", "3", "--noise-steps", "2", "--learning-rate", "1e-2",
        "--batch-size", "2", "--patch-px", "32", "--threads", "1",
        "--keep", "1.0", "--flat-px", "200",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = tmp_path / "made/despecknet-lite.safetensors"
    card = read_card(model)
    assert "pairs of dates" in card.data
    assert card.scores["grd"] < 1.0
    made, shipped = (load_model(path)[0].clean.state_dict() for path in (model, start))
    for name, weights in made.items():
        torch.testing.assert_close(weights, shipped[name], rtol=0.01, atol=1e-3)


@pytest.mark.slow
def test_recipe_trains_a_denoiser_of_gaussian_noise(references: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, str(RECIPE / "train_gaussian.py"), str(tmp_path / "made"), "--optical",
        "--references", str(references), "--data", "one photograph", "--steps", "3",
        "--batch-size", "2", "--patch-px", "32", "--threads", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    network, card = load_model(tmp_path / "made/mulog-cnn.safetensors")
    assert card.variant == network.variant == "gaussian-cnn"
    assert card.data == "one photograph; simulated Gaussian noise"
    assert card.scores["validation"] > 0


def test_noise_has_the_variance_and_the_correlation_of_a_sensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(RECIPE))
    recipe = runpy.run_path(str(RECIPE / "train_gaussian.py"))
    for band_limited in (True, False):
        sensor = SpeckleSimulator(1.0, (0.6, 0.3), band_limited=band_limited)
        noise = recipe["draw_noise"]((600, 600), sensor, np.random.default_rng(1))
        assert noise.var() == pytest.approx(1, abs=0.05)
        assert (noise[1:] * noise[:-1]).mean() == pytest.approx(0.6, abs=0.03)
        assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(0.3, abs=0.03)
