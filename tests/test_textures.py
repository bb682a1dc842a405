"""Real textures: images, their licences, and the suites that they are the truth of."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sarstack.cli.commands import run
from sarstack.errors import UsageError
from sarstack.evaluation import quality
from sarstack.evaluation.suites import REAL, SIMULATED, SUITES, make_cases
from sarstack.evaluation.textures import (
    FOLDER,
    describe_sources,
    make_textures,
    read_sources,
    read_texture,
)

SIZE_PX = 96
ROOT = Path(__file__).parents[1]
NAMES = [name for source in read_sources() for name in source.images]


def test_every_image_has_a_source_and_a_licence_that_allows_to_ship_it() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.png"))
    assert len(set(NAMES)) == len(NAMES) >= 10
    for source in read_sources():
        assert source.licence in {"CC0-1.0", "public domain", "Apache-2.0"}
        assert source.credit
        assert source.found_in
        assert all(source.images.values())
        if "OPERA" in source.credit:
            assert "contains modified Copernicus Sentinel data" in source.credit


def test_images_are_small_and_are_package_data() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_200_000
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"evaluation/images/*"' in declared


def test_the_page_lists_every_image_and_licence() -> None:
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in NAMES)
    assert all(source.licence in page for source in read_sources())


@pytest.mark.parametrize("name", NAMES)
def test_images_have_texture_and_lie_in_the_range_of_eight_bits(name: str) -> None:
    image_db = read_texture(name)
    assert min(image_db.shape) >= SIZE_PX
    assert image_db.mean() == pytest.approx(-12, abs=0.1)
    assert 1 < image_db.std() < 4
    clipped = (image_db <= -28) | (image_db >= 3.875)
    assert clipped.mean() < 0.01
    # Detail of one pixel, not an enlarged image.
    assert np.abs(np.diff(image_db, axis=1)).mean() > 0.2


def test_scenes_are_the_middle_of_an_image_or_the_whole_image() -> None:
    large, small = ({s.name: s for s in make_textures(side)} for side in (1000, SIZE_PX))
    assert list(large) == list(small) == NAMES
    for name, scene in small.items():
        whole = large[name].reflectivity.diffuse
        np.testing.assert_allclose(10 * np.log10(whole), read_texture(name), atol=1e-4)
        y, x = ((side - SIZE_PX) // 2 for side in whole.shape)
        middle = whole[y : y + SIZE_PX, x : x + SIZE_PX]
        np.testing.assert_array_equal(scene.reflectivity.diffuse, middle)
        assert not scene.reflectivity.points.any()
        assert (scene.flats, scene.lines, scene.points) == ((), (), ())
    with pytest.raises(UsageError, match="size_px = 95"):
        next(make_textures(95))


@pytest.mark.parametrize("suite", REAL.values(), ids=list(REAL))
def test_cases_are_reproducible_and_have_the_speckle_of_the_simulated_suite(suite) -> None:
    simulated = SIMULATED[suite.name.removeprefix("real-")]
    assert suite.simulator == simulated.simulator
    assert suite.map_grid == simulated.map_grid
    assert SUITES[suite.name] is suite
    assert suite.seed not in {other.seed for other in SIMULATED.values()}
    cases = list(make_cases(suite, SIZE_PX, 0))
    assert [case.scene.name for case in cases] == NAMES
    for case, again in zip(cases, make_cases(suite, SIZE_PX, 5), strict=True):
        np.testing.assert_array_equal(case.noisy, again.noisy)
        np.testing.assert_array_equal(case.truth, again.truth)
        assert (case.field is not None) == (suite.simulator.looks == 1)
    # The mean of the speckle is 1: over all scenes, its error is below 1 %.
    ratio = np.concatenate([(case.noisy / case.truth).ravel() for case in cases])
    assert ratio.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["real-grd", "real-single-look"])
def test_a_network_is_better_than_lee_on_textures_it_has_not_seen(name: str) -> None:
    methods = quality.choose_methods(["lee", "despecknet"])
    table, rows = quality.bench_suite(SUITES[name], methods, SIZE_PX, 0)
    errors = {method: scores["rmse_db"] for method, scores in table.rows.items()}
    assert errors["despecknet"] < errors["lee"] < errors["input"]
    assert len(rows) == 3 * len(NAMES)
    # Scores of flat fields, lines and points are left out, all others are numbers.
    for method, scores in table.rows.items():
        unknown = {key for key, value in scores.items() if not np.isfinite(value)}
        assert unknown >= {"flat_bias_db", "enl", "point_loss_db", "line_kept"}
        if method != "input":
            assert {"rmse_db", "bias_db", "psnr_db", "ratio_structure"}.isdisjoint(unknown)


def test_the_command_names_images_and_licences(tmp_path: Path, capsys) -> None:
    options = f"bench quality -o {tmp_path} --size-px {SIZE_PX} --landscapes 0 --method boxcar"
    assert run([*options.split(), "--suite", "real-rtc"]) == 0
    assert describe_sources() in capsys.readouterr().out.splitlines()
    assert describe_sources() in (tmp_path / "tables.txt").read_text(encoding="utf-8")
    assert run([*options.split(), "--suite", "rtc"]) == 0
    assert "Truth of" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_recipe_writes_images_that_are_read_back(tmp_path: Path, monkeypatch) -> None:
    """Brightness becomes dB with a standard deviation of 3.5 dB, rounded to an eighth of a dB."""
    recipe = runpy.run_path(str(ROOT / "recipes" / "benchmark" / "cut_textures.py"))
    rng = np.random.default_rng(0)
    bright = rng.integers(60, 190, (300, 270)).astype(np.uint8)
    Image.fromarray(bright).save(tmp_path / "photo.png")
    cut = recipe["Cut"]("photo.png", (1,), 1, (10, 5))
    expected = bright[10:266, 5:261].astype(float)
    expected = -12 + 3.5 * (expected - expected.mean()) / expected.std()
    monkeypatch.setattr("sarstack.evaluation.textures.FOLDER", tmp_path)
    recipe["write_image"](recipe["cut_optical"](tmp_path, cut), tmp_path / "made.png")
    np.testing.assert_allclose(read_texture("made"), expected, atol=0.07)
    assert set(recipe["CUTS"]) | set(recipe["STACKS"]) == set(NAMES)
