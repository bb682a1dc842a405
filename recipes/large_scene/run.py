"""Despeckle one large scene on a local cluster with several tile sizes. See README.md."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

BLOCK_PX = 1024


def write_scene(path: Path, height: int, width: int) -> None:
    """Write fields, roads and points with speckle of 4.4 looks, block by block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "float32",
        "nodata": np.nan, "crs": "EPSG:32632", "transform": from_origin(4e5, 5.4e6, 10, 10),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd",
        "zstd_level": 1, "predictor": 3, "bigtiff": "if_safer",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        for y in range(0, height, BLOCK_PX):
            for x in range(0, width, BLOCK_PX):
                rows, columns = min(BLOCK_PX, height - y), min(BLOCK_PX, width - x)
                rng = np.random.default_rng([y, x])
                fields = rng.uniform(-18, -6, (rows // 64 + 1, columns // 64 + 1))
                scene = 10 ** (np.kron(fields, np.ones((64, 64)))[:rows, :columns] / 10)
                scene[:, columns // 2 : columns // 2 + 2] = 0.5
                scene[rows // 3, columns // 3] = 50.0
                scene = scene * rng.gamma(4.4, 1 / 4.4, scene.shape)
                # Nodata with a slanted edge, as at the border of a swath.
                row, column = np.mgrid[y : y + rows, x : x + columns]
                scene[column < 600 - row * 0.04] = np.nan
                raster.write(scene.astype(np.float32), 1, window=Window(x, y, columns, rows))


def despeckle(stack: Path, output: Path, *options: str) -> dict[str, float]:
    """Run `sarstack despeckle --cluster` in its own process; return its time and peak memory."""
    shutil.rmtree(output, ignore_errors=True)
    start = time.monotonic()
    command = [sys.executable, "-m", "sarstack", "-q", "despeckle", str(stack), "-o", str(output)]
    subprocess.run([*command, "--cluster", *options], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    record = json.loads((output / "run.json").read_text())
    return {
        "seconds": seconds,
        "peak_mb": record["peak_memory_bytes"] / 1e6,
        "estimate_mb": record["estimated_memory_bytes"] / 1e6,
    }


def same_pixels(first: Path, second: Path) -> bool:
    """Compare two rasters bit by bit, block by block."""
    with rasterio.open(first) as a, rasterio.open(second) as b:
        return a.shape == b.shape and all(
            np.array_equal(a.read(1, window=w), b.read(1, window=w), equal_nan=True)
            for _, w in a.block_windows(1)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--height", type=int, default=16_705)
    parser.add_argument("--width", type=int, default=26_102)
    parser.add_argument("--method", default="lee-sigma")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument(
        "--crop-px", type=int, default=0, help="despeckle only a square of this side; default: all"
    )
    options = parser.parse_args()
    scene = options.folder / "stack" / "S1A_IW_20240601T054321_gamma0_vv.tif"
    if not scene.exists():
        write_scene(scene, options.height, options.width)
    extra = []
    if options.crop_px:
        west, north, side = 4e5 + 20_000, 5.4e6 - 20_000, 10 * options.crop_px
        extra = ["--bbox", f"{west},{north - side},{west + side},{north}"]
    outputs = []
    print(
        f"{options.method}, {options.height} x {options.width} px, crop {options.crop_px or 'none'}"
    )
    for tile_px in options.tiles:
        output = options.folder / f"{options.method}-{tile_px}"
        found = despeckle(scene.parent, output, "--method", options.method,
                          "--tile-px", str(tile_px), *extra)  # fmt: skip
        outputs.append(next(output.glob("*.tif")))
        print(
            f"tile {tile_px:5d}: {found['seconds']:6.1f} s, peak {found['peak_mb']:5.0f} MB per"
            f" worker, {found['estimate_mb']:5.0f} MB estimated,"
            f" same pixels as the first: {same_pixels(outputs[0], outputs[-1])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
