"""Scene statistics: looks, correlation and brightness, estimated from the samples of all dates."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import polygamma

from sarstack.checks import check_looks
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.laws import (
    correlated_area,
    log_variance_spread,
    looks_from_log_variance,
)
from sarstack.speckle.samples import (
    CELL_PX,
    SpeckleSample,
    join_windows,
    lag_one_correlation,
    sample_speckle,
)
from sarstack.tiles import Shape, sample_windows

NOMINAL_LOOKS = 4.4
"""Equivalent looks of Sentinel-1 IW GRDH, used where a scene is too small to measure."""


MEASURED_DATES = 6
MIN_CELLS = 9
_PLAUSIBLE_LOOKS = (0.6, 300.0)


@dataclass(frozen=True)
class SceneStatistics:
    """Statistics of the whole scene at one date.

    Attributes
    ----------
    looks : float
        Equivalent number of looks of the speckle (of the stack and polarisation).
    correlation : tuple of float
        Lag-1 correlation of the intensity speckle along y and along x.
    bright : float
        98th percentile of the valid intensities of this date (the value of a pixel); infinite if
        the date has no valid pixel.
    looks_source : {"given", "product", "compared", "estimated", "nominal"}
        Origin of `looks`. given: the user; product: a layer of the product; compared: measured
        from differences between dates; estimated: from single dates; nominal: 4.4, because too
        few pixels are usable.
    """

    looks: float
    correlation: tuple[float, float] = (0.0, 0.0)
    bright: float = float("inf")
    looks_source: str = "given"

    @property
    def sensor(self) -> tuple[float, float, float] | None:
        """Looks and correlation along y and x as input of a network; None if they are uncertain.

        Texture makes an estimate from single dates too low, and a wrong input is worse than none
        (RMSE of RTC-like scenes: 0.52 and 0.50 dB).
        """
        certain = self.looks_source in {"given", "product", "compared"}
        return (self.looks, *self.correlation) if certain else None

    def as_given(self) -> "SceneStatistics":
        """Return the same numbers as if the user had given them, so that a network gets them."""
        return replace(self, looks_source="given")


def choose_dates(n_dates: int) -> list[int]:
    """Choose evenly spread dates from which the looks are estimated.

    All commands use this choice, so they find the same looks for the same stack.
    """
    chosen = np.linspace(0, n_dates - 1, min(n_dates, MEASURED_DATES))
    return [int(i) for i in np.unique(chosen.round())]


def combine_samples(
    samples: Sequence[SpeckleSample],
    looks: float | None = None,
    product_looks: float | None = None,
) -> list[SceneStatistics]:
    """Estimate looks and correlation of a stack from the samples of its dates.

    Parameters
    ----------
    samples : sequence of SpeckleSample
        One per date, in order of time, of one polarisation.
    looks : float, optional
        Number of looks of the user, used instead of any other.
    product_looks : float, optional
        Number of looks that the product tells, used instead of an estimate.

    Returns
    -------
    list of SceneStatistics
        One per date. Looks and correlation are the same for all dates, estimated from those of
        :func:`choose_dates`.

    Notes
    -----
    The estimate from single dates uses the cells without texture. With several dates, the contrast
    (a - b) / (a + b) of consecutive dates is measured, too. Texture cancels in it, and its
    variance is 1 / (2 L + 1) exactly for independent gamma speckle. Texture and change make an
    estimate too low, so the estimate from contrasts is used if it is clearly higher: then no
    cell of a single date is free of texture. With fewer than nine usable cells, 4.4 looks
    and white speckle are assumed.
    """
    check_looks(looks=looks)
    chosen = [samples[i] for i in choose_dates(len(samples))]
    joined = join_windows(chosen)
    from_single_dates = _estimate(
        looks_from_log_variance(joined.log_variance),
        joined.correlation,
        contrast=False,
    )
    from_contrasts = _estimate(*_contrasts(chosen), contrast=True)
    # Clearly more looks between dates than in single dates: all cells have texture.
    is_compared = from_contrasts is not None and (
        from_single_dates is None or from_contrasts[0] > 1.1 * from_single_dates[0]
    )
    estimate = from_contrasts if is_compared else from_single_dates
    found_looks, correlation = estimate or (NOMINAL_LOOKS, (0.0, 0.0))
    source = "compared" if is_compared else "estimated" if estimate else "nominal"
    if looks is not None:
        found_looks, source = float(looks), "given"
    elif product_looks is not None:
        found_looks, source = float(product_looks), "product"
    return [SceneStatistics(found_looks, correlation, sample.bright, source) for sample in samples]


def measure_scene(block: NDArray[Any], looks: float | None = None) -> list[SceneStatistics]:
    """Measure the scene statistics of a block of dates held in memory.

    Parameters
    ----------
    block : ndarray, shape (time, y, x), floating or complex
        Linear power of one polarisation, NaN = nodata; or complex numbers, whose power is
        measured.
    looks : float, optional
        Number of looks to use instead of an estimate.

    Returns
    -------
    list of SceneStatistics
        One per date, also for a date without valid pixels.
    """
    windows = sample_windows(Shape(*block.shape[1:]))
    samples = [sample_speckle([to_power(date[w.slices]) for w in windows]) for date in block]
    return combine_samples(samples, looks)


def _contrasts(
    samples: Sequence[SpeckleSample],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return looks and correlation of each cell from the contrasts of consecutive dates."""
    looks, correlation = [np.empty(0)], [np.empty((0, 2))]
    for first, second in itertools.pairwise(samples):
        if first.cells.shape != second.cells.shape:
            continue
        a, b = first.cells.astype(np.float64), second.cells.astype(np.float64)
        contrast = (a - b) / (a + b)
        variance = contrast.var(axis=(1, 2), ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            looks.append((1 / variance - 1) / 2)
        correlation.append(lag_one_correlation(contrast))
    return np.concatenate(looks), np.concatenate(correlation)


def _estimate(
    looks: NDArray[np.float64], correlation: NDArray[np.float64], *, contrast: bool
) -> tuple[float, tuple[float, float]] | None:
    """Estimate looks and correlation from all cells; None if too few are usable.

    In single dates the cells without texture are the upper edge of the distribution: its 95th
    percentile minus the spread by chance. Contrasts of dates have errors to both sides (change,
    or coherence between the dates), so their mode is used. Fitting a plane or a mean reduces
    variance and correlation of a cell; this is corrected.
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
    """Return the standard deviation of ln(looks) over cells of pure speckle."""
    psi1, psi2 = float(polygamma(1, looks)), float(polygamma(2, looks))
    return log_variance_spread(looks, correlation, CELL_PX) * psi1 / (looks * -psi2)


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
    """Return ``ln(despeckled / reference)`` minus its mean, any shape.

    NaN unless both are positive. Subtracting the mean allows for dates that are brighter as a
    whole (rain, season).
    """
    usable = (despeckled > 0) & (reference > 0)  # false where NaN
    ratio = np.full(despeckled.shape, np.nan)
    ratio[usable] = np.log(despeckled[usable].astype(np.float64) / reference[usable])
    return ratio - ratio[usable].mean() if usable.any() else ratio
