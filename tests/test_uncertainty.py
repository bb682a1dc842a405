"""The uncertainty of a result, made with it in one pass: pixels, files, accessor."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from simulated_stack import assert_same_files, read_tif

import sarstack
from sarstack.cli.commands import run
from sarstack.despecklers import make_despeckler
from sarstack.errors import DamagedResultsError, SarstackWarning, UsageError
from sarstack.evaluation.laws import LAWS, find_violation
from sarstack.readers import index_stack
from sarstack.workflows.despeckle import run as despeckle_module

DOUBTFUL = '''
import numpy as np
from sarstack.despecklers import Despeckler
from sarstack.despecklers.methods.boxcar import Boxcar


class Doubtful(Despeckler):
    """A local mean, and its standard deviation if the pixels of the window are independent."""

    name = "doubtful"
    halo = 6
    has_uncertainty = True

    def despeckle(self, intensity, statistics, summary=None):
        return Boxcar(7).despeckle(intensity, statistics)

    def despeckle_with_uncertainty(self, intensity, statistics, summary=None, inside=None):
        mean = self.despeckle(intensity, statistics)
        square = Boxcar(7).despeckle((intensity / mean) ** 2, statistics)
        variance = square / Boxcar(7).despeckle(intensity / mean, statistics) ** 2 - 1
        spread = np.sqrt(np.maximum(variance, 0)) * np.float32(4.343 / 7)
        return mean[inside or ...], spread[inside or ...]
'''


@pytest.fixture
def doubtful(tmp_path: Path) -> str:
    """Write a method of a user that tells its uncertainty."""
    (tmp_path / "own.py").write_text(DOUBTFUL)
    return f"{tmp_path / 'own.py'}:Doubtful"


@pytest.fixture
def command(make_stack, tmp_path: Path, doubtful: str) -> Iterator[list[str]]:
    """Return a command that despeckles two dates in small tiles."""
    stack = make_stack(shape=(300, 320), n_dates=2, polarisations=("vv",))
    return ["despeckle", str(stack.folder), "--method", doubtful, "--no-report", "--tile-px", "256"]


def test_the_law_of_uncertainty_is_kept_or_broken(doubtful: str):
    despeckler = make_despeckler(doubtful)
    law = next(law for law in LAWS if law.name == "uncertainty")
    assert find_violation(despeckler, law) == ""
    despeckler.halo = 1
    assert "Mismatch" in find_violation(despeckler, law)


def test_the_command_writes_what_the_accessor_returns(command, doubtful, tmp_path: Path):
    out = tmp_path / "out"
    options = ["-o", str(out), "--output-uncertainty", "--stac", "--keep-bits", "23"]
    assert run([*command, *options]) == 0
    cube = sarstack.open_stack(command[1])
    lazy = cube.despeck.apply(doubtful, return_uncertainty=True)
    result = cube.compute().despeck.apply(doubtful, return_uncertainty=True)
    assert result.vv_uncertainty_db.attrs["units"] == "dB"
    assert_array_equal(lazy.vv_uncertainty_db, result.vv_uncertainty_db)
    assert_array_equal(result.vv, cube.despeck.apply(doubtful).vv)
    files = sorted(out.glob("*_uncertainty_db.tif"))
    for date, path in enumerate(files):
        with (
            rasterio.open(path) as image,
            rasterio.open(str(path).replace("_uncertainty_db", "")) as other,
        ):
            assert_allclose(image.read(1), result.vv_uncertainty_db[date], rtol=1e-5)
            assert_allclose(other.read(1), result.vv[date], rtol=1e-5)
            assert image.tags()["CONTENT"] == "uncertainty"
            assert "BACKSCATTER_SCALE" not in image.tags()
            assert image.descriptions == ("uncertainty vv dB",)
            assert image.units == ("dB",)
    assert len(files) == 2
    assert not [*out.glob("*_uncertainty_db_db.vrt")]
    assert len(json.loads((out / "run.json").read_text())["images"]) == 4
    assert run(["check", str(out)]) == 0
    item = json.loads(next((out / "stac").glob("*2021*.json")).read_text())
    assert item["assets"]["vv-uncertainty"]["bands"][0]["unit"] == "dB"
    assert item["assets"]["vv-uncertainty"]["roles"] == ["metadata"]
    assert item["properties"]["sar:polarizations"] == ["VV"]
    with pytest.warns(SarstackWarning):
        assert index_stack(out).n_dates == 2


def test_the_pixels_do_not_depend_on_the_option_nor_on_tiles_and_workers(command, tmp_path: Path):
    assert run([*command, "-o", str(tmp_path / "without")]) == 0
    assert run([*command, "-o", str(tmp_path / "a"), "--output-uncertainty"]) == 0
    whole = [*command[:-1], "512", "--workers", "1"]
    assert run([*whole, "-o", str(tmp_path / "b"), "--output-uncertainty"]) == 0
    for path in (tmp_path / "without").glob("*.tif"):
        assert_array_equal(read_tif(path), read_tif(tmp_path / "a" / path.name))
    for path in (tmp_path / "a").glob("*.tif"):
        assert_allclose(read_tif(path), read_tif(tmp_path / "b" / path.name), rtol=1e-3)


@pytest.mark.slow
def test_worker_processes_give_the_same_files(command, tmp_path: Path):
    options = ["--output-uncertainty", "--cluster", "--workers", "2"]
    assert run([*command, "-o", str(tmp_path / "a"), *options]) == 0
    assert run([*command, "-o", str(tmp_path / "b"), "--output-uncertainty"]) == 0
    assert_same_files(tmp_path / "a", tmp_path / "b")


def test_a_finished_run_gets_the_uncertainty_later(command, tmp_path: Path):
    out = tmp_path / "out"
    assert run([*command, "-o", str(out)]) == 0
    assert run([*command, "-o", str(out), "--output-uncertainty"]) == 0
    assert run([*command, "-o", str(tmp_path / "whole"), "--output-uncertainty"]) == 0
    assert_same_files(out, tmp_path / "whole")
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    assert run([*command, "-o", str(out), "--output-uncertainty"]) == 0
    assert run([*command, "-o", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.tif")} == stamps
    next(out.glob("*_uncertainty_db.tif")).unlink()
    assert run([*command, "-o", str(out), "--output-uncertainty"]) == 0
    assert_same_files(out, tmp_path / "whole")


def test_images_made_again_lose_an_uncertainty_that_does_not_fit(command, tmp_path, capsys):
    out = tmp_path / "out"
    command = [*command, "-o", str(out)]
    assert run([*command, "--output-uncertainty"]) == 0
    old, *_ = out.glob("*_uncertainty_db.tif")
    old_bytes = old.read_bytes()
    record = json.loads((out / "run.json").read_text())
    record["images"] = [image for image in record["images"] if image["output"] != old.name]
    (out / "run.json").write_text(json.dumps(record))
    assert run([*command, "--looks", "1", "--overwrite"]) == 0
    images = [*out.glob("*_doubtful.tif")]
    assert sorted(out.glob("*.tif")) == sorted(images)
    assert len(json.loads((out / "run.json").read_text())["images"]) == 2
    assert run(["check", str(out)]) == 0
    old.write_bytes(old_bytes)
    capsys.readouterr()
    assert run(["check", str(out)]) == DamagedResultsError.exit_code
    image = old.name.replace("_uncertainty_db", "")
    assert f"{old.name}: it is of other settings or input than {image}" in capsys.readouterr().err
    old.unlink()
    assert run([*command, "--looks", "1", "--output-uncertainty"]) == 0
    for path in images:
        path.unlink()
    capsys.readouterr()
    assert run([*command, "--looks", "2", "--output-uncertainty"]) == 5
    where = next(line for line in capsys.readouterr().err.splitlines() if "where:" in line)
    assert where.count("_uncertainty_db.tif") == where.count(".tif") == 2


def test_images_made_again_lose_their_speckle_but_no_foreign_file(make_stack, tmp_path: Path):
    stack, out = make_stack(n_dates=2, polarisations=("vv",)), tmp_path / "out"
    command = ["despeckle", str(stack.folder), "-o", str(out), "--method", "despecknet-lite"]
    one, *_ = stack.files
    out.mkdir()
    foreign = out / f"{one.stem}_despecknet-lite_support.tif"
    foreign.touch()
    assert run([*command, "--output-noise"]) == 0
    assert len([*out.glob("*_noise*")]) == 4
    assert run([*command, "--looks", "1", "--overwrite"]) == 0
    assert not [*out.glob("*_noise*")]
    assert foreign.exists()


@pytest.mark.parametrize(
    ("task", "n_done", "first"),
    [
        ("despeckle_tile", 3, []),
        ("despeckle_tile", 3, ["--output-uncertainty"]),
        ("write_piece", 5, ["--output-uncertainty"]),  # one of the two pieces of a tile
        ("finish_cog", 1, ["--output-uncertainty"]),  # one of the two COGs of an image
    ],
)
def test_an_interrupted_run_continues(command, tmp_path, monkeypatch, task, n_done, first):
    module = despeckle_module.tasks
    real, done = getattr(module, task), []

    def interrupted(*arguments, **named):
        if len(done) == n_done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments, **named)

    command = [*command, "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(module, task, interrupted)
        assert run([*command, "-o", str(tmp_path / "out"), *first]) == 130
    assert run([*command, "-o", str(tmp_path / "out"), "--output-uncertainty"]) == 0
    assert run([*command, "-o", str(tmp_path / "whole"), "--output-uncertainty"]) == 0
    assert_same_files(tmp_path / "out", tmp_path / "whole")
    assert run(["check", str(tmp_path / "out")]) == 0


def test_a_method_without_uncertainty_is_refused_first(make_stack, tmp_path: Path, capsys):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    out = tmp_path / "out"
    command = ["despeckle", str(stack.folder), "-o", str(out), "--method", "lee"]
    assert run([*command, "--output-uncertainty"]) == 2
    assert "lee does not know how uncertain" in capsys.readouterr().err
    assert not out.exists()
    cube = sarstack.open_stack(stack.folder)
    with pytest.raises(UsageError, match="return_uncertainty"):
        cube.despeck.apply("lee", return_uncertainty=True)


def test_a_single_image_is_refused(command, doubtful: str):
    cube = sarstack.open_stack(command[1])
    with pytest.raises(UsageError, match="to_dataset"):
        cube.vv.despeck.apply(doubtful, return_uncertainty=True)
