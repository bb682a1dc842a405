"""The recipe with the tables of the deSpeckNet paper: its numbers, and the experiments in small."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

RECIPE = Path(__file__).parents[1] / "recipes" / "paper_tables"
MODULES = ("paper", "conclusions", "tables", "scenes", "scoring", "figures", "phases",
           "experiments", "run")  # fmt: skip
# PSNR - DG is the PSNR of the input; Cx is 1 / sqrt(ENL). Not so, in the paper:
GAIN_TYPOS = {("NL-Utrecht", "phase 2 only"), ("NL-Utrecht", "both phases"), (0.01, 0.01, 1)}
CX_TYPOS = {("NL-Utrecht", "Lee sigma"), ("NL-Utrecht", "SAR-BM3D"), ("Japan", "SAR-BM3D")}


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


def test_the_papers_gains_are_differences_of_psnr(recipe: SimpleNamespace) -> None:
    """A number that was copied wrongly, or a typo of the paper, breaks one of these equations."""
    inputs = {"Indonesia": 34.2, "DRC": 34.03, "NL-Utrecht": 27.2}
    paper = recipe.paper
    for table in (paper.TABLE_4, paper.TABLE_6):
        for scene, psnr_of_input in inputs.items():
            for column, psnr in table[scene, "PSNR"].items():
                error = abs(psnr - table[scene, "DG"][column] - psnr_of_input)
                assert (error > 0.3) == ((scene, column) in GAIN_TYPOS), (scene, column, error)
    for table, scene in ((paper.TABLE_7, "Indonesia"), (paper.TABLE_8, "DRC")):
        for weights, own in table.items():
            error = abs(own["PSNR"] - own["DG"] - inputs[scene])
            assert (error > 0.3) == (weights in GAIN_TYPOS), (weights, error)


def test_the_papers_variation_is_that_of_its_looks(recipe: SimpleNamespace) -> None:
    for scene in recipe.paper.SCENES:
        for method, looks in recipe.paper.TABLE_4[scene, "ENL"].items():
            ratio = recipe.paper.TABLE_4[scene, "Cx"][method] * np.sqrt(looks)
            assert (abs(ratio - 1) > 0.2) == ((scene, method) in CX_TYPOS), (scene, method, ratio)


def test_conclusions_hold_in_the_papers_tables_unless_only_its_text_has_them(
    recipe: SimpleNamespace,
) -> None:
    check, numbers = recipe.conclusions.check_conclusion, recipe.conclusions.PAPER
    for conclusion in recipe.conclusions.CONCLUSIONS:
        found = check(conclusion, numbers)
        assert set(found) == set(conclusion.scenes)
        assert all(found.values()) == ("text" not in conclusion.table), conclusion.text


def test_a_method_that_was_not_run_is_left_out(recipe: SimpleNamespace) -> None:
    conclusions = recipe.conclusions
    without = {key: {m: v for m, v in row.items() if m != "SAR-CNN"}
               for key, row in conclusions.PAPER.methods.items()}  # fmt: skip
    text = conclusions.render_conclusions(conclusions.Numbers(methods=without))
    assert "makes the town worse than the input (DG below 0) | yes | not computed" in text
    assert "highest PSNR of the four methods | 3 of 3 | 3 of 3 | agree" in text
    table = recipe.tables.render_tables(conclusions.Numbers(methods=without), ["Lee sigma"])
    assert "| DRC | PSNR | 37.34 / 37.34 |" in table


def test_scores_of_input_and_truth_are_known(recipe: SimpleNamespace) -> None:
    kinds = {kind.name: kind for kind in recipe.scenes.KINDS}
    scene = recipe.scenes.simulate_scene(kinds["NL-Utrecht"], 200)
    of_input = recipe.scoring.score(scene, scene.noisy)
    assert of_input["DG"] == of_input["VoR"] == 0
    of_truth = recipe.scoring.score(scene, scene.reference)
    assert of_truth["EPI"] == of_truth["SSIM"] == 1
    assert of_truth["MoR"] == pytest.approx(1, abs=0.03)
    assert of_truth["VoR"] == pytest.approx(1 / 4.4, rel=0.15)
    speckle = scene.noisy / scene.reference
    assert recipe.scoring.fit_gamma(speckle) == pytest.approx(4.4, rel=0.1)
    image = np.ones((5, 5), np.float32)
    image[2, 2] = 100
    assert recipe.scoring.point_contrast_db(image, np.array([[2, 2]])) == pytest.approx(20)


def test_the_target_of_a_patch_is_the_mean_of_the_other_dates(recipe: SimpleNamespace) -> None:
    dates = np.ones((3, 60, 60), np.float32) * np.array([1, 2, 6], np.float32)[:, None, None] / 100
    dates[1, :30] = 5  # varies by more than the paper allows
    batch = recipe.phases.label_patches(dates, 0.5).batch(7)
    steady = batch.weight == 1
    assert set(np.round(50 * (batch.intensity + 2 * batch.target)[steady], 3)) == {9 * 1.0}
    assert not batch.weight[batch.intensity + 2 * batch.target > 1].any()


def test_the_reference_of_a_stack_leaves_out_the_date(recipe: SimpleNamespace, make_stack) -> None:
    stack = make_stack(n_dates=10, polarisations=("vh",))
    (scene,) = recipe.scenes.read_scenes(str(stack.folder), 60)
    assert scene.name == "stack VH"
    assert scene.noisy.shape == (60, 60)
    mean = scene.reference.mean() / stack.truth["vh"][15:75, 30:90].mean()
    assert mean == pytest.approx(1, abs=0.05)
    ratio = np.log(scene.noisy / stack.truth["vh"][15:75, 30:90]).ravel()
    error = np.log(scene.reference / stack.truth["vh"][15:75, 30:90]).ravel()
    assert abs(np.corrcoef(ratio, error)[0, 1]) < 0.1


@pytest.mark.slow
def test_all_experiments_run_on_two_small_scenes(
    recipe: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(recipe.run, "KINDS", recipe.scenes.KINDS[:2])
    n_threads = torch.get_num_threads()
    try:
        recipe.run.main(["-o", str(tmp_path), "--size", "64", "--steps", "2"])
    finally:
        torch.set_num_threads(n_threads)
    text = (tmp_path / "tables.md").read_text()
    assert text in capsys.readouterr().out
    for title in ("Table IV", "Table V:", "Table VI:", "Table VII:", "Table VIII:", "Conclusions"):
        assert title in text
    for scene in ("Indonesia", "DRC"):
        for score in ("PSNR", "MoR"):
            assert f"| {scene} | {score} |" in text
    assert text.count("| yes | not computed") == 3  # the town is left out
    for figure in ("figure10.png", "figure11.png"):
        assert imread(tmp_path / figure).std() > 0.05
