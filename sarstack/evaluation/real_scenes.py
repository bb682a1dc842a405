"""Validation on real scenes of one date: the removed speckle (ratio input / result).

There is neither truth nor another date. The ratio should be speckle: its mean is 1, its variance
is that of the measured looks, and it is not correlated with the scene. The variance is measured
in homogeneous windows, where only speckle varies. The correlation is measured with the other
polarisation, which shows the same fields and roads with independent speckle.
"""

from dataclasses import dataclass

import numpy as np

from sarstack.despecklers import Despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.metrics import score_result
from sarstack.evaluation.real_stacks import name_path, open_cube
from sarstack.evaluation.scores import Cube, Mask, Result, Scores
from sarstack.output.quicklook import centre_window
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape

# Enough pixels for stable scores; each method holds all of them in memory.
LARGEST_PX = 1024


@dataclass(frozen=True)
class RealScene:
    """The middle of a scene of one polarisation in memory.

    Attributes
    ----------
    name : str
    intensity : ndarray, shape (1, y, x), float32
        Linear power, NaN = nodata.
    looks : float
        Equivalent number of looks, measured.
    flat : ndarray, shape (y, x), bool
        Pixels of homogeneous windows; all False if no window is free of nodata.
    other : ndarray, shape (1, y, x), float32
        Another polarisation of the same scene; NaN if there is none.
    """

    name: str
    intensity: Cube
    looks: float
    flat: Mask
    other: Cube


def read_scene(path: str, scale: str | None = None) -> list[RealScene]:
    """Read the first date of a scene, one entry per polarisation.

    Parameters
    ----------
    path : str
        Folder, file or pattern, see :func:`sarstack.open_stack`. Only the middle of
        1024 x 1024 pixels is read of a larger scene.
    scale : {"linear", "amplitude", "db"}, optional
        Scale of scenes whose tags and values do not show it.
    """
    cube = open_cube(path, scale).isel(time=slice(1))
    window = centre_window(Shape(cube.sizes["y"], cube.sizes["x"]), LARGEST_PX)
    rows, columns = window.slices
    middle = cube.isel(y=rows, x=columns)
    images = {str(key): middle[key].to_numpy() for key in middle.data_vars}
    scenes = []
    for polarisation, intensity in images.items():
        speckle = measure_scene(intensity)[0]
        flat = find_flat(intensity, speckle.looks, speckle.correlation)
        others = [image for key, image in images.items() if key != polarisation]
        other = others[0] if others else np.full_like(intensity, np.nan)
        name = f"{name_path(path)}-{polarisation}"
        scenes.append(RealScene(name, intensity, speckle.looks, flat, other))
    return scenes


def find_flat(intensity: Cube, looks: float, correlation: tuple[float, float]) -> Mask:
    """Mark homogeneous windows: those that vary like speckle alone, shape (y, x)."""
    from sarstack.speckle.homogeneous import mark_homogeneous

    try:
        (mask,) = mark_homogeneous([intensity[:, None]], looks, correlation)
    except UsageError:  # no window is free of nodata
        return np.zeros(intensity.shape[1:], dtype=bool)
    return mask[0, 0]


def score_scene(scene: RealScene, despeckler: Despeckler | None) -> tuple[Cube, Scores]:
    """Score a method on a real scene by the speckle that it has removed.

    Parameters
    ----------
    scene : RealScene
    despeckler : Despeckler, optional
        None scores the input itself.

    Returns
    -------
    despeckled : ndarray, shape (1, y, x), float32
    scores : dict of float
        ``ratio_mean``, ``ratio_variance`` and ``enl`` are measured in homogeneous windows,
        ``bias_db`` and ``ratio_structure`` in the whole scene.
    """
    noisy = scene.intensity
    despeckled = noisy.copy() if despeckler is None else despeckler.apply(noisy)
    result = Result(
        "scene", noisy, despeckled, scene.other, scene.looks,
        flats=list_windows(scene.flat), homogeneous=scene.flat,
    )  # fmt: skip
    return despeckled, score_result(result)


def list_windows(flat: Mask) -> list[tuple[slice, slice]]:
    """Return rows and columns of each homogeneous window of a mask of shape (y, x)."""
    from sarstack.speckle.homogeneous import WINDOW_PX

    corners = np.argwhere(flat[::WINDOW_PX, ::WINDOW_PX]) * WINDOW_PX
    return [(slice(y, y + WINDOW_PX), slice(x, x + WINDOW_PX)) for y, x in corners]
