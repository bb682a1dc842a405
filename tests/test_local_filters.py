"""Filters of one date against slow, direct versions of their formulas, and other programs."""

import shutil
import subprocess

import numpy as np
import pytest
import rasterio
from naive_filters import WHITE, image, windows
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import gamma
from skimage.restoration import denoise_tv_chambolle

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.flat_field import gain_of_filter
from sarstack.despecklers.methods.gamma_map import filter_gamma_map
from sarstack.despecklers.methods.median import filter_median
from sarstack.despecklers.methods.refined_lee import filter_refined_lee
from sarstack.despecklers.methods.total_variation import minimise_variation
from sarstack.speckle.laws import mask_correlation, pair_correlation
from sarstack.speckle.statistics import SceneStatistics


@pytest.mark.parametrize("window_px", [3, 5])
def test_median_is_the_median_of_the_valid_pixels_times_the_gain(window_px):
    values = image()
    gain = gain_of_filter(filter_median, 4.0, (0.0, 0.0), window_px)
    assert gain > 1.04
    level, expected = np.full((2, *values.shape), np.nan)
    for place, near in windows(values, 7):
        level[place] = min(near.var(ddof=1) / near.mean() ** 2 * 4, 1) if len(near) > 1 else 0
    for place, near in windows(values, window_px):
        expected[place] = np.median(near) * (1 + (gain - 1) * level[place])
    out = make_despeckler("median", window_px=window_px).despeckle(values, WHITE)
    assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("looks", [1.0, 5.0])
def test_gain_of_the_median_is_about_mean_over_median_of_speckle(looks):
    """A little more: by chance, half of the windows vary less than speckle does on average."""
    gain = gain_of_filter(filter_median, looks, (0.0, 0.0), 7)
    excess = 1 / gamma(looks, scale=1 / looks).median() - 1
    assert excess < gain - 1 < 1.2 * excess


def naive_statistics(values, window_px, looks):
    """Yield each valid pixel, mean, Ci^2 and Cu^2 of its window."""
    for place, near in windows(values, window_px):
        mean = near.mean()
        ci2 = near.var(ddof=1) / mean**2 if len(near) > 1 else 0.0
        yield place, mean, ci2, 1 / looks


def naive_kuan(y, mean, ci2, cu2):
    return mean + (1 - cu2 / ci2) / (1 + cu2) * (y - mean) if ci2 > cu2 else mean


def naive_enhanced_lee(y, mean, ci2, cu2):
    ci, cu, highest = np.sqrt(ci2), np.sqrt(cu2), np.sqrt(1 + 2 * cu2)
    if ci <= cu:
        return mean
    if ci >= highest:
        return y
    weight = np.exp(-(ci - cu) / (highest - ci))
    return mean * weight + y * (1 - weight)


def naive_gamma_map(y, mean, ci2, cu2):
    if ci2 <= cu2:
        return mean
    if ci2 >= 2 * cu2:
        return y
    looks, alpha = 1 / cu2, (1 + cu2) / (ci2 - cu2)
    b = alpha - looks - 1
    return (b * mean + np.sqrt(mean**2 * b**2 + 4 * alpha * looks * mean * y)) / (2 * alpha)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("kuan", naive_kuan),
        ("enhanced-lee", naive_enhanced_lee),
        ("gamma-map", naive_gamma_map),
    ],
)
@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_filters_of_local_statistics_follow_their_formulas(name, formula, looks):
    values, statistics = image(looks=looks), SceneStatistics(looks)
    expected = np.full(values.shape, np.nan)
    for place, mean, ci2, cu2 in naive_statistics(values, 7, looks):
        expected[place] = formula(float(values[place]), mean, ci2, cu2)
    if name == "gamma-map":
        out = filter_gamma_map(values, statistics, 7)
    else:
        out = make_despeckler(name).despeckle(values, statistics)
    assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("window_px", [5, 7])
def test_frost_follows_its_formula(window_px):
    values, half = image(), window_px // 2
    expected = np.full(values.shape, np.nan)
    rows, columns = np.indices(values.shape)
    for (y, x), _, ci2, _ in naive_statistics(values, window_px, 4.0):
        inside = (abs(rows - y) <= half) & (abs(columns - x) <= half) & ~np.isnan(values)
        weight = np.exp(-2 * ci2 * np.hypot(rows - y, columns - x)[inside])
        expected[y, x] = np.average(values[inside].astype(float), weights=weight)
    out = make_despeckler("frost", window_px=window_px).despeckle(values, WHITE)
    assert_allclose(out, expected, rtol=1e-5)


def naive_half_window(near):
    """Return the pixels of the half of a 7x7 window that the refined Lee filter takes."""
    area = [[near[i : i + 3, j : j + 3].mean() for j in (0, 2, 4)] for i in (0, 2, 4)]
    y, x = np.indices((7, 7))
    sides = [
        (area[1][0], area[1][2], x <= 3, x >= 3),
        (area[0][2], area[2][0], x >= y, x <= y),
        (area[0][1], area[2][1], y <= 3, y >= 3),
        (area[0][0], area[2][2], x + y <= 6, x + y >= 6),
    ]
    first, second, nearer_first, nearer_second = max(sides, key=lambda s: abs(s[0] - s[1]))
    is_second = abs(second - area[1][1]) < abs(first - area[1][1])
    return near[nearer_second if is_second else nearer_first]


def test_refined_lee_follows_its_formula():
    values, looks = image((40, 44)), 4.0
    expected = np.full(values.shape, np.nan)
    for (y, x), near in windows(values, 7):
        square = values[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].astype(float)
        chosen = naive_half_window(square) if len(near) == 49 else near
        mean = chosen.mean()
        variance = chosen.var(ddof=1) if len(chosen) > 1 else 0
        signal = max(variance - mean**2 / looks, 0) / (1 + 1 / looks)
        expected[y, x] = mean + (signal / variance if signal else 0) * (values[y, x] - mean)
    out = filter_refined_lee(values, SceneStatistics(looks))
    assert_allclose(out, expected, rtol=1e-5)


def test_refined_lee_smooths_beside_an_edge_where_lee_does_not():
    scene = np.where(np.arange(60) < 30, 0.01, 1.0) * np.ones((60, 60))
    noisy = (scene * np.random.default_rng(31).gamma(4, 1 / 4, scene.shape)).astype(np.float32)
    lee, refined = (
        make_despeckler(name).despeckle(noisy, WHITE)[10:50, 31] for name in ("lee", "refined-lee")
    )
    assert refined.var() < lee.var() / 2
    assert refined.mean() == pytest.approx(1, rel=0.1)


def test_minimum_of_the_variation_is_that_of_scikit_image():
    image_db = np.log(image((40, 50), hole=False))
    everywhere = np.ones(image_db.shape, bool)
    found = minimise_variation(image_db, everywhere, 0.3, 300)
    expected = denoise_tv_chambolle(image_db, weight=0.3, eps=1e-9, max_num_iter=3000)
    assert_allclose(found, expected, atol=0.01)
    assert abs(expected - image_db).mean() > 0.2


def test_total_variation_keeps_pixels_beside_noise_subtracted_darkness():
    values = image((60, 60), hole=False)
    values[20:40, 20:40] = -0.01
    out = make_despeckler("total-variation").despeckle(values, WHITE)
    assert_array_equal(out[24:36, 24:36], values[24:36, 24:36])
    assert (out[values > 0] > 0).all()


def test_correlation_of_a_mask_is_that_of_the_window():
    for correlation in ((0.0, 0.0), (0.6, 0.3)):
        found = mask_correlation(correlation, np.ones((5, 5), bool))
        assert found == pytest.approx(pair_correlation(correlation, 5), abs=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.skipif(not shutil.which("otbcli_Despeckle"), reason="needs the Orfeo ToolBox")
@pytest.mark.parametrize(
    ("name", "otb_name", "setting"),
    [
        ("lee", "lee", "nblooks"),
        ("kuan", "kuan", "nblooks"),
        ("gamma-map", "gammamap", "nblooks"),
        ("frost", "frost", "deramp"),
    ],
)
def test_filters_agree_with_the_orfeo_toolbox(name, otb_name, setting, tmp_path):
    """Inside the image: the Orfeo ToolBox repeats pixels at the edge, sarstack clips the window."""
    values = image((200, 220), hole=False)
    source, result = tmp_path / "in.tif", tmp_path / "out.tif"
    profile = {"driver": "GTiff", "width": 220, "height": 200, "count": 1, "dtype": "float32"}
    with rasterio.open(source, "w", **profile) as file:
        file.write(values, 1)
    number = {"nblooks": "4", "deramp": "2"}[setting]
    subprocess.run(
        ["otbcli_Despeckle", "-in", source, "-out", result, "float", "-filter", otb_name,
         f"-filter.{otb_name}.rad", "3", f"-filter.{otb_name}.{setting}", number],
        check=True, capture_output=True,
    )  # fmt: skip
    with rasterio.open(result) as file:
        expected = file.read(1)
    if name == "gamma-map":
        out = filter_gamma_map(values, WHITE, 7)
    else:
        out = make_despeckler(name).despeckle(values, WHITE)
    assert_allclose(out[3:-3, 3:-3], expected[3:-3, 3:-3], rtol=1e-5)
