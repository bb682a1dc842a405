"""The lazy twin of the tile kernel: any chunking, the same pixels, computed only when asked."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import ARCHITECTURES, save_small_network

from sarstack.cube.despeckle import despeckle_array
from sarstack.despecklers import Despeckler, despeckler_names, make_despeckler
from sarstack.despecklers.window import despeckle_window
from sarstack.errors import SarstackError
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, Window, tile_grid

CLASSICAL = ["boxcar", "lee", "lee-sigma", "median", "frost", "quegan-yu", "rabasar"]


def speckle(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    block = np.random.default_rng(seed).gamma(4.4, 1 / 4.4, shape).astype(np.float32)
    block[:, 3:9, 5:30] = np.nan
    return block


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Despeckler:
    """Build the despeckler of a small network, which rounds to float32 on any processor."""
    path = save_small_network(tmp_path_factory.mktemp("model"), request.param)
    return make_despeckler(str(path), precision="float32")


@pytest.mark.parametrize("name", CLASSICAL)
@given(st.tuples(st.integers(1, 3), st.integers(9, 60), st.integers(11, 60)))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_chunk_sizes_do_not_change_pixels(name: str, chunks: tuple[int, int, int]) -> None:
    block = speckle((3, 53, 61))
    despeckler = make_despeckler(name)
    array = da.from_array(block, chunks=chunks)
    lazy = despeckle_array(array, despeckler)
    assert lazy.chunks == array.chunks
    np.testing.assert_allclose(lazy.compute(), despeckler.apply(block), rtol=1e-5)


@pytest.mark.parametrize(
    "chunks",
    [
        ((1, 2), (53, 90, 7), (61, 60, 50)),  # borders off the grid of 4x4 pixels, on both axes
        ((3,), (1, 148, 1), (170, 1)),  # chunks of one pixel
        ((2, 1), (64, 64, 22), (84, 87)),  # some on the grid
    ],
)
def test_chunks_of_any_border_give_networks_the_same_pixels(
    network: Despeckler, chunks: tuple[tuple[int, ...], ...]
) -> None:
    block = speckle((3, 150, 171))
    array = da.from_array(block, chunks=chunks)
    lazy = despeckle_array(array, network)
    assert lazy.chunks == array.chunks
    np.testing.assert_allclose(lazy.compute(), network.apply(block), rtol=1e-5, atol=1e-7)


def test_the_input_of_a_cell_has_its_halo_and_starts_on_the_coarse_grid() -> None:
    given_windows = []

    class OnAGrid(Broken):
        halo, alignment = 10, 4

        def despeckle_inside(self, intensity, statistics, summary=None, inside=None):
            given_windows.append((float(intensity[0, 0]), intensity.shape, inside))
            return super().despeckle_inside(intensity, statistics, summary, inside)

    scene = Shape(700, 600)
    rows, columns = np.indices(scene)
    image = -(1000.0 * rows + columns).astype(np.float32)  # each pixel tells its place
    window = Window(509, 530, 33, 40)
    outer = OnAGrid().input_window(window, scene)
    assert outer == Window(496, 540, 20, 50)
    result = despeckle_window(
        image[outer.slices], outer, window, scene, OnAGrid(), SceneStatistics(4.4)
    )
    np.testing.assert_array_equal(result, image[window.slices])
    assert given_windows == [
        (-496_020.0, (26, 30), (slice(13, 16), slice(13, 20))),
        (-500_020.0, (40, 30), (slice(12, 30), slice(13, 20))),
    ]


def test_building_the_graph_computes_nothing() -> None:
    def boom(*_: object) -> np.ndarray:
        raise AssertionError("computed")

    array = da.map_blocks(boom, chunks=((1, 1), (40,), (40,)), dtype=np.float32,
                          meta=np.empty((0, 0, 0), np.float32))  # fmt: skip
    for name in CLASSICAL:
        despeckle_array(array, make_despeckler(name))


def test_looks_change_the_lazy_result() -> None:
    array = da.from_array(speckle((1, 64, 64)), chunks=(1, 32, 32))
    lee = make_despeckler("lee")
    smooth = despeckle_array(array, lee, looks=1.0).compute()
    sharp = despeckle_array(array, lee, looks=20.0).compute()
    assert np.nanvar(smooth) < np.nanvar(sharp)


def assert_tiles_of_whole_cells_give_the_same_bits(despeckler: Despeckler) -> None:
    cell_px = despeckler.cell_px
    scene = Shape(cell_px + 70, 2 * cell_px + 11)
    image = speckle((1, *scene))[0]
    known = measure_scene(image[np.newaxis])[0]

    def by_tiles(size_px: int) -> np.ndarray:
        result = np.empty(scene, np.float32)
        for tile in tile_grid(scene, size_px):
            outer = despeckler.input_window(tile.window, scene)
            block = image[outer.slices]
            result[tile.window.slices] = despeckle_window(
                block, outer, tile.window, scene, despeckler, known
            )
        return result

    np.testing.assert_array_equal(by_tiles(cell_px), by_tiles(2 * cell_px))


@pytest.mark.parametrize("name", ["boxcar", "lee", "lee-sigma"])
def test_tiles_that_are_multiples_of_a_cell_give_the_same_bits(name: str) -> None:
    assert_tiles_of_whole_cells_give_the_same_bits(make_despeckler(name))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiles_of_whole_cells_give_networks_the_same_bits(
    network: Despeckler, precision: str
) -> None:
    assert_tiles_of_whole_cells_give_the_same_bits(
        make_despeckler(network.model, precision=precision)
    )


class Broken(Despeckler):
    """Makes zeros into infinities, as division by a vanished mean does."""

    name = "broken"
    halo = 0

    def despeckle(self, intensity, statistics, summary=None):
        return np.where(intensity > 2, np.inf, intensity).astype(np.float32)


def test_a_method_that_makes_infinities_is_caught() -> None:
    image = np.full((4, 4), 3.0, np.float32)
    window = Window(0, 4, 0, 4)
    with pytest.raises(SarstackError, match="16 pixels that are not finite"):
        despeckle_window(image, window, window, Shape(4, 4), Broken(), SceneStatistics(4.4))


def test_chunks_are_released_while_statistics_wait_for_all_dates() -> None:
    """The sampled chunks must not be the despeckled ones: the cube would stay in memory."""
    loads: list[tuple[int, ...]] = []

    def load(block_id: tuple[int, ...] = ()) -> np.ndarray:
        loads.append(block_id)
        return np.random.default_rng(block_id).gamma(4, 0.25, (1, 40, 40)).astype(np.float32)

    array = da.map_blocks(load, chunks=((1,) * 4, (40,), (40,)), dtype=np.float32,
                          meta=np.empty((0, 0, 0), np.float32))  # fmt: skip
    with dask.config.set(scheduler="single-threaded"):
        despeckle_array(array, make_despeckler("lee")).compute()
    real = [b for b in loads if len(b) == 3]
    assert len(real) == 8, "each chunk once for the statistics and once for the result"


CUTS = {
    "slice": lambda a: a[1:4, 3:, :60],
    "fancy": lambda a: a[[0, 2, 5]],
    "flip": lambda a: a[::-1],
    "rechunk": lambda a: a.rechunk((2, 30, 45)),
    "concatenate": lambda a: da.concatenate([a[:2], a[3:]]),
    "transpose": lambda a: a.transpose(0, 2, 1),
    "computed": lambda a: (a * 2).map_blocks(np.sqrt),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["lee", "quegan-yu"])
def test_sliced_dask_arrays_give_the_pixels_of_the_method(cut: str, name: str) -> None:
    array = CUTS[cut](da.from_array(speckle((6, 80, 90)), chunks=(1, 40, 50)))
    despeckler = make_despeckler(name)
    expected = despeckler.apply(array.compute())
    np.testing.assert_allclose(despeckle_array(array, despeckler), expected, rtol=1e-5)


@pytest.mark.parametrize("name", despeckler_names())
def test_a_pickled_method_is_small(name: str) -> None:
    """A task carries path, hash and card of a model (10 kB), never the weights (megabytes)."""
    assert len(pickle.dumps(make_despeckler(name))) < 20_000
