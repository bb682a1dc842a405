"""Real images as scenes before the sensor: textures that no shipped network was trained on.

The images, their sources and their licences are in the folder ``images``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from sarstack.evaluation.scenes import GROUND_DB, Scene, check_size, without_points

FOLDER = Path(__file__).parent / "images"
STEPS_PER_DB, GREY_OF_MEAN = 8, 128


@dataclass(frozen=True)
class ImageSource:
    """Where images come from, and what their licence is.

    Attributes
    ----------
    credit : str
        Who made them, and the notice that the licence asks for.
    licence : str
    found_in : str
        Package or repository that has the original files.
    images : dict of str
        What each image shows, by its name: the stem of the PNG file.
    """

    credit: str
    licence: str
    found_in: str
    images: dict[str, str]


def read_sources() -> list[ImageSource]:
    """Read the sources of all images, in the order of the scenes."""
    text = (FOLDER / "sources.yaml").read_text(encoding="utf-8")
    return [ImageSource(**entry) for entry in yaml.safe_load(text)]


def read_texture(name: str) -> NDArray[np.float64]:
    """Return the backscatter of an image in dB, its mean at -12 dB, shape (y, x), without NaN."""
    from PIL import Image

    with Image.open(FOLDER / f"{name}.png") as file:
        grey = np.asarray(file, np.float64)
    return GROUND_DB + (grey - GREY_OF_MEAN) / STEPS_PER_DB


def make_textures(size_px: int) -> Iterator[Scene]:
    """Make one scene of each image.

    Parameters
    ----------
    size_px : int
        Side of the scenes, 96 or more: the middle of each image. An image that is smaller is used
        as a whole (256 x 256 px; radar images 100 x 100 px).

    Yields
    ------
    Scene
        Without flat fields, lines and points: where they are is not known.

    Raises
    ------
    UsageError
        If `size_px` is too small.
    """
    check_size(size_px)
    for source in read_sources():
        for name in source.images:
            image_db = read_texture(name)
            middle = tuple(
                slice((side - min(side, size_px)) // 2, (side + min(side, size_px)) // 2)
                for side in image_db.shape
            )
            yield Scene(name, without_points(image_db[middle]))


def describe_sources() -> str:
    """Return one line: number of images, who made them, their licences."""
    sources = read_sources()
    count = sum(len(source.images) for source in sources)
    makers = dict.fromkeys(f"{source.credit} ({source.licence})" for source in sources)
    return f"Truth of real-...: {count} images, not used in training. {'. '.join(makers)}."
