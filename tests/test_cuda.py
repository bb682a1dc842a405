"""What runs on a CUDA device: its plain form on a CPU, and on a GPU if there is one."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from sarstack.despecklers import make_despeckler, network_method
from sarstack.errors import NotEnoughSpaceError
from sarstack.evaluation.laws import despeckle_tiled
from sarstack.networks.cuda import LANES, has_fused_relu, is_out_of_memory, open_lane
from sarstack.networks.fused import convolve
from sarstack.speckle.statistics import SceneStatistics

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STATISTICS = SceneStatistics(4.4, (0.6, 0.6), 0.3)
LARGEST_GPU_DEVIATION_DB = 0.15


def draw_scene(shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(1)
    scene = (0.1 * rng.gamma(4.4, 1 / 4.4, shape)).astype(np.float32)
    scene[20:60, 30:90] = np.nan
    return scene


def test_a_lane_of_a_cpu_copies_nothing_and_returns_all() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with open_lane(CPU) as lane:
        there = lane.upload(values)
        assert there.data_ptr() == values.ctypes.data
        np.testing.assert_array_equal(lane.download(there * 2), values * 2)


def test_a_device_without_fused_convolutions_computes_the_plain_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sarstack.networks.fused._has_fused_convolutions", lambda *_: False)
    layer = nn.Conv2d(8, 8, 3, padding=3, dilation=3).requires_grad_(requires_grad=False)
    image, shift = torch.randn(1, 8, 20, 20), torch.randn(8)
    bias = layer.bias + shift
    expected = torch.conv2d(image, layer.weight, bias, padding=3, dilation=3).clamp(min=0)
    torch.testing.assert_close(convolve(layer, image, shift=shift, relu=True), expected)
    assert not has_fused_relu("cpu", torch.bfloat16)
    assert not has_fused_relu("cuda", torch.float32), "it may compute in TF32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_failing_fused_convolution_is_not_used() -> None:
    has_fused_relu.cache_clear()
    assert not has_fused_relu("cuda", torch.bfloat16)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (MemoryError("out of memory"), False),
    ],
)
def test_errors_of_allocation_on_a_gpu_are_known(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_network_that_does_not_fit_into_the_gpu_is_an_error_of_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(network_method, "load_network", fail)
    method = make_despeckler("despecknet-lite", device="cpu")
    with pytest.raises(NotEnoughSpaceError, match="no memory for the weights") as caught:
        method.warm_up()
    assert "device=cpu" in str(caught.value)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["despecknet", "despecknet-lite"])
def test_threads_on_a_gpu_return_what_one_thread_returns(name: str) -> None:
    method, scene = make_despeckler(name, device="cuda"), draw_scene((700, 900))
    expected = method.despeckle(scene, STATISTICS)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(method.despeckle(scene, STATISTICS)))
        for _ in range(3 * LANES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for result in found:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["despecknet", "despecknet-lite"])
def test_tiles_on_a_gpu_differ_by_rounding_only(name: str) -> None:
    # cuDNN chooses its way of computing by the shape of the block: on an H100 also the bits of
    # tiles that are whole cells differed.
    method, scene = make_despeckler(name, device="cuda"), draw_scene((2500, 4300))
    by_cells = despeckle_tiled(method, scene[None], [STATISTICS], 2048)
    for tile_px in (512, 4096):
        result = despeckle_tiled(method, scene[None], [STATISTICS], tile_px)
        deviation_db = 10 * np.abs(np.log10(result / by_cells))
        assert np.nanmax(deviation_db) < LARGEST_GPU_DEVIATION_DB


@pytest.mark.gpu
def test_convolution_and_relu_in_one_call_are_used_on_a_gpu() -> None:
    assert has_fused_relu(str(GPU), torch.bfloat16)
