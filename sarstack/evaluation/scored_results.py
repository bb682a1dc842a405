"""Score despeckled images of the user, and write the scores as text and as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sarstack.evaluation.image_pairs import Comparison, find_comparisons
from sarstack.evaluation.image_scores import COLUMNS, Column, ImagePair, ImageScores, score_image
from sarstack.output.complete_file import complete_file


@dataclass(frozen=True)
class ScoredResult:
    """A result with its scores."""

    comparison: Comparison
    pair: ImagePair
    scores: ImageScores

    @property
    def name(self) -> str:
        """Method, polarisation and date."""
        one = self.comparison
        return " ".join(part for part in (one.method, one.polarisation.upper(), one.date) if part)


def evaluate(
    noisy: str,
    results: Sequence[str],
    reference: str | None = None,
    *,
    looks: float | None = None,
    scale: str | None = None,
    result_scale: str | None = None,
    reference_scale: str | None = None,
) -> list[ScoredResult]:
    """Score despeckled images, with a reference or without one.

    Parameters
    ----------
    noisy : str
        The input of the results: a stack or an image, as for `despeckle`.
    results : sequence of str
        Folders of results, or images, of sarstack or of other programs.
    reference : str, optional
        Images without speckle on the same grid.
    looks : float, optional
        Equivalent number of looks of the input. Default: measured in each image.
    scale : str, optional
        Scale of the numbers in `noisy`: linear, amplitude or db. Default: detected.
    result_scale : str, optional
        Scale of the numbers in results whose tags and names declare none. Default: detected;
        amplitude cannot be.
    reference_scale : str, optional
        Scale of the numbers in `reference`. Default: detected.

    Returns
    -------
    list of ScoredResult
        One entry a result, sorted by polarisation, date and method.

    Raises
    ------
    StackError
        If a result has no input, or lies on another grid.
    ScaleError
        If a scale is unclear, or does not fit the numbers.
    """
    found = find_comparisons(
        noisy, results, reference,
        scale=scale, result_scale=result_scale, reference_scale=reference_scale,
    )  # fmt: skip
    ordered = sorted(found, key=lambda one: (one.polarisation, one.date, one.method))
    evaluated = []
    for comparison in ordered:
        pair = comparison.open(looks)
        evaluated.append(ScoredResult(comparison, pair, score_image(pair)))
    return evaluated


def used_columns(evaluated: Sequence[ScoredResult]) -> dict[str, Column]:
    """Return the scores that at least one result has."""
    return {
        name: column
        for name, column in COLUMNS.items()
        if any(np.isfinite(one.scores.values[name]) for one in evaluated)
    }


def render_text(evaluated: Sequence[ScoredResult]) -> str:
    """Return the scores as a text table, one score in each row, with what the scores mean."""
    lines = []
    width = max(len(column.heading) for column in COLUMNS.values()) + 2
    for one in evaluated:
        lines.append(one.name)
        for name, column in used_columns([one]).items():
            value = f"{one.scores.values[name]:.{column.decimals}f}"
            lines.append(f"  {column.heading:<{width}}{value:>9}   {explain(column)}")
    return "\n".join(lines)


def explain(column: Column) -> str:
    """Return the meaning of a score, and which values are better."""
    which = {"low": "; lower is better", "high": "; higher is better", "": ""}
    return column.meaning + which.get(column.ideal, f"; ideal: {column.ideal}")


def write_csv(evaluated: Sequence[ScoredResult], path: Path) -> Path:
    """Write one row a result with all scores; the file appears when it is complete."""
    with complete_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["method", "polarisation", "date", "looks", *COLUMNS])
        for one in evaluated:
            own = one.comparison
            values = [f"{one.scores.values[name]:.6g}" for name in COLUMNS]
            writer.writerow([own.method, own.polarisation, own.date, f"{one.pair.looks:.3g}",
                             *values])  # fmt: skip
    return path
