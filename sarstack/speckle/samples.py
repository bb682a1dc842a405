"""Samples of the speckle of one date, measured in small cells of the sample windows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

CELL_PX = 25
"""Width of a cell: many independent pixels, little texture."""

_MIN_VALID_FRACTION = 0.99
_KEPT_CELLS = 144


@dataclass(frozen=True, eq=False)
class SpeckleSample:
    """Speckle of one date in its sample windows: small enough to be returned by a worker.

    Attributes
    ----------
    log_variance : ndarray, shape (cell,), float64
        Variance of ln y in each cell after subtraction of a plane; NaN if not usable.
    correlation : ndarray, shape (cell, 2), float64
        Lag-1 correlation of each cell, y and x.
    cells : ndarray, shape (kept, CELL_PX, CELL_PX), float32
        Intensities of some cells, each divided by its mean, for contrasts between dates.
    bright : float
        98th percentile of the valid intensities; infinite if there is none or it was not measured.
    """

    log_variance: NDArray[np.float64]
    correlation: NDArray[np.float64]
    cells: NDArray[np.float32]
    bright: float = float("inf")


def sample_speckle(windows: Iterable[NDArray[np.floating]]) -> SpeckleSample:
    """Measure the speckle in the sample windows of one date.

    Parameters
    ----------
    windows : iterable of ndarray, shape (y, x), floating
        Linear power, NaN = nodata; see :func:`sarstack.tiles.sample_windows`. Dates
        that are compared must have the same windows in the same order.

    Returns
    -------
    SpeckleSample
    """
    pixels = [np.asarray(window) for window in windows]
    # Window by window: intermediate arrays stay in the cache of the processor.
    joined = join_windows([sample_window(window, len(pixels)) for window in pixels])
    valid = np.concatenate([w[np.isfinite(w)] for w in pixels] or [np.empty(0)])
    return replace(joined, bright=_upper_quantile(valid, 0.98))


def sample_window(window: NDArray[np.floating], n_windows: int) -> SpeckleSample:
    """Measure one of the `n_windows` windows of a date; `bright` is not measured."""
    stack = _cut_cells(window)
    kept = _choose_cells(stack, _KEPT_CELLS // n_windows).reshape(-1, CELL_PX, CELL_PX)
    return SpeckleSample(
        *_measure_cells(stack.reshape(-1, CELL_PX, CELL_PX)), cells=_normalise(kept)
    )


def join_windows(samples: Sequence[SpeckleSample]) -> SpeckleSample:
    """Join the samples of several windows, in their order."""
    none = SpeckleSample(np.empty(0), np.empty((0, 2)), np.empty((0, CELL_PX, CELL_PX), np.float32))
    samples = samples or [none]
    return SpeckleSample(
        np.concatenate([sample.log_variance for sample in samples]),
        np.concatenate([sample.correlation for sample in samples]),
        np.concatenate([sample.cells for sample in samples]),
    )


def _upper_quantile(values: NDArray[np.floating], fraction: float) -> float:
    """Return the quantile of a fraction, without interpolation; infinite without values."""
    if not values.size:
        return float("inf")
    place = int(fraction * (values.size - 1))
    return float(np.partition(values, place)[place])


def _measure_cells(cells: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance of ln y and the lag-1 correlation of each cell.

    The least-squares plane of ln y is subtracted before.
    """
    residual = log_residual(_normalise(cells))
    variance = _mean_product(residual, residual) * CELL_PX**2 / (CELL_PX**2 - 3)
    return variance, lag_one_correlation(np.exp(residual))


def log_residual(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ln y of each cell without its least-squares plane: slopes of land are not speckle."""
    return _detrend(np.log(cells))


def _cut_cells(window: NDArray[np.floating]) -> NDArray[np.floating]:
    """Cut a window into whole cells, shape (rows, columns, CELL_PX, CELL_PX)."""
    rows, columns = window.shape[0] // CELL_PX, window.shape[1] // CELL_PX
    whole = window[: rows * CELL_PX, : columns * CELL_PX]
    return np.asarray(whole.reshape(rows, CELL_PX, columns, CELL_PX).swapaxes(1, 2))


def _choose_cells(stack: NDArray[np.floating], at_most: int) -> NDArray[np.floating]:
    """Choose at most `at_most` cells of a window at regular distances.

    The choice depends on the number of cells only, so it is the same at all dates.
    """
    side = max(int(at_most**0.5), 1)
    rows, columns = (
        np.unique(np.linspace(0, n - 1, min(n, side)).round().astype(int)) for n in stack.shape[:2]
    )
    return np.asarray(stack[np.ix_(rows, columns)])


def _normalise(cells: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divide cells by their mean, so that later numbers do not depend on the scale of the data.

    A cell in which more than 1 % of the pixels are missing or not positive becomes NaN: the rest
    is not gamma distributed. Fewer such pixels are set to the mean.
    """
    flat = cells.reshape(len(cells), CELL_PX**2)
    usable = flat > 0
    n_usable = np.count_nonzero(usable, axis=1)
    total = np.where(usable, flat, 0).sum(axis=1, dtype=np.float64)
    mean = (total / np.maximum(n_usable, 1)).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(usable, flat / mean[:, np.newaxis], 1).astype(np.float32, copy=False)
    relative[n_usable < _MIN_VALID_FRACTION * CELL_PX**2] = np.nan
    return relative.reshape(cells.shape)


def _detrend(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the least-squares plane of each cell."""
    axis = np.linspace(-1, 1, CELL_PX, dtype=np.float32)
    norm = CELL_PX * np.sum(axis**2)
    slope_y = np.einsum("cyx,y->c", cells, axis)[:, None, None] / norm
    slope_x = np.einsum("cyx,x->c", cells, axis)[:, None, None] / norm
    return np.asarray(cells - (_mean(cells) + slope_y * axis[:, None] + slope_x * axis))


def lag_one_correlation(cells: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the lag-1 correlation of each cell along y and x, shape (cell, 2)."""
    return lag_correlation(cells, 1)


def lag_correlation(cells: NDArray[np.floating], lag_px: int) -> NDArray[np.float64]:
    """Return the correlation of pixels `lag_px` apart, along y and x, shape (cell, 2)."""
    centred = cells - _mean(cells)
    y = _mean_product(centred[:, lag_px:], centred[:, :-lag_px])
    x = _mean_product(centred[:, :, lag_px:], centred[:, :, :-lag_px])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.stack([y, x], axis=1) / _mean_product(centred, centred)[:, None])


def _mean(cells: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean of each cell, shape (cell, 1, 1)."""
    return cells.reshape(len(cells), CELL_PX**2).mean(axis=1)[:, np.newaxis, np.newaxis]


def _mean_product(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of a product over each cell, without an array of the products."""
    return np.einsum("cyx,cyx->c", left, right).astype(np.float64) / np.prod(left.shape[1:])
