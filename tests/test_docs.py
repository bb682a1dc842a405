"""The documentation site: its navigation, its generated pages, and the commands that it shows."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from notebook_pages import NOTEBOOKS, write_notebook_pages
from reference_pages import write_reference_pages

from sarstack.cli.commands import cli
from sarstack.despecklers.catalogue import find_paper, first_line
from sarstack.despecklers.registry import builtin_classes

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs"
PAGES = sorted(SITE.glob("*.md")) + sorted(SITE.glob("tutorial/*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the site, and write its generated pages there."""
    copy = tmp_path_factory.mktemp("repository") / "docs"
    shutil.copytree(SITE, copy, ignore=shutil.ignore_patterns("build", "generated", "__pycache__"))
    write_reference_pages(copy / "generated")
    shutil.copytree(NOTEBOOKS, copy.parent / "recipes" / "notebooks")
    write_notebook_pages(copy / "generated" / "notebooks", run=False)  # test_notebooks runs them
    return copy


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def walk_navigation(page: Path) -> Iterator[Path]:
    """Yield a page and all pages that its tables of contents lead to."""
    yield page
    for entries in re.findall(r"```\{toctree\}\n(.*?)```", read(page), re.DOTALL):
        for name in re.findall(r"^[\w./-]+$", entries, re.MULTILINE):
            yield from walk_navigation(page.parent / f"{name}.md")


def test_the_navigation_leads_to_every_page_and_to_nothing_else(site: Path) -> None:
    listed = list(walk_navigation(site / "index.md"))  # a page that is not there raises an error
    assert len(listed) == len(set(listed))
    assert set(listed) == set(site.rglob("*.md"))


def test_every_method_of_the_registry_has_a_page(site: Path) -> None:
    listed = read(site / "generated" / "methods" / "index.md")
    for name, cls in builtin_classes().items():
        page = read(site / "generated" / "methods" / f"{name}.md")
        assert f"({name}.md)" in listed
        assert first_line(cls) in page
        assert find_paper(cls) in page


def test_every_command_and_option_is_on_the_page_of_commands(site: Path) -> None:
    page = read(site / "generated" / "commands.md")
    for command in cli.commands.values():
        assert f"## sarstack {command.name}\n" in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1] in page


def list_commands(page: Path) -> list[list[str]]:
    """Return the words of each sarstack command that a page shows, without the program name."""
    typed = re.findall(r"^\$ sarstack (.*)$", read(page), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in typed]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    for words in list_commands(page):
        command, rest = cli, words
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            name, command, rest = command.resolve_command(click.Context(command), rest)
        if not isinstance(command, click.Group):
            command.make_context(name, list(rest))  # an unknown option raises an error


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_options_that_a_page_names_exist(page: Path, site: Path) -> None:
    known = read(site / "generated" / "commands.md")
    text = re.sub(r"```bash\n.*?```|`conda[^`]*`", "", read(page), flags=re.DOTALL)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
        assert option in known, f"{page.name} names {option}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: Path, tmp_path: Path) -> None:
    for tool in ("sphinx", "furo", "myst_parser", "numpydoc"):
        pytest.importorskip(tool)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(site), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        outside = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]+)"', read(page))
        assert not outside, f"{page.name} loads {outside}"
