"""Imports point downward between the rooms of CONTRIBUTING; files and functions stay small."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sarstack"
FILES = sorted(PACKAGE.rglob("*.py"))
BENCHMARKS = sorted((PACKAGE.parent / "benchmarks").glob("*.py"))
CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
# The first cell of each row of the picture names the rooms of one layer, from top to bottom.
LAYERS = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", CONTRIBUTING, re.M)]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ENTRY_POINTS = {"__init__", "__main__"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_the_rooms_in_contributing_are_those_of_the_package() -> None:
    entries = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert set(LEVEL) | ENTRY_POINTS | {"py"} == entries
    assert len(entries) <= 20


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    others = {room_of(name) for name in modules_imported(path)}
    if room not in ENTRY_POINTS:
        known = {other: LEVEL[other] for other in others - {room} if other in LEVEL}
        upward = {other for other, level in known.items() if level <= LEVEL[room]}
        assert not upward, f"{room} imports from a room above or beside it: {sorted(upward)}"


def modules_imported(path: Path) -> set[str]:
    """Name every sarstack module a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sarstack"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_between_files_have_no_circle() -> None:
    """`__init__` files gather names for users: arrows out of them are not followed."""
    graph = {}
    for path in FILES:
        if path.name != "__init__.py":
            name = ".".join(["sarstack", *path.relative_to(PACKAGE).with_suffix("").parts])
            graph[name] = modules_imported(path)
    known = {name: {other for other in graph[name] if other in graph} for name in graph}
    tuple(graphlib.TopologicalSorter(known).static_order())


def test_files_have_names_of_their_own_and_stay_small() -> None:
    for path in [*FILES, *BENCHMARKS]:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager", "core"}
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= 400, f"{path.name} has {n_lines} lines: is it one noun?"


def test_functions_stay_short() -> None:
    for path in [*FILES, *BENCHMARKS]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno - doc.count("\n")
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
