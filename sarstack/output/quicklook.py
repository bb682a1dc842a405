"""Pictures of input, result and ratio at full resolution, with the same fixed stretch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarstack.output.complete_file import complete_file
from sarstack.readers.paths import file_stem
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape, Window

# In dB; fixed, so that pictures can be compared.
STRETCH_DB = {"vv": (-22.0, 0.0), "hh": (-22.0, 0.0), "vh": (-28.0, -6.0), "hv": (-28.0, -6.0)}
CROP_PX = 512
# Longer side of a drawn panel, as a multiple of the shorter one.
_MAX_RATIO = 3.0

Panel = tuple[str, NDArray[np.floating], float, float]
"""Name, image, and the values that are black and white."""


def draw_quicklook(raster: Raster, result: Path | str, polarisation: str, picture: Path) -> Path:
    """Draw the centre of an image: input, result, and the ratio of both.

    Parameters
    ----------
    raster : Raster
        The input image.
    result : Path or str
        Path or URL of its despeckled COG, on the same grid.
    polarisation : str
        Chooses the stretch, see :func:`choose_stretch`.
    picture : Path
        PNG to write.

    Returns
    -------
    Path
        `picture`. If the method lost no detail, the ratio shows speckle only: no edge or road.
    """
    from rasterio.windows import Window as RasterWindow

    from sarstack.readers.formats.gdal import open_gdal

    window = centre_window(raster.shape)
    before = raster.read(window, cache_blocks=False)
    with open_gdal(str(result)) as file:
        place = RasterWindow(window.x0, window.y0, window.shape.x, window.shape.y)
        after = file.read(1, window=place)
    low, high = choose_stretch(after, polarisation)
    with np.errstate(divide="ignore", invalid="ignore"):
        panels = [
            (f"input, {polarisation.upper()} [dB]", 10 * np.log10(before), low, high),
            ("despeckled [dB]", 10 * np.log10(after), low, high),
            ("ratio input / despeckled", before / after, 0.0, 2.5),
        ]
    return draw_panels(panels, picture, title=file_stem(str(result)))


def centre_window(shape: Shape, crop_px: int = CROP_PX) -> Window:
    """Return the window of at most `crop_px` pixels around the centre of a scene."""
    height, width = min(shape.y, crop_px), min(shape.x, crop_px)
    y0, x0 = (shape.y - height) // 2, (shape.x - width) // 2
    return Window(y0, y0 + height, x0, x0 + width)


def choose_stretch(intensity: NDArray[np.float32], polarisation: str) -> tuple[float, float]:
    """Return the fixed stretch in dB; uncalibrated data shift it in steps of 10 dB."""
    low, high = STRETCH_DB.get(polarisation, STRETCH_DB["vv"])
    positive = intensity[np.isfinite(intensity) & (intensity > 0)]
    if not positive.size:
        return low, high
    middle = 10 * np.log10(float(np.median(positive)))
    shift = 0.0 if low < middle < high else 10 * round((middle - (low + high) / 2) / 10)
    return low + shift, high + shift


def draw_panels(
    panels: Sequence[Panel], picture: Path, title: str = "", n_columns: int = 100
) -> Path:
    """Write the figure of :func:`make_figure` as PNG, and return its path."""
    figure = make_figure(panels, title, n_columns)
    with complete_file(picture) as unfinished:
        figure.savefig(unfinished, format="png")
    return picture


def make_figure(
    panels: Sequence[Panel], title: str = "", n_columns: int = 100, *, n_free: int = 0
) -> Any:
    """Draw images in rows of `n_columns`, in grey; nodata is blue.

    Parameters
    ----------
    panels : sequence of (name, image, low, high)
        Images of one shape, and the values that are black and white.
    title : str
    n_columns : int
    n_free : int
        Number of empty axes after the images, the last ones of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Notes
    -----
    Each pixel has at least one screen pixel. Images much longer than wide, or much wider than
    long, are drawn with pixels that are not square: else the picture would need gigabytes.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grey = colormaps["gray"].with_extremes(bad="#27408b")
    height, width = panels[0][1].shape
    side, n_columns = 6.0, min(n_columns, len(panels) + n_free)
    n_rows = -(-(len(panels) + n_free) // n_columns)
    # The colour bar takes about a tenth of the width of a panel.
    ratio = min(max(height / width, 1 / _MAX_RATIO), _MAX_RATIO)
    aspect: Literal["equal", "auto"] = "equal" if ratio == height / width else "auto"
    size = (side * n_columns, n_rows * (0.88 * side * ratio + 0.4) + 0.4)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    one_stretch = len(panels) > 1 and len({panel[2:] for panel in panels}) == 1
    text_pt = 11 if n_columns < 3 else 15  # a screen shows three panels at about half their size
    for i, (name, image, low, high) in enumerate(panels):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        shown = axes.imshow(
            image, grey, vmin=low, vmax=high, interpolation="nearest", aspect=aspect
        )
        axes.set_title(name, fontsize=text_pt)
        axes.set_axis_off()
        if not one_stretch:
            bar = figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.01)
            bar.ax.tick_params(labelsize=text_pt - 2)
    if one_stretch:
        bar = figure.colorbar(shown, ax=figure.axes, fraction=0.02, pad=0.01, shrink=0.6)
        bar.ax.tick_params(labelsize=text_pt - 2)
    for i in range(n_free):
        figure.add_subplot(n_rows, n_columns, len(panels) + i + 1)
    if title:
        figure.suptitle(title, fontsize=text_pt - 2)
    return figure
