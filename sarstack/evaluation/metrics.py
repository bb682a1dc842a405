"""Scores of a despeckled image, with and without the truth, over valid pixels only.

All functions take linear intensity, shape (y, x), and leave out every pixel that is NaN in
any of their images; those that need a logarithm also leave out values that are not
positive. Where nothing is left they return NaN. Formulas with the name of a paper or a
field's habit say so; numbers of other definitions of the same name are not comparable.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from sarstack.errors import UsageError
from sarstack.speckle.laws import moment_looks
from sarstack.speckle.moving_window import box_mean
from sarstack.speckle.statistics import log_deviation

Image = NDArray[np.floating]

_DB = 10 / np.log(10)


class RatioStatistics(NamedTuple):
    """What was taken away: statistics of the ratio noisy / despeckled.

    Attributes
    ----------
    mean : float
        1 if radiometry is kept.
    variance : float
        ``1 / looks`` if exactly the speckle was taken away; less: speckle is left.
    log_variance : float
        psi1(looks) in that case; more robust than `variance`.
    """

    mean: float
    variance: float
    log_variance: float


def rmse_db(despeckled: Image, truth: Image) -> float:
    """Return the root mean square of ``10 log10(despeckled / truth)``, in dB.

    The recommended score: independent of brightness, so dark land counts like a town.
    """
    difference = _log_ratio(despeckled, truth)
    return float(_DB * np.sqrt(np.mean(difference**2))) if difference.size else float("nan")


def bias_db(despeckled: Image, truth: Image) -> float:
    """Return ``10 log10(mean despeckled / mean truth)``, in dB: 0 if radiometry is kept."""
    a, b = _common(despeckled, truth)
    if not a.size or a.mean() <= 0 or b.mean() <= 0:
        return float("nan")
    return float(_DB * np.log(a.mean() / b.mean()))


def enl(region: Image) -> float:
    """Return the equivalent number of looks mean^2 / variance (ddof=1) of a flat region.

    Never to be read alone: a blurred or biased image has a high number, too.
    """
    return moment_looks(region)


def psnr_amplitude_db(despeckled: Image, truth: Image, peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio of the amplitudes, in dB.

    Parameters
    ----------
    despeckled, truth : ndarray, shape (y, x), floating
        Linear intensity; amplitudes are their square roots.
    peak : float, optional
        Peak amplitude; by default the 99 % quantile of the true amplitude, the habit of
        SAR2SAR and MERLIN.

    Returns
    -------
    float
        Infinite if the images agree.
    """
    a, b = (np.sqrt(np.maximum(values, 0)) for values in _common(despeckled, truth))
    if not a.size:
        return float("nan")
    top = float(np.quantile(b, 0.99)) if peak is None else peak
    error = float(np.mean((a - b) ** 2))
    return float(10 * np.log10(top**2 / error)) if error > 0 else float("inf")


def ratio_statistics(noisy: Image, despeckled: Image) -> RatioStatistics:
    """Return the statistics of the ratio image noisy / despeckled.

    On correlated data the ideal ratio is speckle, so it is not white either.
    """
    a, b = _common(noisy, despeckled)
    ratio = a[b > 0] / b[b > 0]
    if ratio.size < 2:
        return RatioStatistics(float("nan"), float("nan"), float("nan"))
    logs = np.log(ratio[ratio > 0])
    spread = float(logs.var(ddof=1)) if logs.size > 1 else float("nan")
    return RatioStatistics(float(ratio.mean()), float(ratio.var(ddof=1)), spread)


def contrast_kept(
    despeckled: Image, truth: Image, inside: NDArray[np.bool_], beside: NDArray[np.bool_]
) -> float:
    """Return the share of a contrast that is left, both contrasts in dB.

    Parameters
    ----------
    despeckled, truth : ndarray, shape (y, x), floating
        Linear intensity.
    inside, beside : ndarray, shape (y, x), bool
        Pixels of the object (a river, a road) and of the ground next to it.

    Returns
    -------
    float
        1 if the object is as dark or bright against its surroundings as in truth, 0 if it
        is gone; NaN if the truth has no contrast or either place no valid pixel.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left, full = (
            np.log(_finite_mean(image[inside]) / _finite_mean(image[beside]))
            for image in (despeckled, truth)
        )
    return float(left / full) if full else float("nan")


def change_kept(despeckled: Image, truth: Image, usual: Image) -> float:
    """Return the share of what changed on a date that is left, in dB.

    Parameters
    ----------
    despeckled, truth, usual : ndarray, any shape, floating
        Linear intensity of changed pixels: the result, what it should be, and what it would
        be without the change.

    Returns
    -------
    float
        Slope of ``ln(despeckled / usual)`` over ``ln(truth / usual)``: 1 if changes are kept,
        0 if the result shows what other dates show. NaN if nothing changes.
    """
    _common(despeckled, truth)
    _common(truth, usual)
    positive = (despeckled > 0) & (truth > 0) & (usual > 0)  # false where NaN
    base = np.log(usual[positive].astype(np.float64))
    left, full = (np.log(image[positive]) - base for image in (despeckled, truth))
    if full.size < 2 or np.ptp(full) < 1e-12:
        return float("nan")
    return float(np.cov(left, full)[0, 1] / full.var(ddof=1))


def ratio_structure(noisy: Image, despeckled: Image, reference: Image, width_px: int = 15) -> float:
    """Return how much of the scene is left in the ratio image noisy / despeckled.

    The correlation of the log ratio with the detail of the scene: the logarithm of the
    reference less its mean in a window.

    Parameters
    ----------
    noisy, despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    reference : ndarray, shape (y, x), floating
        The truth, or the mean of other dates: its speckle must not be that of `noisy`, or
        speckle itself would count as detail.
    width_px : int
        Odd width of the window.

    Returns
    -------
    float
        0 if what was taken out is speckle alone; positive if detail was taken with it (bright
        things are bright in the ratio), negative if detail was sharpened. NaN if the ratio or
        the scene does not vary.
    """
    _common(noisy, despeckled)
    _common(noisy, reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = [np.log(np.where(image > 0, image, np.nan).astype(np.float64))
                for image in (noisy, despeckled, reference)]  # fmt: skip
    valid = np.isfinite(logs[0] + logs[1] + logs[2])
    detail = (logs[2] - box_mean(logs[2], valid, width_px))[valid]
    ratio = (logs[0] - logs[1])[valid]
    if valid.sum() < 2 or np.ptp(ratio) < 1e-12 or np.ptp(detail) < 1e-12:
        return float("nan")
    return float(np.corrcoef(ratio, detail)[0, 1])


def log_spread(despeckled: Image, reference: Image) -> float:
    """Return the standard deviation of ln(despeckled / reference), positive pixels only."""
    deviation = log_deviation(despeckled, reference)
    known = np.isfinite(deviation)
    return float(deviation[known].std()) if known.sum() > 1 else float("nan")


def border_gradient_ratio(
    despeckled: Image, *, rows: Iterable[int] = (), columns: Iterable[int] = ()
) -> float:
    """Return how much steeper the image is across tile borders than elsewhere.

    Parameters
    ----------
    despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    rows, columns : iterable of int
        First row or column of each tile; 0 is no border.

    Returns
    -------
    float
        Mean absolute log gradient across the borders over that across all other pairs of
        neighbours; about 1 without seams. NaN if either has no pair.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(despeckled > 0, despeckled, np.nan).astype(np.float64))
    across, within = [], []
    for axis, borders in ((0, rows), (1, columns)):
        gradient = np.moveaxis(np.abs(np.diff(logs, axis=axis)), axis, 0)
        at_border = np.isin(np.arange(1, logs.shape[axis]), [b for b in borders if b > 0])
        across.append(gradient[at_border].ravel())
        within.append(gradient[~at_border].ravel())
    seam, rest = (_finite_mean(np.concatenate(parts)) for parts in (across, within))
    return seam / rest if rest > 0 else float("nan")


def point_peak_loss_db(
    noisy: Image, despeckled: Image, points: Iterable[tuple[int, int]], *, reach_px: int = 1
) -> float:
    """Return how many dB point targets have lost, averaged over the points.

    Parameters
    ----------
    noisy, despeckled : ndarray, shape (y, x), floating
        Linear intensity.
    points : iterable of (int, int)
        Row and column of each point.
    reach_px : int
        The peak is sought within so many pixels.

    Returns
    -------
    float
        Mean of ``10 log10(peak before / peak after)``: 0 if kept, positive if flattened.

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
            expected=f"one or more (row, column) inside an image of {noisy.shape}",
            do="give points in pixels of the image",
        )
    before, after = (_peaks(image, where, reach_px) for image in (noisy, despeckled))
    difference = _log_ratio(before, after)
    return float(_DB * difference.mean()) if difference.size else float("nan")


def _peaks(image: Image, where: NDArray[np.int_], reach_px: int) -> NDArray[np.float64]:
    filled = np.where(np.isfinite(image), image, -np.inf).astype(np.float64)
    highest = maximum_filter(filled, 2 * reach_px + 1, mode="constant", cval=-np.inf)
    return np.asarray(highest[where[:, 0], where[:, 1]])


def _common(first: Image, second: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of both images where both are finite, as float64."""
    if first.shape != second.shape:
        raise UsageError(
            f"images of {first.shape} and {second.shape} pixels cannot be compared",
            expected="the same shape",
            do="crop both images to the same window",
        )
    both = np.isfinite(first) & np.isfinite(second)
    return first[both].astype(np.float64), second[both].astype(np.float64)


def _log_ratio(first: Image, second: Image) -> NDArray[np.float64]:
    a, b = _common(first, second)
    positive = (a > 0) & (b > 0)
    return np.asarray(np.log(a[positive] / b[positive]))


def _finite_mean(values: Image) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(finite.mean()) if finite.size else float("nan")
