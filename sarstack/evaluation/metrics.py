"""Scores of a despeckled image: the functions, and the table `SCORES` of all scores.

To add a score, add one entry to `SCORES`, and a test against an independent library to
``tests/test_metrics.py``. Tables, CSV files and pictures then have it. Functions take linear
intensity, of shape (y, x) if nothing else is said. They leave out every pixel that is NaN in any
of their images, and values that are not positive where a logarithm is taken. They return NaN if
no pixel is left.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from sarstack.errors import UsageError
from sarstack.evaluation.change_scores import change_kept, changed_elsewhere, leak_from_others
from sarstack.evaluation.scores import (
    NAN,
    Mask,
    Result,
    Score,
    Scores,
    harmonic_mean,
    mean,
    pool,
    root_mean_square,
    worst,
)
from sarstack.speckle.laws import log_speckle_variance, moment_looks
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import log_deviation

Image = NDArray[np.floating]

_DB = 10 / np.log(10)


class RatioStatistics(NamedTuple):
    """Statistics of the ratio noisy / despeckled, which is the removed speckle.

    Attributes
    ----------
    mean : float
        1 if radiometry is kept.
    variance : float
        ``1 / looks`` if exactly the speckle was removed, less if speckle is left.
    log_variance : float
        Variance of the logarithm: psi1(looks) if exactly the speckle was removed. More robust
        than `variance`.
    """

    mean: float
    variance: float
    log_variance: float


def rmse_db(despeckled: Image, truth: Image) -> float:
    """Return the root mean square of ``10 log10(despeckled / truth)``, in dB.

    The main score: it does not depend on brightness, so dark land counts as much as a town.
    """
    difference = _log_ratio(despeckled, truth)
    return float(_DB * np.sqrt(np.mean(difference**2))) if difference.size else NAN


def bias_db(despeckled: Image, reference: Image) -> float:
    """Return ``10 log10(mean despeckled / mean reference)``, in dB: 0 if radiometry is kept.

    The reference is the truth or the noisy input: both have the same expectation.
    """
    a, b = _common_values(despeckled, reference)
    if not a.size or a.mean() <= 0 or b.mean() <= 0:
        return NAN
    return float(_DB * np.log(a.mean() / b.mean()))


def enl(region: Image) -> float:
    """Return the equivalent number of looks mean^2 / variance (ddof=1) of a homogeneous region.

    Do not compare methods by it alone: a blurred or biased image has many looks, too.
    """
    return moment_looks(region)


def psnr_amplitude_db(despeckled: Image, truth: Image, peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio of the amplitudes, in dB.

    Parameters
    ----------
    despeckled, truth : ndarray, shape (y, x), floating
        Linear intensity; amplitudes are their square roots.
    peak : float, optional
        Peak amplitude; by default the 99 % quantile of the true amplitude, as in the papers
        of SAR2SAR and MERLIN (Dalsasso et al., 2021 and 2022).

    Returns
    -------
    float
        Infinite if the images are equal.
    """
    a, b = (np.sqrt(np.maximum(values, 0)) for values in _common_values(despeckled, truth))
    if not a.size:
        return NAN
    top = float(np.quantile(b, 0.99)) if peak is None else peak
    error = float(np.mean((a - b) ** 2))
    return float(10 * np.log10(top**2 / error)) if error > 0 else float("inf")


def ratio_statistics(noisy: Image, despeckled: Image) -> RatioStatistics:
    """Return the statistics of the ratio image noisy / despeckled.

    The ideal ratio is speckle: if the speckle is correlated, the ratio is correlated too.
    """
    a, b = _common_values(noisy, despeckled)
    ratio = a[b > 0] / b[b > 0]
    if ratio.size < 2:
        return RatioStatistics(NAN, NAN, NAN)
    logs = np.log(ratio[ratio > 0])
    log_variance = float(logs.var(ddof=1)) if logs.size > 1 else NAN
    return RatioStatistics(float(ratio.mean()), float(ratio.var(ddof=1)), log_variance)


def contrast_kept(
    despeckled: Image, truth: Image, inside: NDArray[np.bool_], beside: NDArray[np.bool_]
) -> float:
    """Return which fraction of the true contrast of an object is kept, both contrasts in dB.

    Parameters
    ----------
    despeckled, truth : ndarray, shape (y, x), floating
        Linear intensity.
    inside, beside : ndarray, shape (y, x), bool
        Pixels of the object (a river, a road) and of the ground beside it.

    Returns
    -------
    float
        1 if the contrast is kept, 0 if the object has disappeared; NaN if the truth has no
        contrast, or if one of the two regions has no valid pixel.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        contrast, true_contrast = (
            np.log(_finite_mean(image[inside]) / _finite_mean(image[beside]))
            for image in (despeckled, truth)
        )
    return float(contrast / true_contrast) if true_contrast else NAN


def ratio_structure(noisy: Image, despeckled: Image, reference: Image, width_px: int = 15) -> float:
    """Return the correlation of the ratio image noisy / despeckled with detail of the scene.

    Both are taken as logarithms. Detail is the logarithm of the reference minus its mean in a
    window.

    Parameters
    ----------
    noisy, despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    reference : ndarray, shape (y, x), floating
        The scene: the truth, the mean of other dates or another polarisation. Its speckle must
        be independent of that of `noisy`, otherwise speckle would count as detail.
    width_px : int
        Odd width of the window.

    Returns
    -------
    float
        0 if speckle alone was removed; positive if detail was removed too (bright objects are
        bright in the ratio), negative if detail was sharpened. NaN if the ratio or the scene
        is constant.
    """
    _check_shapes(noisy, despeckled)
    _check_shapes(noisy, reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = [np.log(np.where(image > 0, image, np.nan).astype(np.float64))
                for image in (noisy, despeckled, reference)]  # fmt: skip
    valid = np.isfinite(logs[0] + logs[1] + logs[2])
    detail = (logs[2] - box_mean(logs[2], valid, width_px))[valid]
    ratio = (logs[0] - logs[1])[valid]
    if valid.sum() < 2 or np.ptp(ratio) < 1e-12 or np.ptp(detail) < 1e-12:
        return NAN
    return float(np.corrcoef(ratio, detail)[0, 1])


def log_spread(despeckled: Image, reference: Image) -> float:
    """Return the standard deviation of ln(despeckled / reference), any shape."""
    deviation = log_deviation(despeckled, reference)
    valid = np.isfinite(deviation)
    return float(deviation[valid].std()) if valid.sum() > 1 else NAN


def point_peak_loss_db(
    noisy: Image, despeckled: Image, points: Iterable[tuple[int, int]], *, reach_px: int = 1
) -> float:
    """Return the loss of the peaks of point targets in dB, mean over the points.

    Parameters
    ----------
    noisy, despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    points : iterable of (int, int)
        Row and column of each point.
    reach_px : int
        The peak is the maximum within this distance in rows and columns.

    Returns
    -------
    float
        Mean of ``10 log10(noisy peak / despeckled peak)``: 0 if peaks are kept, positive if
        they are lower.

    Raises
    ------
    UsageError
        If there is no point, or one lies outside the image.
    """
    where = np.array(list(points), dtype=int).reshape(-1, 2)
    inside = ((where >= 0) & (where < np.array(noisy.shape))).all(axis=1)
    if not len(where) or not inside.all():
        raise UsageError(
            f"points = {where[~inside].tolist()} cannot be used",
            expected=f"one or more (row, column) inside the image of {noisy.shape} pixels",
            do="leave out points outside the image",
        )
    before, after = (_peaks(image, where, reach_px) for image in (noisy, despeckled))
    difference = _log_ratio(before, after)
    return float(_DB * difference.mean()) if difference.size else NAN


def _peaks(image: Image, where: NDArray[np.int_], reach_px: int) -> NDArray[np.float64]:
    filled = np.where(np.isfinite(image), image, -np.inf).astype(np.float64)
    highest = maximum_filter(filled, 2 * reach_px + 1, mode="constant", cval=-np.inf)
    return np.asarray(highest[where[:, 0], where[:, 1]])


def _check_shapes(first: Image, second: Image) -> None:
    if first.shape != second.shape:
        raise UsageError(
            f"images of {first.shape} and {second.shape} pixels cannot be compared",
            expected="two images of the same shape",
            do="crop both images to the same window",
        )


def _common_values(first: Image, second: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of both images where both are finite, as float64."""
    _check_shapes(first, second)
    both = np.isfinite(first) & np.isfinite(second)
    return first[both].astype(np.float64), second[both].astype(np.float64)


def _log_ratio(first: Image, second: Image) -> NDArray[np.float64]:
    a, b = _common_values(first, second)
    positive = (a > 0) & (b > 0)
    return np.asarray(np.log(a[positive] / b[positive]))


def _finite_mean(values: Image) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(finite.mean()) if finite.size else NAN


def _rmse_where_db(result: Result, select: Callable[[Mask], Mask]) -> float:
    """Return the RMSE of the pixels that a function selects from the mask of changes."""
    if result.changed is None:
        return NAN
    where = select(result.changed)
    return rmse_db(result.despeckled[where], result.reference[where])


def _change_kept(result: Result) -> float:
    if result.changed is None or result.unchanged is None:
        return NAN
    images = (result.despeckled, result.reference, result.unchanged)
    return change_kept(*(image[result.changed] for image in images))


def _leak_from_others(result: Result) -> float:
    if result.changed is None or result.unchanged is None:
        return NAN
    return leak_from_others(result.despeckled, result.reference, result.unchanged, result.changed)


def _spread(result: Result, reference: Image | None) -> float:
    if reference is None:
        return NAN
    dates = zip(result.despeckled, reference, strict=True)
    return pool([log_spread(*images) for images in dates], root_mean_square)


def _flat_bias_db(result: Result) -> float:
    image, noisy = result.despeckled[0], result.noisy[0]
    return pool([bias_db(image[flat], noisy[flat]) for flat in result.flats], worst)


def _enl(result: Result) -> float:
    return pool([enl(result.despeckled[0][flat]) for flat in result.flats], harmonic_mean)


def _point_loss_db(result: Result) -> float:
    if not result.points:
        return NAN
    return point_peak_loss_db(result.reference[0], result.despeckled[0], result.points, reach_px=0)


def _line_kept(result: Result, largest_width_px: int) -> float:
    lines = [line for line in result.lines if line.width_px <= largest_width_px]
    image, truth = result.despeckled[0], result.reference[0]
    return pool([contrast_kept(image, truth, line.inside, line.beside) for line in lines], mean)


def _ratio(result: Result) -> RatioStatistics:
    where = ... if result.homogeneous is None else (slice(None), result.homogeneous)
    return ratio_statistics(result.noisy[where], result.despeckled[where])


def _ratio_structure(result: Result) -> float:
    dates = zip(result.noisy, result.despeckled, result.reference, strict=True)
    return pool([ratio_structure(*images) for images in dates], mean)


SCORES: dict[str, Score] = {score.name: score for score in (
    Score("rmse_db", "RMSE dB", "root mean square of 10 log10(result / truth), the main score",
          "lower", 3, ("simulated",), lambda r: rmse_db(r.despeckled, r.reference),
          root_mean_square, bold=True),
    Score("rmse_relative_to_lee", "RMSE / Lee", "RMSE divided by that of `lee` in the same table",
          "lower", 3),
    Score("rmse_changed_db", "changed dB", "RMSE where a date differs from the others",
          "lower", 3, ("simulated",), lambda r: _rmse_where_db(r, np.asarray),
          root_mean_square, bold=True),
    Score("rmse_unchanged_db", "unchanged dB", "RMSE of all other pixels",
          "lower", 3, ("simulated",), lambda r: _rmse_where_db(r, np.logical_not),
          root_mean_square, bold=True),
    Score("rmse_others_changed_db", "others changed dB", "RMSE where a date is as usual and "
          "another date is not", "lower", 3, ("simulated",),
          lambda r: _rmse_where_db(r, changed_elsewhere), root_mean_square, bold=True),
    Score("change_kept", "change kept", "kept fraction of the change of a date, in dB; the rest "
          "is leak of the other dates into it", 1, 3, ("simulated",), _change_kept),
    Score("leak_from_others", "leak from others", "slope of the error in dB along the change of "
          "the other dates, where a date is as usual", 0, 3, ("simulated",), _leak_from_others),
    Score("spread", "spread", "standard deviation of ln(result / mean of all other dates)",
          "lower", 4, ("stack",), lambda r: _spread(r, r.others), root_mean_square, bold=True),
    Score("spread_half", "spread, half stack", "standard deviation of ln(result / mean of the "
          "other half of the dates), which multi-temporal methods have not seen",
          "lower", 4, ("stack",), lambda r: _spread(r, r.reference), root_mean_square, bold=True),
    Score("bias_db", "bias dB", "mean of the result / mean of the input, in dB",
          0, 3, ("simulated", "stack", "scene"), lambda r: bias_db(r.despeckled, r.noisy)),
    Score("flat_bias_db", "flat bias dB", "bias of the flat field with the largest bias",
          0, 3, ("simulated",), _flat_bias_db, worst),
    Score("enl", "ENL", "looks (mean^2 / variance) of homogeneous areas; a blurred image has "
          "many, too", "higher", 0, ("simulated", "scene"), _enl, harmonic_mean),
    Score("psnr_db", "PSNR dB", "of the amplitude, peak = 99 % quantile of the truth",
          "higher", 2, ("simulated",), lambda r: psnr_amplitude_db(r.despeckled, r.reference)),
    Score("point_loss_db", "point loss dB", "true peak of points / peak in the result, in dB",
          0, 2, ("simulated",), _point_loss_db),
    Score("line_kept", "lines", "kept fraction of the contrast, in dB, of lines of 1 to 5 px",
          1, 2, ("simulated",), lambda r: _line_kept(r, 5)),
    Score("thin_line_kept", "1 px lines", "the same for lines of 1 px",
          1, 2, ("simulated",), lambda r: _line_kept(r, 1)),
    Score("ratio_mean", "ratio", "mean of input / result",
          1, 3, ("simulated", "stack", "scene"), lambda r: _ratio(r).mean),
    Score("ratio_variance", "ratio var", "variance of ln(input / result) / that of speckle alone",
          1, 2, ("simulated", "stack", "scene"),
          lambda r: _ratio(r).log_variance / float(log_speckle_variance(r.looks))),
    Score("ratio_structure", "structure", "correlation of ln(input / result) with detail of the "
          "scene", 0, 3, ("simulated", "stack", "scene"), _ratio_structure),
    Score("cpu_s_per_mpx", "CPU s/Mpx", "processor seconds per megapixel, all threads",
          "lower", 2),
)}  # fmt: skip
"""Every score by name, in the order of the columns of tables."""


def score_result(result: Result) -> Scores:
    """Compute all scores for data of this kind; NaN if the result lacks what a score needs."""
    return {
        score.name: score.function(result)
        for score in SCORES.values()
        if score.function is not None and result.kind in score.kinds
    }
