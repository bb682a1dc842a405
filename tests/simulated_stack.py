"""Small Sentinel-1-like stacks on disk, whose truth is known: what the tests share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

EPSG, ORIGIN_X, ORIGIN_Y, PIXEL_M = 32631, 500_000.0, 4_800_000.0, 10.0
LOOKS = 4.4


@dataclass(frozen=True)
class SimulatedStack:
    """A folder of images and what they should be."""

    folder: Path
    truth: dict[str, NDArray[np.float32]]
    files: list[Path]


def reflectivity(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Two fields 6 dB apart, a bright road and a point target."""
    scene = np.full(shape, 0.05, np.float32)
    scene[: shape[0] // 2] = 0.2
    scene[:, shape[1] // 3 : shape[1] // 3 + 2] = 0.5
    scene[shape[0] // 4, shape[1] // 4] = 20.0
    return scene


def write_tif(path: Path, pixels: NDArray[np.float32], **profile: object) -> Path:
    """Write one georeferenced band."""
    settings = {
        "driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": 1,
        "dtype": pixels.dtype.name, "crs": f"EPSG:{EPSG}", "nodata": np.nan,
        "transform": from_origin(ORIGIN_X, ORIGIN_Y, PIXEL_M, PIXEL_M), "compress": "deflate",
    } | profile  # fmt: skip
    with rasterio.open(path, "w", **settings) as raster:
        raster.write(pixels, 1)
    return path


def read_tif(path: Path) -> NDArray[np.float32]:
    """Read one band with an independent reader."""
    with rasterio.open(path) as raster:
        return raster.read(1)


def assert_same_files(first: Path, second: Path) -> None:
    """Two result folders hold the same images with the same bits."""
    names = sorted(p.name for p in first.glob("*.tif"))
    assert names
    assert names == sorted(p.name for p in second.glob("*.tif"))
    for name in names:
        np.testing.assert_array_equal(read_tif(first / name), read_tif(second / name), name)
