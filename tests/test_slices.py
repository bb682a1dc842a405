"""Consecutive SAFE slices of one pass: one image without a seam, as if it were one product."""

import os
import pickle
import warnings

import numpy as np
import pytest
import rasterio
from test_safe import grid_points, noise_of_pixel, simulate_numbers
from written_safe import time_of_line, write_safe, zip_safe

from sarstack.errors import SarstackError, SarstackWarning
from sarstack.readers import index_stack
from sarstack.readers.slices import JoinedRaster
from sarstack.tiles import Window
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.fingerprint import fingerprint, stamp_files
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig

# Long, so that the names of short slices have different times.
LINE_S = 0.1
START = "2015-02-22T17:07:25.054739"
SHAPES = [(64, 90), (50, 97), (71, 84)]
HEIGHT, WIDTH = 185, 97


def write_slices(folder, shapes=SHAPES, gaps=(0, 0), changes=(), **header):
    """Write products whose lines follow each other, but for `gaps` in lines."""
    start, written = START, []
    for i, shape in enumerate(shapes):
        own = header | (changes[i] if i < len(changes) else {})
        numbers = own.pop("numbers", None) or {
            "vv": simulate_numbers(i, shape), "vh": simulate_numbers(i + 9, shape, mean=60),
        }  # fmt: skip
        written.append(
            write_safe(folder, numbers, start=start, seed=3 * i, interval_s=LINE_S, **own)
        )
        start = time_of_line(start, shape[0] + (gaps[i] if i < len(gaps) else 0), LINE_S)
    return written


def paste(written, read):
    """Return the slices below each other, NaN at the right of narrow ones."""
    pixels = [read(product) for product in written]
    width = max(own.shape[1] for own in pixels)
    wide = [np.pad(own, ((0, 0), (0, width - own.shape[1])), constant_values=np.nan)
            for own in pixels]  # fmt: skip
    return np.concatenate(wide)


def read_alone(product, pol="vv", **options):
    raster = index_stack(product.path, **options).rasters[pol][0]
    return raster.read(Window(0, raster.shape.y, 0, raster.shape.x))


@pytest.mark.parametrize("zipped", [False, True])
def test_joined_pixels_are_those_of_the_slices_one_below_the_other(tmp_path, zipped):
    written = write_slices(tmp_path / "slices")
    if zipped:
        for product in written:
            product.path = zip_safe(product.path).rename(tmp_path / f"{product.path.stem}.zip")
    stack = index_stack(tmp_path / "slices" if not zipped else f"{tmp_path}/*.zip")
    assert stack.is_coregistered
    assert stack.grid.shape == (HEIGHT, WIDTH)
    for pol in ("vv", "vh"):
        expected = paste(written, lambda product, pol=pol: read_alone(product, pol))
        raster = pickle.loads(pickle.dumps(stack.rasters[pol][0]))
        for window in (
            Window(0, HEIGHT, 0, WIDTH), Window(60, 120, 3, 97), Window(64, 114, 0, 97),
            Window(63, 65, 88, 92), Window(120, 185, 84, 97),
        ):  # fmt: skip
            np.testing.assert_array_equal(raster.read(window), expected[window.slices])


def test_points_time_and_name_are_those_of_the_whole(tmp_path):
    write_slices(tmp_path / "slices")
    stack = index_stack(tmp_path / "slices")
    expected, start = [], 0
    for shape in SHAPES:
        expected += [(line + start, *rest) for line, *rest in grid_points(shape)]
        start += shape[0]
    points = [(p.row, p.column, p.x, p.y) for p in stack.grid.gcps]
    np.testing.assert_allclose(points, expected)
    assert [date.timestamp for date in stack.dates] == ["2015-02-22T17:07:25Z"]
    assert stack.rasters["vv"][0].stem == (
        "s1b-iw-grd-vv-20150222t170725-20150222t170743-030148-039993-001"
    )
    assert "3 slices" in describe_stack(stack).render()


def run(stack, output, **settings):
    config = DespeckleConfig.make(
        stack=str(stack), output=str(output), method="boxcar", workers=1, polarisations=["vv"],
        keep_bits=23,
        **settings,
    )  # fmt: skip
    return despeckle(config)


def test_the_filter_sees_across_the_boundary(tmp_path):
    """Oracle: the mean of the 7 x 7 pixels around each pixel, of the slices pasted together."""
    written = write_slices(tmp_path / "slices")
    [result] = run(tmp_path / "slices", tmp_path / "out").outputs
    with rasterio.open(result) as file:
        found, tags = file.read(1), file.tags()
    scene = paste(written, read_alone)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(scene, 3, constant_values=np.nan), (7, 7)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean = np.nanmean(around, axis=(2, 3))
    expected = np.where(np.isfinite(scene), mean, np.nan)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert tags["INPUT_FILE"].count(".tiff") == 3


def test_noise_is_that_of_each_slice(tmp_path):
    written = write_slices(tmp_path / "slices", version="003.71")
    pixels = {}
    for remove_noise in (False, True):
        outcome = run(tmp_path / "slices", tmp_path / f"{remove_noise}", calibration="dn",
                      remove_noise=remove_noise)  # fmt: skip
        with rasterio.open(outcome.outputs[0]) as file:
            pixels[remove_noise] = file.read(1)
    start = 0
    for product, (height, _) in zip(written, SHAPES, strict=True):
        for y, x in ((0, 7), (height // 2, 40), (height - 1, 83)):
            noise = noise_of_pixel(product, "vv", y, x, old=False)
            kept = pixels[False][start + y, x]
            expected = max(kept - noise, 0.01 * noise)
            assert pixels[True][start + y, x] == pytest.approx(expected, rel=1e-5)
        start += height


APART = {
    "one line is missing": ({"gaps": (1,)}, "1.0 lines are missing"),
    "lines appear twice": ({"gaps": (-3,)}, "3.0 lines appear twice"),
    "not a whole line": ({"gaps": (0.6,)}, "0.6 lines are missing"),
    "another range": ({"changes": [{}, {"near_range": 5.36e-3}]}, "apart along the range"),
    "another polarisation": (
        {"changes": [{}, {"numbers": {"vv": simulate_numbers(1, SHAPES[1])}}]},
        "other polarisations",
    ),
}


@pytest.mark.parametrize(("case", "reason"), APART.values(), ids=APART)
def test_slices_that_do_not_follow_exactly_stay_apart(tmp_path, case, reason):
    write_slices(tmp_path, SHAPES[:2], **case)
    with pytest.warns(SarstackWarning, match=reason):
        stack = index_stack(tmp_path)
    assert [grid.shape for grid in stack.grids] == SHAPES[:2]


SILENT = {
    "another pass": {"changes": [{}, {"datatake": 7}]},
    "another satellite": {"changes": [{}, {"platform": "A"}]},
    "noise was subtracted from one": {"changes": [{}, {"noise_removed": "true"}]},
    "a whole slice between them": {"gaps": (70,)},
}


@pytest.mark.parametrize("case", SILENT.values(), ids=SILENT)
def test_products_that_are_no_neighbours_are_not_mentioned(tmp_path, case):
    write_slices(tmp_path, SHAPES[:2], **case)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SarstackWarning)
        assert len(index_stack(tmp_path).grids) == 2


def test_a_rounded_time_still_follows(tmp_path):
    write_slices(tmp_path, SHAPES[:2], gaps=(0.4,))
    assert index_stack(tmp_path).is_coregistered


def test_separate_slices_keep_their_grids(tmp_path):
    write_slices(tmp_path / "slices")
    stack = index_stack(tmp_path / "slices", separate_slices=True)
    assert [grid.shape for grid in stack.grids] == SHAPES
    assert len(run(tmp_path / "slices", tmp_path / "out", separate_slices=True).outputs) == 3


def test_dark_pixels_at_an_inner_edge_are_no_border(tmp_path):
    """Old products have noise at their edges; the lines where slices meet are none."""
    shape = (600, 640)
    numbers = [simulate_numbers(seed, shape, mean=90) for seed in (1, 2)]
    numbers[0][-40:, 200:400] = numbers[1][:40, 200:400] = 20  # a lake across the boundary
    numbers[0][:32] = numbers[1][-32:] = 3  # the edges of the scene
    write_slices(tmp_path, [shape, shape], version="002.36",
                 changes=[{"numbers": {"vv": own}} for own in numbers])  # fmt: skip
    raster = index_stack(tmp_path, calibration="dn").rasters["vv"][0]
    pixels = raster.read(Window(0, 1200, 0, 640))
    assert np.isfinite(pixels[560:640, 200:400]).all()
    assert np.isnan(pixels[:32]).all()
    assert np.isnan(pixels[-32:]).all()


def test_a_damaged_slice_is_left_out_and_the_others_are_not_joined_across_it(tmp_path):
    written = write_slices(tmp_path)
    file = next(written[1].path.glob("measurement/*-vv-*"))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SarstackError, match="cannot be read"):
        index_stack(tmp_path)
    with pytest.warns(SarstackWarning, match="cannot be read"):
        stack = index_stack(tmp_path, skip_unreadable=True)
    assert [grid.shape for grid in stack.grids] == [SHAPES[0], SHAPES[2]]


def test_all_slices_are_watched_for_changes(tmp_path):
    written = write_slices(tmp_path)
    stack = index_stack(tmp_path)
    raster = stack.rasters["vv"][0]
    assert isinstance(raster, JoinedRaster)
    before = fingerprint(raster.identity())
    files = {p for product in written for p in product.path.glob("measurement/*-vv-*")}
    assert {*map(str, files)} <= stamp_files(stack).keys()
    table = next(written[2].path.glob("annotation/calibration/calibration-*-vv-*"))
    table.write_text(table.read_text().replace("<line>23<", "<line>24<"))
    assert fingerprint(index_stack(tmp_path).rasters["vv"][0].identity()) != before
    os.utime(next(written[1].path.glob("measurement/*-vv-*")), (1e9, 1e9))
    with pytest.raises(SarstackError, match="another version"):
        raster.read(Window(0, HEIGHT, 0, WIDTH))
