"""A few rounds of recipes/kill_and_resume: runs that are killed end with the same result."""

import os
import runpy
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[1] / "recipes" / "kill_and_resume" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process group")
def test_killed_runs_end_with_the_same_files_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runpy.run_path(str(RECIPE))
    jobs = ["threads", "labels"]
    result = recipe["kill_and_resume"](tmp_path / "kills", 2, 1, jobs, 300, 64, "boxcar")
    printed = capsys.readouterr().out
    assert not result.faults, printed
    assert result.n_kills > 0
    assert all(f" {job} " in printed for job in jobs)
