"""Suites with what products have: a map grid, and looks that change inside a scene."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject

from sarstack.evaluation.product_effects import MapGrid, measure_looks, observe_with_border
from sarstack.evaluation.scenes import make_scenes
from sarstack.evaluation.suites import SUITES, make_cases
from sarstack.speckle.sensor import SpeckleSimulator

SIZE_PX = 160
SCENES = {scene.name: scene for scene in make_scenes(SIZE_PX, 0)}


@pytest.mark.parametrize(("order", "name"), [(0, Resampling.nearest), (1, Resampling.bilinear)])
def test_gdal_resamples_to_the_same_grid(order: int, name: Resampling) -> None:
    image = np.random.default_rng(0).gamma(4, 0.25, (90, 120)).astype(np.float32)
    grid = MapGrid(order, (0.8, 0.9), 7.0)
    found = grid.resample(image)
    # Pixel centres of the grid in the scene, as an affine transform of GDAL (x before y).
    matrix, middle = grid._matrix(), (np.array(image.shape) - 1) / 2
    offset = middle + 0.5 - matrix @ (middle + 0.5)
    transform = rasterio.Affine(
        matrix[1, 1], matrix[1, 0], offset[1], matrix[0, 1], matrix[0, 0], offset[0]
    )
    expected = np.empty_like(image)
    reproject(
        image, expected, src_transform=rasterio.Affine.identity(), dst_transform=transform,
        src_crs="EPSG:32633", dst_crs="EPSG:32633", resampling=name, tolerance=0,
    )  # fmt: skip
    same = np.isclose(found, expected, rtol=1e-3)
    inside = (slice(2, -2), slice(2, -2))
    assert same[inside].mean() > 0.99  # nearest: ties, and rounding of the place


def test_the_grid_is_inside_the_scene() -> None:
    for suite in SUITES.values():
        if suite.map_grid:
            places = suite.map_grid._places((SIZE_PX, SIZE_PX))
            assert places.min() >= 0
            assert places.max() <= SIZE_PX - 1


def test_objects_are_where_the_resampled_truth_shows_them() -> None:
    grid, white = MapGrid(0), SpeckleSimulator(10.0)
    points = grid.move_scene(SCENES["points"]).points
    truth = grid.resample(white.expect(SCENES["points"].reflectivity))
    assert 5 < len(points) < len(SCENES["points"].points)
    for y, x in points:
        near = truth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert near.max() > 5 * np.median(truth)
    truth = grid.resample(white.expect(SCENES["lines"].reflectivity))
    for line in grid.move_scene(SCENES["lines"]).lines:
        contrast = truth[line.inside].mean() / truth[line.beside].mean()
        assert abs(np.log(contrast)) > 1
    truth = grid.resample(white.expect(SCENES["flat"].reflectivity))
    for flat in grid.move_scene(SCENES["flat"]).flats:
        assert flat.any()
        assert np.ptp(truth[flat]) < 1e-3 * truth[flat].mean()


def test_bilinear_resampling_adds_looks_and_nearest_keeps_them() -> None:
    sensor, rng = SpeckleSimulator(4.0), np.random.default_rng(1)
    scene = SCENES["flat"].reflectivity
    noisy, truth = sensor.observe(scene, rng), sensor.expect(scene)
    assert measure_looks(noisy, truth) == pytest.approx(4, rel=0.05)
    looks = [measure_looks(grid.resample(noisy), grid.resample(truth))
             for grid in (MapGrid(0), MapGrid(1))]  # fmt: skip
    assert looks[0] == pytest.approx(4, rel=0.08)
    # Mean over all places between pixels of the sum of squared weights: (2/3)^2 of the variance.
    assert looks[1] == pytest.approx(4 * 9 / 4, rel=0.1)


def test_a_border_separates_two_numbers_of_looks() -> None:
    sensor, scene = SpeckleSimulator(4.0), SCENES["flat"]
    noisy = observe_with_border(scene, sensor, 16.0, np.random.default_rng(2))
    truth, half = sensor.expect(scene.reflectivity), SIZE_PX // 2
    assert measure_looks(noisy[:, :half], truth[:, :half]) == pytest.approx(4, rel=0.06)
    assert measure_looks(noisy[:, half:], truth[:, half:]) == pytest.approx(16, rel=0.06)


def test_cases_tell_the_looks_after_resampling() -> None:
    by_suite = {name: next(make_cases(SUITES[name], SIZE_PX, 0)) for name in ("grd", "grd-map")}
    assert by_suite["grd-map"].looks > 1.1 * by_suite["grd"].looks
