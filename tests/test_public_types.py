"""The types of the public names are right for somebody who checks a program that uses them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
import sarstack
from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.workflows.settings import DespeckleConfig

reveal_type(sarstack.open_stack("stack"))
reveal_type(sarstack.__version__)
reveal_type(make_despeckler("lee", window_px=5))
reveal_type(sarstack.despeckle(DespeckleConfig.make(stack="stack")).outputs)


class Mine(Despeckler):
    name = "mine"
    halo = 0
"""
REVEALED = ["xarray.core.dataset.Dataset", "str", "Despeckler", "pathlib.Path, ..."]
WRONG = """
import sarstack

sarstack.open_stack(3.5)
sarstack.despeckle("stack")
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_public_names_and_finds_wrong_arguments(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    # With the settings and the cache of `make lint`: without a cache it takes a minute.
    files = [str(tmp_path / name) for name in ("right.py", "wrong.py")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = checked.stdout.splitlines()
    revealed = [line for line in lines if "right.py:" in line]
    assert not [line for line in revealed if "error" in line]
    for kind, line in zip(REVEALED, revealed, strict=True):
        assert kind in line
    assert len([line for line in lines if "wrong.py:" in line and "error" in line]) == 2
