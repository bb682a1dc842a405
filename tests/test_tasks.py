"""Tasks on a worker: tiles are read and written while another tile is computed."""

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
    process._core_slots.cache_clear()
    yield
    process._core_slots.cache_clear()


def test_one_thread_reads_while_another_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_core: None
) -> None:
    grid = Grid(Shape(512, 1024), CRS.from_epsg(32631).to_wkt())
    image = np.random.default_rng(0).gamma(4.4, 0.02, grid.shape).astype(np.float32)
    raster = GdalRaster(str(write_tif(tmp_path / "image.tif", image)), "image", shape=grid.shape)
    intervals: dict[str, list[Interval]] = {"reading": [], "arithmetic": []}
    lock = threading.Lock()

    @contextmanager
    def record(what: str) -> Iterator[None]:
        start = time.perf_counter()
        time.sleep(0.05)
        yield
        with lock:
            intervals[what].append((start, time.perf_counter()))

    really_read, really_compute = Raster.read, tasks.despeckle_window

    def read(self, window, **how):
        with record("reading"):
            return really_read(self, window, **how)

    def compute(*arguments):
        with record("arithmetic"):
            return really_compute(*arguments)

    monkeypatch.setattr(Raster, "read", read)
    monkeypatch.setattr(tasks, "despeckle_window", compute)
    pieces = Pieces(tmp_path / "pieces", grid.shape, 256)
    statistics, method = SceneStatistics(4.4), make_despeckler("boxcar")
    with open_workers(None, 3) as workers:
        jobs = [Task(tasks.despeckle_tile, (method, raster, statistics, tile, pieces), tile)
                for tile in pieces.tiles()]  # fmt: skip
        for _, outcome in run_tasks(workers, jobs):
            assert isinstance(outcome, tasks.TileRecord)
    assert len(intervals["arithmetic"]) == 8
    assert not any(overlap(*pair) for pair in combinations(intervals["arithmetic"], 2)), (
        "one core computes one tile at a time"
    )
    overlaps = [any(overlap(r, a) for a in intervals["arithmetic"]) for r in intervals["reading"]]
    assert sum(overlaps) >= 4
    tasks.finish_image(pieces, grid, str(tmp_path / "out.tif"), "vv", {})
    np.testing.assert_allclose(
        read_tif(tmp_path / "out.tif"), method.apply(image[None], [statistics])[0], rtol=1e-5
    )


def test_each_core_computes_one_tile_at_a_time_and_a_gpu_limits_its_own() -> None:
    cores = process.arithmetic_slots(on_gpu=False)
    assert isinstance(cores, threading.Semaphore)
    assert cores is process.arithmetic_slots(on_gpu=False)
    assert not isinstance(process.arithmetic_slots(on_gpu=True), threading.Semaphore)
