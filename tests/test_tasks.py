"""What a worker does: tiles are read and written while others are computed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from simulated_stack import read_tif, write_tif

from sarstack.cluster import process
from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import open_workers
from sarstack.despecklers import make_despeckler
from sarstack.output.pieces import Pieces
from sarstack.readers.formats.gdal import GdalRaster
from sarstack.readers.grid import Grid
from sarstack.readers.raster import Raster
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape
from sarstack.workflows.despeckle import tasks

Interval = tuple[float, float]


def overlap(one: Interval, other: Interval) -> bool:
    return one[0] < other[1] and other[0] < one[1]


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process, "n_cores", lambda: 1)
    process.arithmetic_slots.cache_clear()
    yield
    process.arithmetic_slots.cache_clear()


def test_a_slow_disk_is_waited_for_while_another_tile_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_core: None
) -> None:
    grid = Grid(Shape(512, 1024), CRS.from_epsg(32631).to_wkt())
    image = np.random.default_rng(0).gamma(4.4, 0.02, grid.shape).astype(np.float32)
    raster = GdalRaster(str(write_tif(tmp_path / "image.tif", image)), "image", shape=grid.shape)
    noted: dict[str, list[Interval]] = {"reading": [], "arithmetic": []}
    lock = threading.Lock()

    @contextmanager
    def note(what: str) -> Iterator[None]:
        start = time.perf_counter()
        time.sleep(0.05)
        yield
        with lock:
            noted[what].append((start, time.perf_counter()))

    really_read, really_compute = Raster.read, tasks.despeckle_window

    def read(self, window, **how):
        with note("reading"):
            return really_read(self, window, **how)

    def compute(*arguments):
        with note("arithmetic"):
            return really_compute(*arguments)

    monkeypatch.setattr(Raster, "read", read)
    monkeypatch.setattr(tasks, "despeckle_window", compute)
    pieces = Pieces(tmp_path / "pieces", grid.shape, 256)
    known, method = SceneStatistics(4.4), make_despeckler("boxcar")
    with open_workers(None, 3) as workers:
        jobs = [Task(tasks.despeckle_tile, (method, raster, known, tile, pieces), tile)
                for tile in pieces.tiles()]  # fmt: skip
        for _, outcome in run_tasks(workers, jobs):
            assert isinstance(outcome, tasks.TileRecord)
    assert len(noted["arithmetic"]) == 8
    assert not any(overlap(*pair) for pair in combinations(noted["arithmetic"], 2)), "one core"
    waited = [any(overlap(r, a) for a in noted["arithmetic"]) for r in noted["reading"]]
    assert sum(waited) >= 4
    tasks.finish_image(pieces, grid, str(tmp_path / "out.tif"), "vv", {})
    np.testing.assert_allclose(
        read_tif(tmp_path / "out.tif"), method.apply(image[None], [known])[0], rtol=1e-5
    )


def test_a_gpu_has_two_tiles_at_once_and_cores_one_each() -> None:
    process.arithmetic_slots.cache_clear()
    assert process.arithmetic_slots(on_gpu=True)._value == process.GPU_SLOTS
    assert process.arithmetic_slots(on_gpu=False)._value == process.n_cores()
