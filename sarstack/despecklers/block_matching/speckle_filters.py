"""The two filters of SAR-BM3D on groups of similar blocks."""

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
from sarstack.despecklers.block_matching.transforms import (
    N_BANDS,
    cosine_matrix,
    fourier_matrix,
    haar,
    inverse_haar,
    kaiser_window,
    noise_power,
    transform,
    wavelet_bands,
)

_TINY = np.float32(1e-30)


def shrink_wavelets(
    image: NDArray[np.float32],
    places: NDArray[np.int32],
    looks: float,
    correlation: tuple[float, float],
) -> NDArray[np.float32]:
    """Return the first estimate: shrink the wavelet coefficients of each group (LLMMSE).

    The noise has the variance ``<z^2> / (looks + 1)`` in each group. A sub-band of the group is
    multiplied by ``max(0, 1 - noise / power)``. The approximation of the mean of the group is kept.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        Padded linear intensity.
    places : ndarray, shape (rows, columns, n), int32
        Groups, from :func:`match_blocks`.
    looks : float
        Equivalent number of looks.
    correlation : tuple of float
        Correlation of the speckle at lag 1 along y and x.

    Returns
    -------
    ndarray, shape (y, x), float32
        0 where no block comes.

    References
    ----------
    S. Parrilli, M. Poderico, C. V. Angelino, L. Verdoliva, "A nonlocal SAR image denoising
    algorithm based on LLMMSE wavelet shrinkage", IEEE Trans. Geoscience and Remote Sensing 50(2),
    2012.
    """
    matrix, bands = fourier_matrix(), wavelet_bands()
    # Sixteen columns in place of ten: whole vectors of the processor.
    shares = np.zeros((64, 16), np.float32)
    shares[:, :N_BANDS] = bands
    noise = np.ones(16, np.float32)
    noise[:N_BANDS] = (bands * noise_power(matrix, correlation)[:, None]).sum(0) / bands.sum(0)
    sizes = np.ones(16, np.float32)
    sizes[:N_BANDS] = bands.sum(0)
    total, weights = np.zeros((2, image.size), np.float32)
    _shrink(image.ravel(), places.reshape(-1, places.shape[-1]), image.shape[1],
            np.float32(1 / (looks + 1)), matrix, shares, noise, sizes, kaiser_window(), total,
            weights)  # fmt: skip
    return divide_sums(total, weights, image.shape)


def filter_wiener(
    image: NDArray[np.float32],
    pilot: NDArray[np.float32],
    places: NDArray[np.int32],
    correlation: tuple[float, float],
) -> NDArray[np.float32]:
    """Return the second estimate: Wiener filter of each group, the first estimate as the signal.

    A cosine coefficient is multiplied by ``b^2 / (b^2 + noise)``, with b that of the pilot. The
    noise has the variance ``<(z - pilot)^2>`` in each group. The mean of the group is kept.

    Parameters
    ----------
    image, pilot : ndarray, shape (y, x), float32
        Padded linear intensity, and its first estimate.
    places : ndarray, shape (rows, columns, n), int32
        Groups, from :func:`match_blocks`.
    correlation : tuple of float
        Correlation of the speckle at lag 1 along y and x.

    Returns
    -------
    ndarray, shape (y, x), float32
        0 where no block comes.

    References
    ----------
    Parrilli et al. 2012, the second step; see :func:`shrink_wavelets`.
    """
    matrix = cosine_matrix()
    total, weights = np.zeros((2, image.size), np.float32)
    _wiener(image.ravel(), pilot.ravel(), places.reshape(-1, places.shape[-1]), image.shape[1],
            noise_power(matrix, correlation), matrix, kaiser_window(), total, weights)  # fmt: skip
    return divide_sums(total, weights, image.shape)


@compiled
def _shrink(image: Any, places: Any, width: int, share_of_noise: Any, matrix: Any, shares: Any,
            noise: Any, sizes: Any, window: Any, total: Any, weights: Any) -> None:  # fmt: skip
    most = places.shape[1]
    memory, work = np.empty((most, 64), np.float32), np.empty((most, 64), np.float32)
    back = np.ascontiguousarray(matrix.T)
    gains = np.empty(64, np.float32)
    for r in range(len(places)):
        n = count_blocks(places[r])
        if n == 0:
            continue
        group = memory[:n]
        copy_blocks(image, places[r], width, group)
        variance = np.float32(0)
        for g in range(n):
            for p in range(64):
                variance += group[g, p] * group[g, p]
        variance *= share_of_noise / np.float32(64 * n)
        haar(group, work)
        transform(group, matrix, work[0])
        spent, first = np.float32(0), 0
        while first < n:  # the mean; then differences of 1, 2, 4, 8 pairs
            last = max(1, 2 * first)
            _find_gains(group[first:last], shares, noise, sizes, variance, gains, first == 0)
            for g in range(first, last):
                for p in range(64):
                    group[g, p] *= gains[p]
                    spent += gains[p] * gains[p]
            first = last
        transform(group, back, work[0])
        inverse_haar(group, work)
        weight = np.float32(1) / max(variance * spent, _TINY)
        add_blocks(group, places[r], width, weight, window, total, weights)


@compiled
def _find_gains(group: Any, shares: Any, noise: Any, sizes: Any, variance: Any,
                gains: Any, keep_approximation: Any) -> None:  # fmt: skip
    """Set the gain of each coefficient: the mean of the gains of its sub-bands."""
    power = np.zeros(16, np.float32)
    for g in range(len(group)):
        for p in range(64):
            square = group[g, p] * group[g, p]
            for b in range(16):
                power[b] += shares[p, b] * square
    for b in range(16):
        mean = power[b] / (sizes[b] * np.float32(len(group)))
        level = variance * noise[b]
        power[b] = np.float32(1) - level / mean if mean > level else np.float32(0)
    if keep_approximation:
        power[0] = np.float32(1)
    for p in range(64):
        gain = np.float32(0)
        for b in range(16):
            gain += shares[p, b] * power[b]
        gains[p] = gain


@compiled
def _wiener(image: Any, pilot: Any, places: Any, width: int, noise: Any, matrix: Any, window: Any,
            total: Any, weights: Any) -> None:  # fmt: skip
    most = places.shape[1]
    memory, work = np.empty((most, 64), np.float32), np.empty((most, 64), np.float32)
    of_pilot = np.empty((most, 64), np.float32)
    back = np.ascontiguousarray(matrix.T)
    for r in range(len(places)):
        n = count_blocks(places[r])
        if n == 0:
            continue
        group, model = memory[:n], of_pilot[:n]
        copy_blocks(image, places[r], width, group)
        copy_blocks(pilot, places[r], width, model)
        variance = np.float32(0)
        for g in range(n):
            for p in range(64):
                variance += (group[g, p] - model[g, p]) * (group[g, p] - model[g, p])
        variance = max(variance / np.float32(64 * n), _TINY)
        haar(group, work)
        haar(model, work)
        transform(group, matrix, work[0])
        transform(model, matrix, work[0])
        spent, mean = np.float32(0), group[0, 0]
        for g in range(n):
            for p in range(64):
                signal = model[g, p] * model[g, p]
                gain = signal / (signal + variance * noise[p])
                group[g, p] *= gain
                spent += gain * gain
        group[0, 0] = mean
        transform(group, back, work[0])
        inverse_haar(group, work)
        weight = np.float32(1) / max(variance * spent, _TINY)
        add_blocks(group, places[r], width, weight, window, total, weights)
