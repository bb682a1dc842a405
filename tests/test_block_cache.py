"""Blocks are decoded about once, whatever tiles and threads read them."""

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from sarstack.output.pieces import Pieces
from sarstack.readers import block_cache
from sarstack.readers.block_cache import BlockCache
from sarstack.readers.formats.gdal import GdalRaster
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape, Window, order_in_row_pairs

SCENE = Shape(700, 900)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> BlockCache:
    """Give the test a cache of its own."""
    own = BlockCache()
    monkeypatch.setattr(block_cache, "CACHE", own)
    return own


def count_decoded(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """Count how often each block is decoded."""
    decoded: Counter[Any] = Counter()
    get = cache.get

    def counting(key: Any, decode: Any) -> NDArray[Any]:
        def count() -> NDArray[Any]:
            decoded[key] += 1
            return np.asarray(decode())

        return get(key, count)

    monkeypatch.setattr(cache, "get", counting)
    return decoded


def write_pixels(path: Path, pixels: NDArray[Any], **profile: Any) -> Raster:
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    shape = Shape(*bands.shape[1:])
    options = {"driver": "GTiff", "height": shape.y, "width": shape.x, "count": len(bands),
               "dtype": bands.dtype.name}  # fmt: skip
    with rasterio.open(path, "w", **options | profile) as file:
        file.write(bands)
    return GdalRaster(str(path), path.stem, band=len(bands), shape=shape)


def draw(shape: Shape, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).gamma(4.4, 1 / 4.4, shape).astype(np.float32)


TILED = {"tiled": True, "blockxsize": 128, "blockysize": 64, "compress": "deflate"}
PLACES = [Window(0, 700, 0, 900), Window(60, 70, 120, 130), Window(64, 128, 128, 256),
          Window(699, 700, 899, 900), Window(0, 1, 0, 900), Window(500, 700, 800, 900)]  # fmt: skip


@pytest.mark.parametrize(
    "profile",
    [
        TILED,
        TILED | {"interleave": "band"},
        TILED | {"blockxsize": 32, "blockysize": 32},
        {"compress": "deflate"},
        {"tiled": True, "blockxsize": 128, "blockysize": 64},
        {},
    ],
    ids=[
        "tiles",
        "tiles of two bands",
        "tiny tiles",
        "strips",
        "tiles, uncompressed",
        "strips, uncompressed",
    ],
)
def test_cached_pixels_equal_those_of_the_file(
    tmp_path: Path, cache: BlockCache, profile: dict[str, Any]
) -> None:
    image = draw(SCENE)
    pixels = np.stack([draw(SCENE, 1), image]) if "interleave" in profile else image
    raster = write_pixels(tmp_path / "a.tif", pixels, **profile)
    for _ in range(2):
        for place in PLACES:
            found = raster.read(place)
            assert np.array_equal(found, image[place.slices])
            found[:] = -1  # must not change the cache
    assert (cache.n_bytes > 0) == (profile.get("blockxsize") == 128 and "compress" in profile)


def test_a_crop_is_read_at_its_origin(tmp_path: Path, cache: BlockCache) -> None:
    image = draw(SCENE)
    write_pixels(tmp_path / "a.tif", image, **TILED)
    crop = GdalRaster(str(tmp_path / "a.tif"), "a", origin=(101, 203), shape=Shape(300, 300))
    window = Window(20, 200, 30, 290)
    assert np.array_equal(crop.read(window), image[121:301, 233:493])


def test_a_file_that_changed_is_read_again(tmp_path: Path, cache: BlockCache) -> None:
    path, place = tmp_path / "a.tif", Window(0, 100, 0, 100)
    raster = write_pixels(path, draw(SCENE), **TILED)
    raster.read(place)
    later = draw(SCENE, 1)
    write_pixels(path, later, **TILED)
    os.utime(path, ns=(0, 0))  # both writes may be within one tick of a coarse clock
    assert np.array_equal(raster.read(place), later[place.slices])


@pytest.mark.parametrize("n_threads", [1, 4])
def test_tiles_with_halos_decode_an_image_about_once(
    tmp_path: Path, cache: BlockCache, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    scene, tile_px, halo = Shape(2048, 4096), 512, 20
    raster = write_pixels(tmp_path / "a.tif", np.zeros(scene, np.float32), tiled=True,
                          blockxsize=256, blockysize=256, compress="deflate")  # fmt: skip
    # The same share of the scene as the real cache holds of a scene of 26,000 px.
    cache.max_bytes = 64 * 256**2 * 4
    decoded = count_decoded(cache, monkeypatch)
    tiles = order_in_row_pairs(Pieces(tmp_path, scene, tile_px).tiles())
    assert sorted(tiles) == sorted(Pieces(tmp_path, scene, tile_px).tiles())
    with ThreadPoolExecutor(n_threads) as pool:
        windows = [tile.window.expand(halo, scene) for tile in tiles]
        list(pool.map(lambda window: raster.read(window), windows))
    n_blocks = scene.y * scene.x / 256**2
    alone = sum((-(-w.y1 // 256) - w.y0 // 256) * (-(-w.x1 // 256) - w.x0 // 256) for w in windows)
    assert alone > 2.5 * n_blocks  # blocks that tiles would decode without a cache
    assert len(decoded) == n_blocks
    assert decoded.total() <= 1.3 * n_blocks


def test_the_size_of_the_cache_is_bounded() -> None:
    cache = BlockCache(max_bytes=1000)
    for number in range(50):
        cache.get((number,), lambda: np.zeros(100, np.uint8))
        assert cache.n_bytes <= 1000
    decoded: list[int] = []
    for number in (49, 40, 39):
        cache.get((number,), lambda n=number: (decoded.append(n), np.zeros(100, np.uint8))[1])
    assert decoded == [39]


def test_threads_that_need_one_block_decode_it_once() -> None:
    cache, started, go = BlockCache(), threading.Event(), threading.Event()
    decoded: list[int] = []

    def decode() -> NDArray[Any]:
        decoded.append(1)
        started.set()
        assert go.wait(10)
        return np.arange(5)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, ("a",), decode)
        assert started.wait(10)
        others = [pool.submit(cache.get, ("a",), decode) for _ in range(3)]
        go.set()
        assert all(np.array_equal(f.result(10), np.arange(5)) for f in [first, *others])
    assert len(decoded) == 1


def test_a_block_that_cannot_be_decoded_is_tried_again() -> None:
    cache = BlockCache()

    def fail() -> NDArray[Any]:
        raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        cache.get(("a",), fail)
    assert np.array_equal(cache.get(("a",), lambda: np.ones(3)), np.ones(3))
    assert cache.n_bytes == 24


def test_clearing_while_a_block_is_decoded_leaves_an_empty_cache() -> None:
    cache = BlockCache()

    def decode() -> NDArray[Any]:
        cache.clear()
        return np.ones(3)

    assert np.array_equal(cache.get(("a",), decode), np.ones(3))
    assert cache.n_bytes == 0
