"""Selected dates, polarisations and rectangles keep pixels and places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_images import read_whole

from sarstack.errors import (
    UsageError,
)
from sarstack.readers import index_stack
from sarstack.readers.cube import build_cube
from sarstack.readers.grid import Grid
from sarstack.readers.selection import select_part
from sarstack.tiles import Shape


def test_selected_pixels_keep_their_places(three_dates):
    folder, truth = three_dates
    stack = index_stack(folder)
    box = (500103.0, 4999500.0, 500400.0, 4999750.0)
    part = select_part(stack, bbox=box, dates=("2021-01-10", None), polarisations=["VH"])
    assert part.polarisations == ("vh",)
    assert [str(d.time)[:10] for d in part.dates] == ["2021-01-16", "2021-01-28"]
    assert part.grid.bounds == (500100, 4999500, 500400, 4999750)
    np.testing.assert_array_equal(read_whole(part, "vh", 0), truth["vh", 1][25:50, 10:40])
    again = select_part(part, bbox=part.grid.bounds, max_dates=1)
    assert again.grid == part.grid
    cube, chosen = build_cube(stack).compute(), build_cube(part, chunk_px=7).compute()
    expected = cube.vh.sel(x=chosen.x, y=chosen.y, time=chosen.time)
    np.testing.assert_array_equal(chosen.vh, expected)


@given(
    st.floats(-50, 900), st.floats(-50, 900), st.floats(0.01, 900), st.floats(0.01, 900),
    st.sampled_from([1.0, -1.0]),
)  # fmt: skip
def test_a_bbox_keeps_exactly_the_pixels_it_touches(x, y, width, height, up):
    grid = Grid(Shape(96, 80), "", (10.0, 0.0, 500.0, 0.0, up * 10.0, 3000.0))
    xmin, ymin = 500 + x, min(3000, 3000 + up * 960) + y
    box = (xmin, ymin, xmin + width, ymin + height)
    rows, columns = grid.pixel_centres()
    touched = [
        np.flatnonzero((centres + 5 > low + 1e-4) & (centres - 5 < high - 1e-4))
        for centres, low, high in ((rows, box[1], box[3]), (columns, box[0], box[2]))
    ]
    if min(map(len, touched)) == 0:
        return
    window = grid.find_window(box)
    assert window.y0 <= touched[0][0]
    assert touched[0][-1] < window.y1 <= touched[0][-1] + 2
    assert window.x0 <= touched[1][0]
    assert touched[1][-1] < window.x1 <= touched[1][-1] + 2
    cropped_rows, cropped_columns = grid.crop(window).pixel_centres()
    np.testing.assert_allclose(cropped_rows, rows[window.y0 : window.y1])
    np.testing.assert_allclose(cropped_columns, columns[window.x0 : window.x1])


@pytest.mark.parametrize(
    ("dates", "left"),
    [
        (("2021-01-04", "2021-01-16"), 2),
        (("2021-01-16", "2021-01-16"), 1),
        (("2021-01", "2021-01"), 3),
        ((None, "20210104"), 1),
        (["2021-01-28"], 1),
        (["20210104T053412", "2021-01-28T05:34:12"], 2),
    ],
)
def test_a_day_or_month_means_all_of_it(three_dates, dates, left):
    assert select_part(index_stack(three_dates[0]), dates=dates).n_dates == left


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"dates": ("2022-01-01", "2022-02-01")}, "2021-01-04T05:34:12 to 2021-01-28"),
        ({"dates": ["the fourth"]}, "is not a date"),
        ({"bbox": (0, 0, 10, 10)}, "holds no pixel"),
        ({"bbox": (500100, 4999750, 500400, 4999500)}, "smallest values first"),
        ({"polarisations": ["hh"]}, "some of vv, vh"),
        ({"max_dates": 0}, "at least 1"),
    ],
)
def test_an_empty_selection_is_an_error_that_lists_what_there_is(three_dates, choice, words):
    with pytest.raises(UsageError, match=words):
        select_part(index_stack(three_dates[0]), **choice)
