"""The temporal summary of a run: a sharded Zarr store in which the tile grid is the shard grid.

Each tile task writes exactly one shard, so no two writers ever meet, a shard file that
exists is complete (the store renames it into place), and the shards are the ledger from
which an interrupted run continues.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape, Tile, Window

INNER_CHUNK_PX = 512
# A value no summary contains: a tile that was never written cannot pass for nodata.
UNWRITTEN = float("inf")


def create_array(path: str, depth: int, scene: Shape, tile_px: int) -> None:
    """Create the array of a summary, unless it exists.

    Parameters
    ----------
    path : str
        Folder of the array.
    depth : int
        Channels of the summary.
    scene : Shape
        Rows and columns.
    tile_px : int
        Edge of a tile, which is the edge of a shard.
    """
    import zarr

    if Path(path, "zarr.json").exists():
        return
    inner = INNER_CHUNK_PX if tile_px % INNER_CHUNK_PX == 0 else tile_px
    zarr.create_array(
        path,
        shape=(depth, *scene),
        chunks=(1, inner, inner),
        shards=(depth, tile_px, tile_px),
        dtype="float32",
        fill_value=UNWRITTEN,
        compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
    )


def _open(path: str) -> Any:
    """Open an array once per process, anew if a later run has created it anew."""
    return _open_as_created(path, Path(path, "zarr.json").stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _open_as_created(path: str, _created_ns: int) -> Any:
    import zarr

    return zarr.open_array(path, mode="r+")


def has_tile(path: str, tile: Tile) -> bool:
    """Tell whether a tile was finished, now or by an interrupted run."""
    return Path(path, "c", "0", str(tile.row), str(tile.column)).exists()


def write_tile(path: str, tile: Tile, values: NDArray[np.float32]) -> None:
    """Write one whole shard, shape (depth, y, x)."""
    _open(path)[(slice(None), *tile.window.slices)] = values


def read_window(path: str, window: Window) -> NDArray[np.float32]:
    """Read finished pixels, shape (depth, y, x).

    Raises
    ------
    RuntimeError
        If a tile in the window was never written: a bug in the order of tasks.
    """
    values: NDArray[np.float32] = _open(path)[(slice(None), *window.slices)]
    if np.isinf(values).any():
        raise RuntimeError(f"{path}: window {window} holds tiles that were not computed")
    return values
