"""Despeckle a stack with several methods, and compare them in a report. See README.md."""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from sarstack.evaluation.evaluation_report import write_evaluation
from sarstack.evaluation.scored_results import evaluate, render_text, write_csv
from sarstack.speckle.sensor import simulate_stack
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

METHODS = ("boxcar", "lee", "lee-sigma", "total-variation", "despecknet")
N_DATES, SIDE_PX, SEED = 3, 400, 5


def write_simulated_stack(folder: Path) -> tuple[Path, Path]:
    """Write dates of a simulated coast, and their truth; return both folders."""
    simulated = simulate_stack(N_DATES, (SIDE_PX, SIDE_PX), np.random.default_rng(SEED),
                               kind="coast")  # fmt: skip
    folders = folder / "stack", folder / "truth"
    for target, images in zip(folders, (simulated.intensity, simulated.truth), strict=True):
        target.mkdir(parents=True, exist_ok=True)
        for date, image in enumerate(images):
            day = str(np.datetime64("2024-04-03") + 12 * date).replace("-", "")
            with rasterio.open(
                target / f"S1A_IW_{day}T053412_gamma0_vv.tif", "w", driver="GTiff",
                height=SIDE_PX, width=SIDE_PX, count=1, dtype="float32", nodata=np.nan,
                crs="EPSG:32632", transform=from_origin(600_000, 5_300_000, 10, 10),
            ) as raster:  # fmt: skip
                raster.write(image.astype(np.float32), 1)
    return folders


def main(arguments: list[str] | None = None) -> None:
    """Despeckle, score, write report.html and scores.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", nargs="?", help="default: a simulated stack, with its truth")
    parser.add_argument("-o", "--output", type=Path, default=Path("comparison"))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--reference", help="images without speckle on the same grid")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    stack, reference = given.stack, given.reference
    if stack is None:
        stack, reference = map(str, write_simulated_stack(given.output))
    folders = [given.output / method for method in given.methods]
    for method, folder in zip(given.methods, folders, strict=True):
        config = DespeckleConfig.make(stack=stack, output=str(folder), method=method)
        despeckle(config).raise_failures()
    evaluated = evaluate(stack, [str(folder) for folder in folders], reference)
    write_csv(evaluated, given.output / "scores.csv")
    report = write_evaluation(evaluated, given.output / "report.html", title=f"Methods on {stack}")
    print(render_text(evaluated))
    print(f"report: {report}")


if __name__ == "__main__":
    main()
