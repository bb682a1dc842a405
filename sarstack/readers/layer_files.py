"""Reads the layers of a product that lie beside its images: see ``product_layers``."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError
from sarstack.readers.block_cache import Key, identify_file
from sarstack.readers.consistency import describe_difference
from sarstack.readers.grid import Grid
from sarstack.readers.image import unreadable_error
from sarstack.readers.paths import file_name
from sarstack.readers.sentinel1.looks import equivalent_looks
from sarstack.tiles import Shape, Window, sample_windows


def open_layer(path: str) -> Any:
    """Open a layer, a GeoTIFF, as a ``rasterio.DatasetReader``."""
    import rasterio

    return rasterio.open(path, sharing=False, driver="GTiff")


def read_codes(layer: Any, codes: tuple[int, ...], window: Window) -> NDArray[np.bool_]:
    """Read where an open mask has one of some codes, shape of `window`."""
    bounds = (window.y0, window.y1), (window.x0, window.x1)
    return np.isin(layer.read(1, window=bounds), codes)


def check_layer(path: str, grid: Grid) -> None:
    """Check that a layer can be opened, and has the grid of its image.

    Raises
    ------
    StackReadError
        If it is damaged.
    StackError
        If it is on another grid.
    """
    try:
        with open_layer(path) as layer:
            wkt = layer.crs.to_wkt() if layer.crs else ""
            a, b, c, d, e, f = tuple(layer.transform)[:6]
            own = Grid(Shape(layer.height, layer.width), wkt, (a, b, c, d, e, f))
    except Exception as err:  # rasterio has several errors for damaged files
        raise unreadable_error(path, (str(err) or type(err).__name__).splitlines()[0]) from err
    if difference := describe_difference(own, grid):
        raise StackError(
            f"{path} is on another grid than its image ({difference})",
            expected="the same pixels as the image",
            do="download the layer of the same product and version, or move it to another folder",
        )


def read_looks(path: str, grid: Grid, burst: str) -> float | None:
    """Return the equivalent looks by the layer ``number_of_looks`` of a burst.

    Parameters
    ----------
    path : str
        Of the layer.
    grid : Grid
        Of the image.
    burst : str
        Identifier, whose beam decides how correlated the averaged pixels are.

    Returns
    -------
    float or None
        From the median of valid pixels in sample windows; None if there are none, or the beam is
        not known.

    Raises
    ------
    StackError
        If the layer is damaged, or on another grid than the image.
    """
    return _read_looks(path, identify_file(path), grid, burst)


@lru_cache(maxsize=64)
def _read_looks(path: str, _version: Key, grid: Grid, burst: str) -> float | None:
    """Read the looks once for all images of a burst."""
    check_layer(path, grid)
    numbers = []
    with open_layer(path) as layer:
        for window in sample_windows(grid.shape):
            bounds = (window.y0, window.y1), (window.x0, window.x1)
            pixels = layer.read(1, window=bounds)
            numbers.append(pixels[np.isfinite(pixels) & (pixels > 0)])
    valid = np.concatenate(numbers) if numbers else np.empty(0)
    if not valid.size:
        return None
    return equivalent_looks(float(np.median(valid)), grid.pixel_size[0], burst)


def path_beside(path: str, name: str) -> str:
    """Return the path of another file in the folder of a file."""
    return path.removesuffix(file_name(path)) + name
