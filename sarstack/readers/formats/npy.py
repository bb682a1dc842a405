"""Arrays of NumPy, ``(y, x)`` or ``(time, y, x)``, without a georeference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.bands import name_bands
from sarstack.readers.grid import Grid
from sarstack.readers.image import (
    Image,
    complex_numbers_error,
    describe_image,
    unreadable_error,
)
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape, Window

TITLE = "`.npy`"
SUFFIXES = (".npy",)


def matches(path: str) -> bool:
    """Return whether a path has the name of a NumPy array."""
    return path.lower().endswith(SUFFIXES) and not Path(path).is_dir()


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of an array, see :class:`sarstack.readers.registry.Format`."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if np.iscomplexobj(array):
        raise complex_numbers_error(path)
    if array.ndim not in (2, 3):
        raise unreadable_error(
            path, f"an array of shape {array.shape} is neither (y, x) nor (time, y, x)"
        )
    count = 1 if array.ndim == 2 else array.shape[0]
    names = name_bands(path, [""] * count, bands) if array.ndim == 3 else list(bands or [""])[:1]
    grid = Grid(Shape(*array.shape[-2:]))
    images = []
    for i, name in enumerate(names):
        if name is None:
            continue
        raster = NpyRaster(path, Path(path).stem, shape=grid.shape)
        if array.ndim == 3:
            raster = replace(raster, index=i, stem=f"{raster.stem}_{i + 1}")
        image = describe_image(raster, grid, [name, Path(path).name], {})
        images.append(replace(image, order=i) if array.ndim == 3 else image)
    return images


@dataclass(frozen=True)
class NpyRaster(Raster):
    """One date of an array of NumPy."""

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored. The file is mapped into memory: nothing is cached."""
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        for window in windows:
            yield np.array(array[self.index_of(window)])
