"""Tiles cover the scene once, cells are fixed to its origin, samples stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarstack.despecklers import despeckler_names, make_despeckler
from sarstack.tiles import (
    Shape,
    Window,
    cells,
    n_tiles,
    order_in_row_pairs,
    sample_windows,
    split_evenly,
    tile_grid,
)
from sarstack.workflows.despeckle.plan import LARGE_TILE_PX

SHAPES = st.builds(Shape, st.integers(1, 700), st.integers(1, 700))
SMALL_SHAPES = st.builds(Shape, st.integers(1, 90), st.integers(1, 90))


@given(SMALL_SHAPES, st.integers(1, 120))
@settings(deadline=None)
def test_every_pixel_lies_in_exactly_one_tile(scene: Shape, size: int) -> None:
    tiles = list(tile_grid(scene, size))
    rows, columns = ({tile[0]: set() for tile in tiles}, {tile[1]: set() for tile in tiles})
    for row, column, (y0, y1, x0, x1) in tiles:
        assert (row, column) == (y0 // size, x0 // size)
        rows[row].add((y0, y1))
        columns[column].add((x0, x1))
    # Every row of tiles has one span of pixels, as has every column, and the spans follow
    # each other without a gap: so all pixels are covered, and each once.
    for spans, length in ((rows, scene.y), (columns, scene.x)):
        edges = [span for index in sorted(spans) for span in spans[index]]
        assert len(edges) == len(spans)
        assert [0, *(end for _, end in edges)] == [*(start for start, _ in edges), length]
    assert len(tiles) == len(set(tiles)) == len(rows) * len(columns) == n_tiles(scene, size)


@given(SHAPES, st.integers(0, 5), st.integers(1, 8))
@settings(deadline=None)
def test_cells_do_not_depend_on_the_tile(scene: Shape, power: int, factor: int) -> None:
    size = 8 * 2**power
    by_tile = [c for tile in tile_grid(scene, size * factor) for c in cells(tile.window, size)]
    of_scene = list(cells(Window(0, scene.y, 0, scene.x), size))
    assert sorted(by_tile) == sorted(of_scene)


@given(SHAPES, st.integers(0, 9))
def test_parts_contain_all_tiles_and_their_sizes_differ_by_one_at_most(
    scene: Shape, n_parts: int
) -> None:
    tiles = order_in_row_pairs(tile_grid(scene, 64))
    parts = list(split_evenly(tiles, n_parts))
    assert [tile for part in parts for tile in part] == tiles
    assert sorted(tiles) == sorted(tile_grid(scene, 64))
    sizes = {len(part) for part in parts}
    assert len(parts) == min(max(n_parts, 1), len(tiles))
    assert max(sizes) - min(sizes) <= 1
    assert list(split_evenly([], n_parts)) == []


@given(SHAPES, st.integers(0, 40), st.data())
def test_the_halo_is_clipped_at_the_edge(scene: Shape, halo: int, data: st.DataObject) -> None:
    y0 = data.draw(st.integers(0, scene.y - 1))
    x0 = data.draw(st.integers(0, scene.x - 1))
    window = Window(y0, min(y0 + 50, scene.y), x0, min(x0 + 50, scene.x))
    outer = window.expand(halo, scene)
    assert outer.y0 == max(y0 - halo, 0)
    assert outer.x1 == min(window.x1 + halo, scene.x)
    whole = np.arange(scene.y * scene.x).reshape(scene)
    np.testing.assert_array_equal(
        whole[outer.slices][window.slices_in(outer)], whole[window.slices]
    )


@given(SHAPES, st.integers(0, 90), st.sampled_from([1, 2, 4, 8]), st.data())
def test_an_aligned_halo_begins_on_the_grid_and_hardly_earlier(
    scene: Shape, halo: int, alignment: int, data: st.DataObject
) -> None:
    y0 = data.draw(st.integers(0, scene.y - 1))
    x0 = data.draw(st.integers(0, scene.x - 1))
    window = Window(y0, min(y0 + 50, scene.y), x0, min(x0 + 50, scene.x))
    plain, aligned = window.expand(halo, scene), window.expand(halo, scene, alignment)
    assert aligned.y0 % alignment == aligned.x0 % alignment == 0
    assert 0 <= plain.y0 - aligned.y0 < alignment
    assert 0 <= plain.x0 - aligned.x0 < alignment
    assert (aligned.y1, aligned.x1) == (plain.y1, plain.x1)
    assert window.expand(halo, scene, 1) == plain


@pytest.mark.parametrize("name", despeckler_names())
def test_cells_fill_large_tiles(name: str) -> None:
    assert LARGE_TILE_PX % make_despeckler(name).cell_px == 0


@given(st.builds(Shape, st.integers(1, 30_000), st.integers(1, 30_000)))
def test_samples_lie_in_the_scene_and_stay_few(scene: Shape) -> None:
    windows = sample_windows(scene)
    assert 1 <= len(windows) <= 36
    assert len(set(windows)) == len(windows)
    for window in windows:
        assert 0 <= window.y0 < window.y1 <= scene.y
        assert 0 <= window.x0 < window.x1 <= scene.x
        assert window.y0 % 256 == window.x0 % 256 == 0, "each in one tile and one block"
    if scene.y <= 6 * 256 and scene.x <= 6 * 256:
        assert sum(w.shape.y * w.shape.x for w in windows) == scene.y * scene.x
