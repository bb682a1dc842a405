"""The learning curve of a training, as CSV and as a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path


def write_curve(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the learning curve as CSV, one row per validation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    part.replace(path)


def plot_curve(history: Sequence[dict[str, float]], path: str | Path) -> None:
    """Draw the learning curve as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row["step"] for row in history]
    axes.plot(steps, [row["training_loss"] for row in history], label="training loss")
    axes.plot(steps, [row["validation_loss"] for row in history], label="validation loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_yscale("log")
    axes.legend(loc="upper right")
    right = axes.twinx()
    right.plot(steps, [row["rmse_db"] for row in history], color="black", linestyle=":")
    right.set_ylabel("validation RMSE [dB] (dotted)")
    figure.savefig(path, dpi=120)
