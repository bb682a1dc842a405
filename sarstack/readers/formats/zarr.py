"""Zarr stores (v2 and v3) as written by xarray: variables ``vv vh hh hv`` over ``(time, y, x)``."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.dataset import DatasetRaster, list_dataset_images
from sarstack.readers.image import Image
from sarstack.readers.paths import is_remote
from sarstack.readers.remote import open_storage
from sarstack.readers.versions import Stamp, stamp_sources
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
    if "://" in path:
        open_storage(path)  # raises if a package is missing
    dataset = xr.open_zarr(
        path, chunks=None, consolidated=consolidated, mask_and_scale=False, decode_coords="all"
    )
    with dataset:
        images = list_dataset_images(path, dataset, ZarrRaster, bands)
    return images if is_remote(path) else _declare_unwritten(path, images)


def _declare_unwritten(path: str, images: list[Image]) -> list[Image]:
    """Declare what zarr returns for chunks that were never written as nodata of their images."""
    import zarr

    group, found = zarr.open_group(path, mode="r"), []
    for image in images:
        raster: Any = image.raster
        array: Any = group[raster.variable]
        fill = array.fill_value
        # Zero in floating-point numbers is judged by the pixels, like any undeclared zero.
        may_matter = array.dtype.kind in "iu" or (array.dtype.kind == "f" and fill != 0)
        is_known = fill is None or fill != fill or float(fill) in raster.nodata
        if may_matter and not is_known and raster.lacks_chunks(array):
            nodata = (*raster.nodata, float(fill))
            image = replace(image, raster=replace(raster, nodata=nodata))
        found.append(image)
    return found


@dataclass(frozen=True)
class ZarrRaster(DatasetRaster):
    """One date of a variable of a Zarr store."""

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored. Chunks are not cached."""
        import zarr

        array: Any = zarr.open_group(self.path, mode="r")[self.variable]
        for window in windows:
            yield np.asarray(array[self.index_of(window)])

    def read_attributes(self) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        """Return the attributes of the store and of the variable."""
        import zarr

        group = zarr.open_group(self.path, mode="r")
        return group.attrs.asdict(), group[self.variable].attrs.asdict()

    def stamp(self) -> list[Stamp]:
        """Return names, sizes and times of the chunks of this date.

        So results of other dates stay finished when a date is appended or filled.
        """
        import zarr

        array: Any = zarr.open_group(self.path, mode="r")[self.variable]
        keys = [f"{array.path}/{key}" for key in self._list_chunks(array)]
        if is_remote(self.path):
            found = _list_remote(self.path, array.path, int(time.monotonic() / 60))
            return [(key, *found[key]) for key in keys if key in found]
        root = Path(self.path)
        return [(key, *stamp[1:]) for key in keys for stamp in stamp_sources([str(root / key)])]

    def lacks_chunks(self, array: Any) -> bool:
        """Return whether a local store lacks chunks of this image."""
        root = Path(self.path, array.path)
        return not all((root / key).exists() for key in self._list_chunks(array))

    def _list_chunks(self, array: Any) -> Iterator[str]:
        """Yield the names of the chunks (or shards) that have pixels of this image."""
        y0, x0 = self.origin
        window = Window(y0, y0 + self.shape.y, x0, x0 + self.shape.x)
        ranges = []
        for place, size in zip(self.index_of(window), array.shards or array.chunks, strict=True):
            first, end = (
                (place.start, place.stop) if isinstance(place, slice) else (place, place + 1)
            )
            ranges.append(range(first // size, -(-end // size)))
        for chunk in product(*ranges):
            yield array.metadata.encode_chunk_key(chunk)


@lru_cache(maxsize=16)
def _list_remote(path: str, variable: str, _minute: int) -> dict[str, Stamp]:
    """Return sizes and tags of the objects of a variable; empty if the server does not list them.

    All dates of a stack use one listing; in another minute, a new one is made.
    """
    import fsspec

    try:
        system, root = fsspec.url_to_fs(path)
        system.invalidate_cache()
        found = system.find(f"{root.rstrip('/')}/{variable}", detail=True)
    except (OSError, NotImplementedError, ValueError):
        return {}
    tags = ("size", "ETag", "etag", "LastModified", "mtime")
    stamps: dict[str, Stamp] = {}
    for name, about in found.items():
        key = f"{variable}/{name.rpartition(f'/{variable}/')[2]}"
        stamps[key] = tuple(str(about[tag]) for tag in tags if about.get(tag))
    return stamps
