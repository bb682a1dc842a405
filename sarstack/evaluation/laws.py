"""The laws that every method keeps, as checks; they need no test files, only this package.

Each law simulates a scene, checks an invariant, and raises :class:`AssertionError` with numbers
if it does not hold. ``sarstack check-method`` runs all laws over one method; the tests of
this package run them over every method.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, cast

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.evaluation.law_images import (
    Block,
    draw_landscape,
    multiply_power,
    two_dates_of_fields,
    two_dates_of_speckle,
)
from sarstack.speckle.complex_fields import mark_nodata, to_power
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, tile_grid

LARGE_SEED = 2**31
# Methods with a larger halo are slow (networks): they get fewer and smaller images.
WIDE_HALO_PX = 32
SHAPES = ((1, 1), (1, 41), (37, 1), (2, 2), (3, 5), (17, 23), (33, 64))
CORRELATIONS = ((0.0, 0.0), (0.3, 0.35), (0.66, 0.63))
LOOKS = (1, 2, 5, 20)
# A law with at most this number of combinations of arguments is checked with all of them.
FEW = len(LOOKS) * len(CORRELATIONS)


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes
    ----------
    title : str
        The invariant, in one sentence.
    check : callable
        Called as ``check(despeckler, **arguments)``; raises AssertionError if the law is broken.
    ranges : dict of str to (int, int)
        Smallest and largest value of each argument; empty: there are no arguments.
    """

    title: str
    check: Callable[..., None]
    ranges: dict[str, tuple[int, int]]

    @property
    def name(self) -> str:
        """Name of the check, for test reports."""
        return self.check.__name__.removeprefix("check_")

    @property
    def has_few_combinations(self) -> bool:
        """Whether there are at most 12 combinations of arguments; then all are tried."""
        return prod(b - a + 1 for a, b in self.ranges.values()) <= FEW


LAWS: list[Law] = []


def add_law(title: str, **ranges: tuple[int, int]) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that adds a check to `LAWS`."""

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        LAWS.append(Law(title, check, ranges))
        return check

    return decorate


def choose_arguments(law: Law, n: int) -> Iterator[dict[str, int]]:
    """Yield arguments for the check of a law.

    These are all combinations if there are few. Otherwise they are the smallest values, the
    largest values, and ``n - 2`` random ones.
    """
    if law.has_few_combinations:
        combinations = product(*(range(a, b + 1) for a, b in law.ranges.values()))
        yield from (dict(zip(law.ranges, values, strict=True)) for values in combinations)
        return
    for end in (0, 1):
        yield {name: limits[end] for name, limits in law.ranges.items()}
    rng = np.random.default_rng(len(law.title))
    for _ in range(n - 2):
        yield {name: int(rng.integers(a, b + 1)) for name, (a, b) in law.ranges.items()}


def find_violation(despeckler: Despeckler, law: Law) -> str:
    """Check one law for a method; return what is wrong and with which arguments.

    The text is empty if the law is kept. An exception inside the method breaks the law, too.
    """
    for arguments in choose_arguments(law, 3 if despeckler.halo > WIDE_HALO_PX else 12):
        try:
            law.check(despeckler, **arguments)
        except Exception as failure:
            lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
            text = "; ".join(lines[:6]) or type(failure).__name__
            place = ", ".join(f"{name} = {value}" for name, value in arguments.items())
            return f"{text} ({place})" if place else text
    return ""


def despeckle_tiled(
    despeckler: Despeckler, block: Block, statistics: list[SceneStatistics], size_px: int
) -> Block:
    """Despeckle tile by tile, the halo clipped at the scene edge."""
    scene, out = Shape(*block.shape[1:]), np.full(block.shape, np.nan, np.float32)
    summary = np.zeros((despeckler.n_summary, *scene))
    windows = [tile.window for tile in tile_grid(scene, size_px)]
    if despeckler.n_summary:
        for window in windows:
            outer = despeckler.contribution_window(window, scene)
            inner = (slice(None), *window.slices_in(outer))
            for date, date_statistics in zip(block, statistics, strict=True):
                part = despeckler.contribute(date[outer.slices], date_statistics)
                summary[(slice(None), *window.slices)] += part[inner]
    first = None
    if despeckler.first_pass:
        first = despeckle_tiled(despeckler.first_pass, block, statistics, size_px)
    for k, date_statistics in enumerate(statistics):
        total = summary
        if first is not None:
            total = np.concatenate([summary, despeckler.sum_dates(block, statistics, first, k)])
        for window in windows:
            outer = despeckler.input_window(window, scene)
            sums = total[(slice(None), *outer.slices)].astype(np.float32) if len(total) else None
            out[k][window.slices] = despeckler.despeckle_inside(
                block[k][outer.slices], date_statistics, sums, window.slices_in(outer)
            )
    return out


def view_second_image(despeckler: Despeckler, image: int = 1) -> Despeckler:
    """Return a copy of a method whose result is one of its two images.

    Parameters
    ----------
    despeckler : Despeckler
        With an uncertainty.
    image : {0, 1}
        0: the despeckled image, as it comes with its uncertainty; 1: the uncertainty.
    """
    view: Any = copy(despeckler)

    def compute(
        intensity: Block,
        statistics: SceneStatistics,
        summary: Block | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> Block:
        given = (intensity, statistics, summary, inside)
        return despeckler.despeckle_with_uncertainty(*given)[image]

    view.despeckle = view.despeckle_inside = compute
    return cast("Despeckler", view)


def absolute_tolerance(despeckler: Despeckler, block: Block) -> float:
    """Return the absolute rounding error that the method declares.

    It is allowed in addition to 1e-5 of the value of each pixel.
    """
    return despeckler.rounding_of_maximum * float(np.nanmax(to_power(block)))


def border_gradient_ratio(
    despeckled: NDArray[np.floating], *, rows: Iterable[int] = (), columns: Iterable[int] = ()
) -> float:
    """Return the ratio of the mean gradient across tile borders to that of all other pixels.

    Parameters
    ----------
    despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    rows, columns : iterable of int
        First row or column of each tile; 0 is not a border.

    Returns
    -------
    float
        Ratio of mean absolute differences of ln intensity between neighbours: pairs across a
        border over all other pairs. About 1 without seams. NaN if one group has no valid pair.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(despeckled > 0, despeckled, np.nan).astype(np.float64))
    across, within = [], []
    for axis, borders in ((0, rows), (1, columns)):
        gradient = np.moveaxis(np.abs(np.diff(logs, axis=axis)), axis, 0)
        at_border = np.isin(np.arange(1, logs.shape[axis]), [b for b in borders if b > 0])
        across.append(gradient[at_border].ravel())
        within.append(gradient[~at_border].ravel())
    at_borders, elsewhere = (np.concatenate(parts) for parts in (across, within))
    at_borders = at_borders[np.isfinite(at_borders)]
    elsewhere = elsewhere[np.isfinite(elsewhere)]
    if not (at_borders.size and elsewhere.any()):
        return float("nan")
    return float(at_borders.mean() / elsewhere.mean())


# ---- the laws --------------------------------------------------------------------------------

SEED = (0, LARGE_SEED)


@add_law("tiles give the pixels of the whole image", seed=SEED, height=(20, 80), width=(20, 80),
     size=(11, 70))  # fmt: skip
def check_tiling(despeckler: Despeckler, seed: int, height: int, width: int, size: int) -> None:
    """Any tile size gives the whole-image result, and no steeper gradient at tile borders."""
    width += 2 * despeckler.halo
    wide = despeckler.halo > WIDE_HALO_PX
    size = max(size, 41) if wide else size
    block = draw_landscape(seed, (height, width), holes=True, despeckler=despeckler)
    # One date is enough, and saves time, if dates are independent of each other.
    block = block[:1] if wide and not despeckler.n_summary else block
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    tiled = despeckle_tiled(despeckler, block, statistics, size)
    assert_allclose(tiled, whole, rtol=1e-5, atol=absolute_tolerance(despeckler, block))
    borders = {"rows": range(0, height, size), "columns": range(0, width, size)}
    found, expected = (border_gradient_ratio(image[0], **borders) for image in (tiled, whole))
    assert_allclose(found, expected, rtol=1e-3)


@add_law("k times the input gives k times the output, k from -40 to 40 dB", seed=SEED,
     power_db=(-40, 40))  # fmt: skip
def check_scale(despeckler: Despeckler, seed: int, power_db: int) -> None:
    """f(k I) = k f(I) over eight decades of k."""
    block = draw_landscape(seed, (80, 77), holes=True, despeckler=despeckler)
    factor = float(np.float32(10 ** (power_db / 10)))
    expected = despeckler.apply(block)
    scaled = despeckler.apply(multiply_power(block, factor))
    difference = np.abs(scaled / factor - expected)
    deviates = difference > 1e-4 * np.abs(expected) + absolute_tolerance(despeckler, block)
    fraction = deviates.mean()
    allowed = despeckler.threshold_fraction if despeckler.has_thresholds else 0.0
    assert fraction <= allowed, (
        f"{100 * fraction:.2f} % of the pixels differ, {100 * allowed:g} % are allowed"
    )


@add_law("the mean of flat speckle is kept within 1 %, and the speckle is reduced",
     looks_index=(0, len(LOOKS) - 1), correlation_index=(0, len(CORRELATIONS) - 1))  # fmt: skip
def check_mean(despeckler: Despeckler, looks_index: int, correlation_index: int) -> None:
    """Compare the mean of the output with that of the input; statistics are measured.

    Both means are of the same field, so most of their statistical error cancels. Pixels whose
    window is clipped by the scene edge are left out: in so small a scene they are a tenth of all.
    """
    looks, correlation = LOOKS[looks_index], CORRELATIONS[correlation_index]
    wide = despeckler.halo > WIDE_HALO_PX
    side = 260 + 2 * despeckler.halo if wide else 400
    if despeckler.needs_complex:  # always one look: other fields in place of more looks
        block, looks = two_dates_of_fields(looks, correlation, side), 1
    else:
        block = two_dates_of_speckle(looks, correlation, side)
    inside = slice(despeckler.halo, block.shape[1] - despeckler.halo)
    statistics = measure_scene(block)
    # A part of a single look varies twice as much: two dates are needed for the same accuracy.
    n_dates = 2 if despeckler.n_summary or despeckler.needs_complex or not wide else 1
    out = despeckler.apply(block[:n_dates], statistics[:n_dates])
    means = (to_power(b[:n_dates, inside, inside]).mean(dtype=float) for b in (block, out))
    mean_in, mean_out = (float(mean) for mean in means)
    context = f"{looks} looks, correlation {correlation}"
    ratio = mean_out / mean_in
    assert abs(ratio - 1) <= 0.01, f"mean out is {ratio:.4f} times mean in ({context})"
    remaining = float(out[0].var() / out[0].mean() ** 2 * looks)
    assert remaining < 0.9, f"{remaining:.2f} of the speckle's variance is left ({context})"


@add_law("NaN out exactly where NaN in; float32, no zero, no infinity; input unchanged", seed=SEED,
     height=(1, 60), width=(1, 60))  # fmt: skip
def check_nodata(despeckler: Despeckler, seed: int, height: int, width: int) -> None:
    """Nodata stays nodata, and no other pixel becomes nodata or zero."""
    block = draw_landscape(seed, (height, width), holes=True, despeckler=despeckler)
    before = block.copy()
    out = despeckler.apply(block)
    assert_array_equal(block, before, "the method changed its input")
    assert_array_equal(np.isnan(out), np.isnan(block), "NaN out where data in, or the reverse")
    valid = out[~np.isnan(out)]
    assert np.isfinite(valid).all(), "infinite pixels"
    assert (valid != 0).all(), "pixels are 0"
    assert out.dtype == np.float32, f"dtype {out.dtype}"


@add_law(
    "pixels next to nodata get the same result as pixels next to the scene edge",
    seed=SEED,
    n_columns=(1, 59),
)
def check_nodata_acts_as_edge(despeckler: Despeckler, seed: int, n_columns: int) -> None:
    """Compare an image whose right part is nodata with the image without that part."""
    block = draw_landscape(seed, (60, 60), holes=False, despeckler=despeckler)
    statistics = measure_scene(block)
    with_nodata = block.copy()
    mark_nodata(with_nodata, np.broadcast_to(np.arange(60) >= n_columns, block.shape))
    out = despeckler.apply(with_nodata, statistics)[:, :, :n_columns]
    cropped = despeckler.apply(np.ascontiguousarray(block[:, :, :n_columns]), statistics)
    if despeckler.nodata_acts_as_edge:
        assert_allclose(out, cropped, rtol=1e-5, atol=absolute_tolerance(despeckler, block))
    else:
        rms_db = float(np.sqrt(np.mean((10 * np.log10(out / cropped)) ** 2)))
        limit_db = despeckler.edge_difference_db
        assert rms_db < limit_db, (
            f"beside nodata and at the scene edge differ by {rms_db:.2f} dB RMS"
        )


@add_law("a missing pixel changes nothing beyond the halo", seed=SEED, y=(0, 69), x=(0, 69))
def check_halo(despeckler: Despeckler, seed: int, y: int, x: int) -> None:
    """One NaN changes nothing farther away than the halo."""
    halo = despeckler.reach
    block = draw_landscape(seed, (70, 70 + 2 * halo), holes=False, despeckler=despeckler)
    statistics = measure_scene(block)
    with_nan = block.copy()
    mark_nodata(with_nan[:, y, x], np.ones(len(block), bool))
    out, expected = despeckler.apply(with_nan, statistics), despeckler.apply(block, statistics)
    far = np.ones(block.shape[1:], bool)
    far[max(y - halo, 0) : y + halo + 1, max(x - halo, 0) : x + halo + 1] = False
    tolerance = absolute_tolerance(despeckler, block)
    assert_allclose(out[:, far], expected[:, far], rtol=1e-5, atol=tolerance)
    n_nan = int(np.isnan(out).sum())
    assert n_nan == len(block), f"{n_nan} NaN pixels out, {len(block)} in"


@add_law("zero and negative intensities are data", seed=SEED)
def check_negative(despeckler: Despeckler, seed: int) -> None:
    """Check that the output is finite where the input is 0 or less, as after noise subtraction."""
    block = draw_landscape(seed, (50, 50), holes=False, despeckler=despeckler)
    block = block if despeckler.needs_complex else block - np.float32(0.05)
    block[:, 10, 10:20] = 0
    assert np.isfinite(despeckler.apply(block)).all()


@add_law("any size works, valid or all NaN", shape_index=(0, len(SHAPES) - 1))
def check_size(despeckler: Despeckler, shape_index: int) -> None:
    """One pixel, one row or column, images smaller than the halo, odd sizes."""
    block = draw_landscape(3, SHAPES[shape_index], holes=False, despeckler=despeckler)
    out = despeckler.apply(block)
    assert out.shape == block.shape
    assert np.isfinite(out).all(), f"NaN or infinity in an image of {SHAPES[shape_index]} px"
    mark_nodata(block, np.ones(block.shape, bool))
    assert np.isnan(despeckler.apply(block)).all()


@add_law(
    "the memory order of the array (flipped, Fortran, read-only) does not matter", holes=(0, 1)
)
def check_memory_layout(despeckler: Despeckler, holes: int) -> None:
    """Slices of cubes, flipped images and read-only arrays are given to a method uncopied."""
    block = draw_landscape(5, (37, 53), holes=bool(holes), despeckler=despeckler)
    statistics = measure_scene(block)
    expected = despeckler.apply(block, statistics)
    flipped = np.ascontiguousarray(block[:, ::-1, ::-1])[:, ::-1, ::-1]
    read_only = block.copy()
    read_only.flags.writeable = False
    for same in (flipped, np.asfortranarray(block), read_only):
        assert_array_equal(despeckler.apply(same, statistics), expected)


@add_law("the order of the dates does not matter", seed=SEED)
def check_date_order(despeckler: Despeckler, seed: int) -> None:
    """Compare two orders of the dates: workers finish dates in any order."""
    block = draw_landscape(seed, (30, 34), n_dates=4, holes=True, despeckler=despeckler)
    brightest = [float(np.nanmax(to_power(date))) for date in block]
    statistics = [SceneStatistics(4, (0.1, 0.1), bright) for bright in brightest]
    order = np.random.default_rng(seed).permutation(4)
    out = despeckler.apply(block, statistics)
    shuffled = despeckler.apply(block[order], [statistics[k] for k in order])
    assert_allclose(shuffled, out[order], rtol=1e-5)


@add_law("an uncertainty has the tiles and the nodata of its image; k times the input leaves it",
         seed=SEED)  # fmt: skip
def check_uncertainty(despeckler: Despeckler, seed: int) -> None:
    """Of a method that tells its uncertainty: both images come from one call."""
    if not despeckler.has_uncertainty:
        return
    block = draw_landscape(seed, (50, 52 + 2 * despeckler.halo), holes=True)
    statistics, spread = measure_scene(block), view_second_image(despeckler)
    expected = despeckler.apply(block, statistics)
    assert_array_equal(view_second_image(despeckler, 0).apply(block, statistics), expected)
    whole = spread.apply(block, statistics)
    assert_array_equal(np.isnan(whole), np.isnan(block), "NaN out where data in, or the reverse")
    assert (whole[np.isfinite(block)] >= 0).all(), "a standard deviation below 0"
    assert_allclose(despeckle_tiled(spread, block, statistics, 44), whole, rtol=1e-5, atol=1e-4)
    bright = block * np.float32(1000)
    assert_allclose(spread.apply(bright, measure_scene(bright)), whole, rtol=1e-3, atol=1e-3)
