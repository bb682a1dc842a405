"""What a run prints: paths, one line, or JSON on stdout; messages on stderr and in the log file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_stack import SimulatedStack

from sarstack.cli.commands import run
from sarstack.workflows import progress
from sarstack.workflows.progress import LOGGER, log_to

MakeStack = Callable[..., SimulatedStack]
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def command(make_stack: MakeStack, tmp_path: Path) -> list[str]:
    stack = make_stack(shape=(60, 70), n_dates=2).folder
    return ["despeckle", str(stack), "-o", str(tmp_path / "out"), "--method", "lee"]


def test_json_is_the_record_of_the_run(command: list[str], tmp_path: Path, capsys: Printed) -> None:
    assert run([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "out" / "run.json").read_text())
    assert "4 images in" in printed.err


def test_json_tells_failures_too(command: list[str], capsys: Printed, tmp_path: Path) -> None:
    broken = min((tmp_path / "stack").iterdir())
    broken.write_text("not an image", encoding="utf-8")
    assert run([*command, "--json"]) == 6
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert [Path(name).name for name in failures] == [broken.name]


def test_json_of_a_dry_run_is_the_plan(command: list[str], capsys: Printed) -> None:
    assert run([*command, "--json", "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["size"] == "60 x 70 px each"


def test_quiet_prints_one_line(command: list[str], tmp_path: Path, capsys: Printed) -> None:
    for new in (4, 0):
        assert run(["--quiet", *command]) == 0
        assert capsys.readouterr() == (f"4 images in {tmp_path / 'out'}, {new} of this run\n", "")


@pytest.mark.parametrize(
    ("option", "debug", "info"),
    [("debug", True, True), ("info", False, True), ("warning", False, False)],
)
def test_the_log_level_decides_what_is_printed_and_the_file_has_all(
    command: list[str], tmp_path: Path, capsys: Printed, option: str, *, debug: bool, info: bool
) -> None:
    assert run(["--log-level", option, *command]) == 0
    printed = capsys.readouterr().err
    assert ("finished S1A" in printed) == debug
    assert ("images to do" in printed) == info
    written = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert "DEBUG finished" in written
    assert "images to do" in written


def test_the_log_file_keeps_the_newest_lines_and_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_BYTES", 2000)
    for number in range(300):
        with log_to(tmp_path / "log.txt"):
            LOGGER.warning("run %d %s", number, "x" * 50)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log.txt", *(f"log.txt.{i}" for i in (1, 2, 3))]
    assert all(file.stat().st_size <= 2000 for file in files)
    lines = "".join(file.read_text(encoding="utf-8") for file in reversed(files)).splitlines()
    numbers = [int(line.split()[4]) for line in lines]
    assert numbers == list(range(300 - len(numbers), 300))


def test_a_log_that_cannot_be_rotated_becomes_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_BYTES", 100)
    for taken in ("log.txt.2", "log.txt.3"):
        (tmp_path / taken).mkdir()
    with log_to(tmp_path / "log.txt"):
        for number in range(9):
            LOGGER.warning("line %d", number)
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").count("line") == 9
