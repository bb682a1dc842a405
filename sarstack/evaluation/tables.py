"""Tables of scores as text, CSV and PNG, and pictures of results side by side."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.evaluation.metrics import SCORES
from sarstack.evaluation.scores import Scores

Image = NDArray[np.floating]


@dataclass(frozen=True)
class Table:
    """Scores of all methods on one suite, stack or scene.

    Attributes
    ----------
    name : str
        Stem of its files.
    title : str
        Line above the table.
    rows : dict of str to dict of float
        Scores by method, in the order shown.
    """

    name: str
    title: str
    rows: Mapping[str, Scores]

    @property
    def columns(self) -> list[str]:
        """Names of the scores that at least one method has, in the order of `SCORES`."""
        return [
            name
            for name in SCORES
            if any(not np.isnan(scores.get(name, np.nan)) for scores in self.rows.values())
        ]

    def cells(self) -> list[list[str]]:
        """Return the headings and the rows as texts; NaN is shown as a dash."""
        table = [["", *(SCORES[name].heading for name in self.columns)]]
        for method, scores in self.rows.items():
            table.append([method, *(_show(name, scores) for name in self.columns)])
        return table


def _show(name: str, scores: Scores) -> str:
    value = scores.get(name, np.nan)
    if np.isnan(value):
        return "-"
    # Adding zero turns -0.0 into 0.0.
    return f"{round(value, SCORES[name].decimals) + 0.0:.{SCORES[name].decimals}f}"


def render_text(table: Table) -> str:
    """Return the table as aligned text, with its title."""
    cells = table.cells()
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:],
                                                                        strict=True))]).rstrip()
        for row in cells
    ]  # fmt: skip
    return "\n".join([table.title, *lines])


def explain_columns(tables: Sequence[Table]) -> str:
    """Return the legend: one line for each score in the tables."""
    used = [name for name in SCORES if any(name in table.columns for table in tables)]
    return "\n".join(SCORES[name].legend for name in used)


def write_csv(table: Table, path: Path) -> Path:
    """Write the scores with all digits as CSV, one row per method; NaN is an empty field."""
    return write_rows([{"method": method, **scores} for method, scores in table.rows.items()], path)


def write_rows(rows: Sequence[Mapping[str, str | float]], path: Path) -> Path:
    """Write rows as CSV with the columns of all rows; NaN is an empty field."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for row in rows:
            # Only NaN differs from itself; texts pass, too.
            writer.writerow({k: "" if v != v else v for k, v in row.items()})
    return path


def draw_table(table: Table, path: Path) -> Path:
    """Draw the table as PNG, with the best errors in bold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = table.cells()
    figure = Figure(figsize=(12, 0.26 * len(cells) + 0.4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(table.title, fontsize=11)
    drawn = axes.table(cells[1:], colLabels=cells[0], loc="upper center", cellLoc="right")
    drawn.auto_set_font_size(False)  # noqa: FBT003 - matplotlib's signature
    drawn.set_fontsize(9)
    drawn.auto_set_column_width(list(range(len(cells[0]))))
    best = find_best(table)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("#cccccc")
        if row == 0 or (row - 1, column - 1) in best:
            cell.get_text().set_fontweight("bold")
    # The canvas is cut to the size of the table.
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.1)
    return path


def find_best(table: Table) -> set[tuple[int, int]]:
    """Return row and column of the best value of each score that is shown in bold."""
    found = set()
    for column, name in enumerate(table.columns):
        if SCORES[name].bold:
            values = [scores.get(name, np.nan) for scores in table.rows.values()]
            found.add((SCORES[name].best_index(values), column))
    return found


def draw_crops(
    noisy: Image, reference: Image | None, results: Mapping[str, Image], path: Path, title: str
) -> Path:
    """Draw input, reference and all results side by side, in dB with one color range.

    Parameters
    ----------
    noisy : ndarray, shape (y, x), floating
        Linear power.
    reference : ndarray, shape (y, x), floating, optional
        The truth, or the mean of other dates; None if there is neither.
    results : dict of ndarray, shape (y, x), floating
        Linear power by method.
    path : Path
        PNG file to write.
    title : str

    Returns
    -------
    Path
        `path`.
    """
    from sarstack.output.quicklook import draw_panels

    compared = {} if reference is None else {"reference": reference}
    shown = {"input": noisy, **compared, **results}
    with np.errstate(divide="ignore", invalid="ignore"):
        in_db = {name: 10 * np.log10(image) for name, image in shown.items()}
    # The second panel (reference or first result) has less speckle: its range is narrower.
    smooth = list(in_db.values())[:2][-1]
    finite = smooth[np.isfinite(smooth)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (-25.0, 0.0)
    panels = [(f"{name} [dB]", image, low - 4, high + 4) for name, image in in_db.items()]
    return draw_panels(panels, path, title, n_columns=4)
