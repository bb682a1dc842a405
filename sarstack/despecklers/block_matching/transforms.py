"""Transforms of blocks of 8 x 8 px, and of groups of blocks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.block_matching.compiler import BLOCK_PX, compiled

N_BANDS = 10
_VANISHING_MOMENTS = 4
_HALF = np.float32(np.sqrt(0.5))


def cosine_matrix() -> NDArray[np.float32]:
    """Return the matrix of the discrete cosine transform; rows are frequencies."""
    k, n = np.mgrid[:BLOCK_PX, :BLOCK_PX]
    matrix = np.cos(np.pi * k * (2 * n + 1) / (2 * BLOCK_PX)) * np.sqrt(2 / BLOCK_PX)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def biorthogonal_matrix() -> NDArray[np.float32]:
    """Return the matrix of a wavelet transform (bior1.5) of three levels, on a block that repeats.

    Rows have the norm 1, so that white noise has the same power in all coefficients. They are not
    orthogonal: the inverse is not the transpose.

    References
    ----------
    A. Cohen, I. Daubechies, J. C. Feauveau, "Biorthogonal bases of compactly supported wavelets",
    Comm. Pure and Applied Mathematics 45(5), 1992: the filters 1,5.
    """
    half = np.array([3, -3, -22, 22, 128]) / 256
    low = np.concatenate([half, half[::-1]])
    matrix, size = np.eye(BLOCK_PX), BLOCK_PX
    while size > 1:
        level = np.zeros((size, size))
        for k in range(size // 2):
            np.add.at(level[k], (2 * k + np.arange(-4, 6)) % size, low)
            level[size // 2 + k, [2 * k, 2 * k + 1]] = 1, -1
        matrix[:size] = level @ matrix[:size]
        size //= 2
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / norms, np.float32)


def fourier_matrix() -> NDArray[np.float32]:
    """Return the matrix of the real Fourier transform: constant, cosines and sines of 1 to 4.

    A circular filter with a symmetric response multiplies each row of it by a number.
    """
    n = np.arange(BLOCK_PX)
    rows = [np.full(BLOCK_PX, 1 / np.sqrt(BLOCK_PX))]
    for frequency in (1, 2, 3):
        angle = 2 * np.pi * frequency * n / BLOCK_PX
        rows += [np.cos(angle) / 2, np.sin(angle) / 2]
    rows.append((-1.0) ** n / np.sqrt(BLOCK_PX))
    return np.array(rows, np.float32)


def wavelet_bands() -> NDArray[np.float32]:
    """Return the share of each sub-band of a wavelet transform in each Fourier coefficient.

    The transform is undecimated, with three levels and Daubechies filters of eight taps, on a block
    that repeats. Analysis and synthesis with a filter multiply a frequency by the squared
    magnitude of its response, so the filter itself is not needed.

    Returns
    -------
    ndarray, shape (64, 10), float32
        Rows are coefficients (8 v + h). Band 0 is the approximation; then come three bands a level,
        the finest first: details along x, along y, along both. Each row has the sum 1.

    References
    ----------
    I. Daubechies, "Ten lectures on wavelets", SIAM 1992, equation 6.1.11: the magnitude.
    """
    frequency = 2 * np.pi * np.array([0, 1, 1, 2, 2, 3, 3, 4]) / BLOCK_PX
    approximation, bands = np.ones((BLOCK_PX, BLOCK_PX)), []
    for level in range(3):
        low = _low_pass_power(2**level * frequency)
        high = 1 - low
        bands += [approximation * np.outer(low, high), approximation * np.outer(high, low),
                  approximation * np.outer(high, high)]  # fmt: skip
        approximation = approximation * np.outer(low, low)
    return np.stack([approximation, *bands], -1).reshape(-1, N_BANDS).astype(np.float32)


def _low_pass_power(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half of the squared magnitude of a Daubechies low-pass filter."""
    cosine, sine = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2
    binomials = (1, 4, 10, 20)
    series = sum(c * sine**k for k, c in enumerate(binomials))
    return np.asarray(cosine**_VANISHING_MOMENTS * series)


def noise_power(matrix: NDArray[np.float32], correlation: tuple[float, float]) -> NDArray[Any]:
    """Return the power of noise of variance 1 in each coefficient of a block.

    Parameters
    ----------
    matrix : ndarray, shape (8, 8), float32
        Of the transform along one axis.
    correlation : tuple of float
        Correlation of the noise at lag 1 along y and x; at lag d it is ``rho ** d**2``.

    Returns
    -------
    ndarray, shape (64,), float32
        1 for white noise. The sum is 64.
    """
    lag = np.subtract.outer(np.arange(BLOCK_PX), np.arange(BLOCK_PX))
    powers = []
    for rho in correlation:
        covariance = np.clip(rho, 0, 0.99) ** (lag.astype(float) ** 2)
        powers.append(np.einsum("ki,ij,kj->k", matrix, covariance, matrix))
    return np.outer(*powers).ravel().astype(np.float32)


def kaiser_window(beta: float = 2.0) -> NDArray[np.float32]:
    """Return the weights of the pixels of a block, larger in its middle."""
    window = np.kaiser(BLOCK_PX, beta)
    return np.outer(window, window).ravel().astype(np.float32)


@compiled
def transform(group: Any, matrix: Any, work: Any) -> None:
    """Apply a matrix along both axes of each block.

    Parameters
    ----------
    group : ndarray, shape (blocks, 64), float32
        Changed.
    matrix : ndarray, shape (8, 8), float32
        The result is ``matrix @ block @ matrix.T``.
    work : ndarray, shape (64,), float32
        Memory.
    """
    for g in range(len(group)):
        block = group[g]
        for k in range(8):
            for x in range(8):
                work[8 * k + x] = matrix[k, 0] * block[x]
            for y in range(1, 8):
                factor = matrix[k, y]
                for x in range(8):
                    work[8 * k + x] += factor * block[8 * y + x]
        for y in range(8):
            for k in range(8):
                total = work[8 * y] * matrix[k, 0]
                for x in range(1, 8):
                    total += work[8 * y + x] * matrix[k, x]
                block[8 * y + k] = total


@compiled
def haar(group: Any, work: Any) -> None:
    """Apply the orthonormal Haar transform along the blocks; their number is a power of two.

    Parameters
    ----------
    group : ndarray, shape (blocks, 64), float32
        Changed. The mean comes first, then differences, from coarse to fine.
    work : ndarray, shape (blocks, 64), float32
        Memory.
    """
    half, size = _HALF, len(group)
    while size > 1:
        n = size // 2
        for g in range(n):
            for p in range(64):
                work[g, p] = (group[2 * g, p] + group[2 * g + 1, p]) * half
                work[n + g, p] = (group[2 * g, p] - group[2 * g + 1, p]) * half
        for g in range(size):
            for p in range(64):
                group[g, p] = work[g, p]
        size = n


@compiled
def inverse_haar(group: Any, work: Any) -> None:
    """Invert :func:`haar`."""
    half, size = _HALF, 2
    while size <= len(group):
        n = size // 2
        for g in range(n):
            for p in range(64):
                work[2 * g, p] = (group[g, p] + group[n + g, p]) * half
                work[2 * g + 1, p] = (group[g, p] - group[n + g, p]) * half
        for g in range(size):
            for p in range(64):
                group[g, p] = work[g, p]
        size *= 2
