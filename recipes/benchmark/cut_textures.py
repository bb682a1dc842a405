"""Cut the images of the suites `real-...` from their sources.

    python recipes/benchmark/cut_textures.py sources/ sarstack/evaluation/images/

`sources/` has the files that `sarstack/evaluation/images/sources.yaml` names, and one folder for
each OPERA burst in `opera/`. Grey values of the PNG files are 128 + 8 times the backscatter in dB
above the mean of the image.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

import sarstack
from sarstack.evaluation.textures import GREY_OF_MEAN, STEPS_PER_DB

SIDE_PX = 256
# As in the training: standard deviation of an optical image whose brightness is taken as dB.
OPTICAL_SPREAD_DB = 3.5


class Cut(NamedTuple):
    """Where an optical image is cut: bands that are averaged, block of pixels, first pixel."""

    file: str
    bands: tuple[int, ...]
    block_px: int
    first: tuple[int, int]


CUTS = {
    "forest-edge": Cut("2019_YELL_2_528000_4978000_image_crop2.png", (1, 2, 3), 4, (200, 120)),
    "forest-road": Cut("2019_YELL_2_541000_4977000_image_crop.png", (1, 2, 3), 2, (130, 20)),
    "savanna": Cut("OSBS_029.tif", (1, 2, 3), 1, (70, 70)),
    "dead-trees": Cut("SOAP_031.png", (1, 2, 3), 1, (20, 130)),
    "salt-ponds": Cut("landsat.tif", (5,), 2, (345, 360)),
    "desert-ridges": Cut("landsat.tif", (5,), 2, (75, 60)),
    "city": Cut("landsat7.tif", (1,), 2, (415, 215)),
    "hills": Cut("landsat7.tif", (1,), 2, (130, 800)),
    "suburbs": Cut("L7_ETMs.tif", (5,), 1, (60, 0)),
}
STACKS = {
    "burst-ridges": "T137-292321-IW2",
    "burst-plain": "T137-292324-IW2",
    "burst-hills": "T137-292325-IW1",
}


def cut_optical(folder: Path, cut: Cut) -> NDArray[np.float64]:
    """Return brightness as dB, shape (256, 256): bright areas are rough, dark ones smooth."""
    with rasterio.open(folder / cut.file) as dataset:
        bright = dataset.read(list(cut.bands)).mean(axis=0)
    rows, columns = (size // cut.block_px for size in bright.shape)
    blocks = bright[: rows * cut.block_px, : columns * cut.block_px]
    mean = blocks.reshape(rows, cut.block_px, columns, cut.block_px).mean(axis=(1, 3))
    y, x = cut.first
    piece = mean[y : y + SIDE_PX, x : x + SIDE_PX]
    return np.asarray(OPTICAL_SPREAD_DB * piece / piece.std())


def average_dates(folder: Path) -> NDArray[np.float64]:
    """Return the mean of all dates of VV in dB."""
    vv = sarstack.open_stack(folder)["vv"]
    return np.asarray(10 * np.log10(vv.mean("time").to_numpy()), np.float64)


def write_image(image_db: NDArray[np.float64], path: Path) -> None:
    """Write an image in steps of an eighth of a dB, its mean as grey value 128."""
    grey = GREY_OF_MEAN + STEPS_PER_DB * (image_db - image_db.mean())
    pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, optimize=True)


def main(sources: Path, output: Path) -> None:
    """Write one PNG file for each image."""
    for name, cut in CUTS.items():
        write_image(cut_optical(sources, cut), output / f"{name}.png")
    for name, burst in STACKS.items():
        write_image(average_dates(sources / "opera" / burst), output / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
