"""The laws of the product, for every registered despeckler: a new method is tested by existing."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.despecklers import despeckler_names, make_despeckler
from sarstack.evaluation.metrics import border_gradient_ratio
from sarstack.networks.card import KNOWN_VARIANTS
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, tile_grid

SEEDS = st.integers(0, 2**31)
WINDOWED = ["boxcar", "lee", "lee-sigma", "quegan-yu"]
NETWORKS = list(KNOWN_VARIANTS)


def correlated_speckle(looks, correlation, shape, rng):
    """Draw flat speckle of mean 1: looks are averaged |h * g|^2 of complex white noise g."""

    def response(n, rho):
        lag = np.minimum(np.arange(n), n - np.arange(n)).astype(float)
        field = np.where(lag == 0, 1.0, np.sqrt(rho) ** (lag**2) if rho else 0.0)
        return np.sqrt(np.maximum(np.fft.fft(field).real, 0))

    transfer = response(shape[0], correlation[0])[:, None] * response(shape[1], correlation[1])
    total = np.zeros(shape)
    for _ in range(looks):
        white = rng.normal(size=(2, *shape)) / np.sqrt(2)
        total += np.abs(np.fft.ifft2(np.fft.fft2(white[0] + 1j * white[1]) * transfer)) ** 2
    return (total / looks).astype(np.float32)


def landscape(seed, shape, n_dates=2, *, holes=True):
    """Draw dates of a landscape: smooth relief, an edge, ships, speckle, holes of nodata."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 40
    relief = np.exp(np.sin(y + rng.uniform(0, 6)) + np.cos(2 * x + rng.uniform(0, 6)) - 3)
    relief[shape[0] // 3 :, shape[1] // 2 :] *= 6
    relief[rng.random(shape) > 0.995] *= 300
    block = relief * rng.gamma(4, 1 / 4, (n_dates, *shape))
    if holes:
        block[rng.random(block.shape) > 0.98] = np.nan
        corner = rng.integers(0, shape)
        block[:, corner[0] : corner[0] + 9, corner[1] : corner[1] + 14] = np.nan
        block[-1, : shape[0] // 4] = np.nan
    return block.astype(np.float32)


def despeckle_tiled(despeckler, block, statistics, size_px):
    """Despeckle tile by tile as the engine does, the halo clipped at the scene edge."""
    scene, out = Shape(*block.shape[1:]), np.full_like(block, np.nan)
    summary = np.zeros((despeckler.n_summary, *scene))
    windows = [tile.window for tile in tile_grid(scene, size_px)]
    if despeckler.n_summary:
        for window in windows:
            outer = window.expand(despeckler.summary_halo, scene)
            for date, known in zip(block, statistics, strict=True):
                part = despeckler.contribute(date[outer.slices], known)
                summary[:, *window.slices] += part[:, *window.inside(outer)]
    for window in windows:
        outer = despeckler.reach(window, scene)
        known_dates = summary[:, *outer.slices].astype(np.float32) if len(summary) else None
        for k, known in enumerate(statistics):
            out[k][window.slices] = despeckler.despeckle_inside(
                block[k][outer.slices], known, known_dates, window.inside(outer)
            )
    return out


def is_network(despeckler):
    return hasattr(despeckler, "card")


def is_told_of_holes(despeckler):
    """Tell a network that sees a mask from one that masks every layer."""
    return is_network(despeckler) and despeckler.card.domain == "log"


def exact(name, precision="float32"):
    """Build a method that rounds to float32 on any processor."""
    return make_despeckler(name, **({"precision": precision} if name in NETWORKS else {}))


def rounding(despeckler, block):
    """Return what float32 may leave per pixel, beyond its relative error.

    Methods that sum over pixels in linear intensity with weights of both signs (published
    networks) round relative to the brightest pixel they see, all others to the pixel itself.
    """
    card = getattr(despeckler, "card", None)
    return 4e-7 * np.nanmax(block) if card and card.domain == "linear" else 0.0


def law(**strategies):
    """Run a check over drawn inputs for each registered despeckler (fewer for slow networks)."""

    def decorate(check):
        @pytest.mark.parametrize("name", despeckler_names())
        def test(name):
            despeckler = exact(name)
            n_examples = 3 if is_network(despeckler) else 15

            @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
            @given(**strategies)
            def run(**drawn):
                check(despeckler, **drawn)

            run()

        test.__doc__ = check.__doc__
        return test

    return decorate


@functools.cache
def flat_speckle(looks, correlation, side):
    rng = np.random.default_rng(looks)
    return np.stack([correlated_speckle(looks, correlation, (side, side), rng) for _ in range(2)])


# ---- law 1: tiling is invisible ----------------------------------------------------------


@law(seed=SEEDS, height=st.integers(20, 80), width=st.integers(20, 80), size=st.integers(11, 70))
def test_tiles_give_the_whole_image(despeckler, seed, height, width, size):
    """Law 1: any tile size gives the whole-image result, and no seam at tile borders."""
    if is_network(despeckler):  # slow: few dates, few tiles, but tiles that do not see all
        width, size = width + 2 * despeckler.halo, max(size, 41)
    block = landscape(seed, (height, width))
    if is_network(despeckler) and not despeckler.n_summary:
        block = block[:1]
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    tiled = despeckle_tiled(despeckler, block, statistics, size)
    assert_allclose(tiled, whole, rtol=1e-5, atol=rounding(despeckler, block))
    borders = {"rows": range(0, height, size), "columns": range(0, width, size)}
    seen, expected = (border_gradient_ratio(image[0], **borders) for image in (tiled, whole))
    assert_allclose(seen, expected, rtol=1e-3)


@pytest.mark.parametrize("name", WINDOWED)
def test_one_pixel_less_halo_is_too_little(name):
    """Guard of law 1: with a smaller halo the test above would fail."""
    block = landscape(1, (80, 90), holes=False)
    statistics = measure_scene(block)
    despeckler = make_despeckler(name)
    whole = despeckler.apply(block, statistics)
    despeckler.halo -= 1
    with pytest.raises(AssertionError):
        assert_allclose(despeckle_tiled(despeckler, block, statistics, 16), whole, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_of_networks_in_half_precision_differ_by_its_rounding_only(name):
    """Law 1, in the arithmetic that processors with bfloat16 use: no seam that could be seen."""
    despeckler, reference = (exact(name, precision) for precision in ("bfloat16", "float32"))
    block = landscape(4, (60, 90 + 2 * despeckler.halo))
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    tiled = despeckle_tiled(despeckler, block, statistics, 50)
    expected = reference.apply(block, statistics)
    for found in (whole, tiled):
        assert_array_equal(np.isnan(found), np.isnan(block))
        off_db = 10 * np.log10(found / expected)
        assert np.sqrt(np.nanmean(off_db**2)) < 0.03
        assert abs(np.nanmean(off_db)) < 0.005
        assert np.nanmax(np.abs(off_db)) < 0.5
    columns = {"columns": range(0, block.shape[2], 50)}
    seen, smooth = (border_gradient_ratio(image[0], **columns) for image in (tiled, whole))
    assert_allclose(seen, smooth, rtol=5e-3)


# ---- law 2: scale-equivariant --------------------------------------------------------------


@law(seed=SEEDS, power_db=st.floats(-40, 40))
def test_scaled_in_is_scaled_out(despeckler, seed, power_db):
    """Law 2: f(k I) = k f(I) over eight decades of k.

    A threshold may fall on the other side of a rounded value in a few pixels.
    """
    block = landscape(seed, (80, 77))
    factor = np.float32(10 ** (power_db / 10))
    expected = despeckler.apply(block)
    difference = np.abs(despeckler.apply(factor * block) / factor - expected)
    deviates = difference > 1e-4 * np.abs(expected) + rounding(despeckler, block)
    assert deviates.mean() <= (0.002 if despeckler.name == "lee-sigma" else 0)


@law(seed=SEEDS, exponent=st.integers(-13, 13))
def test_powers_of_two_scale_exactly(despeckler, seed, exponent):
    """Law 2: nothing is added to, or compared with, a number of a certain scale."""
    block = landscape(seed, (80, 77))
    factor = np.float32(2.0**exponent)
    scaled, expected = despeckler.apply(factor * block), factor * despeckler.apply(block)
    if is_network(despeckler):  # logarithms do not know powers of two
        assert_allclose(scaled, expected, rtol=1e-5)
    else:
        assert_array_equal(scaled, expected)


# ---- law 3: radiometry is kept -------------------------------------------------------------


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.3, 0.35), (0.66, 0.63)])
@pytest.mark.parametrize("looks", [1, 2, 5, 20])
@pytest.mark.parametrize("name", despeckler_names())
def test_flat_speckle_keeps_its_mean(name, looks, correlation):
    """Law 3: mean out = mean in within 1 %, with statistics as measured from the scene."""
    despeckler = exact(name)
    # The two means are of the same field, so most of their statistical error cancels. Pixels
    # whose window is cut by the scene's edge would be a tenth of so small a scene: left out.
    side = 260 + 2 * despeckler.halo if is_network(despeckler) else 400
    block = flat_speckle(looks, correlation, side)
    inside = slice(despeckler.halo, -despeckler.halo)
    statistics = measure_scene(block)
    dates = range(1 if is_network(despeckler) and not despeckler.n_summary else 2)
    out = despeckler.apply(block[: len(dates)], statistics[: len(dates)])
    means = [image[:, inside, inside].mean(dtype=float) for image in (out, block[: len(dates)])]
    assert means[0] / means[1] == pytest.approx(1, abs=0.01)
    quieter = out[0].var() / out[0].mean() ** 2 * looks
    assert quieter < 0.9, "speckle should be reduced"


@pytest.mark.parametrize("name", WINDOWED)
def test_a_constant_image_is_returned(name):
    block = np.full((2, 60, 50), 0.0123, np.float32)
    assert_allclose(make_despeckler(name).apply(block), block, rtol=1e-6)


# ---- law 4: nodata is exact ------------------------------------------------------------------


@law(seed=SEEDS, height=st.integers(1, 60), width=st.integers(1, 60))
def test_nan_out_exactly_where_nan_in(despeckler, seed, height, width):
    """Law 4: NaN where NaN, never a zero, never an infinity; the input is left alone."""
    block = landscape(seed, (height, width))
    before = block.copy()
    out = despeckler.apply(block)
    assert_array_equal(block, before)
    assert_array_equal(np.isnan(out), np.isnan(block))
    valid = out[~np.isnan(out)]
    assert np.isfinite(valid).all()
    assert (valid != 0).all()
    assert out.dtype == np.float32


@law(seed=SEEDS, cut=st.integers(1, 59))
def test_a_hole_acts_as_a_border(despeckler, seed, cut):
    """Law 4: the half image beside nodata equals the image cropped to that half.

    Networks that are told of holes know them as well as borders, but not by the same bits.
    """
    block = landscape(seed, (60, 60), holes=False)
    statistics = measure_scene(block)
    halved = block.copy()
    halved[:, :, cut:] = np.nan
    out = despeckler.apply(halved, statistics)
    cropped = despeckler.apply(np.ascontiguousarray(block[:, :, :cut]), statistics)
    if is_told_of_holes(despeckler):
        off_db = 10 * np.log10(out[:, :, :cut] / cropped)
        assert np.sqrt(np.mean(off_db**2)) < 0.5
    else:
        assert_allclose(out[:, :, :cut], cropped, rtol=1e-5, atol=rounding(despeckler, block))


@law(seed=SEEDS, y=st.integers(0, 69), x=st.integers(0, 69))
def test_a_missing_pixel_is_felt_within_the_halo_only(despeckler, seed, y, x):
    """Law 4: one NaN changes nothing farther away than the halo."""
    width = 70 + (2 * despeckler.halo if is_network(despeckler) else 0)
    block = landscape(seed, (70, width), holes=False)
    statistics = measure_scene(block)
    holed = block.copy()
    holed[:, y, x] = np.nan
    out, whole = despeckler.apply(holed, statistics), despeckler.apply(block, statistics)
    far = np.ones(block.shape[1:], bool)
    reach = despeckler.halo
    far[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = False
    assert far.any()
    assert_allclose(out[:, far], whole[:, far], rtol=1e-5, atol=rounding(despeckler, block))
    assert np.isnan(out).sum() == len(block)


@law(seed=SEEDS)
def test_subtracted_noise_may_leave_negative_values(despeckler, seed):
    """Law 4: zero and negative intensities are data, and make no NaN and no infinity."""
    block = landscape(seed, (50, 50), holes=False) - np.float32(0.05)
    block[:, 10, 10:20] = 0
    assert np.isfinite(despeckler.apply(block)).all()


# ---- law 5: any size works -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 41), (37, 1), (2, 2), (3, 5), (17, 23), (33, 64)])
@pytest.mark.parametrize("name", despeckler_names())
def test_any_size_works(name, shape):
    """Law 5: one pixel, one line, smaller than the halo, odd; valid or all NaN."""
    despeckler = exact(name)
    block = landscape(3, shape, holes=False)
    out = despeckler.apply(block)
    assert out.shape == block.shape
    assert np.isfinite(out).all()
    assert np.isnan(despeckler.apply(np.full_like(block, np.nan))).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", despeckler_names())
def test_how_an_image_lies_in_memory_does_not_matter(name, holes):
    """Slices of cubes, images turned upside down, what a Dask worker was sent: nobody copies it."""
    block = landscape(5, (37, 53), holes=holes)
    statistics = measure_scene(block)
    expected = exact(name).apply(block, statistics)
    turned = np.ascontiguousarray(block[:, ::-1, ::-1])[:, ::-1, ::-1]
    columns_first = np.asfortranarray(block)
    read_only = block.copy()
    read_only.flags.writeable = False
    for same in (turned, columns_first, read_only):
        assert_array_equal(exact(name).apply(same, statistics), expected)


# ---- many dates ------------------------------------------------------------------------------


@law(seed=SEEDS, order=st.permutations(range(4)))
def test_order_of_dates_is_irrelevant(despeckler, seed, order):
    """Dates can be added up in any order, as workers finish them."""
    block = landscape(seed, (30, 34), n_dates=4)
    statistics = [SceneStatistics(4, (0.1, 0.1), float(np.nanmax(date))) for date in block]
    out = despeckler.apply(block, statistics)
    shuffled = despeckler.apply(block[list(order)], [statistics[k] for k in order])
    assert_allclose(shuffled, out[list(order)], rtol=1e-5)


def test_no_despeckler_is_forgotten():
    assert set(WINDOWED) | set(NETWORKS) == set(despeckler_names())
