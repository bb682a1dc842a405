"""The house keeps its layers: imports point downwards, rooms have names, files stay small."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sarstack"
FILES = sorted(PACKAGE.rglob("*.py"))
# Top to bottom; a file may import from its own layer and from those below.
LAYERS = [
    ["cli", "cli_options", "bench_cli", "accessor", "__init__", "__main__"],
    ["workflows", "benchmark"],
    ["patches", "tasks", "label_tasks", "scratch", "cog", "pieces", "virtual_raster", "report",
     "stac", "config", "pyramid", "runlog", "cluster", "dispatch", "data_parallel", "readers"],
    ["engine", "despecklers", "calibration", "inference", "training", "finetuning", "networks",
     "patch_simulation", "stack_patch_simulation", "noise_to_noise", "losses", "checkpoint",
     "learning_curve", "ratio_probe", "ranks"],
    ["cube", "labels", "date_sums", "sampling", "masking", "tiles"],
    ["speckle", "gamma", "radiometry", "metrics", "changes", "simulation", "reflectivity",
     "checks"],
    ["errors", "conventions", "pages"],
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Integers and clipped windows: as low as numbers, though listed with what they cut.
RANK["tiles"] = RANK["masking"] = RANK["speckle"]
RANK["stack"] = RANK["tiles"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sarstack"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in found if name in RANK}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} has no place in the house: add it to its layer"
    upwards = {other for other in imports_of(path) if RANK[other] < RANK[room]}
    assert not upwards, f"{room} imports from above: {sorted(upwards)}"


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


def test_rooms_have_names_and_files_stay_small() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager", "core"}
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= 430, f"{path.name} has {n_lines} lines: is it one noun?"


def test_no_function_is_a_whole_workflow() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno - doc.count("\n")
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
