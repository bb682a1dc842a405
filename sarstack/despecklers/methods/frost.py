"""Frost filter: mean with weights that fall off faster where the window varies more."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_between
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.speckle.moving_window import box_variation
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import row_strips

_STRIP_PX = 2**15


class Frost(MovingWindowMethod):
    """Frost 1982: mean with weights that fall off with distance, faster in textured windows.

    A neighbour at distance d (Euclidean, in pixels) has the weight ``exp(-damping Ci^2 d)``. Ci^2
    is the squared coefficient of variation in the window.

    Attributes
    ----------
    window_px : int
        Odd width of the window.
    damping : float
        Larger values smooth less; 0.01 to 100.

    Notes
    -----
    The filter does not use the number of looks: with few looks it smooths little. Neighbours of
    equal distance are added first, so a pixel needs one weight for each distance. Nodata: weights
    are of valid pixels only; the window is clipped at the edge of the scene. Mean: kept on
    stationary speckle. Memory: about ten arrays of the size of a tile.

    References
    ----------
    V. S. Frost, J. A. Stiles, K. S. Shanmugan, J. C. Holtzman, "A model for radar images and its
    application to adaptive digital filtering of multiplicative noise", IEEE Trans. PAMI 4(2), 1982.
    """

    name: ClassVar[str] = "frost"

    def __init__(self, window_px: int = 7, damping: float = 2.0) -> None:
        super().__init__(window_px)
        check_between(0.01, 100, damping=damping)
        self.damping = float(damping)

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        half = self.window_px // 2
        valid = np.isfinite(intensity)
        values = np.pad(np.where(valid, intensity, np.float32(0)), half)
        counted = np.pad(valid.astype(np.float32), half)
        _, ci2 = box_variation(intensity, self.window_px)
        decay = (-self.damping * ci2).astype(np.float32)
        result = np.empty(intensity.shape, np.float32)
        for rows in row_strips(intensity.shape, _STRIP_PX):
            margin = slice(rows.start, rows.stop + 2 * half)
            result[rows] = _weighted_mean(values[margin], counted[margin], decay[rows], half)
        result[~valid] = np.nan
        return result


def _weighted_mean(
    values: NDArray[np.float32],
    counted: NDArray[np.float32],
    decay: NDArray[np.float32],
    half: int,
) -> NDArray[np.float32]:
    """Return the mean of each window with weights ``exp(decay * distance)``.

    `values` (nodata = 0) and `counted` (1 where valid) are larger than `decay` by `half` pixels
    on each side.
    """
    height, width = decay.shape
    total, weights = np.zeros((2, height, width), np.float32)
    for distance, offsets in _offsets_by_distance(half).items():
        weight = np.exp(decay * np.float32(distance))
        for image, into in ((values, total), (counted, weights)):
            ring = np.zeros((height, width), np.float32)
            for y, x in offsets:
                ring += image[y : y + height, x : x + width]
            into += np.multiply(ring, weight, out=ring)
    with np.errstate(invalid="ignore"):
        return np.divide(total, weights, out=total)


def _offsets_by_distance(half: int) -> dict[float, list[tuple[int, int]]]:
    """Return the first row and column of each shifted image, by distance from the centre."""
    found: dict[float, list[tuple[int, int]]] = {}
    for y, x in np.ndindex(2 * half + 1, 2 * half + 1):
        found.setdefault(float(np.hypot(y - half, x - half)), []).append((y, x))
    return found
