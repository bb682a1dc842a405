"""Suites, real stacks and scenes: results that are known get the scores that theory gives."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import polygamma

from sarstack.cli.commands import run
from sarstack.despecklers import despeckler_names, make_despeckler
from sarstack.errors import UsageError
from sarstack.evaluation import metrics, quality, real_scenes, real_stacks, tables
from sarstack.evaluation.scenes import LINE_WIDTHS_PX, make_scenes
from sarstack.evaluation.scores import Score
from sarstack.evaluation.suites import SIMULATED, SUITES, make_cases, score_case
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.stacks import draw_gains, simulate_changes

SIZE_PX = 96
STACKS = Path(__file__).parents[2] / "shared" / "data" / "stacks"
SINGLE = [name for name, suite in SUITES.items() if suite.n_dates == 1]
PLAIN = [name for name, suite in SIMULATED.items()
         if suite.n_dates == 1 and not (suite.map_grid or suite.right_looks)]  # fmt: skip


def cases_of(suite, n_scenes=1):
    return {c.scene.name: c for c in make_cases(SUITES[suite], SIZE_PX, n_scenes)}


@pytest.mark.parametrize("suite", SUITES)
def test_the_truth_has_ideal_scores(suite):
    for case in cases_of(suite).values():
        scores = score_case(case, case.truth)
        assert scores["rmse_db"] == 0
        # The mean of the speckle of one image deviates at random.
        assert scores["bias_db"] == pytest.approx(0, abs=0.4)
        assert scores["psnr_db"] == np.inf
        for name, ideal in (("point_loss_db", 0), ("line_kept", 1), ("thin_line_kept", 1)):
            assert np.isnan(scores[name]) or scores[name] == pytest.approx(ideal, abs=1e-9)
        # The removed part is speckle: of the right variance, not correlated with the scene.
        assert scores["ratio_variance"] == pytest.approx(1, abs=0.15)
        assert np.isnan(scores["ratio_structure"]) or abs(scores["ratio_structure"]) < 0.1


@pytest.mark.parametrize("suite", PLAIN)
def test_the_input_has_the_error_of_its_speckle(suite):
    """RMSE^2 of gamma speckle = psi1(L) + (psi(L) - ln L)^2, in dB."""
    looks = SUITES[suite].simulator.looks
    error = polygamma(1, looks) + (polygamma(0, looks) - np.log(looks)) ** 2
    case = cases_of(suite, 0)["flat"]
    scores = score_case(case, case.noisy)
    assert scores["rmse_db"] == pytest.approx(10 / np.log(10) * np.sqrt(error), rel=0.04)
    assert scores["enl"] == pytest.approx(looks, rel=0.15)
    assert scores["flat_bias_db"] == 0
    assert scores["ratio_variance"] == pytest.approx(0, abs=1e-9)


def test_a_single_look_is_the_power_of_its_complex_field():
    for name in SINGLE:
        for case in cases_of(name).values():
            assert (case.field is None) == (case.looks > 1)
            if case.field is not None:
                power = case.field.real**2 + case.field.imag**2
                np.testing.assert_array_equal(power, case.noisy[0])


def test_bias_scores_measure_a_gain():
    scores = score_case(cases_of("rtc", 0)["flat"], 2 * cases_of("rtc", 0)["flat"].noisy)
    plain = score_case(cases_of("rtc", 0)["flat"], cases_of("rtc", 0)["flat"].noisy)
    doubled_db = 10 * np.log10(2)
    assert plain["bias_db"] == 0
    assert scores["bias_db"] == pytest.approx(doubled_db, abs=1e-5)
    assert scores["flat_bias_db"] == pytest.approx(doubled_db, abs=1e-5)
    assert scores["ratio_mean"] == pytest.approx(0.5, abs=1e-5)


def test_boxcar_reduces_the_error_and_loses_lines_and_points():
    methods = quality.choose_methods(["boxcar"])
    table, rows = quality.bench_suite(SUITES["grd"], methods, SIZE_PX, 1)
    given, smooth = table.rows["input"], table.rows["boxcar"]
    assert smooth["rmse_db"] < 0.8 * given["rmse_db"]
    assert smooth["enl"] > 4 * given["enl"]
    assert smooth["thin_line_kept"] < smooth["line_kept"] < 0.8 < given["line_kept"]
    assert smooth["point_loss_db"] > 3 > abs(given["point_loss_db"])
    assert smooth["ratio_structure"] > 0.1
    assert abs(smooth["flat_bias_db"]) < 0.3
    assert len(rows) == 2 * 6
    assert "rmse_relative_to_lee" not in table.columns


def test_rmse_is_divided_by_that_of_lee():
    rows = quality.compare_with_lee({"lee": {"rmse_db": 2.0}, "better": {"rmse_db": 1.0}})
    assert [row["rmse_relative_to_lee"] for row in rows.values()] == [1, 0.5]


def test_suites_are_reproducible_and_share_their_scenes():
    again = [cases_of("grd"), cases_of("grd"), cases_of("rtc")]
    for name, case in again[0].items():
        np.testing.assert_array_equal(case.noisy, again[1][name].noisy)
        np.testing.assert_array_equal(
            case.scene.reflectivity.diffuse, again[2][name].scene.reflectivity.diffuse
        )


def test_masks_and_places_of_a_scene_agree_with_its_reflectivity():
    scenes = {scene.name: scene for scene in make_scenes(256, 0)}
    for line in scenes["lines"].lines:
        assert line.inside.sum() / 256 == pytest.approx(line.width_px, rel=0.03)
        assert not (line.inside & line.beside).any()
    assert {line.width_px for line in scenes["lines"].lines} == set(LINE_WIDTHS_PX)
    strongest = np.argwhere(scenes["points"].reflectivity.points)
    assert sorted(map(tuple, strongest)) == sorted(scenes["points"].points)
    for field in scenes["flat"].flats:
        assert np.ptp(scenes["flat"].reflectivity.diffuse[field]) == 0


def test_changed_and_unchanged_pixels_have_separate_scores():
    (case,) = make_cases(SUITES["grd-stack"], SIZE_PX, 1)
    assert 0 < case.changed.mean() < 0.5
    wrong = np.where(case.changed, 2 * case.truth, case.truth).astype(np.float32)
    scores = score_case(case, wrong)
    assert scores["rmse_changed_db"] == pytest.approx(10 * np.log10(2), abs=1e-5)
    assert scores["rmse_unchanged_db"] == 0
    assert score_case(case, case.truth)["change_kept"] == pytest.approx(1)
    # A method that always returns the unchanged state is right only where nothing changed.
    returned = score_case(case, case.unchanged)
    assert returned["change_kept"] == pytest.approx(0, abs=1e-6)
    assert returned["rmse_unchanged_db"] < 0.5 < 3 < returned["rmse_changed_db"]


def test_changes_are_rare_and_other_pixels_equal_the_unchanged_state():
    gain_db = draw_gains(10, 128, np.random.default_rng(3))
    happens = np.abs(gain_db) > 0
    assert 0.005 < happens.mean() < 0.3
    assert happens.any(axis=(1, 2)).all()
    assert gain_db.min() < -5  # floods
    assert gain_db.max() > 10  # ships
    stack = simulate_changes(10, 128, "fields", SpeckleSimulator(4.5), np.random.default_rng(3))
    deviation = np.abs(stack.truth / stack.unchanged - 1)
    assert 0.005 < stack.changed.mean() < 0.3
    # The drift of a whole date is part of its unchanged state: nearly all other pixels are equal.
    assert np.quantile(deviation[~stack.changed], 0.9) < 1e-4


def test_spread_of_the_input_is_that_of_its_speckle():
    """Spread^2 of the input = psi1(L) of the date + psi1(L M) of the mean of M others."""
    rng, looks, n_dates = np.random.default_rng(8), 4.0, 8
    land = np.exp(rng.normal(-2, 1, (100, 100)))
    block = (land * rng.gamma(looks, 1 / looks, (n_dates, 100, 100))).astype(np.float32)
    block[:, :20, :30] = np.nan
    block[2] *= 3  # a date that is brighter as a whole does not increase the spread
    stack = real_stacks.RealStack("made", block, looks)
    _, scores = real_stacks.score_stack(stack, None)
    others, half = 1 / (looks * (n_dates - 1)), 1 / (looks * n_dates / 2)
    speckle = float(polygamma(1, looks))
    assert scores["spread"] == pytest.approx(np.sqrt(speckle + others), rel=0.05)
    assert scores["spread_half"] == pytest.approx(np.sqrt(speckle + half), rel=0.05)


def test_a_multi_temporal_method_does_not_use_its_reference_dates():
    rng = np.random.default_rng(9)
    block = rng.gamma(4, 0.25, (6, 64, 64)).astype(np.float32)
    quegan_yu = make_despeckler("quegan-yu")
    stack = real_stacks.RealStack("made", block, 4.0)
    despeckled, scores = real_stacks.score_stack(stack, quegan_yu)
    assert np.isnan(scores["spread"])
    changed = block.copy()
    changed[1::2] *= rng.uniform(0.5, 2, (3, 64, 64)).astype(np.float32)
    again, _ = real_stacks.score_stack(real_stacks.RealStack("made", changed, 4.0), quegan_yu)
    # Looks are measured on the half, too: nothing may depend on the other half.
    np.testing.assert_array_equal(again[::2], despeckled[::2])


def test_contrast_and_ratio_structure_have_their_ideal_values():
    rng = np.random.default_rng(10)
    truth = np.ones((60, 60))
    truth[:, 30] = 4
    line = truth > 1
    noisy = truth * rng.gamma(5, 0.2, truth.shape)
    assert metrics.contrast_kept(np.sqrt(truth), truth, line, ~line) == pytest.approx(0.5)
    assert np.isnan(metrics.contrast_kept(truth, np.ones_like(truth), line, ~line))
    assert abs(metrics.ratio_structure(noisy, truth, truth)) < 0.05
    assert metrics.ratio_structure(truth, np.ones_like(truth), truth) > 0.9
    assert np.isnan(metrics.ratio_structure(noisy, noisy, truth))


def test_all_registered_methods_are_scored_by_default():
    assert list(quality.choose_methods()) == ["input", *despeckler_names()]


# Of each kind: a window, several dates, a network.
@pytest.mark.parametrize("names", [["boxcar", "lee"], ["lee", "quegan-yu", "despecknet-lite"]])
def test_command_scores_methods_and_writes_tables(names, tmp_path, capsys):
    arguments = f"bench quality -o {tmp_path} --suite rtc --size-px {SIZE_PX} --landscapes 0"
    chosen = [part for name in names for part in ("--method", name)]
    assert run([*arguments.split(), *chosen]) == 0
    with (tmp_path / "rtc.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["input", *names]
    assert all(0 < float(row["rmse_db"]) < 30 for row in rows.values())
    assert all(float(rows[name]["cpu_s_per_mpx"]) > 0 for name in names)
    for name in ("rtc.png", "rtc-lines.png", "rtc-points.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "scenes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5 * len(rows)
    shown = capsys.readouterr().out
    assert "RMSE dB" in shown
    assert set(names) <= {line.split(" ")[0] for line in shown.splitlines()}
    assert "RMSE dB" in (tmp_path / "tables.txt").read_text()


def test_methods_reduce_the_spread_on_a_real_stack():
    folder = STACKS / "opera-rtc-21date" / "T137-292321-IW2"
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    methods = quality.choose_methods(["lee", "quegan-yu"])
    stacks = real_stacks.read_stack(str(folder))
    assert [stack.name for stack in stacks] == ["T137-292321-IW2-vv", "T137-292321-IW2-vh"]
    for stack in stacks:
        table = quality.bench_stack(stack, methods)
        assert table.rows["lee"]["spread"] < 0.85 * table.rows["input"]["spread"]
        assert table.rows["quegan-yu"]["spread_half"] < table.rows["lee"]["spread_half"]


def test_stacks_have_equal_weight_in_the_pooled_table():
    rows = [{"spread": 0.3, "spread_half": np.nan}, {"spread": 0.4, "spread_half": 0.5}]
    apart = [tables.Table(str(i), "", {"a": row}) for i, row in enumerate(rows)]
    both = quality.pool_tables("stacks", apart)
    assert both.name == "all-stacks"
    assert both.rows["a"]["spread"] == pytest.approx(np.sqrt(0.125))
    assert both.rows["a"]["spread_half"] == pytest.approx(0.5)


def test_command_writes_the_tables_and_crops_of_a_stack(tmp_path):
    rng = np.random.default_rng(11)
    for date in range(4):
        speckled = rng.gamma(4, 0.025, (60, 70)).astype(np.float32)
        np.save(tmp_path / f"site_2021010{date + 1}_vv.npy", speckled)
    arguments = f"bench quality -o {tmp_path}/out --method lee --stack {tmp_path}"
    assert run([*arguments.split(), "--scale", "linear"]) == 0
    name = f"{tmp_path.name}-vv"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"{name}.csv", f"{name}.png", f"{name}-crop.png", "tables.txt"}


def two_polarisations(looks=4.0, side=150):
    """Simulate fields with bright lines; return two images of independent speckle, and truth."""
    rng = np.random.default_rng(12)
    land = np.exp(rng.normal(-2, 0.5, (side // 15, side // 15))).repeat(15, 0).repeat(15, 1)
    land[::15] *= 4
    speckle = rng.gamma(looks, 1 / looks, (2, 1, side, side))
    return (land * speckle).astype(np.float32), land.astype(np.float32)[None]


def test_scores_of_a_scene_are_ideal_if_only_speckle_is_removed():
    (vv, vh), truth = two_polarisations()
    flat = np.ones(vv.shape[1:], dtype=bool)
    scene = real_scenes.RealScene("made", vv, 4.0, flat, vh)
    _, ideal = real_scenes.score_scene(scene, SimpleNamespace(apply=lambda noisy: truth))
    assert ideal["ratio_mean"] == pytest.approx(1, abs=0.02)
    assert ideal["ratio_variance"] == pytest.approx(1, abs=0.05)
    assert abs(ideal["bias_db"]) < 0.1
    assert abs(ideal["ratio_structure"]) < 0.03
    _, blurred = real_scenes.score_scene(scene, make_despeckler("boxcar"))
    assert blurred["ratio_structure"] > 0.1
    _, untouched = real_scenes.score_scene(scene, None)
    assert np.isnan(untouched["ratio_structure"])
    assert untouched["ratio_variance"] == 0


def test_homogeneous_windows_of_a_scene_are_found(tmp_path):
    for name, (image,) in zip(("vv", "vh"), two_polarisations()[0], strict=True):
        image[:, :40] /= np.arange(1, 151)[:, None] % 5 + 1  # stripes are not homogeneous
        np.save(tmp_path / f"site_20210101_{name}.npy", image)
    vv, vh = real_scenes.read_scene(str(tmp_path), "linear")
    assert [vv.name, vh.name] == [f"{tmp_path.name}-vv", f"{tmp_path.name}-vh"]
    np.testing.assert_array_equal(vv.other, vh.intensity)
    assert 0.1 < vv.flat.mean() < 0.3
    assert not vv.flat[:, :30].any()
    np.save(tmp_path / "alone_20210101_vv.npy", np.full((12, 12), 0.1, np.float32))
    (alone,) = real_scenes.read_scene(str(tmp_path / "alone_20210101_vv.npy"), "linear")
    assert not alone.flat.any()  # smaller than one window
    assert np.isnan(alone.other).all()


def test_command_writes_the_tables_and_crops_of_a_scene(tmp_path):
    for name, (image,) in zip(("vv", "vh"), two_polarisations()[0], strict=True):
        np.save(tmp_path / f"site_20210101_{name}.npy", image)
    arguments = f"bench quality -o {tmp_path}/out --method lee --scene {tmp_path} --scale linear"
    assert run(arguments.split()) == 0
    names = [f"{tmp_path.name}-{polarisation}" for polarisation in ("vv", "vh")]
    expected = {f"{n}{end}" for n in names for end in (".csv", ".png", "-crop.png")}
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == expected | {"all-scenes.csv", "all-scenes.png", "tables.txt"}


def test_results_of_other_programs_get_the_scores_of_methods(tmp_path, capsys):
    """Given results of our own boxcar as another program, its row equals that of the method."""
    cases, results = tmp_path / "cases", tmp_path / "theirs"
    options = f"--suite grd --size-px {SIZE_PX} --landscapes 0".split()
    assert run(["bench", "cases", "-o", str(cases), *options]) == 0
    looks_of = json.loads((cases / "looks.json").read_text())
    assert len(looks_of) == 5
    assert set(looks_of.values()) == {4.5}
    results.mkdir()
    for name in looks_of:
        image = np.load(cases / f"{name}.npy")
        np.save(results / f"{name}.npy", make_despeckler("boxcar").apply(image[None])[0])
    (results / "costs.json").write_text(json.dumps(dict.fromkeys(looks_of, 7.0)))
    command = f"bench quality -o {tmp_path}/q --method boxcar --results {results}".split()
    assert run([*command, *options]) == 0
    with (tmp_path / "q" / "grd.csv").open() as file:
        rows = {row.pop("method"): row for row in csv.DictReader(file)}
    assert float(rows["theirs"].pop("cpu_s_per_mpx")) == 7
    rows["boxcar"].pop("cpu_s_per_mpx")
    assert rows["theirs"] == rows["boxcar"]
    next(results.glob("*.npy")).unlink()
    assert run([*command, *options]) == 2
    assert "has no result" in capsys.readouterr().err


def test_complex_images_are_exported_with_their_power(tmp_path):
    options = f"--suite single-look --size-px {SIZE_PX} --landscapes 0".split()
    assert run(["bench", "cases", "-o", str(tmp_path), *options]) == 0
    for name in json.loads((tmp_path / "looks.json").read_text()):
        field = np.load(tmp_path / "complex" / f"{name}.npy")
        assert field.dtype == np.complex64
        power = field.real**2 + field.imag**2
        np.testing.assert_array_equal(power, np.load(tmp_path / f"{name}.npy"))


def test_a_new_entry_is_computed_and_shown_everywhere(monkeypatch, tmp_path):
    entry = Score("darkest", "darkest", "minimum of the result", "higher", 2, ("simulated",),
                  lambda result: float(result.despeckled.min()), bold=True)  # fmt: skip
    monkeypatch.setitem(metrics.SCORES, "darkest", entry)
    table, rows = quality.bench_suite(SUITES["rtc"], {"input": None}, SIZE_PX, 0)
    assert table.columns[-1] == "darkest"
    lowest = [row["darkest"] for row in rows]
    assert table.rows["input"]["darkest"] == pytest.approx(np.mean(lowest))
    assert tables.explain_columns([table]).endswith("minimum of the result; higher is better")
    assert (0, len(table.columns) - 1) in tables.find_best(table)
    assert "darkest" in tables.write_csv(table, tmp_path / "t.csv").read_text()


def test_wrong_arguments_are_refused_before_work_starts(tmp_path):
    with pytest.raises(UsageError, match="grd"):
        quality.bench_quality(tmp_path / "none", suites=["gdr"])
    with pytest.raises(UsageError, match="boxcar"):
        quality.choose_methods(["boxcat"])
    with pytest.raises(UsageError, match="size_px"):
        next(make_scenes(40, 0))
    np.save(tmp_path / "a_20210101_vv.npy", np.full((50, 50), 0.1, np.float32))
    with pytest.raises(UsageError, match="1 dates"):
        real_stacks.read_stack(str(tmp_path / "a_20210101_vv.npy"), "linear")
    assert not (tmp_path / "none").exists()


def test_tables_show_nan_as_a_dash_and_no_negative_zero():
    table = tables.Table("t", "T", {"a": {"rmse_db": 1.0, "bias_db": -0.0001},
                                    "b": {"rmse_db": np.nan, "bias_db": 0.5}})  # fmt: skip
    text = tables.render_text(table)
    assert text.splitlines()[2].split() == ["a", "1.000", "0.000"]
    assert text.splitlines()[3].split() == ["b", "-", "0.500"]
    assert tables.find_best(table) == {(0, 0)}
