"""Networks as functions: architecture, receptive field, input and output."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_networks import (
    ARCHITECTURES,
    LOG_VARIANTS,
    PAPER,
    TWO_SCALE_VARIANTS,
    TWO_SCALES,
    small_network,
)
from torch import nn

from sarstack.networks.card import DESPECKLING_VARIANTS
from sarstack.networks.date_sums import UNKNOWN_COUNT
from sarstack.networks.despecknet import (
    DEVIATION_OFFSET_NAT,
    LiteDeSpeckNet,
    LogDeSpeckNet,
    StackDeSpeckNet,
)
from sarstack.networks.despecknet_paper import Branch
from sarstack.networks.fused import FusedBranch
from sarstack.networks.log_network import DARKEST_NAT, LOCAL_MEAN_CELLS, centre_log
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.two_scale import TwoScaleBranch, TwoScaleShape, encode_sensor
from sarstack.networks.variants import VARIANTS, build_network
from sarstack.tiles import ALIGNMENT_PX

CELL = [(y, x) for y in range(ALIGNMENT_PX) for x in range(ALIGNMENT_PX)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: more do not make small tensors faster, and wait on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def speckle(shape, seed=0, looks=4.0):
    drawn = np.random.default_rng(seed).gamma(looks, 1 / looks, shape)
    return torch.from_numpy(drawn.astype(np.float32))


def sum_dates(dates):
    """Return the sums over dates, shape (date, y, x), all positive."""
    log = dates.log()
    total = [torch.ones_like(dates), dates, log, log**2]
    return torch.stack([part.sum(0) for part in total])[None]


def sensor_of(looks, correlation=(0.3, 0.3), known=1.0):
    return encode_sensor(torch.tensor([looks]), torch.tensor([correlation]), torch.tensor([known]))


def test_every_variant_is_known_to_cards_and_has_a_small_test_network():
    assert set(VARIANTS) == set(ARCHITECTURES) == set(DESPECKLING_VARIANTS)


# Architecture and cost


def test_architecture_of_the_published_network():
    branch = Branch()
    assert branch.radius_px == 17
    # The paper's two branches have 1.11 million parameters.
    assert sum(p.numel() for p in branch.parameters()) == 557_057
    assert [c.out_channels for c in branch.layers] == [64] * 16 + [1]
    assert len(branch.norms) == 15
    network = build_network(PAPER)
    assert network.halo == 17
    assert network.channels == 64
    assert network.architecture == {"depth": 17, "width": 64}
    assert sum(p.numel() for p in network.parameters()) == 2 * 557_057


def count_operations(branch, n_images):
    """Count one operation per weight and output pixel of each convolution."""
    counts, side = [], 32
    hooks = [
        module.register_forward_hook(
            lambda m, _, out: counts.append(m.weight.numel() * out.shape[-2] * out.shape[-1])
        )
        for module in branch.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        branch(torch.zeros(1, n_images, side, side), torch.zeros(1, 5))
    for hook in hooks:
        hook.remove()
    assert len(counts) == sum(isinstance(m, nn.Conv2d) for m in branch.modules())
    return sum(counts) / side**2


@pytest.mark.parametrize("variant", TWO_SCALE_VARIANTS)
def test_n_operations_equals_a_count_over_the_layers(variant):
    cls = VARIANTS[variant]
    network = build_network(variant)
    extra_images = 9 * 4 * (network.n_images - 2) * cls.shape.width / 4
    expected = cls.shape.n_operations + extra_images
    assert count_operations(network.clean, network.n_images) == expected


def test_a_lite_network_has_an_eighth_of_the_operations():
    full, lite = LogDeSpeckNet.shape.n_operations, LiteDeSpeckNet.shape.n_operations
    assert lite <= full / 8
    # The published network: 17 convolutions of 3x3 at full resolution.
    assert full < 9 * (15 * 64**2 + 2 * 64) / 4
    assert StackDeSpeckNet.shape == LogDeSpeckNet.shape


def test_sizes_that_are_not_given_are_those_of_the_variant():
    network = build_network("despecknet-lite", body=2)
    sizes = LiteDeSpeckNet.shape._replace(body=2)._asdict()
    assert network.architecture == {name: size for name, size in sizes.items() if name != "spread"}
    assert build_network("despecknet", spread=3).architecture["spread"] == 3
    assert len(network.clean.body) == 2
    with pytest.raises((TypeError, ValueError), match="depth"):
        build_network("despecknet", depth=17)


# Receptive field


def influence_on(network, image, pixel, **extra_inputs):
    """Return first and last row, first and last column of the input that change `pixel`."""
    inputs = [
        image.clone().requires_grad_(),
        *(v.clone().requires_grad_() for v in extra_inputs.values()),
    ]
    others = dict(zip(extra_inputs, inputs[1:], strict=True))
    network(inputs[0], noise=False, **others).clean[0, 0, pixel[0], pixel[1]].backward()
    influence = sum(part.grad[0].abs().sum(0) for part in inputs) > 0
    rows, columns = torch.nonzero(influence.any(1)).ravel(), torch.nonzero(influence.any(0)).ravel()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("variant", LOG_VARIANTS)
def test_no_pixel_of_a_cell_depends_on_pixels_beyond_the_halo(variant):
    network = small_network(variant).double()
    middle = -(-(network.halo + 4) // ALIGNMENT_PX) * ALIGNMENT_PX
    side = 2 * middle + ALIGNMENT_PX
    image = speckle((1, 1, side, side)).double()
    extra_inputs = {}
    if variant == "despecknet-mt":
        extra_inputs["others"] = sum_dates(speckle((3, side, side), seed=1).double())
    farthest = 0
    for y, x in CELL:
        place = middle + y, middle + x
        top, bottom, left, right = influence_on(network, image, place, **extra_inputs)
        reach = max(place[0] - top, bottom - place[0], place[1] - left, right - place[1])
        assert reach <= network.halo
        farthest = max(farthest, reach)
    assert farthest >= network.halo - 8


def test_halo_of_the_published_network_is_its_receptive_radius():
    network = small_network(PAPER).double()
    place = 30, 30
    image = speckle((1, 1, 61, 61)).double()
    top, bottom, left, right = influence_on(network, image, place)
    reach = {place[0] - top, bottom - place[0], place[1] - left, right - place[1]}
    assert max(reach) <= network.halo
    assert min(reach) >= network.halo - 1  # a ReLU may block a corner, not a whole edge


@pytest.mark.parametrize("blocks", [(0, 1, 1), (2, 1, 0), (1, 2, 1), (0, 1, 2), (0, 3, 1, 3)])
def test_receptive_radius_of_a_branch_follows_from_its_blocks(blocks):
    shape = TwoScaleShape(4, 4, *blocks)
    torch.manual_seed(0)
    branch = TwoScaleBranch(1, shape).double()
    nn.init.normal_(branch.leave.weight)
    middle = shape.radius_px + ALIGNMENT_PX
    side = 2 * middle + ALIGNMENT_PX
    farthest = 0
    for y, x in CELL:
        image = torch.randn(1, 1, side, side, dtype=torch.double, requires_grad=True)
        sensor = torch.zeros(1, 5, dtype=torch.double)
        branch(image, sensor)[0, 0, middle + y, middle + x].backward()
        rows, columns = torch.nonzero(image.grad[0, 0]).T
        distance = torch.stack([(rows - middle - y).abs(), (columns - middle - x).abs()])
        assert int(distance.max()) <= shape.radius_px
        farthest = max(farthest, int(distance.max()))
    assert farthest > shape.radius_px - ALIGNMENT_PX


@pytest.mark.parametrize("variant", LOG_VARIANTS)
def test_only_blocks_aligned_to_the_coarse_grid_give_the_same_pixels(variant):
    network = small_network(variant)
    image = speckle((1, 1, 204, 200))
    others = sum_dates(speckle((3, 204, 200), seed=1)) if variant == "despecknet-mt" else None

    def inner(y0, x0):
        """Despeckle a block; return its pixels farther than the halo from its edge."""
        sums = None if others is None else others[..., y0:194, x0:190]
        with torch.inference_mode():
            clean = network(image[..., y0:194, x0:190], others=sums, noise=False).clean
        halo = network.halo + ALIGNMENT_PX
        return clean[0, 0, halo - y0 : 194 - halo - y0, halo - x0 : 190 - halo - x0].numpy()

    whole = inner(0, 0)
    assert whole.size > 3000
    assert_allclose(inner(4, 0), whole, atol=1e-5)
    assert_allclose(inner(0, 4), whole, atol=1e-5)
    assert np.abs(inner(2, 0) - whole).max() > 1e-3
    assert np.abs(inner(0, 1) - whole).max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (7, 4), (13, 10)])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_output_has_the_shape_of_the_input_for_any_size(variant, shape):
    with torch.inference_mode():
        prediction = small_network(variant)(speckle((2, 1, *shape)))
    for part in prediction[:4]:
        assert part.shape == (2, 1, *shape)
        assert torch.isfinite(part).all()


# Input and output


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_fusing_keeps_the_output_and_removes_batch_norms(variant):
    network = small_network(variant)
    image = speckle((2, 1, 20, 30))
    with torch.inference_mode():
        before = network(image)
        fused = network.fuse()
        after = fused(image)
        again = fused.fuse()(image)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    if variant == PAPER:
        assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert_allclose(again.clean.numpy(), after.clean.numpy())
    for a, b in zip(before[:4], after[:4], strict=True):
        assert_allclose(b.numpy(), a.numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("has_fused", [True, False])
@pytest.mark.parametrize("blocks", [(0, 1, 1), (2, 1, 0), (1, 3, 2), (0, 4, 1, 3)])
def test_a_fused_branch_has_the_output_of_the_trained_branch(blocks, has_fused, monkeypatch):
    if not has_fused:  # as on processors for which oneDNN has no fused convolutions
        monkeypatch.setattr("sarstack.networks.fused._has_fused_convolutions", lambda *_: False)
    shape = TwoScaleShape(8, 12, *blocks)
    torch.manual_seed(1)
    branch, sensor = TwoScaleBranch(3, shape), sensor_of(2.0)
    nn.init.normal_(branch.leave.weight)
    fused = FusedBranch(copy.deepcopy(branch), torch.float32)
    reach = shape.radius_px
    images = torch.randn(1, 3, 2 * reach + 24, 2 * reach + 40)
    with torch.inference_mode():
        for margins in [(0, 0, 0, 0), (reach,) * 4, (reach, 0, 0, reach)]:
            before = images.clone()
            expected = branch(images, sensor, margins)
            assert_allclose(fused(images, sensor, margins), expected, rtol=1e-4, atol=1e-4)
            assert torch.equal(images, before)
            assert expected.shape[-2] == images.shape[-2] - sum(margins[:2])


def naive_local_mean(image):
    """Average ln y over positive pixels of 11x11 cells, bilinear between the centres of cells."""
    n_rows, n_columns = (size // ALIGNMENT_PX for size in image.shape)
    half, by_cell = LOCAL_MEAN_CELLS // 2, np.full((n_rows, n_columns), np.nan)
    for i in range(n_rows):
        for j in range(n_columns):
            rows = slice(max(i - half, 0) * ALIGNMENT_PX, (i + half + 1) * ALIGNMENT_PX)
            columns = slice(max(j - half, 0) * ALIGNMENT_PX, (j + half + 1) * ALIGNMENT_PX)
            window = image[rows, columns]
            if (window > 0).any():
                by_cell[i, j] = np.log(window[window > 0]).mean(dtype=np.float64)
    for axis in (0, 1):
        middles = ALIGNMENT_PX * (np.arange(by_cell.shape[axis]) + 0.5) - 0.5
        pixels = np.arange(image.shape[axis])
        by_cell = np.apply_along_axis(
            lambda line, m=middles, p=pixels: np.interp(p, m, line), axis, by_cell
        )
    return by_cell


def test_local_mean_equals_a_naive_mean_over_positive_valid_pixels():
    image = speckle((72, 96)).numpy()
    image[:, 40:] *= 30
    image[3, 4], image[10, 12] = -1, 0
    image[11, 12] = image[20:31, 30:77] = np.nan
    valid = np.isfinite(image)
    u, mean = centre_log(
        torch.from_numpy(np.nan_to_num(image, nan=7.0))[None, None],
        torch.from_numpy(valid.astype(np.float32))[None, None],
    )
    expected = naive_local_mean(np.nan_to_num(image))
    assert_allclose(mean[0, 0].numpy(), expected, atol=1e-5)
    usable = np.nan_to_num(image) > 0
    deviation = np.log(image[usable]) - expected[usable]
    assert_allclose(u[0, 0].numpy()[usable], np.maximum(deviation, DARKEST_NAT), atol=2e-5)
    assert (u[0, 0].numpy()[~usable] == DARKEST_NAT).all()


def test_local_mean_is_nan_where_no_pixel_is_positive():
    image = np.zeros((4, 200), np.float32)
    image[1, 3] = 5
    u, mean = centre_log(torch.from_numpy(image)[None, None])
    reach = ALIGNMENT_PX * (LOCAL_MEAN_CELLS // 2 + 1)
    assert_allclose(mean[0, 0, :, : reach - 2].numpy(), np.log(5), rtol=1e-6)
    assert torch.isnan(mean[..., reach + 2 :]).all()
    assert float(u[0, 0, 1, 3]) == 0
    assert (u[..., 4:] == DARKEST_NAT).all()


@pytest.mark.parametrize("variant", LOG_VARIANTS)
def test_log_networks_reconstruct_the_input_by_a_sum(variant):
    image = speckle((1, 1, 25, 25))
    with torch.inference_mode():
        prediction = small_network(variant)(image)
    assert_allclose(prediction.observed.numpy(), image.log().numpy(), atol=1e-5)
    assert_allclose(
        prediction.reconstruction.numpy(), (prediction.clean + prediction.noise).numpy()
    )


def test_the_published_network_reconstructs_the_input_by_a_product():
    image = speckle((1, 1, 25, 25))
    network = small_network(PAPER)
    with torch.inference_mode():
        prediction = network(image)
    assert torch.equal(prediction.observed, image)
    assert torch.equal(network.to_intensity(prediction.clean), prediction.clean)
    assert_allclose(
        prediction.reconstruction.numpy(), (prediction.clean * prediction.noise).numpy()
    )


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_without_the_noise_branch_the_clean_image_is_the_same(variant):
    network, image = small_network(variant), speckle((1, 1, 24, 24))
    with torch.inference_mode():
        short, whole = network(image, noise=False), network(image)
    assert short.noise is None
    assert short.reconstruction is None
    assert torch.equal(short.clean, whole.clean)


@pytest.mark.parametrize("variant", LOG_VARIANTS)
def test_strong_scatterers_keep_their_value(variant):
    """One pixel may hold half of the power of a town: an error there is an error of its mean."""
    network, image = small_network(variant), speckle((1, 1, 48, 48))
    levels_db = (20, 24, 38, 50)
    places = [(0, 0, 12 * i + 6, 24) for i in range(len(levels_db))]
    for place, level_db in zip(places, levels_db, strict=True):
        image[place] = 10 ** (level_db / 10)
    with torch.inference_mode():
        correction = (image.log() - network(image).clean).abs()
    assert max(float(correction[place]) for place in places[2:]) < 1e-5
    assert min(float(correction[place]) for place in places[:2]) > 0.01
    assert float(correction.median()) > 0.01


@pytest.mark.parametrize("gain", [1e-4, 0.37, 1e4])
@pytest.mark.parametrize("variant", LOG_VARIANTS)
def test_a_factor_on_the_scene_is_the_same_factor_on_the_output(variant, gain):
    network, image = small_network(variant), speckle((1, 1, 40, 44))
    dates = speckle((3, 40, 44), seed=1)
    extra_inputs = {"others": sum_dates(dates)} if variant == "despecknet-mt" else {}
    brighter = {"others": sum_dates(gain * dates)} if extra_inputs else {}
    with torch.inference_mode():
        expected = network(image, **extra_inputs)
        found = network(gain * image, **brighter)
    # The sums over other dates have squares of logarithms, which are large for a factor of 1e4.
    assert_allclose(found.clean.numpy(), expected.clean.numpy() + np.log(gain), atol=1e-4)
    assert_allclose(found.noise.numpy(), expected.noise.numpy(), atol=1e-4)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_values_at_invalid_pixels_do_not_change_valid_pixels(variant):
    network, image = small_network(variant), speckle((1, 1, 40, 44))
    valid = torch.ones_like(image)
    valid[..., 10:17, 5:30] = 0
    with torch.inference_mode():
        zero = network(image * valid, valid)
        arbitrary = network(torch.where(valid > 0, image, 1e6 * speckle(image.shape, 5)), valid)
        without_mask = network(image * valid)
    there = valid > 0
    for a, b in zip(zero[1:4], arbitrary[1:4], strict=True):
        assert torch.equal(a[there], b[there])
    # An image with zeros is not the same as an image with a hole.
    assert (zero.clean - without_mask.clean)[there].abs().max() > 1e-3


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_hole_does_not_change_pixels_beyond_the_halo(variant):
    network, side = small_network(variant), 150
    image = speckle((1, 1, side, side))
    valid = torch.ones_like(image)
    valid[..., 30:42, 21:40] = 0
    with torch.inference_mode():
        whole, holed = network(image).clean, network(image * valid, valid).clean
    assert torch.isfinite(holed[valid > 0]).all()
    beyond = torch.ones(side, side, dtype=torch.bool)
    halo = network.halo
    beyond[max(30 - halo, 0) : 42 + halo, max(21 - halo, 0) : 40 + halo] = False
    assert beyond.sum() > 5000
    assert_allclose(holed[0, 0, beyond].numpy(), whole[0, 0, beyond].numpy(), rtol=1e-5, atol=1e-6)


# Looks and correlation as input


@pytest.mark.parametrize("variant", TWO_SCALE_VARIANTS)
def test_looks_and_correlation_change_the_output_and_unknown_equals_none(variant):
    network, image = small_network(variant), speckle((1, 1, 24, 28))
    with torch.inference_mode():
        without_sensor = network(image).clean
        unknown = network(image, sensor=sensor_of(7.0, known=0.0)).clean
        one, two, correlated = (
            network(image, sensor=sensor_of(looks, correlation)).clean
            for looks, correlation in [(1.0, (0.3, 0.3)), (9.0, (0.3, 0.3)), (1.0, (0.3, 0.8))]
        )
    assert torch.equal(without_sensor, unknown)
    for other in (without_sensor, two, correlated):
        assert (one - other).abs().max() > 1e-3


def test_the_published_network_ignores_looks_and_correlation():
    network, image = small_network(PAPER), speckle((1, 1, 24, 28))
    with torch.inference_mode():
        assert torch.equal(network(image, sensor=sensor_of(2.0)).clean, network(image).clean)


def test_looks_and_correlation_are_limited_to_the_range_of_training():
    assert torch.equal(sensor_of(1000.0), sensor_of(50.0))
    assert torch.equal(sensor_of(0.01), sensor_of(0.5))
    assert torch.equal(sensor_of(4.0, (-0.2, 1.0)), sensor_of(4.0, (0.0, 0.95)))
    assert not torch.equal(sensor_of(1.0), sensor_of(1.0, known=0.0))
    assert not sensor_of(4.0, known=0.0).any()


# Other dates as input


def stack_result(image, others, valid=None):
    with torch.inference_mode():
        return small_network("despecknet-mt")(image, valid, others=others, noise=False).clean


def test_sums_over_zero_dates_equal_no_other_dates():
    image = speckle((1, 1, 40, 44))
    nothing = stack_result(image, None)
    assert torch.equal(stack_result(image, torch.zeros(1, 4, 40, 44)), nothing)
    arbitrary = torch.full((1, 4, 40, 44), 3.0)
    arbitrary[:, 0] = 0
    assert torch.equal(stack_result(image, arbitrary), nothing)
    assert (stack_result(image, sum_dates(speckle((2, 40, 44), 1))) - nothing).abs().max() > 1e-2


def test_other_dates_are_encoded_as_means_standard_deviation_and_number():
    network = small_network("despecknet-mt")
    dates, mean = speckle((5, 8, 12), seed=3), torch.full((1, 1, 8, 12), 0.4)
    encoded = network.encode_other_dates(sum_dates(dates), mean, torch.ones(1, 1, 8, 12))[0]
    log = dates.log()
    assert_allclose(encoded[0].numpy(), (dates.mean(0).log() - 0.4).numpy(), atol=1e-5)
    assert_allclose(encoded[1].numpy(), (log.mean(0) - 0.4).numpy(), atol=1e-5)
    softened = (log.var(0, correction=0) + DEVIATION_OFFSET_NAT**2).sqrt() - DEVIATION_OFFSET_NAT
    assert_allclose(encoded[2].numpy(), softened.numpy(), atol=1e-4)
    assert_allclose(encoded[2].numpy(), log.std(0, correction=0).numpy(), atol=DEVIATION_OFFSET_NAT)
    assert_allclose(encoded[3].numpy(), 5 / 8)


@pytest.mark.parametrize("power", [1e-4, 1.0, 1e4])
def test_one_other_date_has_zero_standard_deviation(power):
    """In float32, the difference of large squares would give a deviation that is not there."""
    network = small_network("despecknet-mt")
    date, mean = power * speckle((1, 8, 12), seed=3), torch.zeros(1, 1, 8, 12)
    encoded = network.encode_other_dates(sum_dates(date), mean, torch.ones(1, 1, 8, 12))
    assert encoded[0, 2].abs().max() < 1e-6


def test_two_sets_of_sums_are_encoded_one_after_the_other():
    one, two = small_network("despecknet-mt"), build_network("despecknet-mt", sums=2)
    every, agreeing = (sum_dates(speckle((n, 8, 12), seed=n)) for n in (5, 3))
    mean, valid = torch.full((1, 1, 8, 12), 0.4), torch.ones(1, 1, 8, 12)
    first, second = (one.encode_other_dates(sums, mean, valid) for sums in (every, agreeing))
    both = two.encode_other_dates(torch.cat([every, agreeing], 1), mean, valid)
    assert torch.equal(both, torch.cat([first, second], 1))
    not_compared = torch.full_like(first, 0.0)
    not_compared[:, 3] = -1
    unknown = two.encode_other_dates(every, mean, valid)
    assert torch.equal(unknown, torch.cat([first, not_compared], 1))
    marked = torch.cat([every, torch.full_like(every, UNKNOWN_COUNT)], 1)
    assert torch.equal(two.encode_other_dates(marked, mean, valid), unknown)


def test_a_network_of_two_sets_starts_as_the_network_of_one_set():
    trained = build_network("despecknet-mt", width=8, deep_width=8, body=1)
    wider = build_network("despecknet-mt", width=8, deep_width=8, body=1, sums=2)
    wider.initialise_from(trained)
    image, every = speckle((1, 1, 40, 44)), sum_dates(speckle((3, 40, 44), 1))
    with torch.inference_mode():
        expected = trained(image, others=every, noise=False).clean
        for sums in (every, torch.cat([every, sum_dates(speckle((2, 40, 44), 2))], 1)):
            found = wider(image, others=sums, noise=False).clean
            assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_other_dates_are_used_in_a_hole_of_this_date():
    image, others = speckle((1, 1, 40, 44)), sum_dates(speckle((3, 40, 44), 1))
    valid = torch.ones_like(image)
    valid[..., 18:25, 20:26] = 0
    changed = others.clone()
    changed[:, 1:3, 21, 22] *= 2
    difference = (stack_result(image, changed, valid) - stack_result(image, others, valid))[0, 0]
    assert torch.isfinite(difference[valid[0, 0] > 0]).all()
    assert difference[valid[0, 0] > 0].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("variant", "more"),
    [("despecknet", {"body": 2}), ("despecknet-mt", {}), ("despecknet-mt", {"body": 3})],
)
def test_a_network_initialised_from_a_smaller_one_has_its_output(variant, more):
    """Additional blocks and images at first have no influence."""
    smaller = small_network("despecknet", seed=1)
    larger = build_network(variant, **TWO_SCALES | more).eval()
    larger.initialise_from(smaller)
    intensity = torch.rand(1, 1, 64, 64) + 0.1
    sensor = encode_sensor(torch.tensor([4.0]), torch.tensor([[0.5, 0.4]]), torch.ones(1))
    others = None if variant == "despecknet" else torch.rand(1, 4, 64, 64) + 1
    with torch.inference_mode():
        wanted = smaller(intensity, sensor=sensor)
        found = larger(intensity, sensor=sensor, others=others)
    assert_allclose(found.clean, wanted.clean, atol=1e-5)
    assert_allclose(found.reconstruction, wanted.reconstruction, atol=1e-5)


def test_variant_and_domain_of_each_class():
    for name, cls in VARIANTS.items():
        assert issubclass(cls, DeSpeckNet)
        assert (cls.variant, cls.domain) == (name, "linear" if name == PAPER else "log")
