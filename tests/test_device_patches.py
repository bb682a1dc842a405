"""Patches simulated in torch: the same statistics as the NumPy simulator, and the same batches."""

import numpy as np
import pytest
import torch

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.first_pass import FirstPass
from sarstack.networks.date_sums import favour_agreeing, sum_dates
from sarstack.networks.model_file import load_model, shipped_model
from sarstack.networks.variants import build_network
from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.device_patches import DevicePatches, Simulation
from sarstack.training.device_stack_patches import (
    DeviceStackPatches,
    agreement,
    compute_first_pass,
    sum_dates_of,
)
from sarstack.training.landscape_pool import LandscapePool, Supply
from sarstack.training.map_grid import METHODS, MapGrids, draw_grids, resample, resample_speckle
from sarstack.training.patch_cuts import RealPairs, encode_numbers
from sarstack.training.pixel_weights import weigh_scene, weigh_scenes
from sarstack.training.scene_effects import draw_sensors, draw_share
from sarstack.training.torch_sensors import observe_scenes, tabulate_sensors

SENSORS = [
    SpeckleSimulator(1.0),
    SpeckleSimulator(4.4, (0.65, 0.6)),
    SpeckleSimulator(10, (0.1, 0.05)),
    SpeckleSimulator(1, (0.35, 0.3), 1.0),
    SpeckleSimulator(7.3, (0.8, 0.3), band_limited=False),
]
SIDE_PX, MARGIN_PX = 288, 16
SMALL = {"batch_size": 4, "patch_px": 32, "scene_px": 64, "n_scenes": 8, "first_scenes": 4,
         "landscapes_per_step": 0.5, "n_landscapes": 4, "first_landscapes": 2,
         "n_sensors": 12}  # fmt: skip


def lag_one(image: np.ndarray, axis: int) -> float:
    z = np.moveaxis(image - image.mean(), axis, 0)
    return float((z[1:] * z[:-1]).mean() / z.var())


def observe_flats(seed: int = 1, **effects: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Observe a flat field of power 1 with each sensor."""
    shape = (len(SENSORS), SIDE_PX, SIDE_PX)
    sensors = tabulate_sensors(SENSORS, SIDE_PX)
    generator = torch.Generator().manual_seed(seed)
    points = torch.zeros(shape, dtype=torch.complex64)
    return observe_scenes(torch.ones(shape), points, sensors, generator, **effects)


def test_speckle_in_torch_has_the_statistics_of_the_numpy_simulator() -> None:
    noisy, clean = observe_flats()
    np.testing.assert_allclose(clean, 1, rtol=1e-6)
    flat = Reflectivity(
        np.ones((SIDE_PX, SIDE_PX), np.float32), np.zeros((SIDE_PX, SIDE_PX), np.complex64)
    )
    for sensor, image in zip(SENSORS, noisy.numpy().astype(float), strict=True):
        other = sensor.observe(flat, np.random.default_rng(2)).astype(float)
        assert image.mean() == pytest.approx(other.mean(), abs=0.03)
        assert image.mean() ** 2 / image.var() == pytest.approx(sensor.looks, rel=0.05)
        assert image.var() == pytest.approx(other.var(), rel=0.08)
        for axis in (0, 1):
            assert lag_one(image, axis) == pytest.approx(sensor.correlation[axis], abs=0.02)
            assert lag_one(image, axis) == pytest.approx(lag_one(other, axis), abs=0.03)


def test_expectation_equals_that_of_the_numpy_simulator_at_each_pixel() -> None:
    rng = np.random.default_rng(0)
    scenes = [simulate_reflectivity((96, 96), rng, kind) for kind in ("town", "coast")]
    sensors = [SENSORS[1], SENSORS[4]]
    diffuse = torch.from_numpy(np.stack([scene.diffuse for scene in scenes]))
    points = torch.from_numpy(np.stack([scene.points for scene in scenes]))
    table = tabulate_sensors(sensors, 96)
    noisy, clean = observe_scenes(diffuse, points, table, torch.Generator().manual_seed(3))
    for sensor, scene, image in zip(sensors, scenes, clean.numpy(), strict=True):
        _, expected = sensor.observe_inside(scene, np.random.default_rng(1))
        inside = slice(MARGIN_PX, -MARGIN_PX)
        np.testing.assert_allclose(image[inside, inside], expected, rtol=2e-6)
    ratio = (noisy / clean).double()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)


def test_scenes_keep_their_sensor_when_looks_differ() -> None:
    """Scenes are sorted by looks inside; each must come back to its place."""
    rng = np.random.default_rng(4)
    levels = torch.from_numpy(rng.uniform(0.01, 1, len(SENSORS)).astype(np.float32))
    shape = (len(SENSORS), 64, 64)
    noisy, clean = observe_scenes(
        levels[:, None, None].expand(shape).contiguous(),
        torch.zeros(shape, dtype=torch.complex64),
        tabulate_sensors(SENSORS, 64),
        torch.Generator().manual_seed(5),
    )
    np.testing.assert_allclose(clean.mean((1, 2)), levels, rtol=1e-5)
    np.testing.assert_allclose(noisy.mean((1, 2)), levels, rtol=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_looks_and_correlation_after_resampling_are_those_measured(method: str) -> None:
    n = len(SENSORS)
    grids = MapGrids(
        np.full(n, METHODS.index(method)), np.full((n, 2), (0.72, 0.94)),
        np.full(n, np.deg2rad(7)), np.full((n, 2), (0.3, -0.2)),
    )  # fmt: skip
    noisy, _ = observe_flats(6)
    on_map = resample(noisy[:, None], grids)[:, 0, 20:-20, 20:-20].numpy().astype(float)
    table = tabulate_sensors(SENSORS, SIDE_PX)
    looks, correlation = resample_speckle(table.looks[:, 0], table.lags, grids)
    for image, n_looks, pair in zip(on_map, looks, correlation, strict=True):
        assert image.mean() == pytest.approx(1, abs=0.03)
        assert image.mean() ** 2 / image.var() == pytest.approx(n_looks, rel=0.07)
        assert [lag_one(image, axis) for axis in (0, 1)] == pytest.approx(pair, abs=0.03)


def test_a_map_grid_moves_pixels_as_it_says() -> None:
    """A plane in y and x, resampled: its value at a pixel is the place of the pixel."""
    rows, columns = np.indices((64, 80)).astype(np.float32)
    grids = MapGrids(
        np.array([1]), np.array([[0.8, 0.65]]), np.array([0.2]), np.array([[0.4, 0.1]])
    )
    y, x = resample(torch.from_numpy(np.stack([rows, columns])[None]), grids)[0].numpy()
    along_y, along_x = grids.displacements()[0]
    middle = np.array([31.5, 39.5])
    for row, column in ((20, 25), (31, 40), (45, 60)):
        place = middle + grids.offset[0] + (row - 31.5) * along_y + (column - 39.5) * along_x
        assert (y[row, column], x[row, column]) == pytest.approx(tuple(place), abs=1e-3)


def test_map_grids_stay_inside_the_margin() -> None:
    corner = draw_grids(2000, np.random.default_rng(1)).displacements()
    reach = 128 * np.abs(corner).sum(1).max()
    assert reach + 0.5 <= 128 + MARGIN_PX


def test_weights_in_torch_are_those_of_numpy() -> None:
    scene = simulate_reflectivity((80, 80), np.random.default_rng(2), "town")
    sensor = SpeckleSimulator(2.0, (0.3, 0.3))
    noisy, clean = sensor.observe(scene, np.random.default_rng(3)), sensor.expect(scene)
    expected = weigh_scene(noisy, clean, 2.0, 1.2)
    images = (torch.from_numpy(part)[None] for part in (noisy, clean))
    for found, wanted in zip(
        weigh_scenes(*images, torch.tensor([2.0]), 1.2), expected, strict=True
    ):
        np.testing.assert_allclose(found[0, 8:-8, 8:-8], wanted[8:-8, 8:-8], rtol=1e-4)


def test_effects_of_real_products_keep_the_expectation() -> None:
    half = torch.zeros(len(SENSORS), SIDE_PX, SIDE_PX)
    half[:, :, SIDE_PX // 2 :] = 1
    noisy, clean = observe_flats(7, floor=torch.full((len(SENSORS),), 0.5), share=half)
    np.testing.assert_allclose(clean, 1, rtol=1e-6)
    np.testing.assert_allclose(noisy.double().mean((1, 2)), 1, atol=0.05)
    # White speckle of one look has variance (1 + .5)^2 with the noise.
    assert float(noisy[0].double().var()) == pytest.approx(2.25, rel=0.05)
    assert float(noisy.min()) < 0, "a subtracted floor leaves negative pixels"


def test_unequal_and_uneven_looks_are_those_told() -> None:
    table = draw_sensors(40, 1, 0.5, 64, "cpu")
    weights = table.weights.double().numpy()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(1 / (weights**2).sum(-1), table.looks, rtol=1e-5)
    assert (np.abs(np.log(table.looks[:, 0] / table.looks[:, 1])) > 0.3).mean() > 0.4
    share = draw_share((3, 64, 64), np.array([True, False, True]), np.random.default_rng(0), "cpu")
    assert share is not None
    assert float(share[1].max()) == 0
    assert 0.02 < float(share[0].mean()) < 0.98
    assert draw_share((3, 64, 64), np.zeros(3, bool), np.random.default_rng(0), "cpu") is None


EFFECTS = {"map_fraction": 0.5, "uneven_fraction": 0.3, "unequal_fraction": 0.3,
           "floor_fraction": 0.3}  # fmt: skip


@pytest.mark.parametrize("source", [DevicePatches, DeviceStackPatches])
def test_a_batch_depends_on_the_seed_and_its_number_only(source: type[DevicePatches]) -> None:
    simulation = Simulation(seed=3, **SMALL, **EFFECTS)
    straight, resumed = source(simulation), source(simulation)
    batches = [straight.batch(step) for step in range(6)]
    for step in (5, 4):  # other threads may ask in another order
        for one, other in zip(batches[step], resumed.batch(step), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert torch.equal(one, other)
                assert one.dtype == torch.float32
                assert bool(torch.isfinite(one).all())
    assert not torch.equal(batches[4].target, batches[5].target)
    target = torch.cat([batch.target for batch in batches])
    assert float(target.min()) > 1e-5
    assert bool((torch.cat([batch.detail for batch in batches]) >= 1).all())


@pytest.mark.slow
def test_landscapes_of_other_processes_are_those_of_this_one() -> None:
    supply, options = Supply(3, 6, 1.5), {"seed": 4, "side_px": 48, "n_dates": 2}
    here, there = LandscapePool(supply, **options), LandscapePool(supply, n_processes=1, **options)
    try:
        for step in (0, 3, 4):
            assert torch.equal(
                *(pool.take(step, 5, np.random.default_rng(step)) for pool in (here, there))
            )
    finally:
        there.close()


def test_supply_keeps_the_newest() -> None:
    assert [Supply(3, 6, 1.5).at(step) for step in (0, 1, 4)] == [
        range(3), range(4), range(3, 9),
    ]  # fmt: skip


def test_pairs_of_real_dates_replace_some_patches() -> None:
    images = torch.full((3, 4, 24, 40), 7.0)
    images[:, 1, :, 0] = torch.nan
    pairs = RealPairs(images, np.array([[9.0, 0.2, 0.7, 1]] * 3))
    source = DevicePatches(Simulation(**SMALL, pair_fraction=0.5), pairs=pairs)
    batch = source.batch(0)
    seven = (batch.intensity == 7).flatten(1).sum(1)
    assert seven.tolist() == [24 * 32, 24 * 32, 0, 0], "smaller pairs are padded with nodata"
    assert batch.valid is not None
    assert bool((batch.weight[:2][batch.valid[:2] == 0] == 0).all())
    assert bool((batch.weight[:2][batch.target[:2] == 0] == 0).all())


def test_sums_over_dates_in_torch_are_those_of_numpy() -> None:
    dates = np.random.default_rng(4).gamma(4, 0.1, (1, 5, 9, 7)).astype(np.float32)
    dates[0, 1, 2, 3] = -0.1
    used = torch.tensor([[1.0, 1, 0, 1, 0]])
    found = sum_dates_of(torch.from_numpy(dates), used[:, :, None, None])[0]
    np.testing.assert_allclose(found, sum_dates(dates[0, [0, 1, 3]], (9, 7)), rtol=1e-5, atol=1e-6)


def test_stacks_count_more_where_other_dates_mislead() -> None:
    batch = DeviceStackPatches(Simulation(seed=5, **SMALL | {"batch_size": 24})).batch(0)
    assert batch.others is not None
    counts = batch.others[:, 0, 0, 0]
    assert (counts == 0).any()
    assert (counts > 9).any(), "some patches have further dates"
    seen = counts > 0
    level = batch.others[seen, 1] / batch.others[seen, :1].squeeze(1) / batch.target[seen, 0]
    assert 0.8 < float(level.median()) < 1.25, "most of the land does not change"
    misled = level.log().abs() > 0.8
    relative = batch.weight[seen, 0] / batch.weight[seen, 0].amin((1, 2), keepdim=True)
    assert float(relative[misled].mean()) > float(relative[~misled].mean()) + 0.1


def test_sums_over_agreeing_dates_are_a_part_of_the_sums_over_all() -> None:
    network = build_network("despecknet-mt", width=8, deep_width=8, body=1)
    simulation = Simulation(seed=5, agreeing_fraction=0.5, **SMALL | {"batch_size": 24})
    compared = DeviceStackPatches(simulation, first_passes=[network]).batch(0)
    plain = DeviceStackPatches(simulation).batch(0)
    assert compared.others is not None
    assert plain.others is not None
    favoured, agreeing = compared.others.split(4, dim=1)
    every, unknown = plain.others, agreeing[:, 0] < 0
    is_known = ~unknown.all((1, 2))
    assert is_known.any()
    assert torch.equal(unknown.any((1, 2)), ~is_known)
    torch.testing.assert_close(favoured[~is_known], every[~is_known])
    expected = favour_agreeing(every[is_known], agreeing[is_known])
    torch.testing.assert_close(favoured[is_known], expected)
    share = agreeing[is_known, 0] / every[is_known, 0].clamp(min=1)
    assert bool((share <= 1.0001).all())
    assert 0.1 < float(share.mean()) < 1


def test_agreement_in_torch_is_that_of_the_method() -> None:
    dates = np.random.default_rng(4).gamma(8, 0.1, (3, 9, 7)).astype(np.float32)
    method = FirstPass(make_despeckler("lee"))
    expected = [method.agreement(dates[1], date) for date in dates]
    found = agreement(torch.from_numpy(dates).log()[None], torch.from_numpy(dates[1]).log()[None])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_first_pass_in_torch_is_that_of_the_method() -> None:
    dates = np.random.default_rng(4).gamma(4, 0.1, (4, 64, 72)).astype(np.float32)
    network = load_model(shipped_model("despecknet-mt"))[0].eval()
    statistics = SceneStatistics(4.0, (0.0, 0.0), 1.0, "given")
    sensor = encode_numbers(np.array([[4.0, 0.0, 0.0, 1.0]]), "cpu")[0]
    found = compute_first_pass(network, torch.from_numpy(dates), sensor, torch.ones(4))
    method = FirstPass(make_despeckler("despecknet-mt", device="cpu", precision="float32"))
    total = sum(method.contribute(date, statistics) for date in dates)
    summary = np.asarray(total, np.float32)
    for log, date in zip(found.numpy(), dates, strict=True):
        expected = np.log(method.despeckle(date, statistics, summary))
        # The method also divides by the bias of its card.
        assert np.std(log - expected) < 0.002
        assert abs(np.mean(log - expected)) < 0.02
