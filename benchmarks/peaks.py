"""Peak rates of this machine: stages that sarstack is compared with.

Operations per second (convolution, matrix product), bytes per second in memory (copy), from
files (read, decode) and through compression (zstd).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import BYTES, FLOP, Stage, time_in_threads
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.output.cog import LEVEL
from sarstack.output.pieces import BLOCKS_PX
from sarstack.readers.index import index_stack
from sarstack.tiles import tile_grid

CONVOLUTIONS = ((64, 256), (128, 128))
"""Channels and side in pixels of the inputs of despecknet's 3x3 layers, for a cell of 512 px."""

MATRIX_SIDE = 1024
COPY_BYTES = 64 * 2**20
READ_TILE_PX = 1024

# Operations of one measurement, by device: enough for the resolution of the clock.
_MIN_FLOP = {"cpu": 1e10, "cuda": 2e13}


def convolution_stage(precision: str, channels: int, side_px: int, n_threads: int = 1) -> Stage:
    """Make a stage of 3x3 convolutions with batch size 1, channels last, as in the network."""
    import torch
    from torch import nn

    kind = {"dtype": getattr(torch, precision), "device": choose_device()}
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(**kind)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, channels, side_px, side_px).to(**kind)
    image = image.contiguous(memory_format=torch.channels_last)
    name = f"convolution {precision}, {channels} channels, {side_px} px"
    flop = 2.0 * 9 * channels**2 * side_px**2
    return _device_stage(name, lambda: layer(image), flop, n_threads)


def matrix_product_stage(precision: str, n_threads: int = 1) -> Stage:
    """Make a stage of products of two square matrices."""
    import torch

    kind = {"dtype": getattr(torch, precision), "device": choose_device()}
    left, right = (torch.rand(MATRIX_SIDE, MATRIX_SIDE).to(**kind) for _ in range(2))
    name = f"matrix product {precision}, {MATRIX_SIDE}"
    return _device_stage(name, lambda: left @ right, 2.0 * MATRIX_SIDE**3, n_threads)


def _device_stage(name: str, operation: Callable[[], object], flop: float, n_threads: int) -> Stage:
    """Make a stage that repeats a torch operation of `flop` operations."""
    import torch

    device = choose_device().partition(":")[0]
    n_times = int(np.ceil(_MIN_FLOP[device] / flop))

    def work(_: int) -> None:
        with torch.inference_mode():
            for _ in range(n_times):
                operation()
        if device == "cuda":
            torch.cuda.synchronize()

    total = {FLOP: flop * n_times * n_threads}
    return Stage(_with_threads(name, n_threads), time_in_threads(work, n_threads), total)


@cache
def fastest_convolution(precision: str, n_threads: int = 1) -> Stage:
    """Return the faster convolution of :data:`CONVOLUTIONS`: the peak rate for networks."""
    stages = [convolution_stage(precision, *shape, n_threads) for shape in CONVOLUTIONS]
    return max(stages, key=lambda stage: stage.work[FLOP] / stage.run().seconds)


def list_precisions() -> list[str]:
    """Return the precisions to measure: float32, and that of the networks on this machine."""
    return list(dict.fromkeys(["float32", choose_precision(choose_device())]))


def memory_copy_stage(n_threads: int = 1) -> Stage:
    """Make a stage that copies arrays larger than the caches; bytes copied are counted once."""
    pairs = [(np.ones(COPY_BYTES, np.uint8), np.empty(COPY_BYTES, np.uint8))
             for _ in range(n_threads)]  # fmt: skip
    run = time_in_threads(lambda i: np.copyto(pairs[i][1], pairs[i][0]), n_threads)
    return Stage(_with_threads("memory copy", n_threads), run, {BYTES: COPY_BYTES * n_threads})


def file_read_stage(path: Path, n_threads: int = 1) -> Stage:
    """Make a stage that reads the bytes of a file, usually from the page cache."""
    size = path.stat().st_size
    buffers = [bytearray(min(size, COPY_BYTES)) for _ in range(n_threads)]

    def work(number: int) -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffers[number]):
                pass

    name = _with_threads("file read", n_threads)
    return Stage(name, time_in_threads(work, n_threads), {BYTES: size * n_threads})


def pixel_read_stage(
    stack: Path, n_threads: int = 1, tile_px: int = READ_TILE_PX, suffix: str = ""
) -> Stage:
    """Make a stage that reads all pixels of a stack as intensity, with the readers of sarstack.

    Threads share the tiles; the dates of a tile are read one after the other. `suffix` is
    added to the name of the stage.
    """
    (series,) = index_stack(stack).rasters.values()
    rasters = [raster for raster in series if raster is not None]
    shape = rasters[0].shape
    tiles = list(tile_grid(shape, tile_px))

    def work(number: int) -> None:
        for tile in tiles[number::n_threads]:
            for raster in rasters:
                raster.read(tile.window)

    name = _with_threads(f"reading {len(rasters)} x {shape.y} x {shape.x}{suffix}", n_threads)
    n_bytes = 4.0 * len(rasters) * shape.y * shape.x
    return Stage(name, time_in_threads(work, n_threads), {BYTES: n_bytes})


def zstd_stage(pixels: NDArray[np.float32], n_threads: int = 1) -> Stage:
    """Make a stage that compresses an image in memory with GDAL's zstd, as in our COGs."""
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    (height, width), block_px = pixels.shape, BLOCKS_PX[0]
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "float32",
        "tiled": True, "blockxsize": block_px, "blockysize": block_px, "compress": "ZSTD",
        "zstd_level": LEVEL, "predictor": 3, "transform": from_origin(4e5, 5.4e6, 10, 10),
    }  # fmt: skip

    def work(_: int) -> None:
        with MemoryFile() as file, file.open(**profile) as raster:
            raster.write(pixels, 1)

    name = _with_threads("zstd", n_threads)
    return Stage(name, time_in_threads(work, n_threads), {BYTES: pixels.nbytes * n_threads})


def _with_threads(name: str, n_threads: int) -> str:
    return f"{name}, {n_threads} thread{'s' if n_threads > 1 else ''}"
