"""A method of a user's own: from the file of the documentation, or from an installed package."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter
from simulated_stack import SimulatedStack, assert_same_files

from sarstack.cli.commands import run
from sarstack.despecklers import Despeckler, despeckler_names, make_despeckler, registry
from sarstack.errors import MethodError, UsageError
from sarstack.evaluation.laws import LAWS, find_violation

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```python\n# (my_\w+\.py)\n(.*?)```", PAGE, re.DOTALL)
MakeStack = Callable[..., SimulatedStack]


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the file of the documentation into an empty current folder."""
    monkeypatch.chdir(tmp_path)
    Path(EXAMPLE[1]).write_text(EXAMPLE[2], encoding="utf-8")
    return f"{EXAMPLE[1]}:Gauss"


def smooth(intensity: np.ndarray, sigma_px: float = 1.5) -> np.ndarray:
    """Compute what the example should, from its formula."""
    valid = np.isfinite(intensity)
    total, weight = (
        gaussian_filter(image.astype(float), sigma_px, mode="constant", radius=round(4 * sigma_px))
        for image in (np.where(valid, intensity, 0), valid)
    )
    return np.where(valid, total / np.where(valid, weight, 1), np.nan)


def read(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    with rasterio.open(path) as image:
        return image.read(1), image.tags()


def test_the_example_of_the_documentation_keeps_the_laws(method: str) -> None:
    lines = [line for line in EXAMPLE[2].splitlines() if line.strip()]
    assert len(lines) <= 20
    despeckler = make_despeckler(method)
    assert not [problem for law in LAWS if (problem := find_violation(despeckler, law))]


def test_despeckle_with_a_file_writes_its_pixels_and_its_hash(
    method: str, make_stack: MakeStack
) -> None:
    stack = make_stack()
    arguments = ["-q", "despeckle", str(stack.folder), "--method", method]
    assert run([*arguments, "-o", "out", "--set", "sigma_px=1", "--keep-bits", "23"]) == 0
    for file in stack.files:
        pixels, tags = read(Path("out") / f"{file.stem}_gauss.tif")
        given, _ = read(file)
        np.testing.assert_allclose(pixels, smooth(given, 1), rtol=1e-5)
        assert tags["SPECKLE_SOURCE"] == method
        assert tags["SPECKLE_SOURCE_SHA256"] == make_despeckler(method).source.sha256
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")  # run.yaml holds the absolute path of the file
    assert run(["-q", "despeckle", "--config", "../out/run.yaml", "-o", "again"]) == 0
    assert_same_files(Path("../out"), Path("again"))


@pytest.mark.slow
def test_workers_of_a_cluster_get_the_file(method: str, make_stack: MakeStack) -> None:
    stack = make_stack(n_dates=2)
    arguments = ["-q", "despeckle", str(stack.folder), "--method", method]
    assert run([*arguments, "-o", "threads"]) == 0
    assert run([*arguments, "-o", "cluster", "--cluster", "--workers", "2"]) == 0
    assert_same_files(Path("threads"), Path("cluster"))


def test_the_accessor_takes_a_file(method: str) -> None:
    intensity = np.random.default_rng(1).gamma(4, 0.1, (60, 50)).astype(np.float32)
    made = xr.DataArray(intensity, dims=("y", "x"), name="vv").despeck.apply(method, looks=4)
    np.testing.assert_allclose(made.values, smooth(intensity), rtol=1e-5)
    assert made.attrs["speckle_filter"] == "gauss"


def test_a_pickled_method_works_in_a_process_without_its_file(method: str) -> None:
    """A worker on another machine gets the text with the task."""
    sent = pickle.dumps(make_despeckler(method, sigma_px=2))
    Path(EXAMPLE[1]).unlink()
    code = "import pickle, sys; d = pickle.load(sys.stdin.buffer); print(d.name, d.halo)"
    said = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert said.stdout.decode().split() == ["gauss", "8"]


def test_a_method_whose_text_differs_from_its_hash_is_refused(method: str) -> None:
    sent = pickle.dumps(make_despeckler(method))
    with pytest.raises(MethodError, match="hash"):
        pickle.loads(sent.replace(b"isfinite", b"isinfite"))


def test_results_of_a_changed_file_are_not_mixed(method: str, make_stack: MakeStack) -> None:
    stack = make_stack(n_dates=1)
    arguments = ["-q", "despeckle", str(stack.folder), "--method", method, "-o", "out"]
    assert run(arguments) == 0
    with Path(EXAMPLE[1]).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert run(arguments) == 5
    assert run([*arguments, "--overwrite"]) == 0


def test_a_failure_names_the_line_of_the_file(
    method: str, make_stack: MakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXAMPLE[2].replace("valid = np.isfinite(intensity)", "valid = 1 / 0")
    Path("wrong.py").write_text(text, encoding="utf-8")
    stack = make_stack(n_dates=1)
    assert run(["despeckle", str(stack.folder), "--method", "wrong.py:Gauss", "-o", "out"]) == 6
    line = text.splitlines().index("        valid = 1 / 0") + 1
    assert (
        f"ZeroDivisionError: division by zero (line {line} of wrong.py)" in capsys.readouterr().err
    )


WRONG = {
    "no class of this name": ("x = 1", "is not a subclass"),
    "not a despeckler": ("class Gauss: pass", "is not a subclass"),
    "no despeckle": (
        "from sarstack.despecklers import Despeckler\nclass Gauss(Despeckler):\n    name = 'g'",
        "does not define despeckle",
    ),
    "no name": (EXAMPLE[2].replace('name = "gauss"', ""), "no usable name"),
    "a name that cannot be a file name": (EXAMPLE[2].replace('"gauss"', '"a/b"'), "no usable name"),
    "the name of a method of sarstack": (EXAMPLE[2].replace('"gauss"', '"lee"'), "has the name"),
    "no halo": (EXAMPLE[2].replace("self.halo =", "self.reach_px ="), "halo = None"),
    "syntax": ("def f(:", "line 1 of wrong.py"),
    "a file beside it": ("import beside_it", "No module named 'beside_it'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_not_a_method_is_refused_and_the_error_says_what_to_do(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = WRONG[case]
    Path("wrong.py").write_text(text, encoding="utf-8")
    with pytest.raises(MethodError) as refusal:
        make_despeckler("wrong.py:Gauss")
    assert words in str(refusal.value)
    assert "do this:" in str(refusal.value)


def test_a_wrong_shape_is_not_broadcast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = EXAMPLE[2].replace("return np.where(valid, mean, np.nan)", "return mean[:1]")
    Path("wrong.py").write_text(text, encoding="utf-8")
    array = xr.DataArray(np.full((9, 9), 0.1, np.float32), dims=("y", "x"), name="vv")
    with pytest.raises(MethodError, match="shape"):
        array.despeck.apply("wrong.py:Gauss")


def test_a_missing_file_and_a_missing_class_are_refused(method: str) -> None:
    with pytest.raises(MethodError, match="cannot be read"):
        make_despeckler("gone.py:Gauss")
    with pytest.raises(MethodError, match=f"{EXAMPLE[1]}:Gauss"):
        make_despeckler(EXAMPLE[1])


def test_settings_of_the_current_folder_run_no_code(
    method: str, make_stack: MakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sarstack.yaml may come with somebody else's data."""
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()", encoding="utf-8")
    settings = {"stack": str(make_stack().folder), "output": "out", "method": "evil.py:Evil"}
    Path("sarstack.yaml").write_text(yaml.safe_dump(settings))
    assert run(["despeckle"]) == 2
    assert "names code" in capsys.readouterr().err
    assert not Path("ran").exists()
    assert run(["-q", "despeckle", "--method", method]) == 0


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install two packages: one with the example, one that cannot be imported."""
    site = tmp_path / "site"
    for name, module, text in (
        ("my-filters", "my_filters", EXAMPLE[2]),
        ("old-filters", "old_filters", "import gone"),
    ):
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[sarstack.despecklers]\n{name} = {module}:Gauss\n")
        (site / f"{module}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    registry.installed_classes.cache_clear()
    yield site
    registry.installed_classes.cache_clear()
    sys.modules.pop("my_filters", None)


@pytest.mark.filterwarnings("ignore:the method 'old-filters'")
def test_a_method_of_an_installed_package_is_known_by_its_name(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "gauss" in despeckler_names()
    despeckler = make_despeckler("gauss", sigma_px=2)
    assert despeckler.provenance()["source"] == "my-filters 1.2:Gauss"
    same: Despeckler = pickle.loads(pickle.dumps(despeckler))
    block = np.random.default_rng(0).gamma(4, 1, (1, 40, 40)).astype(np.float32)
    assert_array_equal(same.apply(block), despeckler.apply(block))
    assert run(["methods"]) == 0
    assert "[my-filters 1.2:Gauss]" in capsys.readouterr().out


def test_an_installed_package_that_is_broken_is_left_out_with_a_warning(installed: Path) -> None:
    with pytest.warns(UserWarning, match="old-filters"):
        assert "gauss" in despeckler_names()


@pytest.mark.filterwarnings("ignore:the method 'old-filters'")
def test_a_worker_with_another_version_is_refused(installed: Path) -> None:
    sent = pickle.dumps(make_despeckler("gauss"))
    with (installed / "my_filters.py").open("a", encoding="utf-8") as file:
        file.write("\n# another version\n")
    with pytest.raises(MethodError, match="hash"):
        pickle.loads(sent)


def test_check_method_lists_kept_and_broken_laws(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check-method", method, "--set", "sigma_px=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kept"] * len(LAWS)
    dark = EXAMPLE[2].replace("np.where(valid, mean,", "np.where(valid, 0.9 * mean,")
    Path("dark.py").write_text(dark, encoding="utf-8")
    assert run(["check-method", "dark.py:Gauss"]) == 5
    said = capsys.readouterr()
    assert "mean out is 0.9" in said.out
    assert "breaks 1 of" in said.err


def test_methods_describes_a_file(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", method]) == 0
    told = capsys.readouterr().out
    assert "sigma_px: float = 1.5" in told
    assert make_despeckler(method).source.sha256 in told


def test_the_error_of_an_unknown_name_mentions_method_files(method: str) -> None:
    with pytest.raises(UsageError, match=r"my_file\.py:MyFilter"):
        make_despeckler("gaus")
