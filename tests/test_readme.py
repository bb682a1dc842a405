"""Commands and Python code of the README run as they are printed."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import matplotlib as mpl
import pytest
from simulated_stack import SimulatedStack

from sarstack.cli.commands import cli, run

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TYPED = [line for line in README.splitlines() if line.startswith("    sarstack ")]
COMMANDS = [shlex.split(line.split("#")[0])[1:] for line in TYPED]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

MakeStack = Callable[..., SimulatedStack]


@pytest.fixture
def _folder_of_a_user(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stack(shape=(96, 128), n_dates=4)
    monkeypatch.chdir(tmp_path)


def test_the_readme_has_commands_and_python() -> None:
    assert {c[0] for c in COMMANDS} >= {"info", "despeckle", "evaluate"}
    assert PYTHON


@pytest.mark.slow
@pytest.mark.usefixtures("_folder_of_a_user")
def test_the_commands_of_the_readme_run() -> None:
    for command in COMMANDS:
        assert run(["-q", *command]) == 0, command


@pytest.mark.usefixtures("_folder_of_a_user")
def test_the_python_of_the_readme_runs() -> None:
    mpl.use("agg")
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), {})


def options_of(command: click.Command) -> set[str]:
    """Collect the options of a command and of all commands below it."""
    found = {option for parameter in command.params for option in parameter.opts}
    for below in getattr(command, "commands", {}).values():
        found |= options_of(below)
    return found


def test_every_option_the_readme_names_exists() -> None:
    known = options_of(cli) | {"--help"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"conda[^\n]*", "", README)))
    assert named <= known, named - known


def test_every_file_the_readme_links_to_is_there() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target


def test_the_numbers_of_the_readme_are_those_of_the_page_on_quality() -> None:
    page = (Path(__file__).parents[1] / "docs" / "quality.md").read_text(encoding="utf-8")

    def read_table(text: str) -> tuple[list[str], dict[str, list[str]]]:
        """Return the headings and the rows of the first table, by their first cell."""
        lines = re.search(r"(^\|.*\n)+", text[text.index("| method |") :], re.MULTILINE)[0]
        rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines.splitlines()]
        return rows[0], {row[0]: row for row in rows[2:]}

    (short, rows), (full, source) = read_table(README), read_table(page)
    for name, row in rows.items():
        assert row == [source[name][full.index(heading)] for heading in short]
