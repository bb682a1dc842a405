"""The estimated speckle, the second output of deSpeckNet: pixels, files, accessor."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from small_networks import save_small_network

import sarstack
from sarstack.cli.commands import run
from sarstack.despecklers import make_despeckler
from sarstack.errors import SarstackWarning, UsageError
from sarstack.evaluation.law_images import draw_landscape, draw_speckle
from sarstack.evaluation.laws import LAWS, Law, choose_arguments
from sarstack.readers import index_stack
from sarstack.speckle.statistics import SceneStatistics

# The laws of pixels; k times the input gives the same speckle, and its mean is not that of the
# image.
PIXEL_LAWS = [law for law in LAWS if law.name not in ("scale", "mean")]


@pytest.mark.parametrize("variant", ["despecknet-mt", "despecknet-paper"])
@pytest.mark.parametrize("law", PIXEL_LAWS, ids=lambda law: law.name)
def test_the_speckle_keeps_the_laws_of_pixels(law: Law, variant: str, tmp_path: Path):
    model = save_small_network(tmp_path, variant)
    noise = make_despeckler(str(model), precision="float32").estimate_noise()
    if law.name == "halo" and variant == "despecknet-paper":
        pytest.skip("its halo is that of a deeper network")
    law.check(noise, **next(iter(choose_arguments(law, 0))))


def test_a_factor_on_the_scene_leaves_the_speckle_as_it_is():
    noise = make_despeckler("despecknet-lite", precision="float32").estimate_noise()
    block = draw_landscape(4, (60, 70), holes=True)
    assert_allclose(noise.apply(block * np.float32(1000)), noise.apply(block), rtol=1e-3)


@pytest.mark.parametrize("name", ["despecknet", "despecknet-lite", "despecknet-mt"])
def test_the_speckle_is_near_the_simulated_one(name: str):
    side = 128
    speckle = draw_speckle(4, (0.3, 0.3), side, np.random.default_rng(1))
    y, x = np.mgrid[:side, :side] / 30
    noisy = (np.exp(np.sin(y) + np.cos(x)) * speckle).astype(np.float32)[np.newaxis]
    statistics = [SceneStatistics(4, (0.3, 0.3), 5.0)]
    method = make_despeckler(name, precision="float32")
    found = method.estimate_noise().apply(noisy, statistics)[0]
    assert np.corrcoef(np.log(found).ravel(), np.log(speckle).ravel())[0, 1] > 0.9
    assert found.mean() == pytest.approx(1, abs=0.06)
    rebuilt = method.apply(noisy, statistics)[0] * found
    error_db = 10 * np.log10(rebuilt / noisy[0])
    assert np.sqrt(np.mean(error_db**2)) < 0.8


def test_areas_without_speckle_have_none():
    noise = make_despeckler("despecknet-lite").estimate_noise()
    assert_array_equal(noise.apply(np.full((1, 50, 60), 0.3, np.float32)), 1)


def test_the_command_writes_what_the_accessor_returns(make_stack, tmp_path: Path):
    stack = make_stack(n_dates=2, polarisations=("vv",))
    out = tmp_path / "out"
    options = ["--method", "despecknet-lite", "--stac", "--keep-bits", "23"]
    command = ["despeckle", str(stack.folder), "-o", str(out), *options]
    assert run(command) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    assert run([*command, "--output-noise"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before

    cube = sarstack.open_stack(stack.folder).compute()
    despeckled, noise = cube.despeck.apply("despecknet-lite", return_noise=True)
    assert noise.vv.attrs["long_name"].startswith("speckle")
    for date, path in enumerate(sorted(out.glob("*_noise.tif"))):
        with rasterio.open(path) as image, rasterio.open(str(path).replace("_noise", "")) as other:
            assert_allclose(image.read(1), noise.vv[date], rtol=1e-6)
            assert_allclose(other.read(1), despeckled.vv[date], rtol=1e-6)
            assert image.tags()["CONTENT"] == "speckle"
            assert "BACKSCATTER_SCALE" not in image.tags()
            assert image.descriptions == ("speckle vv",)
    assert date == 1
    records = json.loads((out / "run.json").read_text())["images"]
    assert len(records) == 4
    assert run(["check", str(out)]) == 0
    item = json.loads(next((out / "stac").glob("*2021*.json")).read_text())
    assert {name: asset["roles"] for name, asset in item["assets"].items()} == {
        "vv": ["data"],
        "vv-noise": ["metadata"],
    }
    with pytest.warns(SarstackWarning):
        assert index_stack(out).n_dates == 2


def test_a_method_without_the_output_is_refused_first(make_stack, tmp_path: Path, capsys):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    out = tmp_path / "out"
    command = ["despeckle", str(stack.folder), "-o", str(out), "--method", "lee"]
    assert run([*command, "--output-noise"]) == 2
    assert "lee does not estimate the speckle" in capsys.readouterr().err
    assert not out.exists()
    cube = sarstack.open_stack(stack.folder)
    with pytest.raises(UsageError, match="return_noise"):
        cube.despeck.apply("lee", return_noise=True)
