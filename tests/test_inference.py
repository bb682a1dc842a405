"""Network methods: loading, holes, scale, bias, blocks, precision, other dates."""

import dataclasses
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from small_networks import LOG_VARIANTS, PAPER, TWO_SCALE_VARIANTS, save_small_network

from sarstack.despecklers import make_despeckler, network_method
from sarstack.despecklers.methods.despecknet import StackDeSpeckNetDespeckler
from sarstack.errors import NotEnoughSpaceError, UsageError
from sarstack.networks.card import BiasTable
from sarstack.networks.holes import REACH_PX
from sarstack.networks.inference import despeckle_image, load_network, run_network
from sarstack.networks.model_file import load_model, model_sha256, read_card, shipped_model
from sarstack.networks.variants import VARIANTS
from sarstack.speckle.sensor import simulate_stack
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import ALIGNMENT_PX, Shape, Window

KNOWN = SceneStatistics(4.0, (0.3, 0.3), 2.0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: more do not make small tensors faster, and wait on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(VARIANTS))
def model(request, tmp_path):
    return save_small_network(tmp_path, request.param)


@pytest.fixture(params=LOG_VARIANTS)
def log_model(request, tmp_path):
    return save_small_network(tmp_path, request.param)


@pytest.fixture(params=TWO_SCALE_VARIANTS)
def two_scale_model(request, tmp_path):
    return save_small_network(tmp_path, request.param)


@pytest.fixture
def stack_despeckler(tmp_path):
    return exact(save_small_network(tmp_path, "despecknet-mt"))


def exact(path, precision="float32"):
    """Build the despeckler of a model file in float32: the same result on every processor."""
    return make_despeckler(str(path), precision=precision)


def speckle(shape, seed=0, looks=4.0):
    return np.random.default_rng(seed).gamma(looks, 1 / looks, shape).astype(np.float32)


def apply(despeckler, block):
    return despeckler.apply(block, [KNOWN] * len(block))


def test_threads_share_one_loaded_network(model):
    sha256, found = model_sha256(model), []
    threads = [
        threading.Thread(target=lambda: found.append(load_network(str(model), sha256)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_a_pickled_despeckler_is_small_and_gives_the_same_pixels(model):
    despeckler = exact(model)
    shipped = pickle.dumps(despeckler)
    assert len(shipped) < 4000
    block = speckle((2, 20, 20))
    again = pickle.loads(shipped)
    assert_array_equal(apply(again, block), apply(despeckler, block))
    assert again.sha256 == despeckler.sha256


def test_making_a_despeckler_does_not_import_torch(model):
    code = (
        "import sys\n"
        "from sarstack.despecklers import make_despeckler\n"
        f"made = make_despeckler({str(model)!r})\n"
        "print(made.halo, made.memory_bytes(10**6) > 10**6, 'torch' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == [str(read_card(model).halo + REACH_PX), "True", "False"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 5), (4, 4), (5, 9)])
def test_any_size_works(model, shape):
    despeckler = exact(model)
    image = speckle(shape)
    out = despeckler.despeckle(image, KNOWN)
    assert out.shape == shape
    assert out.dtype == np.float32
    assert (out > 0).all()
    assert np.isnan(despeckler.despeckle(np.full(shape, np.nan, np.float32), KNOWN)).all()


# Holes


def test_in_the_published_network_a_hole_acts_as_the_edge_of_the_scene(tmp_path):
    despeckler = exact(save_small_network(tmp_path, PAPER))
    image = speckle((40, 60))
    cut = image.copy()
    cut[:, 35:] = np.nan
    cut[:7] = np.nan
    expected = despeckler.despeckle(np.ascontiguousarray(image[7:, :35]), KNOWN)
    found = despeckler.despeckle(cut, KNOWN)
    assert_allclose(found[7:, :35], expected, rtol=1e-5)
    assert np.isnan(found[:, 35:]).all()
    assert np.isnan(found[:7]).all()


def test_nodata_up_to_the_edge_of_the_scene_acts_as_the_edge(log_model):
    """Networks on a coarser grid pad the scene with invalid pixels to whole cells."""
    despeckler = exact(log_model)
    image = speckle((2, 44, 60))
    image[:, 41:], image[..., 58:] = np.nan, np.nan
    expected = apply(despeckler, np.ascontiguousarray(image[:, :41, :58]))
    assert_allclose(apply(despeckler, image)[:, :41, :58], expected, rtol=1e-6)


def test_infinite_pixels_are_nodata(model):
    despeckler = exact(model)
    image = speckle((40, 44))
    image[11:19, 20:33] = np.nan
    expected = despeckler.despeckle(image, KNOWN)
    image[12, 20:33] = np.inf
    assert_array_equal(despeckler.despeckle(image, KNOWN), expected)
    assert_array_equal(np.isnan(expected), ~np.isfinite(image))


def test_zero_and_negative_pixels_give_small_positive_pixels(model):
    despeckler = exact(model)
    image = speckle((40, 40))
    image[5, 5], image[6, 6], image[20, 20] = 0, -0.3, np.nan
    out = despeckler.despeckle(image, KNOWN)
    assert_array_equal(np.isnan(out), np.isnan(image))
    assert (out[np.isfinite(out)] > 0).all()
    nothing = despeckler.despeckle(-speckle((30, 30)), KNOWN)
    assert np.isfinite(nothing).all()
    assert (nothing > 0).all()
    if despeckler.card.domain == "log":
        assert nothing.max() < 1e-3 * KNOWN.bright


# Scale, bias, looks and correlation as input


@pytest.mark.parametrize("gain", [1e-4, 0.37, 1e4])
def test_a_factor_on_the_scene_is_the_same_factor_on_the_result(model, gain):
    despeckler = exact(model)
    block = speckle((3, 30, 30))
    brighter = dataclasses.replace(KNOWN, bright=KNOWN.bright * gain)
    expected = gain * apply(despeckler, block)
    found = despeckler.apply(np.float32(gain) * block, [brighter] * 3)
    assert_allclose(found, expected, rtol=3e-5)


def test_the_result_is_divided_by_the_bias(model):
    network, card = load_model(model)
    network = network.fuse()
    image = 3 * (speckle((20, 20)) + 1)  # far above any floor
    known = SceneStatistics(4.0, (0.0, 0.0), 6.0)
    plain = despeckle_image(network, card, image, known)
    table = BiasTable((1.0, 4.0), (0.0,), ((1.0,), (1.25,)))
    calibrated = dataclasses.replace(card, calibration=table)
    divided = despeckle_image(network, calibrated, image, known)
    clear = plain > 0.1
    assert clear.any()
    assert_allclose(divided[clear], plain[clear] / 1.25, rtol=1e-5)


def test_only_given_or_compared_looks_are_input_of_the_network(two_scale_model):
    despeckler, image = exact(two_scale_model), speckle((30, 34))

    def despeckle(looks, correlation, source):
        return despeckler.despeckle(image, SceneStatistics(looks, correlation, 2.0, source))

    given = despeckle(1.0, (0.3, 0.3), "given")
    assert_array_equal(despeckle(1.0, (0.3, 0.3), "compared"), given)
    nominal = despeckle(1.0, (0.3, 0.3), "nominal")
    assert_array_equal(despeckle(1.0, (0.3, 0.3), "estimated"), nominal)
    assert_array_equal(despeckle(9.0, (0.3, 0.5), "nominal"), nominal)
    for other in (
        nominal,
        despeckle(9.0, (0.3, 0.3), "given"),
        despeckle(1.0, (0.3, 0.8), "given"),
    ):
        assert np.abs(np.log(other / given)).max() > 1e-3


# Blocks and parts of them


def test_a_block_gives_the_pixels_of_the_whole_inside_its_halo(model):
    despeckler = exact(model)
    network = load_network(str(model), despeckler.sha256, precision="float32")
    halo, step = despeckler.halo, despeckler.alignment
    side = 2 * halo + 41
    image = speckle((side, side))
    image[halo : halo + 9, 30:44] = np.nan
    whole = run_network(network, image)
    top, left = 2 * step, 5 * step
    part = run_network(network, np.ascontiguousarray(image[top : side - 3, left : side - 6]))
    inner = (slice(top + halo, side - 3 - halo), slice(left + halo, side - 6 - halo))
    trimmed = part[halo:-halo, halo:-halo]
    assert trimmed.size > 300
    assert_allclose(trimmed, whole[inner], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOG_VARIANTS)
def test_blocks_of_networks_on_a_coarser_grid_begin_on_it(name):
    despeckler = make_despeckler(name)
    assert despeckler.alignment == ALIGNMENT_PX
    scene, window = Shape(900, 901), Window(305, 411, 222, 707)
    reach = despeckler.input_window(window, scene)
    assert reach.y0 % ALIGNMENT_PX == reach.x0 % ALIGNMENT_PX == 0
    assert 0 <= (window.y0 - despeckler.halo) - reach.y0 < ALIGNMENT_PX
    assert 0 <= (window.x0 - despeckler.halo) - reach.x0 < ALIGNMENT_PX
    assert (reach.y1, reach.x1) == (window.y1 + despeckler.halo, window.x1 + despeckler.halo)


@pytest.mark.parametrize("y", range(4))
@pytest.mark.parametrize("x", [0, 3])
def test_despeckling_a_part_of_a_block_gives_the_pixels_of_the_whole(model, y, x):
    """Layers compute only the pixels that the part needs."""
    despeckler = exact(model)
    halo = despeckler.halo
    block = speckle((2, 2 * halo + 30, 2 * halo + 26))
    block[:, halo + 3 : halo + 8, halo + 9 : halo + 20] = np.nan
    total = None
    if despeckler.n_summary:
        total = sum(despeckler.contribute(date, KNOWN) for date in block).astype(np.float32)
    whole = despeckler.despeckle(block[0], KNOWN, total)
    rows, columns = block.shape[1:]
    for inside in [
        (slice(halo + y, rows - halo - 3), slice(halo + x, columns - halo)),  # the middle
        (slice(0, 11 + y), slice(x, columns)),  # a corner of the scene, and its last column
        (slice(halo + y, rows), slice(halo + x, halo + x + 1)),  # one column, down to the edge
    ]:
        found = despeckler.despeckle_inside(block[0], KNOWN, total, inside)
        assert_allclose(found, whole[inside], rtol=1e-5, atol=1e-6)


def test_without_enough_gpu_memory_smaller_blocks_give_the_same_pixels(model, monkeypatch):
    despeckler, block, tried = exact(model), speckle((2, 300, 280)), []
    block[0, 110:120, 90:200] = np.nan
    summary = None
    if despeckler.n_summary:
        summary = sum(despeckler.contribute(date, KNOWN) for date in block).astype(np.float32)
    inside = slice(7, 295), slice(10, 259)
    whole = despeckler.despeckle_inside(block[0], KNOWN, summary, inside)
    monkeypatch.setattr(network_method, "_MAX_BLOCK_PX", {})

    def despeckle_on_a_small_gpu(*args):
        tried.append(args[2].shape)
        rows, columns = args[5]
        if (rows.stop - rows.start) * (columns.stop - columns.start) > 80**2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return despeckle_image(*args)

    monkeypatch.setattr(network_method, "despeckle_image", despeckle_on_a_small_gpu)
    found = despeckler.despeckle_inside(block[0], KNOWN, summary, inside)
    assert_array_equal(np.isnan(found), np.isnan(whole))
    assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    assert list(network_method._MAX_BLOCK_PX.values()) == [72]
    n_tried = len(tried)
    despeckler.despeckle_inside(block[0], KNOWN, summary, inside)
    assert len(tried) - n_tried == n_tried - 2  # the first call tried two larger sizes


def test_too_little_gpu_memory_for_any_block_is_an_error(model, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network_method, "_MAX_BLOCK_PX", {})
    monkeypatch.setattr(network_method, "despeckle_image", no_memory)
    with pytest.raises(NotEnoughSpaceError, match="the GPU has no memory for 100 x 100 pixels"):
        exact(model).despeckle(speckle((200, 130)), KNOWN)


# Precision

# A bfloat16 has 8 bits: its rounding error is 0.4 %. The weights of these networks are random.
ROUNDING = 0.03


def test_bfloat16_is_close_to_float32(model):
    image = speckle((60, 64))
    image[20:29, 5:30] = np.nan
    expected, found = (exact(model, p).despeckle(image, KNOWN) for p in ("float32", "bfloat16"))
    assert found.dtype == np.float32
    assert_array_equal(np.isnan(found), np.isnan(image))
    valid = np.isfinite(image)
    if read_card(model).variant in (PAPER, "sar-cnn", "speckle2void"):
        assert_array_equal(found, expected)
    else:
        ratio = np.log(found[valid] / expected[valid])
        assert 0 < np.abs(ratio).max() < ROUNDING
        assert abs(ratio.mean()) < ROUNDING / 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 9)])
def test_bfloat16_works_for_any_size(two_scale_model, shape):
    out = exact(two_scale_model, "bfloat16").despeckle(speckle(shape), KNOWN)
    assert out.shape == shape
    assert (out > 0).all()


def test_in_bfloat16_blocks_and_factors_change_rounding_only(two_scale_model):
    despeckler = exact(two_scale_model, "bfloat16")
    halo = despeckler.halo
    image = speckle((2 * halo + 40, 2 * halo + 40))
    whole = despeckler.despeckle(image, KNOWN)
    inside = slice(halo + 1, -halo - 2), slice(halo, -halo)
    rows, columns = (range(len(image))[part] for part in inside)
    wanted = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part = despeckler.despeckle_inside(image, KNOWN, None, wanted)
    assert_allclose(part, whole[wanted], rtol=ROUNDING)
    again = despeckler.despeckle_inside(image, KNOWN, None, wanted)
    assert_array_equal(again, part)
    brighter = despeckler.despeckle(np.float32(300) * image, KNOWN)
    assert_allclose(brighter / 300, whole, rtol=ROUNDING)


@pytest.mark.parametrize("name", TWO_SCALE_VARIANTS)
def test_bfloat16_changes_shipped_networks_by_less_than_0_02_db(name):
    block = simulate_stack(5, (256, 256), np.random.default_rng(3), kind="fields").intensity
    block[:, 40:60, 90:130] = np.nan
    exact_result, found = (
        make_despeckler(name, precision=precision).apply(block)[0]
        for precision in ("float32", "bfloat16")
    )
    off_db = 10 * np.log10(found / exact_result)
    assert 1e-4 < np.sqrt(np.nanmean(off_db**2)) < 0.02


def test_workers_use_the_precision_of_the_process_that_plans(two_scale_model, monkeypatch):
    despeckler = make_despeckler(str(two_scale_model))
    for planned, own in (("bfloat16", "float32"), ("float32", "bfloat16")):
        monkeypatch.setattr(
            "sarstack.networks.inference._computes_in_bfloat16",
            lambda _, p=planned: p == "bfloat16",
        )
        assert despeckler.settings()["precision"] == planned
        shipped = pickle.dumps(despeckler)
        monkeypatch.setattr(
            "sarstack.networks.inference._computes_in_bfloat16", lambda _, p=own: p == "bfloat16"
        )
        assert pickle.loads(shipped).settings()["precision"] == planned


@pytest.mark.parametrize("variant", [PAPER, "sar-cnn", "speckle2void"])
def test_plain_networks_are_recorded_as_float32(variant, tmp_path):
    despeckler = exact(save_small_network(tmp_path, variant), "bfloat16")
    assert despeckler.settings()["precision"] == "float32"


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(UsageError, match="precision = 'half'"):
        exact(model, "half")
    assert exact(model).settings()["precision"] == "float32"


# Other dates


def sum_contributions(despeckler, block):
    return sum(despeckler.contribute(date, KNOWN) for date in block)


def test_contributions_are_sums_over_positive_pixels(stack_despeckler):
    block = speckle((3, 9, 13)).astype(np.float32)
    block[0, 2, 3], block[1, 2, 3], block[2, 5, 5] = np.nan, -0.1, 0
    total = sum_contributions(stack_despeckler, block)
    positive = block > 0
    log = np.log(np.where(positive, block, 1).astype(np.float64))
    for found, terms in zip(total, [positive, block, log, log**2], strict=True):
        assert_allclose(found, np.where(positive, terms, 0).sum(axis=0), 1e-6, 1e-6)
    assert (total[0, 2, 3], total[0, 5, 5], total[0, 0, 0]) == (1, 2, 3)
    assert stack_despeckler.summary_halo == 0
    assert len(total) == stack_despeckler.n_summary == StackDeSpeckNetDespeckler.n_summary


def test_sums_over_other_dates_of_two_dates_are_those_of_the_other(stack_despeckler):
    block = speckle((2, 30, 34))
    block[0, 3:6, 7:9] = np.nan
    block[1, 20:25] = np.nan
    total = sum_contributions(stack_despeckler, block).astype(np.float32)
    left = stack_despeckler.sum_other_dates(total, block[0])
    expected = stack_despeckler.contribute(block[1], KNOWN)
    assert_allclose(left, expected, rtol=1e-5, atol=2e-6)
    assert_array_equal(left[0], np.isfinite(block[1]))
    assert (left[:, 20:25] == 0).all()


def test_a_single_date_has_no_other_dates(stack_despeckler):
    date = 1e4 * speckle((40, 44))
    date[5:9, 4:30] = np.nan
    total = stack_despeckler.contribute(date, KNOWN).astype(np.float32)
    assert not stack_despeckler.sum_other_dates(total, date).any()
    assert_array_equal(
        stack_despeckler.apply(date[np.newaxis], [KNOWN])[0],
        stack_despeckler.despeckle(date, KNOWN),
    )


def test_sums_over_other_dates_do_not_depend_on_the_date_itself(stack_despeckler):
    block = speckle((4, 30, 34))
    changed = block.copy()
    changed[2, 10:20, 5:30] *= np.float32(50)
    changed[2, 25, 3] = -1
    seen = [
        stack_despeckler.sum_other_dates(
            sum_contributions(stack_despeckler, b).astype(np.float32), b[2]
        )
        for b in (block, changed)
    ]
    assert_array_equal(seen[0][0], seen[1][0])
    assert_allclose(seen[1], seen[0], rtol=1e-4, atol=1e-4)
    others = [k for k in range(4) if k != 2]
    assert_allclose(seen[0], sum_contributions(stack_despeckler, block[others]), atol=1e-5)
    before, after = (apply(stack_despeckler, b) for b in (block, changed))
    assert (np.abs(np.log(after / before))[others] > 1e-3).any(axis=(1, 2)).all()


@pytest.mark.parametrize("power", [1e-3, 1.0, 1e4])
def test_one_other_date_has_zero_standard_deviation_after_subtraction(stack_despeckler, power):
    """Rounding errors of the subtraction must not look like a standard deviation."""
    block = np.float32(power) * speckle((2, 40, 44))
    total = sum_contributions(stack_despeckler, block).astype(np.float32)
    left = torch.from_numpy(stack_despeckler.sum_other_dates(total, block[0]))[None]
    network = load_network(stack_despeckler.path, stack_despeckler.sha256, precision="float32")
    seen = network.encode_other_dates(left, torch.zeros(1, 1, 40, 44), torch.ones(1, 1, 40, 44))
    assert seen[0, 2].abs().max() < 1e-3


def test_equal_other_dates_change_the_result(stack_despeckler):
    date = speckle((40, 44))
    alone, twins = (
        apply(stack_despeckler, date[None]),
        apply(stack_despeckler, np.stack([date] * 3)),
    )
    assert np.abs(np.log(twins[0] / alone[0])).max() > 1e-3
    assert_array_equal(twins[0], twins[1])


def test_single_date_methods_have_no_contribution(tmp_path):
    despeckler = exact(save_small_network(tmp_path, "despecknet"))
    assert despeckler.n_summary == 0
    with pytest.raises(NotImplementedError, match="other dates"):
        despeckler.contribute(speckle((4, 4)), KNOWN)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOG_VARIANTS)
@pytest.mark.parametrize("correlation", [0.0, 0.65])
@pytest.mark.parametrize("looks", [1.0, 4.5, 20.0])
def test_shipped_networks_remove_speckle_and_keep_the_mean(name, looks, correlation):
    from sarstack.speckle.landscapes import Reflectivity
    from sarstack.speckle.sensor import SpeckleSimulator

    side = 384
    flat = Reflectivity(np.ones((side, side), np.float32), np.zeros((side, side), np.complex64))
    simulator = SpeckleSimulator(looks, (correlation, correlation))
    noisy = simulator.observe(flat, np.random.default_rng(99))
    bright = float(np.quantile(noisy, 0.98, method="higher"))
    known = SceneStatistics(looks, (correlation, correlation), bright)
    out = make_despeckler(name).despeckle(noisy, known)
    assert out.mean() / noisy.mean() == pytest.approx(1, abs=0.01)
    # Beyond the looks of its training, speckle2void leaves more.
    is_known = looks <= read_card(shipped_model(name)).looks[1]
    assert out.mean() ** 2 / out.var() > (8 if is_known else 2) * looks
