"""The recipe for a folder that grows: its units are valid, and its commands do what it says."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_stack import SimulatedStack

from sarstack.cli.commands import run

RECIPE = Path(__file__).parents[1] / "recipes" / "nightly"
PROGRAM, ARCHIVE, RESULTS = "/opt/sarstack/bin/sarstack", "/data/archive", "/data/despeckled"


def read(name: str) -> str:
    return (RECIPE / name).read_text(encoding="utf-8")


def find_commands() -> dict[str, list[str]]:
    """Return the sarstack commands of the service and of the crontab, by what they do."""
    lines = re.findall(rf"{PROGRAM} ([^|\n]*)", read("crontab"))
    service = re.search(rf"^ExecStart={PROGRAM} (.*)$", read("sarstack-nightly.service"), re.M)
    words = [shlex.split(line) for line in (service[1], *lines)]
    assert words[0] == words[1], "systemd and cron run the same command"
    return {command[1]: command for command in words}


@pytest.mark.slow
def test_new_images_are_made_and_finished_ones_stay(
    make_stack: Callable[..., SimulatedStack],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stack = make_stack(shape=(60, 70), n_dates=3)
    late = [file.rename(tmp_path / file.name) for file in stack.files[-2:]]
    places = {ARCHIVE: str(stack.folder), RESULTS: str(tmp_path / "out")}
    commands = {
        name: [places.get(word, word) for word in words] for name, words in find_commands().items()
    }
    for n_images, n_new in ((4, 4), (4, 0), (6, 2)):
        if n_images == 6:
            for file in late:
                file.rename(stack.folder / file.name)
        assert run(commands["despeckle"]) == 0
        expected = f"{n_images} images in {tmp_path / 'out'}, {n_new} of this run\n"
        assert capsys.readouterr() == (expected, "")
    assert run(commands["check"]) == 0
    printed = capsys.readouterr()
    assert all(line.startswith("ok") for line in printed.out.splitlines())
    assert printed.err == ""


def test_the_units_are_valid(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not installed")
    units = [tmp_path / f"sarstack-nightly.{kind}" for kind in ("service", "timer")]
    for unit in units:  # systemd looks whether the program is there
        unit.write_text(read(unit.name).replace(PROGRAM, sys.executable), encoding="utf-8")
    checked = subprocess.run(
        [tool, "verify", *map(str, units)], capture_output=True, text=True, check=False
    )
    ours = [line for line in checked.stderr.splitlines() if "sarstack-nightly" in line]
    assert ours == []
