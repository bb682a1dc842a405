"""Fill small holes of an image, and the rim of large ones, before a network sees it.

Networks are trained on images with few holes, and not on narrow images. In an image with many
holes (stripes, radar shadow) a large part of the input would be missing, and the mean of the
result would be up to 20 % wrong. The outside of the scene is treated as a hole.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

FILL_PX = 4
"""Largest distance along an axis from which a value is taken."""

# White speckle is copied from this far: copies of a neighbour would look like correlated speckle.
_WHITE_DISTANCE_PX = 3.2
# Correlated speckle is copied from as near as possible: a copy from afar would look like an edge.
_CORRELATED_DISTANCE_PX = 1.0
_LARGEST_WHITE_CORRELATION = 0.25


def pad_edges(
    intensity: NDArray[np.float32],
    others: NDArray[np.float32] | None,
    inside: tuple[slice, slice],
    halo: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, tuple[slice, slice]]:
    """Add `FILL_PX` of nodata outside of the scene, for :func:`fill_holes` to fill.

    So the edge of the scene is treated as the edge of a hole, and the mean of a scene of a few
    rows is right.

    Parameters
    ----------
    intensity, others
        As for :func:`fill_holes`.
    inside : tuple of slice
        Rows and columns of interest.
    halo : int
        A side with fewer pixels around `inside` is an edge of the scene.

    Returns
    -------
    intensity, others, inside
        Padded, with the place of the same rows and columns.
    """
    widths, places = [], []
    for part, size in zip(inside, intensity.shape, strict=True):
        before, after = (FILL_PX if n < halo else 0 for n in (part.start, size - part.stop))
        widths.append((before, after))
        places.append(slice(part.start + before, part.stop + before))
    if any(map(any, widths)):
        intensity = np.pad(intensity, widths, constant_values=np.nan)
        others = None if others is None else np.pad(others, [(0, 0), *widths])
    return intensity, others, (places[0], places[1])


def fill_holes(
    intensity: NDArray[np.float32],
    others: NDArray[np.float32] | None,
    correlation: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Fill pixels without data with values of valid pixels near them.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    others : ndarray, shape (n, y, x), float32, optional
        Sums over the other dates; filled from the same pixels.
    correlation : tuple of float
        Lag-1 correlation of the speckle along y and x.

    Returns
    -------
    intensity, others : ndarray
        Copies with filled holes; the arguments themselves if there is no hole. A pixel without a
        valid pixel within `FILL_PX` along both axes stays NaN.

    Notes
    -----
    The places that are searched follow from the distance alone, so tiles do not change the result.
    """
    valid = np.isfinite(intensity)
    if valid.all():
        return intensity, others
    holes, sources = _find_sources(valid, correlation)
    intensity = intensity.copy()
    intensity.ravel()[holes] = intensity.ravel()[sources]
    if others is not None:
        others = others.copy()
        flat = others.reshape(len(others), -1)
        flat[:, holes] = flat[:, sources]
    return intensity, others


def _find_sources(
    valid: NDArray[np.bool_], correlation: tuple[float, float]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the flat indices of the pixels to fill, and of the pixels to take."""
    padded = np.pad(valid, FILL_PX)
    flat, width = padded.ravel(), padded.shape[1]
    rows, columns = np.nonzero(~valid)
    holes = (rows + FILL_PX) * width + columns + FILL_PX
    filled, sources = [holes[:0]], [holes[:0]]
    for dy, dx in _offsets(is_white=sum(correlation) / 2 <= _LARGEST_WHITE_CORRELATION):
        source = holes + dy * width + dx
        found = flat[source]
        filled.append(holes[found])
        sources.append(source[found])
        holes = holes[~found]
        if not holes.size:
            break

    def unpad(places: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        row, column = np.divmod(np.concatenate(places), width)
        return (row - FILL_PX) * valid.shape[1] + column - FILL_PX

    return unpad(filled), unpad(sources)


@cache
def _offsets(*, is_white: bool) -> list[tuple[int, int]]:
    """Return all offsets up to `FILL_PX` along both axes, in the order of the search."""
    side = range(-FILL_PX, FILL_PX + 1)
    offsets = [(dy, dx) for dy in side for dx in side if dy or dx]
    # No direction first: else all values would come from the same side.
    np.random.default_rng(0).shuffle(offsets)
    first_px = _WHITE_DISTANCE_PX if is_white else _CORRELATED_DISTANCE_PX
    return sorted(((dy, dx) for dy, dx in offsets), key=lambda o: abs(np.hypot(*o) - first_px))
