"""Cut single look complex images into squares of intensity, for the training of speckle2void.

The file has the form of packed_data.py, without clean images. The target of a square is the square
itself: a blind-spot network does not use it.

    python pack_single_looks.py PACKED.npz image.tif ...
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from packed_data import SMALLEST_POWER

from sarstack.speckle.statistics import measure_scene

FloatImage = NDArray[np.float32]
SIDE_PX = 160
LARGEST_DARK_FRACTION = 0.5
"""Rows with more zeros are gaps between bursts."""
LEAST_VALID_FRACTION = 0.6


def read_intensity(path: Path) -> FloatImage:
    """Read a complex image as linear power; gaps between bursts are NaN."""
    with rasterio.open(path) as dataset:
        numbers = dataset.read(1)
    power = numbers.real.astype(np.float32) ** 2 + numbers.imag.astype(np.float32) ** 2
    gap = (power == 0).mean(axis=1) > LARGEST_DARK_FRACTION
    power[gap] = np.nan
    return power


def cut_squares(power: FloatImage) -> Iterator[FloatImage]:
    """Yield squares that touch each other, and have enough data."""
    for y in range(0, power.shape[0] - SIDE_PX + 1, SIDE_PX):
        for x in range(0, power.shape[1] - SIDE_PX + 1, SIDE_PX):
            square = power[y : y + SIDE_PX, x : x + SIDE_PX]
            if np.isfinite(square).mean() >= LEAST_VALID_FRACTION:
                yield square


def pack(paths: list[Path], target: Path) -> None:
    """Write the squares of all images, with one look and their correlation."""
    squares, sensor = [], []
    for path in paths:
        power = read_intensity(path)
        correlation = measure_scene(power[None], looks=1.0)[0].correlation
        found = list(cut_squares(power))
        squares += found
        sensor += [(1.0, *correlation, 1.0)] * len(found)
        print(f"{path.name}: {len(found)} squares, correlation {correlation}")
    # The level of float16 logarithms is near 0: it has more digits there.
    scaled = [square / np.nanmedian(square) for square in squares]
    logs = np.log(np.maximum(np.stack(scaled), SMALLEST_POWER)).astype(np.float16)
    ones = np.ones_like(logs)
    np.savez_compressed(
        target, noisy=logs, target=logs, weight=ones, detail=ones, sensor=np.array(sensor)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    options = parser.parse_args()
    pack(options.images, options.target)


if __name__ == "__main__":
    main()
