"""Methods for single looks on simulated scenes: as observed, and after decorrelation.

See README.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.evaluation.metrics import SCORES
from sarstack.evaluation.scores import Scores, pool
from sarstack.evaluation.suites import Case, find_suite, make_cases, score_case
from sarstack.networks.blind_spot import BlindSpotNetwork, Spot
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.decorrelate import fit_decorrelator
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, sample_windows

FloatImage = NDArray[np.float32]
Methods = list[tuple[str, Despeckler, Spot | None]]
SUITES = ("single-look-white", "single-look")
SPOTS = {"by correlation": None, "1 px": Spot(1, 1), "3 px": Spot(2, 2)}
SHOWN = ("rmse_db", "bias_db", "enl", "thin_line_kept", "point_loss_db")


class Observed(NamedTuple):
    """A scene as a method gets it.

    Attributes
    ----------
    name : str
        ``as observed`` or ``decorrelated``.
    intensity : ndarray, shape (y, x), float32
    statistics : SceneStatistics
        One look, and the measured correlation.
    """

    name: str
    intensity: FloatImage
    statistics: SceneStatistics


def observe(case: Case) -> Iterator[Observed]:
    """Yield the intensity of a case, and that of its decorrelated field."""
    assert case.field is not None
    windows = sample_windows(Shape(*case.field.shape))
    decorrelator = fit_decorrelator([case.field[window.slices] for window in windows])
    for name, field in (
        ("as observed", case.field), ("decorrelated", decorrelator.apply(case.field)),
    ):  # fmt: skip
        intensity = to_power(field).astype(np.float32)
        yield Observed(name, intensity, measure_scene(intensity[None], looks=1.0)[0])


def despeckle(method: Despeckler, observed: Observed, spot: Spot | None) -> FloatImage:
    """Despeckle a scene; `spot` replaces the blind spot that the correlation decides."""
    if isinstance(method, NetworkMethod):
        network = method._network()
        if isinstance(network, BlindSpotNetwork):
            network.spot = spot
    return method.despeckle(observed.intensity, observed.statistics)


def make_methods(
    model: Path | None, others: list[str]
) -> list[tuple[str, Despeckler, Spot | None]]:
    """Return methods with their names, and blind spots that are not decided by the correlation."""
    given = {} if model is None else {"model": str(model)}
    own = make_despeckler("speckle2void", **given)
    return [
        *((f"speckle2void, blind spot {name}", own, spot) for name, spot in SPOTS.items()),
        *((name, make_despeckler(name), None) for name in others),
    ]


def run(methods: Methods, size_px: int, n_scenes: int) -> None:
    """Print the table of scores."""
    heads = [SCORES[key].heading for key in SHOWN]
    print("| suite | input | correlation | method |", " | ".join(heads), "|")
    print("|---" * (4 + len(heads)) + "|")
    for suite in SUITES:
        scores: dict[tuple[str, str], list[Scores]] = {}
        measured: dict[str, list[float]] = {}
        for case in make_cases(find_suite(suite), size_px, n_scenes):
            for observed in observe(case):
                kind = observed.name
                measured.setdefault(kind, []).append(
                    float(np.mean(observed.statistics.correlation))
                )
                for name, method, spot in methods:
                    result = despeckle(method, observed, spot)
                    scores.setdefault((kind, name), []).append(score_case(case, result[None]))
        for (kind, name), rows in scores.items():
            pooled = [pool((row[key] for row in rows), SCORES[key].pool) for key in SHOWN]
            numbers = " | ".join(f"{value:.{SCORES[key].decimals}f}" for key, value in
                                 zip(SHOWN, pooled, strict=True))  # fmt: skip
            correlation = f"{np.mean(measured[kind]):.2f}"
            print(f"| {suite} | {kind} | {correlation} | {name} | {numbers} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model of speckle2void; default: shipped")
    parser.add_argument("--methods", nargs="*", default=["despecknet", "mulog"])
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--scenes", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(make_methods(options.model, options.methods), options.size_px, options.scenes)


if __name__ == "__main__":
    main()
