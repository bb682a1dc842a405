"""The kit for a GPU machine, on a CPU with small sizes."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RECIPE = Path(__file__).parents[1] / "recipes/gpu"


@pytest.fixture
def kit() -> dict[str, object]:
    return runpy.run_path(str(RECIPE / "check.py"))


def test_findings_are_written_at_once_and_failures_kept(
    kit: dict[str, object], tmp_path: Path
) -> None:
    findings = kit["Findings"](tmp_path / "step.json")
    findings.note("one", 1)
    assert json.loads((tmp_path / "step.json").read_text()) == {"one": 1}
    findings.attempt("two", lambda: 1 / 0)
    findings.attempt("three", lambda: 3)
    found = json.loads((tmp_path / "step.json").read_text())
    assert found["three"] == 3
    assert "ZeroDivisionError" in found["FAILED two"]


def test_differences_are_in_db_and_nan_counts(kit: dict[str, object]) -> None:
    image = np.array([[0.1, 0.2, np.nan]], np.float32)
    same = kit["compare"](image, image.copy())
    assert same == {"largest_db": 0, "mean_db": 0, "same_nan": True, "same_bits": True}
    other = kit["compare"](image * np.array([[2, 1, 1]], np.float32), image)
    assert other["largest_db"] == pytest.approx(3.0103, abs=1e-3)
    assert not other["same_bits"]
    assert not kit["compare"](np.nan_to_num(image), image)["same_nan"]


def test_each_step_has_a_limit_and_a_line_in_the_readme(kit: dict[str, object]) -> None:
    readme = (RECIPE / "README.md").read_text()
    assert list(kit["STEPS"]) == list(kit["LIMITS_S"])
    for name, limit_s in kit["LIMITS_S"].items():
        assert f"| {name} | {limit_s} |" in readme


@pytest.mark.skipif(os.name == "nt", reason="sessions of processes")
def test_a_step_that_takes_too_long_is_stopped_with_its_processes(
    kit: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    run_step = kit["run_step"]
    monkeypatch.setitem(run_step.__globals__, "__file__", str(script))

    class Options:
        folder, small = tmp_path, False

    assert run_step("laws", Options, 5.0) == "stopped after 5 s"
    pid, end = int((tmp_path / "pid").read_text()), time.monotonic() + 20
    while time.monotonic() < end and _runs(pid):
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ended, and for which nobody waits, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a script for bash")
def test_the_kit_checks_and_trains_on_a_cpu(tmp_path: Path) -> None:
    """The other steps measure, or run commands that have tests of their own."""
    environment = os.environ | {
        "PYTHON": sys.executable, "STEPS": "laws,memory",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [str(RECIPE / "run.sh"), "900", str(tmp_path / "out"), "--small"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    steps = json.loads((tmp_path / "out/steps.json").read_text())
    assert {result for result, _ in steps.values()} == {"ok"}
    laws = json.loads((tmp_path / "out/laws.json").read_text())
    assert laws["despecknet-lite float32, tiles of 64 px to whole"]["largest_db"] < 1e-3
    assert (tmp_path / "out/smoke/despecknet-lite.safetensors").exists()
