"""Check that a raster file is not cut off before its last block."""

from typing import Any

import numpy as np

from sarstack.readers.image import unreadable_error

# Smallest entry of a block in the tables of a TIFF file: its offset or its size.
_BLOCK_ENTRY_BYTES = 4


def check_complete(path: str, dataset: Any, size: int) -> None:
    """Raise an error if the file ends before its last block.

    A file that was cut off during a copy still opens, because its header comes first. Without
    this check the error would come in the middle of the run. Only GeoTIFF and uncompressed ENVI
    files are checked: their headers tell where the pixels lie.
    """
    needed = 0  # bytes; stays 0 for other drivers, which are not checked
    if dataset.driver == "GTiff":
        n_blocks = sum(_count_blocks(dataset, band) for band in _separate_bands(dataset))
        # Also keeps a damaged size of the image from looking for millions of blocks.
        if n_blocks > 1 and size < n_blocks * _BLOCK_ENTRY_BYTES:
            raise unreadable_error(path, f"its header claims {n_blocks} blocks in {size} bytes")
        needed = max((_last_byte(dataset, band) for band in _separate_bands(dataset)), default=0)
    elif dataset.driver == "ENVI" and not dataset.compression:
        header = int(dataset.tags(ns="ENVI").get("header_offset", 0))
        sizes = [np.dtype(d).itemsize for d in dataset.dtypes]
        needed = header + sum(sizes) * dataset.height * dataset.width
    if size < needed:
        raise unreadable_error(path, f"it is truncated: it has {size} of at least {needed} bytes")


def _separate_bands(dataset: Any) -> range:
    """Return the bands whose blocks must be checked: all, or the first if they share blocks.

    In a file with interleaving by pixel, each block has the pixels of all bands.
    """
    interleaved = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    return range(1, 2 if interleaved else dataset.count + 1)


def _count_blocks(dataset: Any, band: int) -> int:
    height, width = dataset.block_shapes[band - 1]
    return -(-dataset.height // height) * -(-dataset.width // width)


def _last_byte(dataset: Any, band: int) -> int:
    """Return the position in a TIFF file, in bytes, where the last block of a band ends."""
    height, width = dataset.block_shapes[band - 1]
    last = 0
    for row in range(-(-dataset.height // height)):
        for column in range(-(-dataset.width // width)):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
            if offset:  # a block that was never written has none
                size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                last = max(last, int(offset) + int(size or 0))
    return last
