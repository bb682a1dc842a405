"""Imports between files form no circle, files have names of their own, functions stay short."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sarstack"
FILES = sorted(PACKAGE.rglob("*.py"))


def modules_imported(path: Path) -> set[str]:
    """Name every sarstack module a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sarstack"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_circle_between_files() -> None:
    """`__init__` files gather names for users: arrows out of them are not followed."""
    graph = {}
    for path in FILES:
        if path.name != "__init__.py":
            name = ".".join(["sarstack", *path.relative_to(PACKAGE).with_suffix("").parts])
            graph[name] = modules_imported(path)
    known = {name: {other for other in graph[name] if other in graph} for name in graph}
    tuple(graphlib.TopologicalSorter(known).static_order())


def test_files_have_names_of_their_own_and_stay_small() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager", "core"}
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= 400, f"{path.name} has {n_lines} lines: is it one noun?"


def test_functions_stay_short() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno - doc.count("\n")
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
