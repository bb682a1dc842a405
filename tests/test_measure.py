"""The speckle of many dates: few samples are kept, and the result is that of all of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulated_stack import SimulatedStack

from sarstack.cluster.workers import open_workers
from sarstack.errors import StackReadError
from sarstack.speckle.samples import SpeckleSample, sample_speckle
from sarstack.speckle.statistics import MEASURED_DATES, combine_samples
from sarstack.tiles import sample_windows
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.measure import measure_images
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.state import Run
from sarstack.workflows.settings import DespeckleConfig

N_DATES = 9


@pytest.fixture
def run(make_stack: Callable[..., SimulatedStack], tmp_path: Path) -> Run:
    stack = make_stack((80, 110), N_DATES)
    config = DespeckleConfig.make(stack=str(stack.folder), output=str(tmp_path / "out"),
                                  method="boxcar")  # fmt: skip
    (tmp_path / "work").mkdir()
    return Run(plan_despeckle(config), tmp_path / "work")


def sample_all(run: Run, polarisation: str, dates: list[int]) -> list[SpeckleSample]:
    """Sample each date without the tasks of a run."""
    rasters = [run.plan.stack.rasters[polarisation][i] for i in dates]
    windows = sample_windows(run.plan.stack.grid.shape)
    return [sample_speckle([raster.read(w) for w in windows]) for raster in rasters]


@pytest.mark.parametrize("unreadable", [[], [0, 5], [8]])
def test_few_samples_give_the_statistics_of_all(
    run: Run, unreadable: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_samples, real = [], tasks.measure_image

    def measure(raster, *arguments):
        if raster.stem in {run.plan.stack.rasters["vv"][i].stem for i in unreadable}:
            raise StackReadError("damaged")
        found = real(raster, *arguments)
        n_samples.append(found.sample is not None)
        return found

    monkeypatch.setattr(tasks, "measure_image", measure)
    with open_workers(None, 2) as workers:
        measure_images(run, workers)
    for polarisation, missing in (("vv", unreadable), ("vh", [])):
        dates = [i for i in range(N_DATES) if i not in missing]
        expected = combine_samples(sample_all(run, polarisation, dates))
        assert run.statistics[polarisation] == dict(zip(dates, expected, strict=True))
    assert len(run.failures) == len(unreadable)
    assert sum(n_samples) <= 2 * MEASURED_DATES + 2 * len(unreadable)


def test_measured_statistics_are_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_workers(None, 1) as workers:
        measure_images(run, workers)
        first, run.statistics = run.statistics, {}
        monkeypatch.setattr(tasks, "measure_image", None)
        measure_images(run, workers)
    assert run.statistics == first
    assert np.isfinite([date.looks for date in first["vv"].values()]).all()
