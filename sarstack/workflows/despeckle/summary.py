"""Store the sums over dates of a run: a Zarr array with one shard for each tile.

A task writes exactly one shard, so no two tasks write the same file. A shard gets its name when
it is complete, so an interrupted run continues with the tiles that have no shard.
"""

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.tiles import Shape, Tile, Window

INNER_CHUNK_PX = 512
# No sum is infinite, so a tile that was not written differs from nodata.
UNWRITTEN = float("inf")


def create_array(path: str, depth: int, scene: Shape, tile_px: int) -> None:
    """Create the array of a summary, unless it exists.

    Parameters
    ----------
    path : str
        Folder of the array.
    depth : int
        Number of channels of the summary.
    scene : Shape
        Rows and columns.
    tile_px : int
        Width of a tile and of a shard.
    """
    import zarr

    if Path(path, "zarr.json").exists():
        return
    inner = INNER_CHUNK_PX if tile_px % INNER_CHUNK_PX == 0 else tile_px
    # Under another name first: a run that is killed here leaves no half array.
    new = Path(f"{path}-new")
    zarr.create_array(
        str(new),
        shape=(depth, *scene),
        chunks=(1, inner, inner),
        shards=(depth, tile_px, tile_px),
        dtype="float32",
        fill_value=UNWRITTEN,
        compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        overwrite=True,
    )
    shutil.rmtree(path, ignore_errors=True)
    new.replace(path)


def _open(path: str) -> Any:
    """Open an array once per process, and again if a later run has created it again."""
    return _open_as_created(path, Path(path, "zarr.json").stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _open_as_created(path: str, _created_ns: int) -> Any:
    import zarr

    return zarr.open_array(path, mode="r+")


def has_tile(path: str, tile: Tile) -> bool:
    """Return whether a tile is written, by this run or an interrupted one."""
    return _shard(path, tile).exists()


def _shard(path: str, tile: Tile) -> Path:
    return Path(path, "c", "0", str(tile.row), str(tile.column))


def write_tile(path: str, tile: Tile, values: NDArray[np.float32]) -> None:
    """Write one whole shard, shape (depth, y, x)."""
    try:
        _open(path)[(slice(None), *tile.window.slices)] = values
    except OSError:
        # Some versions of zarr leave an incomplete shard, which would count as written.
        _shard(path, tile).unlink(missing_ok=True)
        raise


def read_window(path: str, window: Window) -> NDArray[np.float32]:
    """Read finished pixels, shape (depth, y, x).

    Raises
    ------
    RuntimeError
        If a tile in the window was not written, which is a bug in the order of tasks.
    """
    values: NDArray[np.float32] = _open(path)[(slice(None), *window.slices)]
    if np.isinf(values).any():
        raise RuntimeError(f"{path}: window {window} holds tiles that were not computed")
    return values
