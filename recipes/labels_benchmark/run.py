"""Labels of a stack, beside merely reading the same files. See README.md beside this."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

CODE = """
import json, resource, sys, time
from sarstack.config import LabelsConfig
from sarstack.workflows.build_labels import build_labels
start = time.monotonic()
build_labels(LabelsConfig.make(**json.loads(sys.argv[1])))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.monotonic() - start, "peak_mb": peak}))
"""


def write_stack(folder: Path, n_dates: int, side_px: int) -> None:
    """Write dates of pure speckle with a corner of nodata, tiled and compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for date in range(n_dates):
        day = str(np.datetime64("2023-01-01") + 12 * date).replace("-", "")
        path = folder / f"S1A_IW_{day}T054321_gamma0_vv.tif"
        if path.exists():
            continue
        rng = np.random.default_rng(date)
        pixels = rng.gamma(4.4, 0.1 / 4.4, (side_px, side_px)).astype(np.float32)
        pixels[: 100 + 10 * date, :500] = np.nan
        with rasterio.open(
            path, "w", driver="GTiff", height=side_px, width=side_px, count=1, dtype="float32",
            nodata=np.nan, crs="EPSG:32632", transform=from_origin(4e5, 5.4e6, 10, 10),
            tiled=True, blockxsize=512, blockysize=512, compress="zstd", zstd_level=1,
        ) as raster:  # fmt: skip
            raster.write(pixels, 1)


def read_all(folder: Path, tile_px: int, n_threads: int) -> float:
    """Read every pixel of every file by tiles, and do nothing with it."""

    def read(task: tuple[Path, int, int]) -> None:
        path, y, x = task
        with rasterio.open(path, sharing=False) as raster:
            raster.read(1, window=Window(x, y, tile_px, tile_px))

    files = sorted(folder.glob("*.tif"))
    with rasterio.open(files[0]) as raster:
        height, width = raster.shape
    starts = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    start = time.monotonic()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(read, [(file, y, x) for y, x in starts for file in files]))
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dates", type=int, default=24)
    parser.add_argument("--side-px", type=int, default=4000)
    parser.add_argument("--tile-px", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    stack = options.folder / f"stack-{options.dates}x{options.side_px}"
    write_stack(stack, options.dates, options.side_px)
    store = options.folder / "labels.zarr"
    n_tiles = (-(-options.side_px // options.tile_px)) ** 2
    settings = {"stack": str(stack), "output": str(store), "tile_px": options.tile_px,
                "workers": options.workers}  # fmt: skip
    n_tasks = n_tiles + min(options.dates, 6)
    print(f"{options.dates} dates of {options.side_px}^2: {n_tasks} tasks ({n_tiles} tiles)")
    read_all(stack, options.tile_px, options.workers)
    for _ in range(options.repeats):
        reading = read_all(stack, options.tile_px, options.workers)
        shutil.rmtree(store, ignore_errors=True)
        done = subprocess.run([sys.executable, "-c", CODE, json.dumps(settings)],
                              check=True, capture_output=True, text=True)  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"reading {reading:5.1f} s, labels {found['seconds']:5.1f} s"
            f" (ratio {found['seconds'] / reading:.2f}), peak {found['peak_mb']:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
