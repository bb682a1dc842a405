"""Sums over the pixels of one tile, from which the scores of a whole image follow.

Sums of tiles are added, so an image of any size is scored in the memory of one tile. A pixel that
is not finite in the noisy or the despeckled image is left out everywhere; a pixel that is not
positive is left out where a logarithm is taken.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace, maximum_filter, sobel

from sarstack.speckle.moving_window import box_mean
from sarstack.tiles import Window

Image = NDArray[np.float32]
Sums = dict[str, float]

TILE_PX = 1000
"""Width of a tile: whole windows."""
WINDOW_PX = 25
"""Width of the windows in which homogeneous areas are looked for."""
MARGIN_PX = 8
"""Pixels beside a tile that its filters look at."""
SEAM_PX = 256
"""Tiles of runs start at multiples of this number of pixels."""
RATIO_BINS = np.linspace(0, 5, 201)
_SSIM_SIGMA_PX, _SSIM_RADIUS_PX = 1.5, 5
_SSIM_K1, _SSIM_K2, _PEAK = 0.01, 0.03, 255.0
_DETAIL_PX, _POINT_PX = 15, 9
# A point target is this many times as bright as the mean around it.
_POINT_CONTRAST = 20.0
_DB = 10 / np.log(10)


class TileImages(NamedTuple):
    """The pixels of one tile and its margin, linear power, NaN = nodata.

    Attributes
    ----------
    noisy, despeckled : ndarray, shape (y, x), float32
    reference : ndarray, shape (y, x), float32, or None
        The scene without speckle.
    scene : ndarray, shape (y, x), float32, or None
        The reference; or the mean of other dates, whose speckle is another one.
    outer, window : Window
        Place of the arrays, and of the tile without its margin.
    """

    noisy: Image
    despeckled: Image
    reference: Image | None
    scene: Image | None
    outer: Window
    window: Window


@dataclass(frozen=True)
class TileMeasures:
    """What was measured in one tile.

    Attributes
    ----------
    sums : dict of str to float
        Sums over pixels, which can be added to those of other tiles.
    ratio_counts : ndarray, shape (200,), int
        Histogram of noisy / despeckled between 0 and 5.
    windows : ndarray, shape (n, 10), float64
        One row a window without nodata, see `WINDOW_COLUMNS`.
    """

    sums: Sums
    ratio_counts: NDArray[np.int64]
    windows: NDArray[np.float64]


WINDOW_COLUMNS = ("y", "x", "noisy_mean", "noisy_cv2", "mean", "cv2", "ratio_mean", "ratio_var",
                  "scene_cv2", "n_false_points")  # fmt: skip


def measure_tile(images: TileImages) -> TileMeasures:
    """Measure one tile."""
    inside = images.window.slices_in(images.outer)
    noisy, despeckled = (image.astype(np.float64) for image in (images.noisy, images.despeckled))
    valid = np.isfinite(noisy) & np.isfinite(despeckled)
    noisy[~valid], despeckled[~valid] = np.nan, np.nan
    reference, scene = (
        None if image is None else np.where(valid, image, np.nan).astype(np.float64)
        for image in (images.reference, images.scene)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = _sum_ratio(noisy[inside], despeckled[inside])
        sums |= _sum_seams(despeckled, images.outer, images.window)
        sums |= _sum_points(noisy, despeckled, inside)
        if scene is not None:
            sums |= _sum_structure(noisy, despeckled, scene, inside)
        if reference is not None:
            sums |= _sum_errors(noisy[inside], despeckled[inside], reference[inside])
            sums |= _sum_similarity(despeckled, reference, inside)
            sums |= _sum_edges(despeckled, reference, inside)
        ratio = noisy[inside] / despeckled[inside]
        counts, _ = np.histogram(ratio[np.isfinite(ratio)], RATIO_BINS)
        windows = _measure_windows(noisy, despeckled, scene, images, inside)
    return TileMeasures(sums, counts.astype(np.int64), windows)


Place = tuple[slice, slice]
Array = NDArray[np.float64]


def _sum_ratio(noisy: Array, despeckled: Array) -> Sums:
    """Sum intensities, the ratio noisy / despeckled, and its logarithm."""
    ratio = noisy / np.where(despeckled > 0, despeckled, np.nan)
    log = np.log(np.where(ratio > 0, ratio, np.nan))
    return {
        "n": float(np.isfinite(noisy).sum()),
        "noisy": float(np.nansum(noisy)),
        "despeckled": float(np.nansum(despeckled)),
        **_moments("ratio", ratio),
        **_moments("log_ratio", log),
    }


def _moments(name: str, values: Array) -> Sums:
    finite = values[np.isfinite(values)]
    return {
        f"{name}_n": float(finite.size),
        f"{name}_sum": float(finite.sum()),
        f"{name}_square": float((finite**2).sum()),
    }


def _sum_structure(noisy: Array, despeckled: Array, scene: Array, inside: Place) -> Sums:
    """Sum for the correlation of the log ratio with detail: ln scene minus its local mean."""
    logs = [np.log(np.where(image > 0, image, np.nan)) for image in (noisy, despeckled, scene)]
    detail = logs[2] - box_mean(logs[2], np.isfinite(logs[2]), _DETAIL_PX)
    return _product_sums("structure", (logs[0] - logs[1])[inside], detail[inside])


def _product_sums(name: str, a: Array, b: Array) -> Sums:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    return {
        f"{name}_n": float(a.size),
        f"{name}_a": float(a.sum()),
        f"{name}_b": float(b.sum()),
        f"{name}_aa": float((a * a).sum()),
        f"{name}_bb": float((b * b).sum()),
        f"{name}_ab": float((a * b).sum()),
    }


def _sum_seams(despeckled: Array, outer: Window, window: Window) -> Sums:
    """Sum differences of ln intensity across possible borders of tiles, and elsewhere."""
    logs = np.log(np.where(despeckled > 0, despeckled, np.nan))
    sums = dict.fromkeys(("seam_sum", "seam_n", "smooth_sum", "smooth_n"), 0.0)
    starts, first = (outer.y0, outer.x0), (window.y0, window.x0)
    for axis in (0, 1):
        # The difference at index i belongs to pixel i + 1.
        step = np.moveaxis(np.abs(np.diff(logs, axis=axis)), axis, 0)
        pixel = starts[axis] + 1 + np.arange(len(step))
        own = (pixel >= max(first[axis], 1)) & (pixel < first[axis] + window.shape[axis])
        for name, chosen in (("seam", pixel % SEAM_PX == 0), ("smooth", pixel % SEAM_PX != 0)):
            values = step[own & chosen]
            finite = values[np.isfinite(values)]
            sums[f"{name}_sum"] += float(finite.sum())
            sums[f"{name}_n"] += float(finite.size)
    return sums


def _sum_points(noisy: Array, despeckled: Array, inside: Place) -> Sums:
    """Sum what point targets lose: of their peak, and of their contrast to their 8 neighbours."""
    filled = np.nan_to_num(noisy, nan=0.0)
    highest = maximum_filter(filled, _POINT_PX, mode="constant")
    around = box_mean(filled, np.isfinite(noisy), 2 * MARGIN_PX + 1)
    is_point = np.zeros(noisy.shape, bool)
    is_point[inside] = True
    is_point &= (filled == highest) & (filled > _POINT_CONTRAST * around) & (filled > 0)
    rows, columns = np.nonzero(is_point)
    before, after = (
        maximum_filter(np.nan_to_num(i, nan=0.0), 3, mode="constant")[rows, columns]
        for i in (noisy, despeckled)
    )
    contrast_before, contrast_after = (
        _contrast_to_neighbours(image, rows, columns) for image in (noisy, despeckled)
    )
    loss = _DB * np.log(before / after)
    lost_contrast = _DB * np.log(contrast_before / contrast_after)
    return {
        "points_n": float(len(rows)),
        "points_loss": float(np.nansum(loss)),
        "points_contrast_loss": float(np.nansum(lost_contrast)),
    }


def _contrast_to_neighbours(
    image: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> Array:
    """Return the value of pixels over the mean of their 8 neighbours."""
    padded = np.pad(image, 1, constant_values=np.nan)
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    for y, x in np.ndindex(3, 3):
        if (y, x) != (1, 1):
            value = padded[rows + y, columns + x]
            total += np.nan_to_num(value)
            count += np.isfinite(value)
    return np.asarray(padded[rows + 1, columns + 1] / (total / count))


def _sum_errors(noisy: Array, despeckled: Array, reference: Array) -> Sums:
    """Sum squared errors: in dB, and of images of 8 bits as the deSpeckNet paper has them."""
    both = (despeckled > 0) & (reference > 0)
    error_db = _DB * np.log(despeckled[both] / reference[both])
    known = np.isfinite(reference) & np.isfinite(noisy)
    noisy8, despeckled8, reference8 = (to_8_bits(i[known]) for i in (noisy, despeckled, reference))
    return {
        "error_n": float(error_db.size),
        "error_db_square": float((error_db**2).sum()),
        "reference_n": float(known.sum()),
        "reference": float(reference[known].sum()),
        "despeckled_at_reference": float(despeckled[known].sum()),
        "error8_square": float(((despeckled8 - reference8) ** 2).sum()),
        "noisy_error8_square": float(((noisy8 - reference8) ** 2).sum()),
    }


def to_8_bits(intensity: Array) -> Array:
    """Return linear intensity from 0 to 1 as whole numbers from 0 to 255, as the paper does."""
    return np.rint(255 * np.clip(intensity, 0, 1))


def _sum_similarity(despeckled: Array, reference: Array, inside: Place) -> Sums:
    """Sum the map of structural similarity of images of 8 bits (Wang et al., 2004).

    Gaussian window of 11 x 11 px with a standard deviation of 1.5 px, K1 = 0.01, K2 = 0.03. Windows
    with nodata are left out.
    """
    valid = np.isfinite(despeckled) & np.isfinite(reference)
    a, b = (np.where(valid, to_8_bits(image), 0.0) for image in (despeckled, reference))

    def blur(image: Array) -> Array:
        return np.asarray(gaussian_filter(image, _SSIM_SIGMA_PX, radius=_SSIM_RADIUS_PX,
                                          mode="constant"))  # fmt: skip

    whole = blur(valid.astype(np.float64)) > 1 - 1e-9
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (_SSIM_K1 * _PEAK) ** 2, (_SSIM_K2 * _PEAK) ** 2
    similarity = (
        (2 * mean_a * mean_b + c1)
        * (2 * covariance + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    chosen = similarity[inside][whole[inside]]
    return {"ssim_n": float(chosen.size), "ssim_sum": float(chosen.sum())}


def _sum_edges(despeckled: Array, reference: Array, inside: Place) -> Sums:
    """Sum gradients, and the products of both images after a Laplace filter."""
    valid = np.isfinite(despeckled) & np.isfinite(reference)
    # A filter of 3 x 3 px gives NaN beside a NaN, so these pixels are left out.
    a, b = (np.where(valid, image, np.nan) for image in (despeckled, reference))
    gradient_a, gradient_b = (np.hypot(sobel(i, 0), sobel(i, 1))[inside] for i in (a, b))
    known = np.isfinite(gradient_a) & np.isfinite(gradient_b)
    return {
        "gradient": float(gradient_a[known].sum()),
        "reference_gradient": float(gradient_b[known].sum()),
        **_product_sums("edge", laplace(a)[inside], laplace(b)[inside]),
    }


def _measure_windows(
    noisy: Array, despeckled: Array, scene: Array | None, images: TileImages, inside: Place
) -> Array:
    """Return one row for each whole window without nodata; see `WINDOW_COLUMNS`."""
    y, x, _ = _windows(noisy[inside], images.window)
    ratio = noisy / np.where(despeckled > 0, despeckled, np.nan)
    noisy_mean, noisy_var = _mean_and_variance(_windows(noisy[inside], images.window)[2])
    pixels = _windows(despeckled[inside], images.window)[2]
    mean, var = _mean_and_variance(pixels)
    ratio_mean, ratio_var = _mean_and_variance(_windows(ratio[inside], images.window)[2])
    scene_cv2 = np.full(mean.shape, np.nan)
    if scene is not None:
        of_scene = _mean_and_variance(_windows(scene[inside], images.window)[2])
        scene_cv2 = of_scene[1] / of_scene[0] ** 2
    false_points = (pixels > 3 * mean[:, np.newaxis]).sum(axis=1)
    rows = np.stack([y, x, noisy_mean, noisy_var / noisy_mean**2, mean, var / mean**2, ratio_mean,
                     ratio_var, scene_cv2, false_points.astype(float)], axis=1)  # fmt: skip
    usable = np.isfinite(rows[:, 2:8]).all(axis=1) & (noisy_mean > 0) & (mean > 0)
    return np.asarray(rows[usable])


def _windows(image: Array, place: Window) -> tuple[Array, Array, Array]:
    """Return row and column of whole windows, and their pixels: one window in each row."""
    n_rows, n_columns = (size // WINDOW_PX for size in image.shape)
    whole = image[: n_rows * WINDOW_PX, : n_columns * WINDOW_PX]
    blocks = whole.reshape(n_rows, WINDOW_PX, n_columns, WINDOW_PX).swapaxes(1, 2)
    y, x = np.mgrid[:n_rows, :n_columns].reshape(2, -1) * float(WINDOW_PX)
    return y + place.y0, x + place.x0, blocks.reshape(-1, WINDOW_PX**2)


def _mean_and_variance(pixels: Array) -> tuple[Array, Array]:
    return pixels.mean(axis=1), pixels.var(axis=1, ddof=1)
