"""Two passes of despecknet-mt: which dates agree, less leak of their changes, laws, files, Dask."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from simulated_stack import assert_same_files, read_tif
from small_networks import save_small_network

import sarstack
import sarstack.workflows.despeckle.run as module
from sarstack.cube.despeckle import despeckle_array
from sarstack.despecklers import make_despeckler
from sarstack.despecklers.first_pass import FirstPass
from sarstack.despecklers.methods.boxcar import Boxcar
from sarstack.errors import UsageError
from sarstack.evaluation.change_scores import change_kept, leak_from_others
from sarstack.evaluation.law_images import draw_landscape
from sarstack.evaluation.laws import LAWS, Law, choose_arguments
from sarstack.networks.date_sums import favour_agreeing, sum_dates
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.stacks import simulate_changes
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.workflows.despeckle import all_dates
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

STATISTICS = SceneStatistics(4.0, (0.3, 0.3), 3.0)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_small_network(tmp_path, "despecknet-mt"))


def test_agreement_is_1_up_to_a_fifth_of_a_nat_and_0_from_half_a_nat():
    difference = np.array([[0, 0.19, -0.19, 0.35, -0.35, 0.51, -4, np.nan]], np.float32)
    own = np.full_like(difference, 0.03)
    weight = FirstPass(Boxcar()).agreement(own, own * np.exp(difference))
    assert_allclose(weight, [[1, 1, 1, 0.5, 0.5, 0, 0, 0]], atol=1e-5)
    assert_array_equal(FirstPass(Boxcar()).agreement(own * np.nan, own), np.zeros_like(own))


def test_the_first_pass_is_the_geometric_mean_of_3_x_3_valid_pixels():
    block = draw_landscape(2, (20, 24), 1, holes=True)[0]
    inner = Boxcar()
    result = inner.despeckle(block, STATISTICS)
    found = FirstPass(inner).despeckle_inside(block, STATISTICS, None, (slice(5, 9), slice(0, 24)))
    assert_array_equal(np.isnan(found), np.isnan(block[5:9]))
    for (y, x), value in np.ndenumerate(found):
        around = result[y + 4 : y + 7, max(x - 1, 0) : x + 2]
        if np.isfinite(value):
            assert value == pytest.approx(np.exp(np.nanmean(np.log(around))), rel=1e-5)


def test_a_date_that_agrees_with_few_gets_the_sums_over_all():
    dates = np.random.default_rng(3).gamma(4, 0.25, (10, 1, 11)).astype(np.float32)
    every = sum_dates(dates, (1, 11))
    n_agree = np.arange(11)
    agreeing = np.zeros_like(every)
    for pixel in n_agree:
        agreeing[..., pixel] = sum_dates(dates[:pixel], (1, 11))[..., pixel]
    mixed = favour_agreeing(every, agreeing)
    assert_allclose(mixed[..., 5:], agreeing[..., 5:], rtol=1e-6)  # half of the dates or more
    assert_array_equal(mixed[..., 0], every[..., 0])
    assert (mixed[0] >= 5 - 1e-5).all()


def test_changes_of_other_dates_leak_less_and_own_changes_are_kept():
    simulator = SpeckleSimulator(4.5, (0.65, 0.65))
    stack = simulate_changes(8, 96, "fields", simulator, np.random.default_rng(2))
    leak, kept = [], []
    for passes in (1, 2):
        result = make_despeckler("despecknet-mt", passes=passes).apply(stack.noisy)
        leak.append(leak_from_others(result, stack.truth, stack.unchanged, stack.changed))
        kept.append(change_kept(*(image[stack.changed] for image in (result, *stack[1:]))))
    assert leak[0] > 0.1
    assert abs(leak[1]) < 0.6 * leak[0]
    assert kept[1] > kept[0] - 0.01


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_two_passes_keep_the_laws(law: Law, model: str):
    method = make_despeckler(model, precision="float32", passes=2)
    if law.name != "mean":  # the bias of the small network was not measured
        law.check(method, **next(iter(choose_arguments(law, 0))))


def test_passes_are_1_or_2_and_part_of_the_settings(model: str):
    assert "passes" not in make_despeckler(model).settings()
    method = make_despeckler(model, passes=2, ensemble=4)
    assert method.settings()["passes"] == "2"
    assert method.estimate_noise().settings()["passes"] == "2"
    assert method.first_pass.inner.ensemble == 1
    with pytest.raises(UsageError, match="passes"):
        make_despeckler(model, passes=3)


@pytest.mark.parametrize("chunks", [(1, 32, 20), (3, 60, 37), (2, 25, 70)])
def test_chunks_do_not_change_pixels(chunks: tuple[int, int, int], model: str):
    block = draw_landscape(6, (60, 70), 3, holes=True)
    method = make_despeckler(model, precision="float32", passes=2)
    expected = method.apply(block, measure_scene(block))
    found = despeckle_array(da.from_array(block, chunks=chunks), method).compute(scheduler="sync")
    assert_allclose(found, expected, rtol=1e-5)


def config_for(stack, output: Path, model: str, **settings) -> DespeckleConfig:
    parameters = {"passes": 2, "precision": "float32"}
    return DespeckleConfig.make(
        stack=str(stack.folder), output=str(output), method=model,
        **{"tile_px": 256, "workers": 1, "parameters": parameters} | settings,
    )  # fmt: skip


def test_files_have_the_pixels_of_memory_with_any_tiles(make_stack, tmp_path: Path, model: str):
    stack = make_stack(shape=(300, 280), n_dates=3, polarisations=("vv",))
    block = np.stack([read_tif(file) for file in sorted(stack.files)])
    method = make_despeckler(model, precision="float32", passes=2)
    expected = method.apply(block, measure_scene(block))
    for tile_px in (256, 512):
        outcome = despeckle(config_for(stack, tmp_path / f"{tile_px}", model, tile_px=tile_px))
        found = [read_tif(path) for path in sorted(outcome.outputs)]
        assert_allclose(found, expected, rtol=3e-4)  # pixels of COGs are rounded
        assert not list((tmp_path / f"{tile_px}").glob(".*/**/*"))


@pytest.mark.parametrize("task", ["first_pass_tile", "despeckle_tile"])
def test_an_interrupted_run_gives_the_same_pixels(
    make_stack, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, task: str
):
    stack = make_stack(shape=(300, 280), n_dates=3, polarisations=("vv",))
    real, done = getattr(module.tasks, task), []

    def interrupted(*given):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given)

    monkeypatch.setattr(module.tasks, task, interrupted)
    with pytest.raises(KeyboardInterrupt):
        despeckle(config_for(stack, tmp_path / "out", model))
    monkeypatch.undo()
    counted = []
    monkeypatch.setattr(module.tasks, task, lambda *a: counted.append(1) or real(*a))
    despeckle(config_for(stack, tmp_path / "out", model))
    assert len(counted) == 3 * 4 - 5
    despeckle(config_for(stack, tmp_path / "whole", model))
    assert_same_files(tmp_path / "out", tmp_path / "whole")


def test_support_counts_the_other_dates_that_agree(make_stack, tmp_path: Path, model: str):
    stack = make_stack(shape=(300, 280), n_dates=4, polarisations=("vv",))
    method = make_despeckler(model, precision="float32", passes=2)
    cube = sarstack.open_stack(str(stack.folder))
    block = cube.vv.to_numpy()
    first = method.first_pass.apply(block, measure_scene(block))
    expected = [sum(method.first_pass.agreement(a, b) for b in first) - 1 for a in first]
    expected = np.where(np.isnan(block), np.nan, expected)
    assert 0 < np.nanmean(expected) <= 3
    found = cube.despeck.apply(method, return_support=True)
    assert_allclose(found.vv_support, expected, atol=1e-4)
    assert_array_equal(found.vv, cube.despeck.apply(method).vv)
    assert found.vv.attrs["ancillary_variables"] == "vv_support"
    config = config_for(stack, tmp_path / "out", model, output_support=True)
    files = [path for path in despeckle(config).outputs if path.stem.endswith("_support")]
    assert_allclose([read_tif(path) for path in sorted(files)], expected, rtol=3e-4, atol=1e-4)
    with rasterio.open(files[0]) as raster:
        assert (raster.tags()["CONTENT"], raster.units[0]) == ("support", "1")


def test_a_method_of_one_pass_has_no_support(make_stack, tmp_path: Path, model: str):
    stack = make_stack(shape=(64, 64), n_dates=2, polarisations=("vv",))
    config = config_for(stack, tmp_path, model, output_support=True, parameters={"passes": 1})
    with pytest.raises(UsageError, match="which dates agree"):
        despeckle(config)
    cube = sarstack.open_stack(str(stack.folder))
    with pytest.raises(UsageError, match="which dates agree"):
        cube.despeck.apply("lee", return_support=True)
    with pytest.raises(UsageError, match="DataArray"):
        cube.vv.despeck.apply(model, passes=2, return_support=True)


def test_groups_of_tasks_can_be_open_at_the_same_time(
    make_stack, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
):
    """As with several workers: all groups are taken before the first task of any runs."""
    stack = make_stack(shape=(300, 60), n_dates=2, polarisations=("vv", "vh"))
    despeckle(config_for(stack, tmp_path / "one", model))

    def run_groups(_workers, groups):
        for group in reversed([*groups]):
            yield from ((task, task.function(*task.arguments)) for task in group)

    monkeypatch.setattr(all_dates, "run_groups", run_groups)
    despeckle(config_for(stack, tmp_path / "many", model))
    assert_same_files(tmp_path / "one", tmp_path / "many")


@pytest.mark.slow
def test_worker_processes_give_the_same_pixels(make_stack, tmp_path: Path, model: str):
    stack = make_stack(shape=(300, 280), n_dates=3, polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "threads", model))
    despeckle(config_for(stack, tmp_path / "processes", model, cluster="local", workers=2))
    assert_same_files(tmp_path / "threads", tmp_path / "processes")
