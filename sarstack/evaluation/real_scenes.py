"""Real single scenes as judges: no truth and no other date, only what was taken out.

The ratio input / result should be speckle: of mean 1, of the strength the looks tell, and
without a trace of the scene. Strength is judged on homogeneous windows, where nothing but
speckle varies. Traces of the scene are sought with the other polarisation, which shows the
same fields and roads but not the same speckle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.errors import UsageError
from sarstack.evaluation import metrics
from sarstack.evaluation.real_stacks import name_path, open_cube
from sarstack.evaluation.scores import SCORES, Cube, Scores, pool, score_ratio
from sarstack.output.quicklook import middle_window
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape

# More tells no more, and every method has to hold it in memory.
LARGEST_PX = 1024


@dataclass(frozen=True)
class RealScene:
    """The middle of a scene in memory, of one polarisation.

    Attributes
    ----------
    name : str
    intensity : ndarray, shape (1, y, x), float32
        Linear power, NaN = nodata.
    looks : float
        Measured.
    flat : ndarray, shape (y, x), bool
        Homogeneous windows; none where nodata leaves no window whole.
    other : ndarray, shape (1, y, x), float32
        Another polarisation of the same scene; NaN if there is none.
    """

    name: str
    intensity: Cube
    looks: float
    flat: NDArray[np.bool_]
    other: Cube


def read_scene(path: str, scale: str | None = None) -> list[RealScene]:
    """Read the first date of a scene, one entry per polarisation.

    Parameters
    ----------
    path : str
        Folder, file or pattern, see :func:`sarstack.open_stack`. Of a scene larger than
        1024 pixels the middle is read.
    scale : str, optional
        What the numbers are where neither tags nor numbers tell.
    """
    cube = open_cube(path, scale).isel(time=slice(1))
    window = middle_window(Shape(cube.sizes["y"], cube.sizes["x"]), LARGEST_PX)
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


def find_flat(intensity: Cube, looks: float, correlation: tuple[float, float]) -> NDArray[np.bool_]:
    """Mark the windows that vary as speckle alone does, shape (y, x)."""
    from sarstack.speckle.homogeneous import mark_homogeneous

    try:
        (mask,) = mark_homogeneous([intensity[:, None]], looks, correlation)
    except UsageError:  # no window is whole
        return np.zeros(intensity.shape[1:], dtype=bool)
    return mask[0, 0]


def score_scene(scene: RealScene, despeckler: Despeckler | None) -> tuple[Cube, Scores]:
    """Score a method on a real scene by what it has taken out.

    Parameters
    ----------
    scene : RealScene
    despeckler : Despeckler, optional
        None scores the input itself.

    Returns
    -------
    despeckled : ndarray, shape (1, y, x), float32
    scores : dict of float
        ``ratio_mean``, ``ratio_variance`` and ``enl`` are of the homogeneous windows,
        ``bias_db`` and ``ratio_structure`` of the whole scene.
    """
    noisy = scene.intensity
    despeckled = noisy.copy() if despeckler is None else despeckler.apply(noisy)
    return despeckled, {
        "bias_db": metrics.bias_db(despeckled, noisy),
        "enl": pool(measure_windows(despeckled[0], scene.flat), SCORES["enl"].pool),
        **score_ratio(noisy, despeckled, scene.other, scene.looks, where=scene.flat),
    }


def measure_windows(image: NDArray[np.float32], flat: NDArray[np.bool_]) -> Iterator[float]:
    """Return the equivalent number of looks of each homogeneous window, one after the other."""
    from sarstack.speckle.homogeneous import WINDOW_PX

    corners = np.argwhere(flat[::WINDOW_PX, ::WINDOW_PX]) * WINDOW_PX
    for y, x in corners:
        yield metrics.enl(image[y : y + WINDOW_PX, x : x + WINDOW_PX])
