"""The recipe that compares methods for single looks."""

import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.slow
def test_the_recipe_of_single_looks_prints_its_table() -> None:
    command = [sys.executable, RECIPES / "single_look/run.py", "--methods", "boxcar", "--scenes=1",
               "--size-px=96"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| single-look")]
    assert len(rows) == 2 * 2 * 4
