"""Compare the uncertainty that methods tell with their errors on simulated scenes.

    python recipes/uncertainty/run.py uncertainty.png despecknet despecknet-lite

prints a table and draws a picture: nominal against observed shares, one panel for each method, one
curve for each suite. It takes some minutes.
"""

import argparse
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarstack.despecklers import make_despeckler
from sarstack.evaluation.calibration import Coverage, measure_coverage
from sarstack.evaluation.suites import SIMULATED, find_suite

SHARES = (0.5, 0.8, 0.95)
COLOURS = ("#3465a4", "#d9822b", "#4e9a06", "#75507b", "#8a8f98", "#c4a000", "#a40000", "#2aa198")


def suites_for(method: str, wanted: list[str]) -> list[str]:
    """Return the simulated suites of stacks for a multi-temporal method, else of single dates."""
    if wanted:
        return wanted
    is_multi_temporal = make_despeckler(method).n_summary > 0
    return [name for name, suite in SIMULATED.items() if (suite.n_dates > 1) == is_multi_temporal]


def describe(method: str, suite: str, coverage: Coverage) -> str:
    """Return one row of the table, in percent."""
    shares = [
        f"{100 * everywhere:.0f}" + ("" if np.isnan(on_flats) else f" ({100 * on_flats:.0f})")
        for everywhere, on_flats in map(coverage.at, SHARES)
    ]
    errors = [f"{coverage.rmse_db:.2f}", f"{coverage.uncertainty_db:.2f}"]
    return f"| {' | '.join([f'`{method}`', suite, *shares, *errors])} |"


def draw_panel(axes: Axes, method: str, by_suite: Mapping[str, Coverage]) -> None:
    """Draw one curve for each suite; the diagonal is a method that knows its errors."""
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.7)
    for (suite, coverage), colour in zip(by_suite.items(), cycle(COLOURS), strict=False):
        observed = [0, *(100 * coverage.observed), 100]
        nominal = [0, *(100 * coverage.nominal), 100]
        axes.plot(nominal, observed, color=colour, marker=".", label=suite)
    axes.set(title=method, xlabel="nominal share, %", aspect="equal", xlim=(0, 100), ylim=(0, 100))
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def draw(found: Mapping[str, Mapping[str, Coverage]]) -> Figure:
    """Draw one panel for each method."""
    figure = Figure(figsize=(3.3 * len(found), 3.5), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (method, by_suite) in zip(panels, found.items(), strict=True):
        draw_panel(axes, method, by_suite)
    panels[0].set_ylabel("observed share of pixels, %")
    return figure


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("methods", nargs="+", help="methods with an uncertainty")
    parser.add_argument("--suites", nargs="*", default=[], help="default: all that fit")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--n-scenes", type=int, default=6)
    parser.add_argument("--looks-given", action="store_true", help="tell methods the sensor")
    return parser.parse_args()


def main() -> None:
    options = parse()
    found: dict[str, dict[str, Coverage]] = {}
    heads = [f"in {100 * share:.0f} % (flats)" for share in SHARES]
    print(f"| method | suite | {' | '.join(heads)} | RMSE dB | told dB |\n|{'---|' * 7}")
    for method in options.methods:
        found[method] = {}
        for suite in suites_for(method, options.suites):
            coverage = measure_coverage(
                make_despeckler(method), find_suite(suite), size_px=options.size_px,
                n_scenes=options.n_scenes, looks_given=options.looks_given,
            )  # fmt: skip
            found[method][suite] = coverage
            print(describe(method, suite, coverage), flush=True)
    draw(found).savefig(options.picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
