"""Simulate a stack like Sentinel-1 GRD, compute labels and despeckle it. See README.md."""

import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from sarstack.speckle.sensor import simulate_stack
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig, LabelsConfig

N_DATES, SIDE_PX, SEED = 6, 640, 7
POLARISATIONS = {"vv": 0.08, "vh": 0.016}
LANDS = (("fields", "coast"), ("town", "relief"))


def simulate(median: float) -> np.ndarray:
    """Simulate four kinds of land side by side, scaled to the same median intensity."""
    rng = np.random.default_rng(SEED)
    half = SIDE_PX // 2

    def quarter(land: str) -> np.ndarray:
        scenes = simulate_stack(N_DATES, (half, half), rng, kind=land).intensity
        return scenes * (median / np.median(scenes))

    return np.concatenate(
        [np.concatenate([quarter(land) for land in row], axis=2) for row in LANDS], axis=1
    )


def write_stack(folder: Path) -> None:
    """Write one GeoTIFF per date and polarisation: 10 m, UTM, with a strip of nodata at the top."""
    folder.mkdir(parents=True, exist_ok=True)
    for polarisation, median in POLARISATIONS.items():
        for date, scene in enumerate(simulate(median)):
            day = np.datetime64("2024-04-03") + np.timedelta64(12 * date, "D")
            stamp = str(day).replace("-", "")
            pixels = scene.astype(np.float32)
            pixels[:, : 20 + 3 * date] = np.nan
            path = folder / f"S1A_IW_{stamp}T053412_gamma0_{polarisation}.tif"
            with rasterio.open(
                path, "w", driver="GTiff", height=SIDE_PX, width=SIDE_PX, count=1,
                dtype="float32", nodata=np.nan, crs="EPSG:32632", tiled=True, compress="deflate",
                transform=from_origin(600_000, 5_300_000, 10, 10),
            ) as raster:  # fmt: skip
                raster.write(pixels, 1)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").absolute()
    start = time.monotonic()
    stack, labels, results = folder / "stack", folder / "labels.zarr", folder / "despeckled"
    print(f"1. Simulate {N_DATES} dates, VV and VH, {SIDE_PX} x {SIDE_PX} pixels, 4.5 looks.")
    if not stack.exists():
        write_stack(stack)
    print("2. Build labels: temporal mean, standard deviation, count, stable mask.")
    if not labels.exists():
        build_labels(LabelsConfig.make(stack=str(stack), output=str(labels)))
    print("3. Despeckle all dates with the default method (deSpeckNet).")
    outcome = despeckle(DespeckleConfig.make(stack=str(stack), output=str(results)))
    outcome.raise_failures()
    print(f"Done in {time.monotonic() - start:.0f} s. Results:")
    print(f"  stack:      {stack}")
    print(f"  labels:     {labels}")
    print(f"  despeckled: {results} ({len(outcome.outputs)} COGs; the *_db.vrt files are in dB)")
    print(f"  picture:    {results / 'quicklook.png'} (input, result, ratio)")


if __name__ == "__main__":
    main()
