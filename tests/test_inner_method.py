"""Multi-temporal methods that call a method of one date: Quegan-Yu and RABASAR."""

import numpy as np
import pytest
from naive_filters import WHITE, image, naive_lee
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.despecklers import make_despeckler
from sarstack.despecklers.methods.quegan_yu import _flat_ratio
from sarstack.despecklers.methods.rabasar import _of_ratio
from sarstack.errors import UsageError
from sarstack.evaluation.law_images import draw_landscape
from sarstack.evaluation.laws import LAWS, despeckle_tiled
from sarstack.speckle.laws import log_variance_spread
from sarstack.speckle.statistics import measure_scene

BY_NAME = {law.name: law for law in LAWS}
INNER = [
    ("quegan-yu", {"pre_estimate": "lee-sigma"}),
    ("quegan-yu", {"pre_estimate": "frost", "window_px": 5}),
    ("rabasar", {"ratio_method": "lee"}),
]


def dates(n=4):
    block = np.stack([image() for _ in range(n)])
    block[1] *= 3
    block[0, :5] = np.nan
    return block


@pytest.mark.parametrize(("name", "parameters"), INNER)
def test_methods_keep_the_laws_with_any_inner_method(name, parameters):
    despeckler = make_despeckler(name, **parameters)
    BY_NAME["tiling"].check(despeckler, seed=5, height=40, width=50, size=17)
    BY_NAME["nodata"].check(despeckler, seed=5, height=40, width=50)
    BY_NAME["nodata_acts_as_edge"].check(despeckler, seed=5, n_columns=31)
    BY_NAME["mean"].check(despeckler, looks_index=1, correlation_index=1)
    BY_NAME["date_order"].check(despeckler, seed=5)


def test_quegan_yu_takes_the_pre_estimate_of_the_named_method():
    block, inner = dates(), make_despeckler("lee", window_px=5)
    mean = inner.apply(block, [WHITE] * 4).astype(float)
    ratio = block / mean
    count = np.isfinite(block).sum(axis=0)
    others = np.nansum(ratio, axis=0) - ratio
    expected = mean * (ratio + others / _flat_ratio(inner, 4.0, (0.0, 0.0))) / np.maximum(count, 1)
    despeckler = make_despeckler("quegan-yu", pre_estimate="lee", window_px=5)
    assert_allclose(despeckler.apply(block, [WHITE] * 4), expected, rtol=1e-5)


def test_rabasar_despeckles_the_ratio_to_the_despeckled_mean():
    block, inner = dates(), make_despeckler("lee-sigma")
    count = np.isfinite(block).sum(axis=0)
    mean = np.nansum(block, axis=0, dtype=float) / np.where(count, count, np.nan)
    margin = 1 + 2 * log_variance_spread(4.0, (0.0, 0.0), 7)
    smooth = np.full(mean.shape, np.nan)
    for n in (3, 4):  # the number of looks of the mean depends on the number of dates
        of_count = naive_lee(mean, 7, margin / (4 * n))
        smooth[count == n] = of_count[count == n]
    ratio = (block / smooth).astype(np.float32)
    expected = smooth * np.stack([inner.despeckle(date, _of_ratio(WHITE)) for date in ratio])
    assert_allclose(make_despeckler("rabasar").apply(block, [WHITE] * 4), expected, rtol=1e-4)


def test_rabasar_keeps_what_all_dates_share_and_what_is_new():
    scene = np.full((60, 60), 0.1)
    scene[:, 30] = 2
    truth = np.repeat(scene[None], 20, axis=0)
    truth[3, 40:50, 5:15] *= 10
    block = (truth * np.random.default_rng(104).gamma(4, 1 / 4, truth.shape)).astype(np.float32)
    road, new, field = (slice(10, 35), 30), (slice(42, 48), slice(7, 13)), np.s_[10:35, 5:25]
    out = make_despeckler("rabasar").apply(block, [WHITE] * 20)[3]
    assert out[road].mean() == pytest.approx(2, rel=0.1)
    assert out[new].mean() == pytest.approx(1, rel=0.15)
    assert out[field].var() < block[3][field].var() / 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameter"), [("quegan-yu", "pre_estimate"), ("rabasar", "ratio_method")]
)
def test_tiles_of_a_network_as_inner_method_are_aligned(name, parameter):
    """A network works on a grid of 4 px; tiles of 34 px start between its points."""
    despeckler = make_despeckler(name, **{parameter: "despecknet-lite"})
    despeckler.inner.precision = "float32"
    block = draw_landscape(7, (70, 80), holes=True)
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    assert_array_equal(np.isnan(whole), np.isnan(block))
    assert_allclose(despeckle_tiled(despeckler, block, statistics, 34), whole, rtol=1e-4)
    assert despeckler.settings()["despecknet-lite_precision"] == "float32"
    assert len(despeckler.settings()["despecknet-lite_model_sha256"]) == 64


@pytest.mark.parametrize("value", ["rabasar", "despecknet-mt", "leee", None, 3])
@pytest.mark.parametrize(
    ("name", "parameter"), [("quegan-yu", "pre_estimate"), ("rabasar", "ratio_method")]
)
def test_inner_methods_that_do_not_fit_are_refused(name, parameter, value):
    with pytest.raises(UsageError):
        make_despeckler(name, **{parameter: value})
