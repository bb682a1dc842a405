"""Compare the uncertainty that a method tells with its errors on simulated scenes.

A method says: ln of the truth lies within z standard deviations of ln of my result, for a share of
the pixels that follows from z as for a Gaussian. Here the share of pixels is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.evaluation.suites import Case, Suite, make_cases
from sarstack.speckle.statistics import SceneStatistics, measure_scene

NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Coverage:
    """Shares of the truths inside bands around the result.

    Attributes
    ----------
    nominal : ndarray, shape (n,), float64
        Share that a Gaussian has within the band.
    observed : ndarray, shape (n,), float64
        Share of the pixels of all scenes.
    on_flats : ndarray, shape (n,), float64
        Share of the pixels of the flat fields; NaN without any.
    rmse_db, uncertainty_db : float
        Root of the mean square of the errors, and of what the method told.
    """

    nominal: NDArray[np.float64]
    observed: NDArray[np.float64]
    on_flats: NDArray[np.float64]
    rmse_db: float
    uncertainty_db: float

    def at(self, share: float) -> tuple[float, float]:
        """Return the observed shares of a band, everywhere and on flats, by its nominal share."""
        everywhere, on_flats = (
            float(np.interp(share, self.nominal, found)) for found in (self.observed, self.on_flats)
        )
        return everywhere, on_flats


def measure_coverage(
    despeckler: Despeckler,
    suite: Suite,
    *,
    size_px: int = 256,
    n_scenes: int = 6,
    looks_given: bool = False,
    nominal: Sequence[float] = NOMINAL,
) -> Coverage:
    """Count how many truths lie inside the bands of a method, over the scenes of a suite.

    Parameters
    ----------
    despeckler : Despeckler
        With an uncertainty.
    suite : Suite
    size_px, n_scenes : int
        See :func:`sarstack.evaluation.suites.make_cases`.
    looks_given : bool
        Give the method looks and correlation of the suite; else they are measured in each scene.
    nominal : sequence of float
        Shares of the bands, increasing.
    """
    widths = np.array([NormalDist().inv_cdf((1 + share) / 2) for share in nominal])
    inside, flats, squares = np.zeros((2, len(widths)), np.int64), 0, np.zeros(2)
    n_px = 0
    for case in make_cases(suite, size_px, n_scenes):
        statistics = _statistics(case, suite) if looks_given else None
        result, told_db = despeckler.apply_with_uncertainty(case.noisy, statistics)
        error_db = 10 * np.log10(result / case.truth)
        for layer in range(len(case.noisy)):
            scaled = np.abs(error_db[layer]) / np.maximum(told_db[layer], 1e-6)
            inside[0] += _count(scaled, widths)
            n_px += scaled.size
            for flat in case.scene.flats:
                inside[1] += _count(scaled[flat], widths)
                flats += int(flat.sum())
            squares += [np.sum(error_db[layer] ** 2.0), np.sum(told_db[layer] ** 2.0)]
    on_flats = inside[1] / flats if flats else np.full(len(widths), np.nan)
    rmse_db, uncertainty_db = np.sqrt(squares / n_px).tolist()
    return Coverage(np.array(nominal), inside[0] / n_px, on_flats, rmse_db, uncertainty_db)


def _count(scaled: NDArray[np.floating], widths: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted(np.sort(scaled, axis=None), widths, side="right")


def _statistics(case: Case, suite: Suite) -> list[SceneStatistics]:
    bright = [date.bright for date in measure_scene(case.noisy)]
    correlation = suite.simulator.correlation
    return [SceneStatistics(case.looks, correlation, b, "given") for b in bright]
