"""Scores of a despeckled image of any size: with a reference, and without one.

The image is read once, tile by tile. Homogeneous areas are found in the reference or the mean of
other dates, else in the noisy image; never in the despeckled one, where a method would choose its
own areas.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sarstack.cluster.layout import n_cores
from sarstack.evaluation.scores import NAN
from sarstack.evaluation.tile_sums import (
    MARGIN_PX,
    RATIO_BINS,
    TILE_PX,
    WINDOW_COLUMNS,
    WINDOW_PX,
    Sums,
    TileImages,
    TileMeasures,
    measure_tile,
)
from sarstack.speckle.laws import log_speckle_variance, window_cv2
from sarstack.tiles import Shape, Tile, Window, tile_grid

ReadWindow = Callable[[Window], NDArray[np.float32]]

# Share of the windows that count as homogeneous, their smallest and their largest number.
_HOMOGENEOUS_SHARE, _MIN_WINDOWS, _MAX_WINDOWS = 0.05, 8, 400
_N_STRUCTURE_WINDOWS, _N_SHUFFLES, _N_LEVELS = 32, 8, 32
# Largest side of a map, and the possible widths of its blocks: divisors of the tile width.
_MAP_PX, _DIVISORS = 500, (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000)
_DB = 10 / np.log(10)


@dataclass(frozen=True)
class ImagePair:
    """A noisy and a despeckled image on one grid, and the scene without speckle if it is known.

    Attributes
    ----------
    noisy, despeckled : callable
        Return the pixels of a window: float32, linear power, NaN = nodata.
    shape : Shape
        Rows and columns.
    looks : float
        Equivalent number of looks of the noisy image.
    correlation : tuple of float
        Lag-1 correlation of its speckle, along y and x.
    reference : callable, optional
        As `noisy`, without speckle.
    others : callable, optional
        As `noisy`: the mean of other dates. Their speckle is independent of that of `noisy`.
    """

    noisy: ReadWindow
    despeckled: ReadWindow
    shape: Shape
    looks: float
    correlation: tuple[float, float] = (0.0, 0.0)
    reference: ReadWindow | None = None
    others: ReadWindow | None = None


@dataclass(frozen=True)
class ImageScores:
    """The scores of an image.

    Attributes
    ----------
    values : dict of str to float
        By the names of `COLUMNS`; NaN where a score cannot be computed.
    ratio_counts : ndarray, shape (200,), int
        Histogram of noisy / despeckled between 0 and 5.
    windows : list of Window
        Homogeneous areas.
    map_step_px : int
        Width of a pixel of the maps, in pixels of the image.
    noisy_map, despeckled_map : ndarray, float32
        Means of the valid pixels of blocks of `map_step_px`.
    """

    values: dict[str, float]
    ratio_counts: NDArray[np.int64] = field(repr=False)
    windows: list[Window] = field(repr=False)
    map_step_px: int = field(repr=False)
    noisy_map: NDArray[np.float32] = field(repr=False)
    despeckled_map: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Column:
    """Heading and meaning of a score; `ideal` says which values are better."""

    heading: str
    meaning: str
    ideal: str
    decimals: int = 2


COLUMNS = {
    "rmse_db": Column("RMSE dB", "root mean square of 10 log10(result / reference)", "low", 3),
    "psnr_db": Column("PSNR dB", "of intensity as 8 bits, as in the deSpeckNet paper", "high"),
    "ssim": Column("SSIM", "structural similarity of the same 8-bit images", "high", 3),
    "gain_db": Column("DG dB", "despeckling gain: PSNR of the result - PSNR of the input", "high"),
    "edge_index": Column("EPI", "edge preservation index of the paper, from total gradients", "1"),
    "edge_correlation": Column("edges",
                               "correlation with the reference, both after a Laplace filter", "1"),
    "reference_bias_db": Column("bias to ref. dB", "mean of result / mean of reference", "0", 3),
    "bias_db": Column("bias dB", "mean of result / mean of input", "0", 3),
    "enl_before": Column("ENL in", "looks of the input in homogeneous areas", "", 1),
    "enl": Column("ENL", "looks of the result in homogeneous areas; blur has many", "", 0),
    "cx": Column("Cx", "standard deviation / mean of the result in homogeneous areas", "", 3),
    "ratio_mean": Column("MoR", "mean of input / result in homogeneous areas", "1", 3),
    "ratio_variance": Column("VoR x L", "variance of input / result there, times the looks", "1"),
    "log_ratio_variance": Column("log var", "variance of ln(input / result) over that of speckle, "
                                 "all pixels", "1"),
    "structure": Column("structure", "correlation of ln(input / result) with detail of the "
                        "reference or the other dates", "0", 3),
    "m_index": Column("M", "index after Gomez et al. (2017): loss of speckle statistics, and "
                      "structure in the ratio", "low", 1),
    "point_loss_db": Column("points dB", "what the peaks of point targets lose", "0"),
    "point_contrast_loss_db": Column("C_NN loss dB", "what the contrast of point targets to their "
                                     "8 neighbours loses", "0"),
    "false_points_per_mpx": Column("false points", "pixels above 3 times the mean, per megapixel "
                                   "of homogeneous areas", "0", 0),
    "seam": Column("seam", "mean step of ln(result) at multiples of 256 px over that elsewhere",
                   "1", 3),
    "valid_share": Column("valid", "share of the pixels that have data", "", 3),
}  # fmt: skip
"""Every score by name, in the order of tables."""


def score_image(pair: ImagePair) -> ImageScores:
    """Compute all scores of an image; reads it once, and a few windows a second time."""
    sums: Sums = {}
    counts = np.zeros(len(RATIO_BINS) - 1, np.int64)
    tables = []
    step = _choose_step(pair.shape)
    maps = np.full((2, -(-pair.shape.y // step), -(-pair.shape.x // step)), np.nan, np.float32)

    def measure(tile: Tile) -> TileMeasures:
        images = _read_tile(pair, tile)
        _draw_tile(maps, images, step)
        return measure_tile(images)

    with ThreadPoolExecutor(n_cores()) as threads:
        measured = threads.map(measure, tile_grid(pair.shape, TILE_PX))
    for measures in measured:
        sums = {name: sums.get(name, 0.0) + value for name, value in measures.sums.items()}
        counts += measures.ratio_counts
        tables.append(measures.windows)
    table = np.concatenate(tables)
    homogeneous = _choose_homogeneous(table, pair)
    values = dict.fromkeys(COLUMNS, NAN)
    values |= _scores_of_sums(sums, pair)
    values |= _scores_of_windows(table[homogeneous], pair.looks)
    windows = [
        Window(int(y), int(y) + WINDOW_PX, int(x), int(x) + WINDOW_PX)
        for y, x in table[homogeneous, :2]
    ]
    values["m_index"] = _m_index(table[homogeneous], windows, pair)
    return ImageScores(values, counts, windows, step, *maps)


def _choose_step(shape: Shape) -> int:
    """Return the width of the blocks of a map: a divisor of the tile width."""
    return next(d for d in _DIVISORS if max(shape) <= d * _MAP_PX or d == _DIVISORS[-1])


def _draw_tile(maps: NDArray[np.float32], images: TileImages, step: int) -> None:
    window, inside = images.window, images.window.slices_in(images.outer)
    y, x = window.y0 // step, window.x0 // step
    for of_image, image in zip(maps, (images.noisy, images.despeckled), strict=True):
        pixels = image[inside]
        rest = [(0, -size % step) for size in pixels.shape]
        padded = np.pad(pixels, rest, constant_values=np.nan)
        rows, columns = (size // step for size in padded.shape)
        blocks = padded.reshape(rows, step, columns, step)
        count = np.isfinite(blocks).sum(axis=(1, 3))
        mean = np.nansum(blocks, axis=(1, 3)) / np.where(count, count, np.nan)
        of_image[y : y + rows, x : x + columns] = mean


def _read_tile(pair: ImagePair, tile: Tile) -> TileImages:
    outer = tile.window.expand(MARGIN_PX, pair.shape)
    reference = None if pair.reference is None else pair.reference(outer)
    scene = pair.others(outer) if reference is None and pair.others else reference
    return TileImages(pair.noisy(outer), pair.despeckled(outer), reference, scene, outer,
                         tile.window)  # fmt: skip


def _choose_homogeneous(table: NDArray[np.float64], pair: ImagePair) -> NDArray[np.intp]:
    """Return the indices of homogeneous windows.

    With a reference or other dates: those that vary least there. Without: those whose variation in
    the noisy image is nearest to that of speckle alone. Those that vary least would be windows in
    which speckle is weak by chance.
    """
    if not len(table):
        return np.zeros(0, np.intp)
    column = {name: table[:, i] for i, name in enumerate(WINDOW_COLUMNS)}
    if np.isfinite(column["scene_cv2"]).any():
        order = column["scene_cv2"]
    else:
        speckle = window_cv2(pair.looks, pair.correlation, WINDOW_PX)
        order = np.abs(np.log(np.maximum(column["noisy_cv2"], 1e-30) / speckle))
    n = min(max(round(_HOMOGENEOUS_SHARE * len(table)), _MIN_WINDOWS), _MAX_WINDOWS)
    return np.sort(np.argsort(order, kind="stable")[:n])


def _scores_of_sums(sums: Sums, pair: ImagePair) -> dict[str, float]:
    n_px = pair.shape.y * pair.shape.x
    log_mean = _divide(sums["log_ratio_sum"], sums["log_ratio_n"])
    log_variance = _divide(sums["log_ratio_square"], sums["log_ratio_n"]) - log_mean**2
    found = {
        "bias_db": _decibel(_divide(sums["despeckled"], sums["noisy"])),
        "log_ratio_variance": log_variance / float(log_speckle_variance(pair.looks)),
        "point_loss_db": _divide(sums["points_loss"], sums["points_n"]),
        "point_contrast_loss_db": _divide(sums["points_contrast_loss"], sums["points_n"]),
        "seam": _divide(_divide(sums["seam_sum"], sums["seam_n"]),
                        _divide(sums["smooth_sum"], sums["smooth_n"])),
        "valid_share": sums["n"] / n_px,
    }  # fmt: skip
    if pair.reference is not None or pair.others is not None:
        found["structure"] = _correlation(sums, "structure")
    if pair.reference is None:
        return found
    power = _divide(sums["gradient"], sums["reference_gradient"])
    psnr, noisy_psnr = (
        _decibel(_divide(255.0**2 * sums["reference_n"], sums[name]))
        for name in ("error8_square", "noisy_error8_square")
    )
    return found | {
        "rmse_db": float(np.sqrt(_divide(sums["error_db_square"], sums["error_n"]))),
        "psnr_db": psnr,
        "gain_db": psnr - noisy_psnr,
        "ssim": _divide(sums["ssim_sum"], sums["ssim_n"]),
        "edge_index": max(1 - abs(1 - power), 0.0) if np.isfinite(power) else NAN,
        "edge_correlation": _correlation(sums, "edge"),
        "reference_bias_db": _decibel(_divide(sums["despeckled_at_reference"], sums["reference"])),
    }


def _scores_of_windows(table: NDArray[np.float64], looks: float) -> dict[str, float]:
    """Return the scores of homogeneous windows: medians over windows, so that no edge decides."""
    if not len(table):
        return {}
    column = {name: table[:, i] for i, name in enumerate(WINDOW_COLUMNS)}
    area_mpx = len(table) * WINDOW_PX**2 / 1e6
    return {
        "enl_before": 1 / float(np.median(column["noisy_cv2"])),
        "enl": _divide(1.0, float(np.median(column["cv2"]))),
        "cx": float(np.median(np.sqrt(column["cv2"]))),
        "ratio_mean": float(np.mean(column["ratio_mean"])),
        "ratio_variance": float(np.median(column["ratio_var"])) * looks,
        "false_points_per_mpx": float(column["n_false_points"].sum()) / area_mpx,
    }


def _m_index(table: NDArray[np.float64], windows: list[Window], pair: ImagePair) -> float:
    """Return the index M, in percent: statistics of the ratio, and its structure.

    The first part is the mean over homogeneous windows of half of
    ``|ENL of input - ENL of ratio| / ENL of input + |1 - mean of ratio|``. The second part compares
    the homogeneity of the grey-level co-occurrence matrix of the ratio with that of the same
    pixels in random order. Correlated speckle has structure, so its M is not 0 for a perfect
    result; compare methods on the same image only.

    References
    ----------
    L. Gomez, R. Ospina, A. C. Frery, "Unassisted quantitative evaluation of despeckling filters",
    Remote Sensing 9(4), 2017. Windows and grey levels are chosen here.
    """
    if not windows:
        return NAN
    column = {name: table[:, i] for i, name in enumerate(WINDOW_COLUMNS)}
    looks_in, looks_ratio = (
        1 / column["noisy_cv2"],
        column["ratio_mean"] ** 2 / np.maximum(column["ratio_var"], 1e-30),
    )
    lost = np.abs(looks_in - looks_ratio) / looks_in + np.abs(1 - column["ratio_mean"])
    rng = np.random.default_rng(0)
    step = max(len(windows) // _N_STRUCTURE_WINDOWS, 1)
    structures = []
    for window in windows[::step]:
        ratio = pair.noisy(window) / pair.despeckled(window)
        edges = np.quantile(ratio, np.linspace(0, 1, _N_LEVELS + 1)[1:-1])
        levels = np.digitize(ratio, edges)
        shuffled = np.mean([
            _homogeneity(rng.permuted(levels.ravel()).reshape(levels.shape))
            for _ in range(_N_SHUFFLES)
        ])  # fmt: skip
        structures.append(abs(_homogeneity(levels) - shuffled) / shuffled)
    return float(100 * (np.mean(lost) / 2 + np.mean(structures)))


def _homogeneity(levels: NDArray[np.int64]) -> float:
    """Return the mean of 1 / (1 + difference^2) of horizontal and vertical neighbours."""
    steps = (np.diff(levels, axis=0).ravel(), np.diff(levels, axis=1).ravel())
    return float(np.mean(1 / (1 + np.concatenate(steps).astype(np.float64) ** 2)))


def _correlation(sums: Sums, name: str) -> float:
    n, a, b = (sums[f"{name}_{key}"] for key in ("n", "a", "b"))
    if n < 2:
        return NAN
    var_a, var_b = (sums[f"{name}_{key}"] / n - (m / n) ** 2 for key, m in (("aa", a), ("bb", b)))
    covariance = sums[f"{name}_ab"] / n - a * b / n**2
    return covariance / float(np.sqrt(var_a * var_b)) if var_a * var_b > 1e-24 else NAN


def _divide(a: float, b: float) -> float:
    return a / b if b else NAN


def _decibel(ratio: float) -> float:
    return float(_DB * np.log(ratio)) if ratio > 0 else NAN
