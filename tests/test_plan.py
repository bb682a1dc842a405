"""The plan of a run: tile size, number of tasks, and the estimated memory of a worker."""

from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_stack import SimulatedStack

from benchmarks.simulated_stacks import write_stack
from sarstack.cluster.layout import Layout, Machine, memory_limit_bytes, n_cores
from sarstack.cluster.process import GDAL_CACHE_BYTES
from sarstack.despecklers import make_despeckler
from sarstack.errors import NotEnoughSpaceError
from sarstack.tiles import Shape
from sarstack.workflows.despeckle.memory import (
    PLANNER_BYTES,
    SAMPLING_BYTES,
    check_memory,
    choose_layout,
    worker_memory_bytes,
)
from sarstack.workflows.despeckle.plan import LARGE_TILE_PX, plan_despeckle
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig


def test_runs_of_many_tiles_use_large_tiles_unless_a_size_is_given(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_stack(shape=(1030, 40), n_dates=2).folder
    stack = {"stack": str(folder), "output": str(tmp_path / "out")}
    config = DespeckleConfig.make(**stack, method="boxcar")
    assert plan_despeckle(config).config.tile_px == 1024
    monkeypatch.setattr("sarstack.workflows.despeckle.plan.MANY_TILES", 4)
    assert plan_despeckle(config).config.tile_px == LARGE_TILE_PX
    despeckle(DespeckleConfig.make(**stack, method="boxcar", polarisations=["vv"]))
    again = plan_despeckle(config)
    assert len(again.images) == len(again.finished) == 2
    assert again.config.tile_px == LARGE_TILE_PX, "finished images count, too"
    given = DespeckleConfig.make(**stack, method="boxcar", tile_px=512)
    assert plan_despeckle(given).config.tile_px == 512


def test_no_tile_of_the_plan_is_larger_than_its_scene(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sarstack.workflows.despeckle.plan.MANY_TILES", 4)
    folder = make_stack(shape=(70, 90), n_dates=5).folder
    config = DespeckleConfig.make(
        stack=str(folder), output=str(tmp_path / "out"), method="despecknet-mt"
    )
    plan = plan_despeckle(config)
    assert "10 of at most 70 x 90 px" in plan.render()
    # Layers, tiles and sums of such images are small; the libraries are nearly all.
    libraries = PLANNER_BYTES + GDAL_CACHE_BYTES + plan.despeckler.runtime_bytes
    assert libraries < plan.memory_bytes < libraries + 20e6


@pytest.mark.parametrize("scene", [Shape(90, 5000), Shape(1217, 1501), Shape(16705, 26102)])
def test_the_memory_of_a_scene_is_that_of_its_largest_tiles(scene: Shape) -> None:
    method = make_despeckler("lee")
    config = DespeckleConfig.make(stack="s", tile_px=1024)
    layouts = [choose_layout(method, config, Machine(n_cores)) for n_cores in (1, 4)]
    one, four = (worker_memory_bytes(method, config, scene, [], c) for c in layouts)
    starts = [range(0, n, 1024) for n in scene]
    rows, columns = (
        [min(start + 1024 + method.halo, n) - max(start - method.halo, 0) for start in own]
        for own, n in zip(starts, scene, strict=True)
    )
    tiles = sorted((y * x for y in rows for x in columns), reverse=True)
    assert len(tiles) >= 4
    # Input, result and copies, 20 bytes a pixel; cells of 512 px with halos; the samples.
    least = 20 * sum(tiles[1:4])
    assert least < four - one <= least + 3 * (method.memory_bytes(518**2) + SAMPLING_BYTES)


def test_the_plan_gives_the_number_of_tasks(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack(shape=(300, 600), n_dates=3)
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "out"), method="quegan-yu", tile_px=256,
        workers=2,
    )  # fmt: skip
    plan = plan_despeckle(config)
    # Six images: six tiles each, one task to sample it and one to finish it. Two summaries (one for
    # each polarisation) of six tiles.
    assert plan.n_tasks == 6 * 6 + 2 * 6 + 2 * 6
    assert "60, at most 6 of them submitted" in plan.render()


SCENE = Shape(16705, 26102)


def plan_on(machine: Machine, **settings: object) -> tuple[DespeckleConfig, Layout, int]:
    """Settings, layout and memory of a worker of a run on another machine."""
    config = DespeckleConfig.make(stack="s", method="despecknet-mt", tile_px=2048, **settings)
    method = make_despeckler("despecknet-mt", device="cpu")
    layout = choose_layout(method, config, machine)
    memory = worker_memory_bytes(method, config, SCENE, [], layout)
    check_memory(method, config, SCENE, [], machine, 128 * 2**30)
    return config, layout, memory


def test_one_process_on_one_gpu_fits_in_the_memory_of_16_cores() -> None:
    machine = Machine(16, ("0",))
    for settings in ({"cluster": "local"}, {}):
        _, layout, memory = plan_on(machine, **settings)
        assert (layout.n_processes, layout.n_threads) == (1, 16)
        assert 3e9 < memory < 14e9
    _, _, on_cores = plan_on(Machine(16))
    _, _, on_gpu = plan_on(machine)
    assert on_cores > on_gpu, "layers of a network are in the memory of the GPU"


def test_the_memory_check_counts_the_processes_that_start() -> None:
    with pytest.raises(NotEnoughSpaceError, match="for 100 workers"):
        plan_on(Machine(64, ("0",)), cluster="local", workers=100)
    _, _, one = plan_on(Machine(16), cluster="local")
    with pytest.raises(NotEnoughSpaceError, match=f"{100 * one / 1e9:.1f} GB of memory for 100"):
        plan_on(Machine(100), cluster="local")


def test_time_is_divided_by_what_computes_at_the_same_time(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"stack": str(make_stack(n_dates=2).folder), "output": str(tmp_path / "out")}
    plan = plan_despeckle(DespeckleConfig.make(**config, method="boxcar", workers=8))
    clock = iter(range(10))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    seconds = plan.estimate_seconds() * plan.layout.n_computing
    assert plan.layout.n_computing == min(8, n_cores())
    assert seconds == pytest.approx(plan.total_px / 512**2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "tile_px"),
    [("lee-sigma", 2048), ("quegan-yu", 2048), ("despecknet", 512), ("despecknet-mt", 1024)],
)  # fmt: skip
def test_peak_memory_of_a_worker_is_near_the_estimate_of_the_plan(
    tmp_path: Path, method: str, tile_px: int
) -> None:
    stack = write_stack(tmp_path, tile_px + 256, 2)
    config = DespeckleConfig.make(
        stack=str(stack), output=str(tmp_path / "out"), method=method, tile_px=tile_px,
        cluster="local", workers=1,
    )  # fmt: skip
    estimate = plan_despeckle(config).memory_bytes
    outcome = despeckle(config)
    assert outcome.failures == {}
    # Measured 1.05 to 1.24; processors and C libraries differ.
    assert 0.85 < estimate / outcome.peak_bytes < 1.7


def test_the_memory_limit_is_that_of_the_machine_or_of_its_container(tmp_path: Path) -> None:
    from distributed.system import MEMORY_LIMIT

    assert memory_limit_bytes() == MEMORY_LIMIT
    total = memory_limit_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit_bytes(tmp_path) == total
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_limit_bytes(tmp_path) == 1_000_000
