"""recipes/large_scene: an archive with sleeping workers, in small."""

import runpy
from pathlib import Path

import pytest
import rasterio

from sarstack.output.pieces import choose_blocks
from sarstack.tiles import Shape
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import carry_out
from sarstack.workflows.settings import DespeckleConfig

RECIPE = Path(__file__).parents[1] / "recipes" / "large_scene"


def load(name: str) -> dict[str, object]:
    return runpy.run_path(str(RECIPE / name))


def test_sleeping_tasks_make_a_result_of_the_real_size_for_every_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1100, 1300
    stack = load("archive.py")["write_archive"](tmp_path / "stack", 2, *size)
    sleeping = load("sleeping_workers.py")["SleepingTasks"](0.0, 0.0, 0.0)
    for name in ("measure_image", "despeckle_tile", "finish_image"):
        monkeypatch.setattr(tasks, name, getattr(sleeping, name))
    config = DespeckleConfig.make(stack=str(stack), output=str(tmp_path / "out"), tile_px=512,
                                  method="lee-sigma", workers=2)  # fmt: skip
    plan = plan_despeckle(config)
    assert len(plan.images) == 4
    assert plan.n_tasks == 4 * (9 + 2)
    outcome = carry_out(plan)
    assert len(outcome.outputs) == 4
    assert not outcome.failures
    for path in outcome.outputs:
        with rasterio.open(path) as raster:
            assert raster.shape == size
    assert len(plan_despeckle(config).finished) == 4, "a later run knows the results"
    assert choose_blocks(Shape(*size)).n_overviews == 2


def test_the_table_shows_what_a_further_scene_costs() -> None:
    recipe = load("archive.py")
    costs = [
        recipe["Cost"](10, 2380, 70.0, 5.0, 260.0, 6.0, 110.0),
        recipe["Cost"](30, 7140, 200.0, 10.0, 262.0, 18.0, 120.0),
    ]
    *_, last = recipe["render"](costs)
    assert last.startswith("from 10 to 30 scenes, for each scene: client 0.25 CPU s, 0.10 MB")


@pytest.mark.slow
def test_the_real_scheduler_runs_an_archive(tmp_path: Path) -> None:
    recipe = load("archive.py")
    cost = recipe["measure"](tmp_path, 2, (1100, 1300), 512, 4, recipe["Seconds"](0.0, 0.01, 0.01))
    assert cost.n_tasks == 44
    assert cost.client_mb > 50
    assert cost.scheduler_mb > 50
