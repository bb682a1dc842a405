"""The fuzz recipe: no input of a fixed seed ends badly, and the recipe finds faults."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sarstack.readers.formats.gdal import GdalRaster

RECIPE = Path(__file__).parents[1] / "recipes/fuzz"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in ("run", "inputs", "outcomes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import run

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("n_inputs", "options"), [(80, []), (24, ["--products"])])
def test_every_odd_input_gives_the_right_result_or_a_clear_error(
    n_inputs: int, options: list[str]
) -> None:
    command = [sys.executable, str(RECIPE / "run.py"), "--seed", "16", "--inputs", str(n_inputs)]
    command += options
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[:2] == ["all", str(n_inputs)]


def test_the_recipe_finds_pixels_that_are_wrong(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [n for n in range(30) if recipe.kind_of(1, n) == "damaged GeoTIFF"]
    right = [n for n in numbers if recipe.run_one(1, n)[1] == "right"]
    assert len(right) > 3
    decode = GdalRaster.decode

    def wrong(self, windows, *, cache_blocks):
        for pixels in decode(self, windows, cache_blocks=cache_blocks):
            yield pixels + (np.arange(pixels.size) == 0).reshape(pixels.shape).astype(pixels.dtype)

    monkeypatch.setattr(GdalRaster, "decode", wrong)
    # A first pixel that is nodata, or far above 1, may stay what it was.
    outcomes = [recipe.run_one(1, n)[1] for n in right]
    assert outcomes.count("wrong") >= len(right) / 2


def test_the_recipe_finds_tracebacks_crashes_and_hangs(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import outcomes

    assert outcomes.run_input(lambda: 1 / 0)[0] == "traceback"
    program = tmp_path / "crashing.py"
    program.write_text(
        "import json, os, sys, time\n"
        "first = int(sys.argv[3])\n"
        "print(json.dumps([first, 'kind']), flush=True)\n"
        "os.abort() if first == 0 else time.sleep(60)\n"
    )
    monkeypatch.setattr(recipe, "__file__", str(program))
    monkeypatch.setattr(recipe, "INPUT_SECONDS", 1.0)
    found = recipe.fuzz(1, 2, 60, 1)
    assert [result[2] for result in found] == ["crash", "hang"]
