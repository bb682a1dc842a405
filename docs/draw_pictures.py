"""Draw the pictures of the pages from simulated data: `python docs/draw_pictures.py FOLDER`.

Every picture shows what the code of the package does; only the diagram of the network is drawn
by hand.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from scipy.special import digamma
from scipy.stats import gamma

from sarstack.despecklers import make_despeckler
from sarstack.speckle.landscapes import Reflectivity
from sarstack.speckle.sensor import SpeckleSimulator, simulate_stack
from sarstack.speckle.statistics import SceneStatistics, measure_scene

Image = NDArray[np.float32]
GRD = SpeckleSimulator(4.5, (0.65, 0.65))
BLUE, ORANGE, GREY = "#3465a4", "#d9822b", "#8a8f98"
PICTURES: dict[str, Callable[[], Figure]] = {}


def picture(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Register a function that draws a picture; its name is that of the file."""
    PICTURES[draw.__name__] = draw
    return draw


def draw_missing_pictures(folder: Path) -> None:
    """Draw the pictures that are missing, or older than this file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        path = folder / f"{name}.png"
        if not path.exists() or path.stat().st_mtime < Path(__file__).stat().st_mtime:
            draw().savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def make_axes(n: int, height: float = 3.1, width: float = 9.5) -> tuple[Figure, list[Any]]:
    """Return a figure with `n` panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, n)))


def show(axes: Any, image: Image, title: str, **options: Any) -> None:
    """Draw an intensity image in dB, all with the same grey levels."""
    shown = 10 * np.log10(np.maximum(image, 1e-6))
    axes.imshow(
        shown, **({"cmap": "gray", "vmin": -16, "vmax": 3, "interpolation": "nearest"} | options)
    )
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def simulate(n_dates: int, side_px: int, seed: int, kind: str = "fields") -> Any:
    """Simulate dates whose median intensity is 0.3."""
    stack = simulate_stack(n_dates, (side_px, side_px), np.random.default_rng(seed), GRD, kind=kind)
    factor = np.float32(0.3 / np.median(stack.truth))
    return stack.intensity * factor, stack.truth * factor, stack.changed


def as_cube(dates: Image) -> xr.DataArray:
    """Return dates as the accessor takes them."""
    return xr.DataArray(dates, dims=("time", "y", "x"), name="vv")


def observe(scene: Image, rng: np.random.Generator) -> Image:
    """Add GRD-like speckle to a scene."""
    return GRD.observe(Reflectivity(scene, np.zeros_like(scene)), rng)


@picture
def speckle() -> Figure:
    """One scene: without speckle, with one look, with 4.5 correlated looks, and their laws."""
    rng = np.random.default_rng(4)
    scene = simulate(1, 160, 11)[1][0]
    one_look = scene * rng.exponential(1, scene.shape).astype(np.float32)
    figure, axes = make_axes(4, 2.6)
    show(axes[0], scene, "reflectivity (simulated)")
    show(axes[1], one_look, "1 look: SLC")
    show(axes[2], simulate(1, 160, 11)[0][0], "4.5 looks, correlated: GRD")
    values = np.linspace(0.001, 3.5, 400)
    for looks, colour in ((1, GREY), (4.5, ORANGE), (20, BLUE)):
        axes[3].plot(
            values,
            gamma.pdf(values, looks, scale=1 / looks),
            color=colour,
            label=f"{looks} look{'s' * (looks > 1)}",
        )
    axes[3].set_title("how intensity varies on a flat field", fontsize=9)
    axes[3].set_xlabel("intensity / mean", fontsize=8)
    axes[3].set_yticks([])
    axes[3].legend(fontsize=8, frameon=False)
    return figure


@picture
def mean_of_decibels() -> Figure:
    """Draw the error of a mean that is taken of decibels, over the number of looks."""
    figure, [axes] = make_axes(1, 2.6, 5.5)
    looks = np.geomspace(1, 50, 200)
    axes.semilogx(looks, 10 / np.log(10) * (digamma(looks) - np.log(looks)), color=BLUE)
    for name, value in (("SLC", 1), ("GRD", 4.4), ("RTC", 10)):
        error = 10 / np.log(10) * (digamma(value) - np.log(value))
        axes.plot(value, error, "o", color=ORANGE)
        axes.annotate(
            f"{name}: {error:.1f} dB",
            (value, error),
            (8, -4),
            textcoords="offset points",
            fontsize=9,
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.set_xlabel("looks")
    axes.set_ylabel("error of the mean, dB")
    return figure


@picture
def tiling() -> Figure:
    """Tiles with and without a halo: the difference from the result of the whole image."""
    noisy = simulate(1, 512, 3)[0]
    [known] = measure_scene(noisy)
    method = make_despeckler("despecknet-lite")
    whole = method.despeckle(noisy[0], known)
    halo = 96

    def tiled(margin: int) -> Image:
        result = np.empty_like(whole)
        for y in (0, 256):
            for x in (0, 256):
                top, left = max(y - margin, 0), max(x - margin, 0)
                block = noisy[0, top : y + 256 + margin, left : x + 256 + margin]
                out = method.despeckle(block, known)
                result[y : y + 256, x : x + 256] = out[y - top :, x - left :][:256, :256]
        return result

    figure, axes = make_axes(3, 3.4)
    show(axes[0], noisy[0], "a tile (orange) is written;\nits halo (blue) is only read")
    axes[0].add_patch(
        Rectangle((256 - halo, 0), 256 + halo, 256 + halo, fill=False, color=BLUE, lw=2)
    )
    axes[0].add_patch(Rectangle((256, 0), 255, 256, fill=False, color=ORANGE, lw=2))
    for panel, margin in zip(axes[1:], (0, halo), strict=True):
        error = np.abs(10 * np.log10(tiled(margin) / whole))
        drawn = panel.imshow(error, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        name = f"halo of {margin} px" if margin else "no halo"
        panel.set_title(
            f"{name}: differs from the\nwhole image by up to {error.max():.2g} dB", fontsize=9
        )
        panel.set_xticks([])
        panel.set_yticks([])
    figure.colorbar(drawn, ax=axes[1:], label="|difference|, dB", shrink=0.8)
    return figure


@picture
def labels() -> Figure:
    """One date, and the labels of twelve dates."""
    noisy = simulate(12, 220, 21, "coast")[0]
    layers = as_cube(noisy).despeck.labels().isel(polarisation=0)
    figure, axes = make_axes(4, 2.7)
    show(axes[0], noisy[0], "one of 12 dates", vmin=-20, vmax=7)
    show(axes[1], layers["mean"].values, "mean", vmin=-20, vmax=7)
    axes[2].imshow(layers["cv"], cmap="viridis", vmin=0.2, vmax=1, interpolation="nearest")
    axes[3].imshow(layers["stable"], cmap="gray", interpolation="nearest")
    for panel, title in zip(axes[2:], ("coefficient of variation", "stable (white)"), strict=True):
        panel.set_title(title, fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    return figure


@picture
def network() -> Figure:
    """Diagram of despecknet: two branches on two grids."""
    figure = Figure(figsize=(9.5, 3.3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 36)
    axes.axis("off")

    def box(x: float, y: float, width: float, text: str, colour: str = "#eef1f6") -> None:
        shape = FancyBboxPatch((x, y), width, 7.5, boxstyle="round,pad=0.4", fc=colour, ec=GREY)
        axes.add_patch(shape)
        axes.text(x + width / 2, y + 3.75, text, ha="center", va="center", fontsize=8.5)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY})

    box(1, 14, 14, "noisy image\nln y minus its\nlocal mean", "#fff3e2")
    box(1, 3, 14, "mask of nodata,\nlooks, correlation", "#fff3e2")
    box(1, 25, 14, "-mt only: sums\nover other dates", "#fff3e2")
    box(22, 22, 13, "grid of 2 x 2 px\n64 channels")
    box(41, 22, 15, "grid of 4 x 4 px\n128 channels,\n5 residual blocks")
    box(62, 22, 13, "grid of 2 x 2 px\n64 channels")
    box(22, 5, 53, "noise branch: the same, smaller")
    box(82, 22, 16, "ln clean image =\nln y - correction", "#e5f0e5")
    box(82, 5, 16, "ln speckle\n(--output-noise)", "#e5f0e5")
    for y in (6.5, 17.75, 29):
        arrow((15.6, y), (21.4, 25.5))
        arrow((15.6, y), (21.4, 9))
    for start, end in ((35.6, 40.4), (56.6, 61.4), (75.6, 81.4)):
        arrow((start, 25.75), (end, 25.75))
    arrow((75.6, 8.75), (81.4, 8.75))
    axes.annotate("", (68, 30.2), (28, 30.2), arrowprops={"arrowstyle": "->", "color": GREY,
                  "connectionstyle": "arc3,rad=-0.18"})  # fmt: skip
    axes.text(48, 34.6, "detail goes around the coarse grid", ha="center", fontsize=8, color="#555")
    axes.text(48, 18.6, "clean branch", ha="center", fontsize=9)
    return figure


@picture
def change() -> Figure:
    """Two changes on one of ten dates, as methods of one and of several dates show them."""
    rng = np.random.default_rng(8)
    scene = simulate(1, 128, 29)[1][0]
    dates = np.repeat(scene[None], 10, axis=0)
    field, ship = np.s_[48:84, 40:90], np.s_[24:27, 30:34]
    dates[(4, *field)] *= np.float32(0.5)  # 3 dB darker on the fifth date
    dates[(4, *ship)] *= np.float32(10)
    noisy = as_cube(np.stack([observe(date, rng) for date in dates]))
    results = {name: noisy.despeck.apply(name).values for name in
               ("despecknet", "quegan-yu", "despecknet-mt")}  # fmt: skip
    results = {"truth": dates, "noisy": noisy.values, **results}
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    rows = figure.subplots(2, 5)
    for column, (name, images) in enumerate(results.items()):
        shares = [images[(4, *part)].mean() / scene[part].mean() for part in (field, ship)]
        kept = " and ".join(f"{10 * np.log10(share):+.1f}" for share in shares)
        show(rows[0][column], images[4], f"{name}\n{kept} dB")
        show(rows[1][column], images[5], "12 days later" if column == 0 else "")
    return figure


@picture
def correlation() -> Figure:
    """How similar neighbouring pixels of a flat field are, before and after despeckling."""
    rng = np.random.default_rng(2)
    flat = observe(np.ones((384, 384), np.float32), rng)
    images = {"noisy": flat}
    known = SceneStatistics(looks=4.5, correlation=(0.65, 0.65))
    for method in ("lee-sigma", "despecknet"):
        images[method] = make_despeckler(method).despeckle(flat, known)
    figure, [axes] = make_axes(1, 2.8, 6)
    shifts = np.arange(31)
    for (name, image), colour in zip(images.items(), (GREY, ORANGE, BLUE), strict=True):
        part = image[40:-40, 40:-40] - image[40:-40, 40:-40].mean()
        curve = [
            np.mean(part[:, : part.shape[1] - s] * part[:, s:]) / np.mean(part**2) for s in shifts
        ]
        axes.plot(shifts, curve, color=colour, label=name)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("distance, pixels")
    axes.set_ylabel("correlation")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    draw_missing_pictures(Path(sys.argv[1]))
