"""Run the notebooks of recipes/notebooks, and make a page of each with what they show.

Without a kernel: cells are Python, and the last expression of a cell is shown, as in Jupyter.
"""

import ast
import contextlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

NOTEBOOKS = Path(__file__).parents[1] / "recipes" / "notebooks"


class Output(NamedTuple):
    """What a cell printed, and the value of its last expression."""

    text: str
    value: Any


def read_cells(notebook: Path) -> list[tuple[str, str]]:
    """Return (kind, text) of the cells of a notebook; the kind is ``markdown`` or ``code``."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in document["cells"]]


def is_slow(notebook: Path) -> bool:
    """Return whether a notebook takes minutes: its page shows code only."""
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return bool(metadata.get("sarstack", {}).get("slow"))


def run_notebook(notebook: Path) -> Iterator[Output]:
    """Yield the output of each code cell, run in a temporary folder with the files beside it."""
    mpl.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for module in notebook.parent.glob("*.py"):
            shutil.copy(module, folder)
        sys.path.insert(0, folder)
        try:
            for kind, source in read_cells(notebook):
                if kind == "code":
                    yield run_cell(source, names)
        finally:
            sys.path.remove(folder)
            for module in notebook.parent.glob("*.py"):
                sys.modules.pop(module.stem, None)


def run_cell(source: str, names: dict[str, Any]) -> Output:
    """Run a cell among the names of earlier ones."""
    tree, value = ast.parse(source), None
    last = tree.body[-1] if tree.body else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        else:
            exec(compile(tree, "cell", "exec"), names)
    return Output(printed.getvalue(), value)


def write_notebook_pages(target: Path, *, run: bool = True) -> None:
    """Write the pages that are missing, or older than their notebook; without `run`, code only."""
    target.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        page = target / f"{notebook.stem}.md"
        if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
            text = render_page(notebook, target, run=run and not is_slow(notebook))
            page.write_text(text, encoding="utf-8")


def render_page(notebook: Path, target: Path, *, run: bool) -> str:
    """Return a notebook as Markdown; pictures are written beside the page."""
    cells = read_cells(notebook)
    outputs = run_notebook(notebook) if run else iter(())
    lines, number = [], 0
    for kind, source in cells:
        if kind == "markdown":
            lines += [source, ""]
            continue
        number += 1
        lines += ["```python", source, "```", ""]
        output = next(outputs, None)
        if output is not None:
            lines += render_output(output, target / f"{notebook.stem}-{number}.png")
    return "\n".join([*lines, f"*The notebook: `recipes/notebooks/{notebook.name}`.*", ""])


def render_output(output: Output, picture: Path) -> list[str]:
    """Return the lines of what a cell shows; paths of the temporary folder become relative."""
    here = f"{Path.cwd()}/"
    lines = (
        ["```text", output.text.rstrip().replace(here, ""), "```", ""]
        if output.text.strip()
        else []
    )
    value = output.value
    if value is None:
        return lines
    if hasattr(value, "_repr_png_"):
        picture.write_bytes(value._repr_png_())
        return [*lines, f"![{escape(repr(value), quote=True)}]({picture.name})", ""]
    if hasattr(value, "_repr_html_") and not type(value).__module__.startswith("xarray"):
        html = value._repr_html_().replace(here, "")
        return [*lines, "```{raw} html", f'<div class="notebook-output">{html}</div>', "```", ""]
    return [*lines, "```text", repr(value).replace(here, ""), "```", ""]
