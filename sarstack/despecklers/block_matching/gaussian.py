"""BM3D for images with additive Gaussian noise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.block_matching.compiler import compiled
from sarstack.despecklers.block_matching.groups import (
    add_blocks,
    copy_blocks,
    count_blocks,
    divide_sums,
)
from sarstack.despecklers.block_matching.matching import (
    MATCH_HALO_PX,
    Similarity,
    choose_spacing,
    match_blocks,
)
from sarstack.despecklers.block_matching.padding import crop_image, pad_image, place_blocks
from sarstack.despecklers.block_matching.transforms import (
    biorthogonal_matrix,
    cosine_matrix,
    haar,
    inverse_haar,
    kaiser_window,
    noise_power,
    transform,
)

HALO_PX = 2 * MATCH_HALO_PX
"""A pixel depends on pixels up to this distance."""

# Largest mean squared difference of blocks, in variances of the noise; the published 2500 and 400
# at a standard deviation of 25 of 255.
_FARTHEST = (4.0, 0.64)
_N_MOST = (16, 32)
_THRESHOLD = 2.7


def denoise_bm3d(
    image: NDArray[np.float32],
    sigma: float,
    origin: tuple[int, int] = (0, 0),
    correlation: tuple[float, float] = (0.0, 0.0),
    usable: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Remove Gaussian noise by collaborative filters of similar blocks, in two steps.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        Finite. Any size from 1 x 1.
    sigma : float
        Standard deviation of the noise, above 0.
    origin : tuple of int
        Row and column of the first pixel in the scene. Pixels farther than `HALO_PX` from a cut
        have the same bits as in the whole scene.
    correlation : tuple of float
        Correlation of the noise at lag 1 along y and x; at lag d it is ``rho ** d**2``.
    usable : ndarray, shape (y, x), bool, optional
        Pixels that take part; the others get values without meaning. Default: all.

    Returns
    -------
    ndarray, shape (y, x), float32

    References
    ----------
    K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, "Image denoising by sparse 3-D transform-domain
    collaborative filtering", IEEE Trans. Image Processing 16(8), 2007.
    """
    blocks = place_blocks(np.ones(image.shape, bool) if usable is None else usable, origin)
    spacing_px = choose_spacing(correlation)
    noisy = pad_image(image, blocks)
    pilot = noisy
    for step, matrix in enumerate((biorthogonal_matrix(), cosine_matrix())):
        noise = noise_power(matrix, correlation) * np.float32(sigma**2)
        inverse = np.linalg.inv(matrix.astype(np.float64)).astype(np.float32)
        similarity = Similarity(noisy, noisy, pilot, square_weight=1.0)
        farthest = 64 * _FARTHEST[step] * sigma**2
        places = match_blocks(blocks, similarity, _N_MOST[step], farthest, spacing_px)
        total, weights = np.zeros((2, noisy.size), np.float32)
        _filter(noisy.ravel(), pilot.ravel(), places.reshape(-1, _N_MOST[step]), noisy.shape[1],
                noise, step == 0, matrix, inverse, kaiser_window(), total, weights)  # fmt: skip
        found = crop_image(divide_sums(total, weights, noisy.shape))
        pilot = pad_image(found, blocks)
    return np.ascontiguousarray(found)


@compiled
def _filter(image: Any, pilot: Any, places: Any, width: int, noise: Any, with_threshold: Any,
            matrix: Any, back: Any, window: Any, total: Any, weights: Any) -> None:  # fmt: skip
    most = places.shape[1]
    memory, work = np.empty((most, 64), np.float32), np.empty((most, 64), np.float32)
    of_pilot = np.empty((most, 64), np.float32)
    limit = np.float32(_THRESHOLD * _THRESHOLD)
    for r in range(len(places)):
        n = count_blocks(places[r])
        if n == 0:
            continue
        group, model = memory[:n], of_pilot[:n]
        copy_blocks(image, places[r], width, group)
        haar(group, work)
        transform(group, matrix, work[0])
        spent = np.float32(0)
        if with_threshold:
            for g in range(n):
                for p in range(64):
                    kept = group[g, p] * group[g, p] > limit * noise[p] or g + p == 0
                    gain = np.float32(1) if kept else np.float32(0)
                    group[g, p] *= gain
                    spent += gain * noise[p]
        else:
            copy_blocks(pilot, places[r], width, model)
            haar(model, work)
            transform(model, matrix, work[0])
            for g in range(n):
                for p in range(64):
                    signal = model[g, p] * model[g, p]
                    gain = signal / (signal + noise[p])
                    group[g, p] *= gain
                    spent += gain * gain * noise[p]
        transform(group, back, work[0])
        inverse_haar(group, work)
        add_blocks(group, places[r], width, np.float32(1) / spent, window, total, weights)
