"""Masks that tell the valid pixels of a raster, as GDAL defines them, or in a band of their own.

GDAL has a mask inside the file, in a ``.msk`` file beside it, in a VRT, and as an alpha band.
Other writers have a band such as ``dataMask``. Zero means nodata in all of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.bands import is_validity
from sarstack.readers.paths import is_remote
from sarstack.readers.virtual_raster import list_vrt_sources
from sarstack.tiles import Window

GDAL_MASK = 0
"""Stands for the mask of GDAL among the numbers of bands, which begin at 1."""


def check_mask_files(path: str) -> None:
    """Raise ValueError if a ``.msk`` file beside a raster, or a source of a VRT, is no GeoTIFF.

    GDAL opens it by its content: it could be the description of a web service.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    if is_remote(path):
        return
    sources = list_vrt_sources(path) if path.lower().endswith(".vrt") else []
    for mask in (Path(f"{file}{end}") for file in (path, *sources) for end in (".msk", ".MSK")):
        if mask.exists():
            try:
                rasterio.open(mask, sharing=False, driver="GTiff").close()
            except RasterioIOError as error:
                raise ValueError(f"its mask {mask.name} is no GeoTIFF") from error


def find_masks(
    dataset: Any, names: Sequence[str], chosen: Sequence[str | None]
) -> list[tuple[int, ...]]:
    """Find the masks of each band.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    names : sequence of str
        Name of each band.
    chosen : sequence of str or None
        None for bands that are no images.

    Returns
    -------
    list of tuple of int
        One for each band: numbers of the bands that hold masks, and GDAL_MASK; empty without.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    own = tuple(
        band
        for band, (name, kept) in enumerate(zip(names, chosen, strict=True), 1)
        if kept is None and is_validity(name)
    )
    # Of four bands of bytes, GDAL takes the last for alpha: not if it is an image.
    is_alpha_image = any(
        colour == ColorInterp.alpha and kept is not None
        for colour, kept in zip(dataset.colorinterp, chosen, strict=True)
    )
    found = []
    for flags in dataset.mask_flag_enums:
        is_masked = MaskFlags.per_dataset in flags
        if MaskFlags.alpha in flags:
            is_masked = not is_alpha_image
        found.append((*own, GDAL_MASK) if is_masked else own)
    return found


def read_masked(dataset: Any, band: int, masks: Sequence[int], window: Window) -> NDArray[np.bool_]:
    """Read where a window is masked by any of its masks.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    band : int
        Of the image, from 1.
    masks : sequence of int
        As :func:`find_masks` returns them.
    window : Window
        In pixels of the file.

    Returns
    -------
    ndarray, shape of the window, bool
        True = nodata.
    """
    bounds = (window.y0, window.y1), (window.x0, window.x1)
    is_masked = np.zeros(window.shape, bool)
    for mask in masks:
        if mask == GDAL_MASK:
            is_masked |= dataset.read_masks(band, window=bounds) == 0
        else:
            numbers = dataset.read(mask, window=bounds)
            is_masked |= (numbers == 0) | np.isnan(numbers)
    return is_masked
