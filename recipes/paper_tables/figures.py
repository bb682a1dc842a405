"""Figures 10 and 11 of the paper as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scenes import Scene
from scipy.stats import gamma
from scoring import fit_gamma

Image = NDArray[np.float32]

BINS = np.linspace(0, 3, 61)
RATIO_RANGE = (0.5, 1.5)
"""Black and white of the ratio images, as in the paper."""


def draw_distributions(
    scenes: Sequence[Scene], noises: Mapping[str, Mapping[str, Image]], path: Path
) -> None:
    """Draw figure 10: the distribution of the estimated speckle, and the fitted gamma densities.

    Parameters
    ----------
    scenes : sequence of Scene
    noises : mapping
        By scene and name: the speckle that a method estimates, shape (y, x).
    path : Path
        PNG file.
    """
    columns = min(3, len(scenes))
    rows = -(-len(scenes) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, scene in zip(
        figure.subplots(rows, columns, squeeze=False).flat, scenes, strict=False
    ):
        for number, (name, speckle) in enumerate(noises[scene.name].items()):
            _draw_histogram(axes, name, speckle, f"C{number}")
        axes.set(title=f"{scene.name}, {scene.statistics.looks:.1f} looks", xlim=(0, 3),
                 xlabel="speckle", ylabel="density")  # fmt: skip
        axes.legend(fontsize=7)
    for axes in list(figure.axes)[len(scenes) :]:
        axes.set_visible(False)
    figure.savefig(path)


def _draw_histogram(axes: Axes, name: str, speckle: Image, colour: str) -> None:
    valid = speckle[np.isfinite(speckle)]
    density, _ = np.histogram(valid, BINS)
    density = density / max(valid.size, 1) / np.diff(BINS)
    looks, centres = fit_gamma(speckle), (BINS[:-1] + BINS[1:]) / 2
    axes.stairs(density, BINS, color=colour, alpha=0.7)
    axes.plot(centres, gamma.pdf(centres, looks, scale=float(valid.mean()) / looks), color=colour,
              label=f"{name}: gamma of {looks:.1f} looks")  # fmt: skip


def draw_ratios(
    scenes: Sequence[Scene], results: Mapping[str, Mapping[str, Image]], path: Path
) -> None:
    """Draw figure 11: noisy image / result, one row a method and one column a scene.

    `results` has the results by scene and method. The last row is the noisy image over the
    reference. Only speckle should be visible.
    """
    rows = [*next(iter(results.values())), "reference"]
    figure = Figure(figsize=(2.2 * len(scenes), 2.3 * len(rows)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(scenes), squeeze=False)
    for column, scene in enumerate(scenes):
        images = {**results[scene.name], "reference": scene.reference}
        for axes, name in zip(grid[:, column], rows, strict=True):
            axes.set(xticks=[], yticks=[])
            if images[name] is not None:
                ratio = scene.noisy / images[name]
                axes.imshow(ratio, "gray", vmin=RATIO_RANGE[0], vmax=RATIO_RANGE[1])
            if column == 0:
                axes.set_ylabel(name)
        grid[0, column].set_title(scene.name)
    figure.savefig(path)
