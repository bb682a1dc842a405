"""Score a model against the boxcar and Lee filters on simulated scenes with exact truth."""

import argparse
from pathlib import Path

import numpy as np

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.despecknet import despeckler_from_model
from sarstack.reflectivity import LANDS, Reflectivity, simulate_reflectivity
from sarstack.simulation import SpeckleSimulator
from sarstack.speckle import SceneStatistics

CASES = {
    "GRD-like, 4.5 looks, .65": SpeckleSimulator(4.5, (0.65, 0.65)),
    "single look, white": SpeckleSimulator(1.0),
    "single look, .3": SpeckleSimulator(1.0, (0.3, 0.3)),
    "RTC-like, 10 looks, white": SpeckleSimulator(10.0),
}
SIDE_PX = 256
SEED = 4242


def make_scenes() -> list[Reflectivity]:
    """One scene of each land cover, with a few isolated point targets of known place."""
    scenes = []
    for index, kind in enumerate(LANDS):
        rng = np.random.default_rng([SEED, index])
        scene = simulate_reflectivity((SIDE_PX, SIDE_PX), rng, kind)
        for y, x in _grid():
            background = float(np.median(scene.diffuse[y - 8 : y + 9, x - 8 : x + 9]))
            scene.points[y, x] = np.sqrt(background * 10 ** (rng.uniform(12, 30) / 10))
        scenes.append(scene)
    return scenes


def _grid() -> list[tuple[int, int]]:
    return [(y, x) for y in range(32, SIDE_PX, 64) for x in range(32, SIDE_PX, 64)]


def score(estimate: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """RMSE and bias in dB, and how much the peaks of the known points changed."""
    error_db = 10 * np.log10(estimate / truth)
    points = [(estimate[y, x], truth[y, x]) for y, x in _grid()]
    return {
        "rmse_db": float(np.sqrt(np.mean(error_db**2))),
        "bias_db": float(10 * np.log10(estimate.mean() / truth.mean())),
        "log_bias_db": float(error_db.mean()),
        "point_db": float(np.mean([10 * np.log10(a / b) for a, b in points])),
    }


def run_case(despeckler: Despeckler, simulator: SpeckleSimulator) -> dict[str, float]:
    scores = []
    for index, scene in enumerate(make_scenes()):
        noisy = simulator.observe(scene, np.random.default_rng([SEED, 1, index]))
        bright = float(np.quantile(noisy, 0.98, method="higher"))
        known = SceneStatistics(simulator.looks, simulator.correlation, bright)
        clean = despeckler.apply(noisy[None], [known])[0]
        scores.append(score(clean, simulator.expect(scene)))
    # RMS over scenes for the RMSE, plain means for the signed scores.
    mean = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
    mean["rmse_db"] = float(np.sqrt(np.mean([s["rmse_db"] ** 2 for s in scores])))
    return mean


def evaluate(model: Path | None = None, method: str | None = None) -> dict[str, dict[str, float]]:
    """Score a model file, or a method by name, on every case."""
    despeckler = make_despeckler(method) if method else despeckler_from_model(model)
    return {case: run_case(despeckler, simulator) for case, simulator in CASES.items()}


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    for case, values in scores.items():
        print(f"  {case:26s} " + "  ".join(f"{k} {v:+.3f}" for k, v in values.items()), flush=True)


def draw(model: Path, folder: Path) -> None:
    """Save crops of noisy, despeckled and truth for every case, in dB."""
    from matplotlib.figure import Figure

    despeckler = despeckler_from_model(model)
    for case, simulator in CASES.items():
        figure = Figure(figsize=(24, 12), layout="constrained")
        axes = figure.subplots(3, len(LANDS))
        for index, scene in enumerate(make_scenes()):
            noisy = simulator.observe(scene, np.random.default_rng([SEED, 1, index]))
            bright = float(np.quantile(noisy, 0.98))
            known = SceneStatistics(simulator.looks, simulator.correlation, bright)
            images = noisy, despeckler.apply(noisy[None], [known])[0], simulator.expect(scene)
            low, high = np.percentile(10 * np.log10(images[2]), (0.5, 99.5))
            for row, image in enumerate(images):
                axes[row, index].imshow(
                    10 * np.log10(image), cmap="gray", vmin=low - 1, vmax=high + 1
                )
                axes[row, index].axis("off")
        name = "".join(c if c.isalnum() else "_" for c in case)
        figure.savefig(folder / f"{name}.png", dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--methods", nargs="*", default=["boxcar", "lee"])
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    for method in options.methods:
        print(method)
        print_scores(evaluate(method=method))
    for model in options.models:
        print(model.name)
        print_scores(evaluate(model))
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            draw(model, options.pictures)


if __name__ == "__main__":
    main()
