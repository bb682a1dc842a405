"""Tables of the speed benchmark as text, JSON and a picture."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import BYTES, FLOP, PX, TASKS, Row
from sarstack.workflows.progress import write_json

COLUMNS = ("", "s", "range", "CPU s", "s/px", "rate", "MB", "compared with")
LEGEND = """\
s: median over rounds. range: (slowest - fastest round) / median. CPU s: sum over threads and
processes. MB: peak memory of the largest process, and the estimate of its plan. compared with:
ratio of two rates, median over rounds. s/px, rate and ratios do not include the start of a
command if the table has it. Operations: 2 for a multiply-accumulate, halos not counted. Bytes:
those of the uncompressed float32 image."""


@dataclass(frozen=True)
class SpeedTable:
    """Stages that were measured in the same rounds.

    Attributes
    ----------
    name : str
        Name for ``--stage``.
    title : str
        Heading of the table.
    rows : sequence of Row
        Results.
    """

    name: str
    title: str
    rows: Sequence[Row]


def render_text(table: SpeedTable) -> str:
    """Return the title and the table as aligned text; a dash where there is no value."""
    cells = [list(COLUMNS), *(_cells(row) for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = []
    for name, *middle, last in cells:
        padded = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded, last]).rstrip())
    rounds = max((row.rounds for row in table.rows), default=0)
    return "\n".join([f"{table.title} ({rounds} round{'s' if rounds != 1 else ''})", *lines])


def _cells(row: Row) -> list[str]:
    s_per_px = 1 / row.rates[PX] if PX in row.rates else math.nan
    shares = "; ".join(f"{_percent(share)} of {other}" for other, share in row.shares.items())
    return [
        row.name,
        _number(row.seconds, ".2f"),
        _number(row.range, ".0%"),
        _number(row.cpu_seconds, ".2f"),
        _number(s_per_px, ".2e"),
        _rate(row),
        _memory(row),
        shares or row.note,
    ]


def _memory(row: Row) -> str:
    peak = f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes else "-"
    return f"{peak} of {row.planned_bytes / 1e6:.0f}" if row.planned_bytes else peak


def _number(value: float, spec: str) -> str:
    return "-" if math.isnan(value) else format(value, spec)


def _percent(share: float) -> str:
    if math.isnan(share):
        return "unknown share"
    return f"{100 * share:.0f} %" if share > 0.1 else f"{100 * share:.1f} %"


def _rate(row: Row) -> str:
    scales = ((FLOP, 1e9, "GFLOP/s"), (BYTES, 1e6, "MB/s"), (TASKS, 1, "tasks/s"))
    for unit, scale, name in scales:
        if unit in row.rates and not math.isnan(row.rates[unit]):
            return f"{row.rates[unit] / scale:.0f} {name}"
    return "-"


def write_tables(path: Path, tables: Sequence[SpeedTable], machine: dict[str, Any]) -> None:
    """Write the tables and the description of the machine as JSON; NaN becomes null."""
    content = [{**asdict(table), "rows": [asdict(row) for row in table.rows]} for table in tables]
    write_json(path, _without_nan({**machine, "tables": content}))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw_shares(tables: Sequence[SpeedTable], path: Path) -> None:
    """Draw a panel for each table, with a bar for each stage: its first share."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(t.title, bars) for t in tables if (bars := [_bar(r) for r in t.rows if r.shares])]
    heights = [len(bars) + 2 for _, bars in panels]
    figure = Figure(figsize=(11, max(1.0, 0.3 * sum(heights))), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(max(1, len(panels)), 1, height_ratios=heights or None)
    for i_panel, (title, bars) in enumerate(panels):
        axes = figure.add_subplot(grid[i_panel])
        names, shares, texts = zip(*bars, strict=True)
        lengths = [0.0 if math.isnan(share) else share for share in shares]
        axes.barh(names, lengths, color="#4c78a8")
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9, loc="left")
        axes.axvline(1, color="#888888", linewidth=0.8)
        # Twice the longest bar: texts stand to the right of the bars.
        axes.set_xlim(0, 2 * max(1.0, *lengths))
        axes.tick_params(labelsize=8)
        for i, (length, text) in enumerate(zip(lengths, texts, strict=True)):
            axes.text(length, i, f" {text}", va="center", fontsize=8)
    figure.savefig(path, format="png")


def _bar(row: Row) -> tuple[str, float, str]:
    other, share = next(iter(row.shares.items()))
    memory = f", {row.peak_bytes / 1e6:.0f} MB" if row.peak_bytes else ""
    return row.name, share, f"{_percent(share)} of {other}{memory}"
