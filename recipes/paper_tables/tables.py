"""The tables in the layout of the paper, our numbers beside those of the paper."""

from collections.abc import Mapping, Sequence

from conclusions import Numbers
from paper import (
    BLOCKS,
    LOSS_METRICS,
    METRICS,
    REFERENCE,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    Losses,
    Table,
)

DECIMALS = {"ENL": 1, "Cx": 3, "VoR": 3}
RATIO_METRICS = ("MoR", "VoR")


def render_tables(ours: Numbers, methods: Sequence[str]) -> str:
    """Return all tables that were computed as Markdown: ``ours / paper`` in each cell."""
    parts = []
    for title, metrics, paper, columns in (
        ("Table IV: scores", METRICS, TABLE_4, methods),
        ("Table V: ratio of input and result", RATIO_METRICS, TABLE_5, [*methods, REFERENCE]),
    ):
        parts += [title, _render(ours.methods, paper, metrics, columns)]
    if ours.phases:
        parts += ["Table VI: phases of deSpeckNet",
                  _render(ours.phases, TABLE_6, METRICS, BLOCKS)]  # fmt: skip
    for title, own, paper in (
        ("Table VII: weights in training (Indonesia)", ours.training, TABLE_7),
        ("Table VIII: weights in tuning (DRC)", ours.tuning, TABLE_8),
    ):
        if own:
            parts += [title, _render_losses(own, paper)]
    return "\n\n".join(parts)


def _render(ours: Table, paper: Table, metrics: Sequence[str], columns: Sequence[str]) -> str:
    lines = [f"| scene | score | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for scene in dict.fromkeys(name for name, _ in ours):
        for metric in metrics:
            own, theirs = ours.get((scene, metric), {}), paper.get((scene, metric), {})
            cells = [_cell(own, theirs, column, metric) for column in columns]
            if any(cell != "-" for cell in cells):
                lines.append(f"| {scene} | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _render_losses(
    ours: Mapping[Losses, dict[str, float]], paper: Mapping[Losses, dict[str, float]]
) -> str:
    lines = [f"| mu | lambda | xi | {' | '.join(LOSS_METRICS)} |",
             "|---" * (len(LOSS_METRICS) + 3) + "|"]  # fmt: skip
    for weights, own in ours.items():
        cells = [_cell(own, paper[weights], metric, metric) for metric in LOSS_METRICS]
        lines.append(f"| {' | '.join(f'{w:g}' for w in weights)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(own: Mapping[str, float], paper: Mapping[str, float], column: str, metric: str) -> str:
    value = own.get(column, float("nan"))
    if value != value:  # NaN
        return "-"
    text = f"{value:.{DECIMALS.get(metric, 2)}f}"
    return f"{text} / {paper[column]:g}" if column in paper else text
