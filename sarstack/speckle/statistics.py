"""Statistics of speckle: looks, correlation, and what a scene tells of both.

The laws behind it are in :mod:`sarstack.speckle.laws` and can be imported from here as well.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import polygamma

from sarstack.checks import check_looks
from sarstack.speckle.laws import (
    correlated_area,
    likelihood_looks,
    log_moment_looks,
    log_speckle_mean,
    log_speckle_variance,
    log_variance_spread,
    looks_from_log_variance,
    moment_looks,
    pair_correlation,
    stable_threshold,
)
from sarstack.tiles import Shape, sample_windows

__all__ = [
    "SceneStatistics",
    "SpeckleSample",
    "combine_samples",
    "correlated_area",
    "join_windows",
    "likelihood_looks",
    "log_deviation",
    "log_moment_looks",
    "log_speckle_mean",
    "log_speckle_variance",
    "looks_from_log_variance",
    "measure_scene",
    "moment_looks",
    "pair_correlation",
    "sample_speckle",
    "sample_window",
    "stable_threshold",
]

NOMINAL_LOOKS = 4.4
"""Equivalent looks of Sentinel-1 IW GRDH, used where a scene is too small to measure."""

CELL_PX = 25
"""Width of the cells in which looks are measured: many independent pixels, little texture."""

MEASURED_DATES = 6
MIN_CELLS = 9
_MIN_USABLE = 0.99
_KEPT_CELLS = 144
_PLAUSIBLE_LOOKS = (0.6, 300.0)


@dataclass(frozen=True)
class SceneStatistics:
    """What is known of one date's scene as a whole.

    Attributes
    ----------
    looks : float
        Equivalent number of looks of the speckle (of the stack and polarisation).
    correlation : tuple of float
        Lag-1 correlation of intensity speckle along rows' direction (y) and columns' (x).
    bright : float
        98th percentile of the valid intensities of this date (an actual sample value);
        infinite where the date has no valid pixel.
    looks_source : {"given", "compared", "estimated", "nominal"}
        Where `looks` comes from: the user, differences between dates, single dates;
        "nominal" means too few usable pixels to estimate.
    """

    looks: float
    correlation: tuple[float, float] = (0.0, 0.0)
    bright: float = float("inf")
    looks_source: str = "given"

    @property
    def sensor(self) -> tuple[float, float, float] | None:
        """Looks and correlation, if sure enough to be told to a network.

        Texture makes an estimate from single dates too low, and a network that is told
        wrong is worse than one that is told nothing (RTC-like scenes: 0.52 and 0.50 dB).
        """
        sure = self.looks_source in {"given", "compared"}
        return (self.looks, *self.correlation) if sure else None


@dataclass(frozen=True, eq=False)
class SpeckleSample:
    """What the sample windows of one date tell: small, so that workers can send it home.

    Attributes
    ----------
    log_variance : ndarray, shape (cell,), float64
        Variance of ln y in each cell, less its plane; NaN if not usable.
    correlation : ndarray, shape (cell, 2), float64
        Lag-1 correlation of each cell, y and x.
    cells : ndarray, shape (kept, CELL_PX, CELL_PX), float32
        Intensities of some cells over their own mean, for ratios between dates.
    bright : float
        98th percentile of the valid intensities, infinite if there is none or nobody asked.
    """

    log_variance: NDArray[np.float64]
    correlation: NDArray[np.float64]
    cells: NDArray[np.float32]
    bright: float = float("inf")


def sample_speckle(windows: Iterable[NDArray[np.floating]]) -> SpeckleSample:
    """Measure speckle on the sample windows of one date.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), floating
        Linear power, NaN = nodata; see :func:`sarstack.tiles.sample_windows`. Dates whose
        speckle is compared must bring the same windows in the same order.

    Returns
    -------
    SpeckleSample
    """
    pixels = [np.asarray(window) for window in windows]
    # Window by window: what is computed in between stays in the processor's cache.
    joined = join_windows([sample_window(window, len(pixels)) for window in pixels])
    valid = np.concatenate([w[np.isfinite(w)] for w in pixels] or [np.empty(0)])
    return replace(joined, bright=_upper_quantile(valid, 0.98))


def sample_window(window: NDArray[np.floating], n_windows: int) -> SpeckleSample:
    """Measure one of a date's `n_windows` windows, all but what is bright."""
    stack = _cut_cells(window)
    kept = _spread(stack, _KEPT_CELLS // n_windows).reshape(-1, CELL_PX, CELL_PX)
    return SpeckleSample(
        *_measure_cells(stack.reshape(-1, CELL_PX, CELL_PX)), cells=_normalise(kept)
    )


def join_windows(samples: Sequence[SpeckleSample]) -> SpeckleSample:
    """Put together what windows tell, in their order."""
    none = SpeckleSample(np.empty(0), np.empty((0, 2)), np.empty((0, CELL_PX, CELL_PX), np.float32))
    samples = samples or [none]
    return SpeckleSample(
        np.concatenate([sample.log_variance for sample in samples]),
        np.concatenate([sample.correlation for sample in samples]),
        np.concatenate([sample.cells for sample in samples]),
    )


def _upper_quantile(values: NDArray[np.floating], share: float) -> float:
    """Return the value (one of them) that `share` of all are not above; infinite for none."""
    if not values.size:
        return float("inf")
    place = int(share * (values.size - 1))
    return float(np.partition(values, place)[place])


def _measure_cells(cells: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance of ln y and the lag-1 correlation of each cell, less its plane."""
    residual = _detrend(np.log(_normalise(cells)))
    variance = _mean_product(residual, residual) * CELL_PX**2 / (CELL_PX**2 - 3)
    return variance, _lag_one(np.exp(residual))


def spread_dates(n_dates: int) -> list[int]:
    """Choose the dates from which looks are estimated, evenly spread.

    One choice for all commands, so that each tells the same looks of the same stack.
    """
    chosen = np.linspace(0, n_dates - 1, min(n_dates, MEASURED_DATES))
    return [int(i) for i in np.unique(chosen.round())]


def combine_samples(
    samples: Sequence[SpeckleSample], looks: float | None = None
) -> list[SceneStatistics]:
    """Pool what the dates tell of the speckle of their stack.

    Parameters
    ----------
    samples : sequence of SpeckleSample
        One per date, in order of time, of one polarisation.
    looks : float, optional
        Number of looks to use instead of an estimate.

    Returns
    -------
    list of SceneStatistics
        One per date; looks and correlation are common to all, and estimated from the
        dates of :func:`spread_dates`.

    Notes
    -----
    Looks are those of the cells without texture. With several dates the contrast
    (a - b) / (a + b) of consecutive dates is measured too; there texture cancels, and
    Var = 1 / (2 L + 1) exactly for independent gamma speckle. It is used where it finds
    clearly more looks: where no cell of a single date is free of texture. (Texture and
    change both make an estimate too low.) With fewer than nine usable cells the nominal
    4.4 looks and white speckle are assumed.
    """
    check_looks(looks=looks)
    chosen = [samples[i] for i in spread_dates(len(samples))]
    joined = join_windows(chosen)
    single = _estimate(
        looks_from_log_variance(joined.log_variance),
        joined.correlation,
        contrast=False,
    )
    between = _estimate(*_contrasts(chosen), contrast=True)
    # Dates that find clearly more looks than one of them: what is between them is texture.
    compared = between is not None and (single is None or between[0] > 1.1 * single[0])
    found = between if compared else single
    estimate, correlation = found or (NOMINAL_LOOKS, (0.0, 0.0))
    measured = "compared" if compared else "estimated" if found else "nominal"
    source = measured if looks is None else "given"
    used = estimate if looks is None else float(looks)
    return [SceneStatistics(used, correlation, sample.bright, source) for sample in samples]


def measure_scene(block: NDArray[np.floating], looks: float | None = None) -> list[SceneStatistics]:
    """Measure the scene statistics of a block of dates held in memory.

    Parameters
    ----------
    block : ndarray, shape (time, y, x), floating
        Linear power of one polarisation, NaN = nodata.
    looks : float, optional
        Number of looks to use instead of an estimate.

    Returns
    -------
    list of SceneStatistics
        One per date. A date without valid pixels is described as well.
    """
    windows = sample_windows(Shape(*block.shape[1:]))
    samples = [sample_speckle([date[w.slices] for w in windows]) for date in block]
    return combine_samples(samples, looks)


def _cut_cells(window: NDArray[np.floating]) -> NDArray[np.floating]:
    """Cut a window into whole cells, shape (rows, columns, CELL_PX, CELL_PX)."""
    rows, columns = window.shape[0] // CELL_PX, window.shape[1] // CELL_PX
    whole = window[: rows * CELL_PX, : columns * CELL_PX]
    return np.asarray(whole.reshape(rows, CELL_PX, columns, CELL_PX).swapaxes(1, 2))


def _spread(stack: NDArray[np.floating], at_most: int) -> NDArray[np.floating]:
    """Keep a regular choice of a window's cells that depends on their number only."""
    side = max(int(at_most**0.5), 1)
    rows, columns = (
        np.unique(np.linspace(0, n - 1, min(n, side)).round().astype(int)) for n in stack.shape[:2]
    )
    return np.asarray(stack[np.ix_(rows, columns)])


def _normalise(cells: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divide cells by their mean: no later number depends on the scale of the data.

    Cells with more than 1 % of pixels missing or not positive become NaN as a whole (what
    is left of them is not gamma distributed); a few such pixels are set to the mean.
    """
    flat = cells.reshape(len(cells), CELL_PX**2)
    usable = flat > 0
    n_usable = np.count_nonzero(usable, axis=1)
    total = np.where(usable, flat, 0).sum(axis=1, dtype=np.float64)
    mean = (total / np.maximum(n_usable, 1)).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(usable, flat / mean[:, np.newaxis], 1).astype(np.float32, copy=False)
    relative[n_usable < _MIN_USABLE * CELL_PX**2] = np.nan
    return relative.reshape(cells.shape)


def _detrend(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the least-squares plane off each cell: slopes of the land are not speckle."""
    axis = np.linspace(-1, 1, CELL_PX, dtype=np.float32)
    norm = CELL_PX * np.sum(axis**2)
    slope_y = np.einsum("cyx,y->c", cells, axis)[:, None, None] / norm
    slope_x = np.einsum("cyx,x->c", cells, axis)[:, None, None] / norm
    return np.asarray(cells - (_mean(cells) + slope_y * axis[:, None] + slope_x * axis))


def _lag_one(cells: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the lag-1 correlation of each cell along y and x, shape (cell, 2)."""
    centred = cells - _mean(cells)
    y = _mean_product(centred[:, 1:], centred[:, :-1])
    x = _mean_product(centred[:, :, 1:], centred[:, :, :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.stack([y, x], axis=1) / _mean_product(centred, centred)[:, None])


def _mean(cells: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean of each cell, shape (cell, 1, 1)."""
    return cells.reshape(len(cells), CELL_PX**2).mean(axis=1)[:, np.newaxis, np.newaxis]


def _mean_product(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of a product over each cell, without an array of the products."""
    return np.einsum("cyx,cyx->c", left, right).astype(np.float64) / np.prod(left.shape[1:])


def _contrasts(
    samples: Sequence[SpeckleSample],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure looks and correlation on the normalised differences of consecutive dates."""
    looks, correlation = [np.empty(0)], [np.empty((0, 2))]
    for first, second in itertools.pairwise(samples):
        if first.cells.shape != second.cells.shape:
            continue
        a, b = first.cells.astype(np.float64), second.cells.astype(np.float64)
        contrast = (a - b) / (a + b)
        variance = contrast.var(axis=(1, 2), ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            looks.append((1 / variance - 1) / 2)
        correlation.append(_lag_one(contrast))
    return np.concatenate(looks), np.concatenate(correlation)


def _estimate(
    looks: NDArray[np.float64], correlation: NDArray[np.float64], *, contrast: bool
) -> tuple[float, tuple[float, float]] | None:
    """Pool cells; undo the shrinkage of variance and correlation by the fitted terms.

    Among single dates the texture-free cells are the upper edge of the distribution: its
    95th percentile less what chance alone adds. Contrasts of dates err to both sides
    (change, or coherence between the dates), so there the mode is taken.
    """
    low, high = _PLAUSIBLE_LOOKS
    usable = (looks > low) & (looks < high) & np.isfinite(correlation).all(axis=1)
    if usable.sum() < MIN_CELLS:
        return None
    logs, measured = np.log(looks[usable]), correlation[usable]
    upper = np.quantile(logs, 0.95)
    n_fitted = 1 if contrast else 3
    centre, rho, lost = _mode(logs), np.median(measured[logs >= np.median(logs)], axis=0), 0.0
    for _ in range(4):
        spread = _chance_spread(float(np.exp(centre)), (rho[0], rho[1]))
        centre = centre if contrast else upper - 1.645 * spread
        near = np.abs(logs - centre) < max(1.5 * spread, 0.1)
        rho = np.median(measured[near], axis=0) if near.any() else rho
        if contrast:  # correlation of contrasts to that of intensities: simulated, within 0.01
            rho = 1 - (1 - rho) ** (1 + 0.4 / np.exp(centre))
        lost = n_fitted * correlated_area((rho[0], rho[1]), CELL_PX) / CELL_PX**2
        rho = np.clip(rho + (1 - rho) * lost, 0, 0.95)
    shrinkage = (1 - lost) / (1 - n_fitted / CELL_PX**2)
    return float(np.exp(centre) * shrinkage), (float(rho[0]), float(rho[1]))


def _chance_spread(looks: float, correlation: tuple[float, float]) -> float:
    """Return the standard deviation of ln(looks) between cells of pure speckle."""
    first, second = float(polygamma(1, looks)), float(polygamma(2, looks))
    return log_variance_spread(looks, correlation, CELL_PX) * first / (looks * -second)


def _mode(values: NDArray[np.float64]) -> float:
    """Return the peak of a smoothed histogram, with Silverman's bandwidth."""
    step = 0.005
    spread = min(values.std(), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34)
    bandwidth = max(0.9 * spread * values.size**-0.2, 2 * step)
    margin = 4 * bandwidth
    edges = np.arange(values.min() - margin, values.max() + margin + step, step)
    counts, edges = np.histogram(values, edges)
    density = gaussian_filter1d(counts.astype(np.float64), bandwidth / step, mode="constant")
    return float(edges[density.argmax()] + step / 2)


def log_deviation(
    despeckled: NDArray[np.floating], reference: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return ``ln(despeckled / reference)`` less its mean, any shape; NaN unless both are positive.

    A date that is brighter as a whole (rain, season) is not punished: the mean is taken off.
    """
    usable = (despeckled > 0) & (reference > 0)  # false where NaN
    ratio = np.full(despeckled.shape, np.nan)
    ratio[usable] = np.log(despeckled[usable].astype(np.float64) / reference[usable])
    return ratio - ratio[usable].mean() if usable.any() else ratio
