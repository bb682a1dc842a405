"""Pictures of a cube for notebooks: a preview by several methods; before, after and ratio.

Only one window of one date is computed. Its pixels are those of the whole result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.checks import check_looks
from sarstack.cube.contract import select_part
from sarstack.cube.scores import as_named_cube, check_same_images
from sarstack.despecklers import Despeckler, as_despeckler
from sarstack.despecklers.window import contribute_window, despeckle_window
from sarstack.errors import UsageError
from sarstack.evaluation.report import RATIO_RANGE, plot_distribution
from sarstack.evaluation.tile_sums import RATIO_BINS
from sarstack.output.picture import Picture
from sarstack.output.quicklook import CROP_PX, centre_window, choose_stretch, make_figure
from sarstack.readers.sampling import sample_dates
from sarstack.speckle.statistics import SceneStatistics, choose_dates, combine_samples
from sarstack.tiles import Shape, Window, sample_windows

Image = NDArray[np.float32]

PREVIEW_METHODS = ("boxcar", "lee-sigma", "despecknet-lite", "despecknet")
TEXTURED = "textured"
# Mean over this many pixels on each side, so that texture is not speckle.
_BLOCK_PX = 8


@dataclass(frozen=True, repr=False)
class Preview(Picture):
    """A window of one date, despeckled by several methods.

    Attributes
    ----------
    images : DataArray, dims (image, y, x), float32
        Linear intensity, NaN = nodata; ``input``, then one image a method.
    """

    images: xr.DataArray


def preview_cube(
    cube: xr.Dataset,
    methods: Sequence[str | Despeckler] | str | Despeckler = PREVIEW_METHODS,
    window: Any = None,
    date: int | str | None = None,
    polarisation: str | None = None,
    looks: float | None = None,
) -> Preview:
    """Despeckle a window of one date by several methods; see ``DespeckAccessor.preview``.

    Parameters
    ----------
    cube : Dataset
        Checked, with chunks.
    methods, window, date, polarisation, looks
        As of the accessor.
    """
    check_looks(looks=looks)
    names = [methods] if isinstance(methods, str | Despeckler) else list(methods)
    despecklers = [as_despeckler(name) for name in names]  # an error comes before any work
    if not despecklers:
        raise UsageError(
            "methods is empty",
            expected="one method or more",
            do="leave it out, or name some: methods=['lee', 'despecknet']",
        )
    array, index, place = _find(cube, window, date, polarisation)
    statistics = _measure(array, index, looks, all_dates=any(d.n_summary for d in despecklers))
    images = {"input": _read(array, index, place)}
    for given, despeckler in zip(names, despecklers, strict=True):
        name = _name(given, despeckler, images)
        images[name] = _despeckle(array, index, place, despeckler, statistics)
    low, high = choose_stretch(images["input"], str(array.name))
    panels = [(name, decibels(image), low, high) for name, image in images.items()]
    described = f"{_describe(array, index, place)}, {low:g} to {high:g} dB"
    figure = make_figure(panels, described, n_columns=2 if len(panels) < 5 else 3)
    stacked = xr.DataArray(
        np.stack([*images.values()]),
        {"image": [*images]} | _coordinates(array, place),
        ("image", "y", "x"),
        str(array.name),
        {"units": "1", "scale": "linear", "date": _date_of(array, index)},
    )
    return Preview(figure, f"{', '.join(images)}; {described}", stacked)


def plot_result(
    cube: xr.Dataset,
    result: Any,
    window: Any = None,
    date: int | str | None = None,
    polarisation: str | None = None,
    looks: float | None = None,
) -> Picture:
    """Draw input, result, ratio and its distribution; see ``DespeckAccessor.plot``."""
    check_looks(looks=looks)
    check_same_images(cube, as_named_cube(result, "result"), "result")
    array, index, place = _find(cube, window, date, polarisation)
    # Computed first: to find the scale of a lazy result, samples of all dates would be computed.
    part = select_part(result, index, place)
    if isinstance(part, xr.Dataset):
        part = part[[name for name in part.data_vars if str(name).lower() == array.name]]
    after = as_named_cube(part.compute(), "result")[array.name]
    statistics = _measure(array, index, looks, all_dates=False)[index]
    images = _read(array, index, place), np.asarray(after[0].values, np.float32)
    low, high = choose_stretch(images[0], str(array.name))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = images[0] / images[1]
    panels = [
        ("input [dB]", decibels(images[0]), low, high),
        ("despeckled [dB]", decibels(images[1]), low, high),
        ("input / despeckled: speckle only, if no detail was lost", ratio, *RATIO_RANGE),
    ]
    described = _describe(array, index, place)
    figure = make_figure(panels, described, n_columns=2, n_free=1)
    counts, _ = np.histogram(ratio[np.isfinite(ratio)], RATIO_BINS)
    method = str(after.attrs.get("speckle_filter", "result"))
    plot_distribution(figure.axes[-1], {method: counts}, statistics.looks, text_pt=10)
    return Picture(figure, f"input, result, ratio and its distribution; {described}")


def decibels(intensity: Image) -> Image:
    """Return 10 log10 of linear power; NaN stays, 0 becomes a very dark value."""
    return np.asarray(10 * np.log10(np.maximum(intensity, 1e-30)), np.float32)


def _find(
    cube: xr.Dataset, window: Any, date: int | str | None, polarisation: str | None
) -> tuple[xr.DataArray, int, Window]:
    """Return the array of a polarisation, the index of a date, and a window."""
    name = str(polarisation or next(iter(cube.data_vars))).lower()
    if name not in cube.data_vars:
        raise UsageError(f"polarisation = {polarisation!r}",
                         expected=f"one of {', '.join(map(str, cube.data_vars))}")  # fmt: skip
    array = cube[name]
    index = find_date(array, date)
    return array, index, find_window(array[index], window)


def find_date(array: xr.DataArray, date: int | str | None) -> int:
    """Return the index of a date: itself, the nearest time of a text, or the middle one for None.

    Raises
    ------
    UsageError
        If there is no such date, or the time lies before the first or after the last date.
    """
    n_dates, times = array.sizes["time"], array["time"].values
    if date is None:
        return n_dates // 2
    if isinstance(date, int | np.integer):
        if -n_dates <= date < n_dates:
            return int(date) % n_dates
        expected = f"an index from 0 to {n_dates - 1}"
    else:
        expected = "a time such as '2021-07-14', and a cube whose dates have times"
        if times.dtype.kind == "M" and not np.isnat(times).all():
            found = _nearest(times, str(date))
            if found is not None:
                return found
            first, last = (f"{time:.10s}" for time in (np.nanmin(times), np.nanmax(times)))
            expected = f"a time such as '{first}', not before it and not after {last}"
    raise UsageError(f"date = {date!r}", expected=expected, do="cube.time lists the dates")


def _nearest(times: NDArray[np.datetime64], text: str) -> int | None:
    """Return the index of the nearest time; None if a text is no time, or outside of all times.

    A day, month or year without a time is inside if a part of it is.
    """
    try:
        start = np.datetime64(text)
    except ValueError:
        return None
    if not (start <= np.nanmax(times) and start + 1 > np.nanmin(times)):
        return None
    distance = np.abs(times - start)
    seconds = np.where(np.isnat(distance), np.inf, distance / np.timedelta64(1, "s"))
    return int(seconds.argmin())


def find_window(image: xr.DataArray, window: Any) -> Window:
    """Return a window of a date.

    Parameters
    ----------
    image : DataArray, dims (y, x)
    window : None, "textured" or (y0, y1, x0, x1)
        None: the centre of the scene, or the window with most texture if most of the centre is
        nodata.

    Raises
    ------
    UsageError
        If it does not lie in the scene.
    """
    scene = Shape(*image.shape)
    if window is None:
        centre = centre_window(scene)
        middle = image[centre.slices].values
        return centre if np.isfinite(middle).mean() >= 0.5 else _most_textured(image, scene)
    if isinstance(window, str) and window == TEXTURED:
        return _most_textured(image, scene)
    numbers = [] if isinstance(window, str) or not np.iterable(window) else [*window]
    whole = all(isinstance(n, int | np.integer) for n in numbers)
    if len(numbers) == 4 and whole:
        place = Window(*map(int, numbers))
        if 0 <= place.y0 < place.y1 <= scene.y and 0 <= place.x0 < place.x1 <= scene.x:
            return place
    raise UsageError(
        f"window = {window!r}",
        expected=f"(y0, y1, x0, x1) in pixels, inside {scene.y} rows and {scene.x} columns; "
        f"'{TEXTURED}'; or None for the centre",
        do=f"for instance window=(0, {min(scene.y, CROP_PX)}, 0, {min(scene.x, CROP_PX)})",
    )


def _most_textured(image: xr.DataArray, scene: Shape) -> Window:
    """Return the window around the sample window whose means over blocks vary most."""
    samples = sample_windows(scene)
    best = max(samples, key=lambda sample: _texture(image[sample.slices].values))
    height, width = min(scene.y, CROP_PX), min(scene.x, CROP_PX)
    y0 = min(max((best.y0 + best.y1 - height) // 2, 0), scene.y - height)
    x0 = min(max((best.x0 + best.x1 - width) // 2, 0), scene.x - width)
    return Window(y0, y0 + height, x0, x0 + width)


def _texture(image: Image) -> float:
    """Return the standard deviation of block means in dB, times the share of valid pixels."""
    rows, columns = (size // _BLOCK_PX for size in image.shape)
    blocks = image[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    means = blocks.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).mean((1, 3))
    valid = means[np.isfinite(means) & (means > 0)]
    return float(np.log10(valid).std() * np.isfinite(image).mean()) if valid.size else 0.0


def _measure(
    array: xr.DataArray, index: int, looks: float | None, *, all_dates: bool
) -> dict[int, SceneStatistics]:
    """Return the statistics that the whole result has, of one date or of all.

    Looks and correlation come from the dates of `choose_dates`; of others, only brightness counts.
    """
    n_dates = array.sizes["time"]
    deciding = choose_dates(n_dates)
    wanted = range(n_dates) if all_dates else [index]
    read = sorted({*deciding, *wanted})
    samples = dict(zip(read, dask.compute(*sample_dates(array.data, read)), strict=True))
    of_stack = combine_samples([samples[i] for i in deciding], looks=looks)[0]
    return {i: replace(of_stack, bright=samples[i].bright) for i in wanted}


def _despeckle(
    array: xr.DataArray,
    index: int,
    place: Window,
    despeckler: Despeckler,
    statistics: dict[int, SceneStatistics],
) -> Image:
    scene = Shape(array.sizes["y"], array.sizes["x"])
    outer = despeckler.input_window(place, scene)
    summary = None
    if despeckler.n_summary:
        wider = despeckler.contribution_window(outer, scene)
        terms = (
            contribute_window(_read(array, i, wider), wider, outer, scene, despeckler, date)
            for i, date in statistics.items()
        )
        total: Any = sum(terms)
        summary = total.astype(np.float32)
    block = _read(array, index, outer)
    return despeckle_window(block, outer, place, scene, despeckler, statistics[index], summary)


def _read(array: xr.DataArray, index: int, place: Window) -> Image:
    return np.asarray(array[index][place.slices].values, np.float32)


def _name(given: str | Despeckler, despeckler: Despeckler, taken: dict[str, Any]) -> str:
    """Return the name of a method or model file; a number follows if it is there already."""
    is_model = isinstance(given, str) and given.endswith(".safetensors")
    name = Path(str(given)).name if is_model else despeckler.name
    count = sum(1 for other in taken if other.split(" (")[0] == name)
    return f"{name} ({count + 1})" if count else name


def _coordinates(array: xr.DataArray, place: Window) -> dict[str, Any]:
    part = array[0][place.slices]
    return {name: part[name].values for name in ("y", "x") if name in part.coords}


def _date_of(array: xr.DataArray, index: int) -> str:
    time = array["time"].values[index]
    if array["time"].dtype.kind != "M":
        return str(time)
    return "" if np.isnat(time) else str(time.astype("datetime64[s]"))


def _describe(array: xr.DataArray, index: int, place: Window) -> str:
    words = [str(array.name).upper(), _date_of(array, index)]
    words.append(f"rows {place.y0} to {place.y1}, columns {place.x0} to {place.x1}")
    return ", ".join(word for word in words if word)
