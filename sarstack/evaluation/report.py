"""A report as one HTML file: tables, maps, before and after, ratio, distribution of the speckle.

All pictures are inside the file, so it opens anywhere without a network.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack import __version__
from sarstack.evaluation.tile_sums import RATIO_BINS
from sarstack.output.complete_file import write_text
from sarstack.output.quicklook import choose_stretch
from sarstack.tiles import Window

Image = NDArray[np.float32]

RATIO_RANGE = (0.0, 2.5)
# Pictures have 254 greys and two colours: half of the bytes of pictures in RGB.
_WHITE, _NODATA, _OUTLINE = 253, 254, 255
_GREYS = np.linspace(0, 255, _WHITE + 1).astype(np.uint8).repeat(3)
_PALETTE = _GREYS.tobytes() + bytes.fromhex("27408b ffb000")


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and whether its value is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ReportTable:
    """A table; `first` is the heading of the names of its rows. A folded one shows its title."""

    title: str
    first: str
    headings: Sequence[str]
    rows: Sequence[Row]
    legend: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True)
class MethodCrop:
    """One crop of one method, as data URIs."""

    name: str
    after: str
    ratio: str


@dataclass(frozen=True)
class Crop:
    """One crop of an image at full resolution: the input, and the result of each method."""

    title: str
    before: str
    methods: Sequence[MethodCrop]


@dataclass(frozen=True)
class Picture:
    """A picture as data URI."""

    caption: str
    data: str


@dataclass(frozen=True)
class ReportImage:
    """One input image and the results of all methods."""

    title: str
    crops: Sequence[Crop]
    stretch: str
    map: Sequence[Picture] = ()
    histogram: str = ""
    histogram_caption: str = ""
    before: str = "input"


@dataclass(frozen=True)
class ReportSettings:
    """How the results of one method were made: names and values."""

    method: str
    values: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes
    ----------
    title : str
    facts : sequence of (str, str)
        What was run.
    tables : sequence of ReportTable
    images : sequence of ReportImage
    failures : sequence of str
    settings : sequence of ReportSettings
    """

    title: str
    facts: Sequence[tuple[str, str]]
    tables: Sequence[ReportTable]
    images: Sequence[ReportImage] = ()
    failures: Sequence[str] = field(default=())
    settings: Sequence[ReportSettings] = field(default=())


def write_report(report: Report, path: Path) -> Path:
    """Write a report; the file gets its name when it is complete. All texts are escaped."""
    from jinja2 import Environment

    text = files("sarstack.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=False).from_string(text)
    write_text(path, template.render(vars(report), version=__version__) + "\n")
    return path


def make_crop(title: str, before: Image, after: Mapping[str, Image], polarisation: str) -> Crop:
    """Draw one crop: input and results in dB with one stretch, and their ratios.

    Parameters
    ----------
    title : str
    before : ndarray, shape (y, x), float32
        Linear power of the input, NaN = nodata.
    after : mapping of str to ndarray
        The results by method, same shape.
    polarisation : str
        Chooses the stretch.
    """
    low, high = choose_stretch(before, polarisation)
    methods = []
    for name, image in after.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = before / image
        methods.append(
            MethodCrop(name, draw_decibels(image, low, high), draw_grey(ratio, *RATIO_RANGE))
        )
    return Crop(title, draw_decibels(before, low, high), methods)


def describe_stretch(intensity: Image, polarisation: str) -> str:
    """Return the stretch of :func:`make_crop` as text."""
    low, high = choose_stretch(intensity, polarisation)
    return f"{polarisation.upper()}, {low:g} to {high:g} dB from black to white."


def draw_decibels(intensity: Image, low: float, high: float) -> str:
    """Draw linear power in dB as a PNG in a data URI."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return draw_grey(10 * np.log10(np.maximum(intensity, 1e-30)), low, high)


def draw_map(
    intensity: Image, step_px: int, low: float, high: float, windows: Sequence[Window] = ()
) -> str:
    """Draw a map in dB as a PNG in a data URI, with the outlines of windows of the image.

    Parameters
    ----------
    intensity : ndarray, shape (y, x), float32
        Linear power of blocks of `step_px`.
    step_px : int
    low, high : float
        Stretch in dB.
    windows : sequence of Window
        In pixels of the image.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        levels = _paint(10 * np.log10(np.maximum(intensity, 1e-30)), low, high)
    for window in windows:
        y0, x0 = window.y0 // step_px, window.x0 // step_px
        y1, x1 = (window.y1 - 1) // step_px, (window.x1 - 1) // step_px
        levels[[y0, y1], x0 : x1 + 1] = _OUTLINE
        levels[y0 : y1 + 1, [x0, x1]] = _OUTLINE
    return _encode(levels)


def draw_grey(image: NDArray[np.floating], low: float, high: float) -> str:
    """Draw an image from black (`low`) to white (`high`) as a PNG in a data URI; NaN is blue."""
    return _encode(_paint(image, low, high))


def _paint(image: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Return the indices of colours in `_PALETTE`."""
    with np.errstate(invalid="ignore"):
        grey = np.clip((image - low) / (high - low) * _WHITE, 0, _WHITE)
    return np.where(np.isfinite(image), np.nan_to_num(grey), _NODATA).astype(np.uint8)


def _encode(levels: NDArray[np.uint8]) -> str:
    from PIL import Image as Picture

    picture = Picture.fromarray(levels).convert("P")
    picture.putpalette(_PALETTE)
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return _as_uri(buffer.getvalue())


def draw_distribution(counts: Mapping[str, NDArray[np.int64]], looks: float) -> str:
    """Draw the figure of :func:`plot_distribution` as a PNG in a data URI."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    plot_distribution(figure.add_subplot(), counts, looks)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _as_uri(buffer.getvalue())


def plot_distribution(
    axes: Any, counts: Mapping[str, NDArray[np.int64]], looks: float, text_pt: int = 8
) -> None:
    """Plot the distribution of noisy / despeckled of each method, and the density of speckle.

    The dotted gamma density has the looks of the image; the text gives the looks of the gamma
    density that has the variance of each histogram.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    counts : mapping of str to ndarray
        Number of pixels in each of `RATIO_BINS`, by method.
    looks : float
        Equivalent number of looks of the image.
    text_pt : int
        Size of the legend.
    """
    from scipy.stats import gamma

    centres = (RATIO_BINS[:-1] + RATIO_BINS[1:]) / 2
    for name, count in counts.items():
        total = count.sum()
        if not total:
            continue
        density = count / total / np.diff(RATIO_BINS)
        fitted = fit_looks(count)
        axes.plot(centres, density, label=f"{name}: gamma of {fitted:.1f} looks")
    axes.plot(centres, gamma.pdf(centres, looks, scale=1 / looks), "k:", linewidth=2,
              label=f"speckle of {looks:.1f} looks")  # fmt: skip
    axes.set(xlim=(0, 3), xlabel="input / despeckled", ylabel="density")
    axes.legend(fontsize=text_pt)


def fit_looks(counts: NDArray[np.int64]) -> float:
    """Return mean^2 / variance of a histogram of the ratio: the looks of its gamma density."""
    centres = (RATIO_BINS[:-1] + RATIO_BINS[1:]) / 2
    mean = float(np.average(centres, weights=counts))
    variance = float(np.average((centres - mean) ** 2, weights=counts))
    return mean**2 / variance if variance else float("inf")


def _as_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
