"""SAR-BM3D: collaborative filters of groups of similar blocks."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.block_matching_method import HALO_PX, BlockMatchingMethod
from sarstack.despecklers.flat_field import LEVEL_WINDOW_PX, correct_bias
from sarstack.despecklers.log_speckle import find_darkest
from sarstack.speckle.statistics import SceneStatistics

GROUP_SIZE = 16
# Part of the mean of flat speckle that is lost, times the looks, for the mean of the two lag-1
# correlations, measured on simulated fields of 480 x 480 px, with 1 and 3 looks. From 0.2,
# candidates are two pixels apart.
CORRELATIONS = (0.0, 0.1, 0.1999, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
MISSING = {
    "correlated": (0.022, 0.030, 0.036, 0.025, 0.029, 0.032, 0.035, 0.037, 0.036, 0.034),
    "white": (0.022, 0.028, 0.029, 0.029, 0.025, 0.020, 0.015, 0.011, 0.008, 0.003),
}


class SarBM3D(BlockMatchingMethod):
    """SAR-BM3D (Parrilli 2012): groups of similar blocks, filtered together, in two steps.

    For each reference block of 8 x 8 px, every third row and column, the 15 most similar blocks
    within 19 px are found. The first step shrinks wavelet coefficients of the group; its result is
    the model of the signal for the second step, which finds groups again and applies a Wiener
    filter to their cosine coefficients.

    Parameters
    ----------
    noise : {"correlated", "white"}
        correlated: each coefficient of a block gets the noise that the correlation of the scene's
        speckle gives it. If the correlation is 0.2 or more, candidates are blocks at every second
        row and column: speckle of neighbours is too similar (RMSE of GRD-like scenes 0.92 dB, 1.19
        without). white: the same noise in all coefficients and all candidates, as published; it
        leaves most of the speckle of GRD products (1.57 dB).

    Notes
    -----
    Nodata: a block that is not complete is not matched with others. Reference blocks reach over
    nodata and the scene edge: pixels that mirror those inside replace the missing ones. Pixels
    whose surroundings have no positive value keep their value. Mean: dark groups have the larger
    weight, so flat speckle of one look comes out 2 to 4 % too dark; a gain corrects this.
    Memory: about 40 arrays of the size of a tile.

    References
    ----------
    S. Parrilli, M. Poderico, C. V. Angelino, L. Verdoliva, "A nonlocal SAR image denoising
    algorithm based on LLMMSE wavelet shrinkage", IEEE Trans. Geoscience and Remote Sensing 50(2),
    2012.
    """

    name: ClassVar[str] = "sar-bm3d"
    cell_px: ClassVar[int] = 1024
    rounding_of_maximum: ClassVar[float] = 1e-6

    def __init__(self, noise: str = "correlated") -> None:
        super().__init__(noise)
        self.halo = HALO_PX + LEVEL_WINDOW_PX // 2

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        correlation = statistics.correlation if self.noise == "correlated" else (0.0, 0.0)
        darkest, usable = find_darkest(intensity)
        if not usable.any():
            return intensity.copy()
        lowest = np.where(usable, darkest, np.float32(1))
        image = np.where(usable, intensity, np.float32(1))
        looks = max(statistics.looks, 1.0)
        found = _filter_twice(image, lowest, usable, looks, correlation)
        found = np.where(usable, np.maximum(found, lowest), intensity)
        return correct_bias(found, intensity, statistics, self._gain(statistics))

    def _gain(self, statistics: SceneStatistics) -> float:
        """Return the factor that keeps the mean of flat speckle, from a table."""
        rho = float(np.clip(np.mean(statistics.correlation), 0, 1))
        missing = np.interp(rho, CORRELATIONS, MISSING[self.noise])
        return 1 + float(missing) / max(statistics.looks, 1.0)

    def warm_up(self) -> None:
        """Compile the functions, or load them from the cache of numba."""
        statistics = SceneStatistics(1.0, (0.0, 0.0), 1.0)
        self.despeckle(np.ones((9, 9), np.float32), statistics)


def _filter_twice(
    image: NDArray[np.float32],
    lowest: NDArray[np.float32],
    usable: NDArray[np.bool_],
    looks: float,
    correlation: tuple[float, float],
) -> NDArray[np.float32]:
    """Apply both steps.

    The distances of blocks are those of the paper. Pixels count as `lowest` at least there.
    """
    from sarstack.despecklers.block_matching.matching import (
        Similarity,
        choose_spacing,
        match_blocks,
    )
    from sarstack.despecklers.block_matching.padding import crop_image, pad_image, place_blocks
    from sarstack.despecklers.block_matching.speckle_filters import filter_wiener, shrink_wavelets

    blocks, spacing_px = place_blocks(usable), choose_spacing(correlation)
    noisy = pad_image(image, blocks)
    amplitude = np.sqrt(pad_image(np.maximum(image, lowest), blocks))
    similarity = Similarity(amplitude, amplitude, amplitude, log_weight=1.0)
    places = match_blocks(blocks, similarity, GROUP_SIZE, spacing_px=spacing_px)
    first = crop_image(shrink_wavelets(noisy, places, looks, correlation))
    pilot = pad_image(np.maximum(first, lowest), blocks)
    log_weight, ratio_weight = (2 * looks - 1) * float(np.log(2)), looks
    similarity = Similarity(amplitude, pilot, amplitude, log_weight, ratio_weight)
    places = match_blocks(blocks, similarity, GROUP_SIZE, spacing_px=spacing_px)
    return crop_image(filter_wiener(noisy, pilot, places, correlation))
