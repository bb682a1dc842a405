"""Despeckle one window of one date, or compute its contribution to the temporal summary.

Files and arrays use the same two functions: tasks of a run (`sarstack.workflows.despeckle.tasks`)
and chunks of a Dask array (`sarstack.cube.despeckle`). The halo is clipped at the scene edge. The
window is cut into cells of a grid that is fixed to the scene's origin. So any tile size
gives the same pixels up to rounding, and tile sizes that are multiples of a cell the same bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.source import describe_failure
from sarstack.errors import MethodError, SarstackError
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window, cells


def despeckle_window(
    block: NDArray[Any],
    outer: Window,
    window: Window,
    scene: Shape,
    despeckler: Despeckler,
    statistics: SceneStatistics,
    summary: NDArray[np.float32] | None = None,
    uncertainty_db: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Despeckle one window of one date.

    Parameters
    ----------
    block : ndarray, shape of `outer`, float32 (complex64 if the method needs complex numbers)
        Linear power, NaN = nodata.
    outer : Window
        Pixels of `block`: `window` and its halo, clipped at the scene edge.
    window : Window
        Pixels to compute.
    scene : Shape
        Size of the whole scene.
    despeckler : Despeckler
        The method.
    statistics : SceneStatistics
        Of the whole scene at this date.
    summary : ndarray, shape (n_summary, *outer), float32, optional
        Temporal summary for multi-temporal methods.
    uncertainty_db : ndarray, shape of `window`, float32, optional
        Is filled with the uncertainty of the result; see
        :meth:`Despeckler.despeckle_with_uncertainty`. None: it is not computed.

    Returns
    -------
    ndarray, shape of `window`, float32
        Linear power; NaN exactly where the input is NaN.

    Raises
    ------
    SarstackError
        If a valid pixel became NaN or infinite, or a nodata pixel got a value.
    """
    result = np.full(window.shape, np.nan, np.float32)
    if uncertainty_db is not None:
        uncertainty_db[...] = np.nan
    for cell in cells(window, despeckler.call_px):
        if np.isnan(block[cell.slices_in(outer)]).all():
            continue
        needed = despeckler.input_window(cell, scene)
        part = needed.slices_in(outer)
        sums = None if summary is None else summary[(slice(None), *part)]
        given = (block[part], statistics, sums, cell.slices_in(needed))
        place = cell.slices_in(window)
        with _report_failures(despeckler):
            if uncertainty_db is None:
                out = despeckler.despeckle_inside(*given)
            else:
                out, spread = despeckler.despeckle_with_uncertainty(*given)
                _check_shape(spread, cell.shape, despeckler)
                uncertainty_db[place] = spread
        _check_shape(out, cell.shape, despeckler)
        result[place] = out
    for image in (result, uncertainty_db):
        if image is not None:
            _check_result(image, block[window.slices_in(outer)], despeckler.name)
    return result


def contribute_window(
    block: NDArray[Any],
    outer: Window,
    window: Window,
    scene: Shape,
    despeckler: Despeckler,
    statistics: SceneStatistics,
) -> NDArray[np.float64]:
    """Return what one date adds to the temporal summary of one window.

    Parameters are those of :func:`despeckle_window`.

    Returns
    -------
    ndarray, shape (n_summary, *window), float64
    """
    total = np.zeros((despeckler.n_summary, *window.shape))
    for cell in cells(window, despeckler.call_px):
        needed = despeckler.contribution_window(cell, scene)
        part = needed.slices_in(outer)
        with _report_failures(despeckler):
            out = despeckler.contribute(block[part], statistics)
        _check_shape(out, (despeckler.n_summary, *needed.shape), despeckler)
        total[(slice(None), *cell.slices_in(window))] = out[(slice(None), *cell.slices_in(needed))]
    return total


@contextmanager
def _report_failures(despeckler: Despeckler) -> Iterator[None]:
    """Turn an exception in a method from outside the package into a MethodError with its line."""
    try:
        yield
    except (SarstackError, MemoryError):
        raise
    except Exception as failure:
        source = despeckler.source
        if source is None:
            raise
        raise MethodError(
            f"method {despeckler.name!r} failed: {describe_failure(failure, source)}",
            where=source.path,
            do=f"correct it, and check it with `sarstack check-method {source.label}`",
        ) from failure


def _check_shape(out: Any, expected: tuple[int, ...], despeckler: Despeckler) -> None:
    """Raise if the shape is wrong: NumPy might broadcast such an array without an error."""
    if np.shape(out) != expected:
        raise MethodError(
            f"method {despeckler.name!r} returned an array of shape {np.shape(out)}",
            expected=f"shape {tuple(expected)}",
            do="return one value for each pixel of the input",
        )


def _check_result(result: NDArray[np.float32], block: NDArray[Any], name: str) -> None:
    finite = np.isfinite(result)
    wrong = int(np.count_nonzero(finite != np.isfinite(block)))
    if wrong:
        raise SarstackError(
            f"method {name!r} returned {wrong} pixels that are not finite, or filled nodata",
            expected="finite values where the input has data, NaN elsewhere",
            do="report this bug with the image, or correct the method if it is yours; "
            "other dates are not affected",
        )
