"""Tell whether a scene looks like unfiltered radar, from the samples of its dates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.samples import SpeckleSample, lag_correlation, log_residual
from sarstack.speckle.statistics import MIN_CELLS, choose_dates

# Limits were chosen on 66 sets of real images (GRD, RTC, single look), and on the same after a Lee
# filter and a mean of 7x7 pixels: none of the images is doubted, nearly all filtered copies with
# enough pixels are. Only the cells with the least variation are used: they have the
# least texture.
_FLAT_FRACTION = 0.3
# Variance of ln y: 0.025 is that of 40 looks. Images have 0.07 to 1.7,
# filtered ones 0.005 to 0.17.
_SMALLEST_VARIANCE = 0.025
# Correlation 3 px apart. Images have at most 0.21, filtered ones mostly 0.3 to 0.6.
_FAR_PX, _LARGEST_FAR_CORRELATION = 3, 0.3
# Skewness of ln y where its variance is that of 10 looks or more. Images have -1.1 to 0.5. A filter
# that keeps bright pixels, and smooths the rest, has up to 2.8; so have towns, with more variance.
_LARGEST_SKEWNESS, _SMOOTH_VARIANCE = 1.0, 0.1
# Neighbours of speckle are alike or independent. Checkerboards and banding have about -1.
_SMALLEST_NEAR_CORRELATION = -0.3


def find_doubt(samples: Sequence[SpeckleSample]) -> str:
    """Return why the images of one polarisation do not look like unfiltered radar.

    Parameters
    ----------
    samples : sequence of SpeckleSample
        One per date, in order of time.

    Returns
    -------
    str
        What was measured, and what unfiltered images have. Empty if more than half of the dates
        of :func:`choose_dates` look right, or if there are fewer than nine usable cells.
    """
    chosen = [samples[i] for i in choose_dates(len(samples))]
    doubts = [_doubt_date(sample.cells) for sample in chosen]
    wrong = [doubt for doubt in doubts if doubt]
    return wrong[0] if 2 * len(wrong) >= max(len(doubts), 1) else ""


def _doubt_date(cells: NDArray[np.float32]) -> str:
    usable = cells[np.isfinite(cells).all(axis=(1, 2))]
    if len(usable) < MIN_CELLS:
        return ""
    residual = log_residual(usable)
    variance = residual.var(axis=(1, 2), dtype=np.float64)
    is_flat = variance <= np.quantile(variance, _FLAT_FRACTION)
    flat, variance = residual[is_flat], variance[is_flat]
    middle = float(np.median(variance))
    if middle < _SMALLEST_VARIANCE:
        return f"the variance of ln y is {middle:.3f} (images have 0.07 and more)"
    intensity = np.exp(flat)
    near = float(np.median(lag_correlation(intensity, 1)))
    if near < _SMALLEST_NEAR_CORRELATION:
        return f"neighbouring pixels have a correlation of {near:.2f} (images have 0 to 0.9)"
    far = float(np.median(lag_correlation(intensity, _FAR_PX)))
    if far > _LARGEST_FAR_CORRELATION:
        return f"pixels {_FAR_PX} px apart have a correlation of {far:.2f} (images have below 0.2)"
    skewness = float(np.median((flat**3).mean(axis=(1, 2), dtype=np.float64) / variance**1.5))
    if skewness > _LARGEST_SKEWNESS and middle < _SMOOTH_VARIANCE:
        return f"the skewness of ln y is {skewness:.1f} (images have at most 0.5)"
    return ""


def describe_doubt(images: str, samples: Sequence[SpeckleSample]) -> str:
    """Return the warning for a doubt of :func:`find_doubt`, empty if there is none.

    Parameters
    ----------
    images : str
        Name of what was sampled, for the text.
    samples : sequence of SpeckleSample
        One per date, in order of time.
    """
    doubt = find_doubt(samples)
    if not doubt:
        return ""
    return (
        f"{images} does not look like an unfiltered radar image: {doubt}\n"
        "  expected: images as they were downloaded, calibrated, not filtered\n"
        "  do this: if a speckle filter was applied before, use the images from before it: "
        "methods that expect speckle lose detail or change the mean of such images"
    )
