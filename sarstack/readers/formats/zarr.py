"""Zarr stores (v2 and v3) as written by xarray: variables ``vv vh hh hv`` over ``(time, y, x)``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.dataset import list_dataset_images
from sarstack.readers.image import Image
from sarstack.readers.raster import Raster
from sarstack.tiles import Window

TITLE = "Zarr store"
SUFFIXES = ()  # a store is a folder
_METADATA_FILES = ("zarr.json", ".zgroup", ".zmetadata")


def matches(path: str) -> bool:
    """Return whether a path is a Zarr store; a URL must end in ``.zarr``."""
    if "://" in path:
        return path.rstrip("/").lower().endswith(".zarr")
    return any((Path(path) / name).exists() for name in _METADATA_FILES)


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a store, see :class:`sarstack.readers.registry.Format`."""
    import xarray as xr

    # Consolidated metadata saves requests on an object store. On a local disk it saves nothing,
    # and xarray warns when it is absent.
    consolidated = None if "://" in path else False
    dataset = xr.open_zarr(
        path, chunks=None, consolidated=consolidated, mask_and_scale=False, decode_coords="all"
    )
    with dataset:
        return list_dataset_images(path, dataset, ZarrRaster, bands)


@dataclass(frozen=True)
class ZarrRaster(Raster):
    """One date of a variable of a Zarr store."""

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored. Chunks are not cached."""
        import zarr

        array: Any = zarr.open_group(self.path, mode="r")[self.variable]
        for window in windows:
            yield np.asarray(array[self.index_of(window)])
