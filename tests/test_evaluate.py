"""Scores of images of any size, the command `evaluate`, and its report in a browser."""

import base64
import csv
import html
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from matplotlib.image import imread
from numpy.typing import NDArray
from rasterio.transform import from_origin
from simulated_stack import read_tif, write_tif

from sarstack.cli.commands import run
from sarstack.despecklers import make_despeckler
from sarstack.errors import ScaleError, UsageError
from sarstack.evaluation import metrics
from sarstack.evaluation.image_scores import COLUMNS, ImagePair, score_image
from sarstack.evaluation.report import Report, draw_map, write_report
from sarstack.evaluation.tile_sums import to_8_bits
from sarstack.speckle.laws import log_speckle_variance
from sarstack.tiles import Shape, Window

Image = NDArray[np.float32]
LOOKS = 4.0
SIZE = (1210, 530)


def draw_scene(size: tuple[int, int] = SIZE) -> tuple[Image, Image]:
    """Draw a truth with fields, a flat part and points, and a noisy image with nodata."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: size[0], : size[1]] / 25
    truth = 0.1 * np.exp(np.sin(y) + np.cos(1.3 * x))
    truth[: size[0] // 3] = 0.05
    points = np.zeros(size)
    points[rng.integers(40, size[0] - 40, 20), rng.integers(40, size[1] - 40, 20)] = 30
    noisy = truth * rng.gamma(LOOKS, 1 / LOOKS, size) + points
    noisy[100:140, 200:260] = np.nan
    noisy[:9] = np.nan
    return (truth + points).astype(np.float32), noisy.astype(np.float32)


def pair_of(noisy: Image, despeckled: Image, reference: Image | None = None) -> ImagePair:
    def reader(image: Image):
        return lambda window: image[window.slices]

    return ImagePair(reader(noisy), reader(despeckled), Shape(*noisy.shape), LOOKS,
                     reference=None if reference is None else reader(reference))  # fmt: skip


@pytest.fixture(scope="module")
def images() -> tuple[Image, Image, Image]:
    truth, noisy = draw_scene()
    return truth, noisy, make_despeckler("lee").apply(noisy[np.newaxis])[0]


@pytest.fixture(scope="module")
def scores(images: tuple[Image, Image, Image]) -> dict[str, float]:
    truth, noisy, despeckled = images
    return score_image(pair_of(noisy, despeckled, truth)).values


def test_sums_over_tiles_give_the_scores_of_the_whole_image(images, scores):
    """Oracles: the scores of the benchmark, which take a whole image."""
    truth, noisy, despeckled = images
    assert scores["rmse_db"] == pytest.approx(metrics.rmse_db(despeckled, truth), rel=1e-6)
    assert scores["bias_db"] == pytest.approx(metrics.bias_db(despeckled, noisy), abs=1e-6)
    assert scores["reference_bias_db"] == pytest.approx(metrics.bias_db(despeckled, truth))
    assert scores["structure"] == pytest.approx(
        metrics.ratio_structure(noisy, despeckled, truth), abs=2e-3
    )
    ratio = metrics.ratio_statistics(noisy, despeckled)
    expected = ratio.log_variance / float(log_speckle_variance(LOOKS))
    assert scores["log_ratio_variance"] == pytest.approx(expected, rel=1e-4)
    assert scores["valid_share"] == np.isfinite(noisy).mean()


def test_paper_scores_equal_plain_formulas(images, scores):
    truth, noisy, despeckled = images
    valid = np.isfinite(noisy)
    eight = [to_8_bits(image.astype(float)) for image in (despeckled, noisy, truth)]
    errors = [np.mean((image - eight[2])[valid] ** 2) for image in eight[:2]]
    assert scores["psnr_db"] == pytest.approx(10 * np.log10(255**2 / errors[0]), rel=1e-9)
    assert scores["gain_db"] == pytest.approx(10 * np.log10(errors[1] / errors[0]), rel=1e-9)
    assert 0 < scores["edge_index"] <= 1


def test_similarity_equals_that_of_scikit_image():
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    truth, noisy = draw_scene((300, 280))
    noisy = np.nan_to_num(noisy, nan=0.05)
    despeckled = make_despeckler("lee").apply(noisy[np.newaxis])[0]
    a, b = (to_8_bits(image.astype(float)) for image in (despeckled, truth))
    _, expected = similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5,
                             use_sample_covariance=False, full=True)  # fmt: skip
    found = score_image(pair_of(noisy, despeckled, truth)).values["ssim"]
    assert found == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-6)


def test_an_ideal_result_has_ideal_scores(images):
    truth, noisy, _ = images
    best = score_image(pair_of(noisy, np.where(np.isfinite(noisy), truth, np.nan), truth)).values
    assert best["rmse_db"] == 0
    assert best["ssim"] == best["edge_index"] == 1
    assert best["edge_correlation"] == pytest.approx(1)
    assert best["ratio_mean"] == pytest.approx(1, abs=0.01)
    assert best["ratio_variance"] == pytest.approx(1, abs=0.1)
    assert best["log_ratio_variance"] == pytest.approx(1, abs=0.02)
    assert best["structure"] == pytest.approx(0, abs=0.02)
    assert best["false_points_per_mpx"] == 0


@pytest.mark.parametrize(
    ("damage", "score", "worse"),
    [
        (lambda f, _y: 1.2 * f, "bias_db", lambda old, new: abs(new) > abs(old) + 0.5),
        (lambda _f, y: y, "enl", lambda old, new: new < old / 3),
        (lambda f, _y: np.minimum(f, 1), "point_loss_db", lambda old, new: new > old + 5),
        (lambda f, _y: _with_seams(f), "seam", lambda old, new: new > old + 0.1),
        (lambda f, _y: _with_false_points(f), "false_points_per_mpx",
         lambda old, new: new > old + 500),
        (lambda _f, y: np.full_like(y, 0.1), "m_index", lambda old, new: new > old),
    ],
    ids=["bias", "speckle left", "points cut", "seams", "false points", "all smoothed"],
)  # fmt: skip
def test_each_damage_worsens_its_score(images, scores, damage, score, worse):
    truth, noisy, despeckled = images
    damaged = damage(despeckled.copy(), noisy)
    found = score_image(pair_of(noisy, damaged.astype(np.float32), truth)).values[score]
    assert worse(scores[score], found), (scores[score], found)


def _with_seams(image: Image) -> Image:
    image[256:512] *= 1.1
    return image


def _with_false_points(image: Image) -> Image:
    image[:400:20, ::20] *= 6
    return image


def test_homogeneous_areas_are_in_the_flat_part(images):
    truth, noisy, despeckled = images
    with_truth = score_image(pair_of(noisy, despeckled, truth)).windows
    assert len(with_truth) > 10
    assert all(window.y1 <= SIZE[0] // 3 + 1 for window in with_truth)
    alone = score_image(pair_of(noisy, despeckled))
    assert alone.values["enl_before"] == pytest.approx(LOOKS, rel=0.15)
    assert np.isnan(alone.values["rmse_db"])


@pytest.mark.parametrize("size", [(1, 1), (30, 26), (3, 700)])
def test_small_images_and_images_without_data_have_scores(size: tuple[int, int]):
    noisy = np.random.default_rng(1).gamma(4, 0.25, size).astype(np.float32)
    assert score_image(pair_of(noisy, noisy)).values["valid_share"] == 1
    empty = np.full(size, np.nan, np.float32)
    assert score_image(pair_of(empty, empty)).values["valid_share"] == 0


@pytest.fixture
def results(make_stack, tmp_path: Path) -> Path:
    stack = make_stack(n_dates=2)
    for method in ("lee", "boxcar"):
        out = str(tmp_path / method)
        assert run(["-q", "despeckle", str(stack.folder), "-o", out, "--method", method]) == 0
    return tmp_path


def test_the_command_scores_results_and_writes_numbers(results: Path, capsys):
    table = results / "scores.csv"
    folders = [str(results / method) for method in ("lee", "boxcar")]
    assert run(["evaluate", str(results / "stack"), *folders, "-o", str(table)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("ENL in") == 8
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["method"], r["polarisation"]) for r in rows} == {
        (m, p) for m in ("lee", "boxcar") for p in ("vv", "vh")
    }
    assert set(COLUMNS) < set(rows[0])


def test_the_accessor_gives_the_scores_of_the_command(results: Path):
    import sarstack

    cube = sarstack.open_stack(results / "stack").compute()
    despeckled = sarstack.open_stack(results / "lee").compute()
    found = cube.despeck.evaluate(despeckled)
    assert dict(found.sizes) == {"polarisation": 2, "time": 2}
    table = results / "scores.csv"
    assert run(["evaluate", str(results / "stack"), str(results / "lee"), "-o", str(table)]) == 0
    with table.open() as file:
        for row in csv.DictReader(file):
            time = np.datetime64(row["date"].removesuffix("Z"))
            own = found.sel(polarisation=row["polarisation"], time=time)
            for name in ("bias_db", "ratio_mean", "seam", "structure"):
                assert float(own[name]) == pytest.approx(float(row[name]), rel=1e-4, abs=1e-6,
                                                            nan_ok=True)  # fmt: skip
    with pytest.raises(UsageError, match="despeckled has"):
        cube.despeck.evaluate(despeckled.isel(time=[0]))
    amplitude = np.sqrt(despeckled)
    for array in amplitude.values():
        array.attrs["scale"] = "amplitude"
    xr.testing.assert_allclose(cube.despeck.evaluate(amplitude), found, atol=1e-4)
    with pytest.raises(ScaleError, match=r"(?s)despeckled: vv.*attrs\['scale'\]"):
        cube.despeck.evaluate(5000 * amplitude.drop_attrs())


def test_a_result_without_its_input_or_on_another_grid_is_refused(results: Path, capsys):
    other = results / "other"
    other.mkdir()
    write_tif(other / "S1A_IW_20220101T051234_vv.tif", np.full((90, 120), 0.07, np.float32))
    assert run(["evaluate", str(other), str(results / "lee")]) == 4
    assert "has no input in" in capsys.readouterr().err
    name = "S1A_IW_20210101T051234_vv.tif"
    shutil.rmtree(other)
    other.mkdir()
    write_tif(other / name, np.full((80, 120), 0.07, np.float32))
    assert run(["evaluate", str(results / "stack"), str(other)]) == 4
    assert "is not on the grid of its input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "reason"),
    [({"pixel": 20.0}, "pixel x 20 instead of 10"), ({"crs": "EPSG:32633"}, "CRS EPSG:32633")],
    ids=["pixel size", "CRS"],
)
def test_a_result_of_another_place_is_refused(place, reason: str, tmp_path: Path, capsys):
    image = np.full((30, 30), 0.07, np.float32)
    _write_at(tmp_path / "in_vv.tif", image)
    _write_at(tmp_path / "out_vv.tif", image, **place)
    assert run(["evaluate", str(tmp_path / "in_vv.tif"), str(tmp_path / "out_vv.tif")]) == 4
    assert reason in capsys.readouterr().err


def test_a_result_can_be_an_array_without_georeference(tmp_path: Path, capsys):
    image = np.random.default_rng(2).gamma(4, 0.02, (60, 60)).astype(np.float32)
    _write_at(tmp_path / "in_vv.tif", image)
    np.save(tmp_path / "out_vv.npy", 2 * image)
    assert run(["evaluate", str(tmp_path / "in_vv.tif"), str(tmp_path / "out_vv.npy")]) == 0
    printed = capsys.readouterr()
    assert "bias dB              3.010" in printed.out
    assert "out_vv.npy has no georeference" in printed.err


def test_the_scale_of_results_holds_for_those_that_declare_none(results: Path, capsys):
    """A result in amplitude beside one of sarstack, whose tags say linear: both have no bias."""
    other = results / "other"
    other.mkdir()
    for file in sorted((results / "lee").glob("*_vv_*.tif")):
        write_tif(other / file.name, 1000 * np.sqrt(read_tif(file)))
    command = ["evaluate", str(results / "stack"), str(results / "lee"), str(other)]
    assert run(command) == 4
    error = capsys.readouterr().err
    assert "--result-scale amplitude" in error
    assert "--scale" not in error
    table = results / "scores.csv"
    assert run([*command, "--result-scale", "amplitude", "-o", str(table)]) == 0
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["polarisation"] == "vv"]
    bias = {
        m: float(next(r["bias_db"] for r in rows if r["method"] == m)) for m in ("lee", "other")
    }
    assert abs(bias["lee"]) < 0.5
    assert bias["other"] == pytest.approx(bias["lee"] + 60, abs=1e-3)


def test_a_reference_of_unclear_scale_needs_its_scale(results: Path, capsys):
    reference = results / "truth_vv.tif"
    write_tif(reference, np.full((90, 120), 300, np.float32))
    command = ["evaluate", str(results / "stack" / "S1A_IW_20210101T051234_vv.tif"),
               str(results / "lee"), "--reference", str(reference)]  # fmt: skip
    assert run(command) == 4
    assert "--reference-scale amplitude" in capsys.readouterr().err


def _write_at(path: Path, image: Image, pixel: float = 10.0, crs: str = "EPSG:32632") -> None:
    with rasterio.open(path, "w", driver="GTiff", height=image.shape[0], width=image.shape[1],
                       count=1, dtype="float32", crs=crs, nodata=np.nan,
                       transform=from_origin(6e5, 5.3e6, pixel, pixel)) as file:  # fmt: skip
        file.write(image, 1)


def test_pictures_show_greys_nodata_and_outlines():
    level = np.array([[-30, -11, 0, np.nan]], np.float32).repeat(3, axis=0).repeat(3, axis=1)
    drawn = draw_map(10 ** (level / 10), 1, -22.0, 0.0, [Window(0, 3, 6, 9)])
    png = base64.b64decode(drawn.removeprefix("data:image/png;base64,"))
    colours = (255 * imread(io.BytesIO(png), format="png")[1, ::3, :3]).round().astype(int)
    assert colours.tolist() == [[0] * 3, [126] * 3, [255, 176, 0], [39, 64, 139]]


@pytest.mark.parametrize("output", ["s3://bucket/report.html", "report.txt", "no/report.html"])
def test_an_output_that_cannot_be_written_is_refused_first(output: str, tmp_path: Path, capsys):
    assert run(["evaluate", "stack", "result", "-o", output]) == 2
    assert "the output" in capsys.readouterr().err


def test_texts_in_a_report_are_escaped(tmp_path: Path):
    evil = '<script>alert("x")</script>'
    text = write_report(Report(evil, [(evil, evil)], []), tmp_path / "r.html").read_text()
    assert evil not in text
    assert html.escape(evil, quote=False).split("(")[0] in text


def test_a_report_needs_no_other_file(results: Path):
    page = results / "report.html"
    folders = [str(results / method) for method in ("lee", "boxcar")]
    assert run(["-q", "evaluate", str(results / "stack"), *folders, "-o", str(page)]) == 0
    text = page.read_text()
    references = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(references) > 10
    assert all(reference.startswith("data:image/png;base64,") for reference in references)
    assert all(f"<summary>{m}</summary>" in text for m in ("lee", "boxcar"))
    assert text.count("<dt>SPECKLE_WINDOW_PX</dt><dd>7</dd>") == 2
    assert "http" not in text
    assert page.stat().st_size < 5e6


def test_a_run_has_a_report_of_all_images_and_failures(make_stack, tmp_path: Path):
    stack = make_stack(n_dates=3, polarisations=("vv",))
    stack.files[1].write_bytes(b"II*\0 not an image")
    out = tmp_path / "out"
    command = ["-q", "despeckle", str(stack.folder), "-o", str(out), "--method", "lee"]
    assert run(command) == 6
    text = (out / "report.html").read_text()
    for file in (stack.files[0], stack.files[2]):
        assert f"<td>{file.stem}</td>" in text
    assert f"{stack.files[1]}: " in text
    assert text.count("data-slider") == 2  # one picture, and the script
    assert run([*command, "--no-report", "--overwrite", "-o", str(tmp_path / "other")]) == 6
    assert not (tmp_path / "other" / "report.html").exists()


@pytest.mark.slow
def test_the_recipe_compares_methods_with_the_truth(tmp_path: Path):
    recipe = Path(__file__).parent.parent / "recipes" / "compare_methods" / "run.py"
    command = [sys.executable, str(recipe), "-o", str(tmp_path), "--methods", "boxcar", "lee"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "RMSE dB" in done.stdout
    with (tmp_path / "scores.csv").open() as file:
        errors = {row["method"]: float(row["rmse_db"]) for row in csv.DictReader(file)}
    assert errors["lee"] < errors["boxcar"]
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_the_slider_of_a_report_moves_in_a_browser(results: Path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium or Chrome is installed")
    page = results / "report.html"
    stack = str(results / "stack")
    assert run(["-q", "evaluate", stack, str(results / "lee"), "-o", str(page)]) == 0
    # The script moves the slider as a user would, and writes what it sees into the page.
    probe = """<script>
      const faults = []; window.addEventListener("error", (e) => faults.push(e.message));
      window.addEventListener("load", () => {
        const slider = document.querySelector("[data-slider]");
        const input = slider.querySelector("input");
        const cut = () => getComputedStyle(slider.querySelector(".cut")).left;
        const before = cut(); input.value = 90; input.dispatchEvent(new Event("input"));
        const shown = [...document.images].every((image) => image.naturalWidth > 0);
        document.title = [before !== cut(), shown, faults.length].join(" ");
      });</script></head>"""
    page.write_text(page.read_text().replace("</head>", probe))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={results / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"HOME": str(results)},
    )  # fmt: skip
    assert "<title>true true 0</title>" in done.stdout


def test_windows_of_the_dataset_are_read_in_parts():
    """The scores of a lazy cube are those of the same cube in memory."""
    _, noisy = draw_scene((300, 200))
    despeckled = make_despeckler("boxcar").apply(noisy[np.newaxis])
    cubes = [xr.DataArray(i, dims=("time", "y", "x"), name="vv", attrs={"units": "1"})
             for i in (noisy[np.newaxis], despeckled)]  # fmt: skip
    found = cubes[0].despeck.evaluate(cubes[1])
    lazy = [cube.chunk(y=64, x=70) for cube in cubes]
    xr.testing.assert_allclose(lazy[0].despeck.evaluate(lazy[1]), found)
