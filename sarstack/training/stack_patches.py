"""Training patches straight from a stack and its labels: no copies, no folders of images.

The input is one date; the target is the temporal mean of all *other* dates. A label that
held its own input would teach a network to keep the speckle.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError, UsageError
from sarstack.labels.statistics import mean_of_others, mean_without, multilook
from sarstack.readers.stack import ImageStack, Stack
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window, tile_grid
from sarstack.training.supervised import Batch

MIN_DATES = 3
MIN_VALID_SHARE = 0.5
MAX_CELLS = 1024


@dataclass(frozen=True)
class Labels:
    """The labels store of a stack, read by window.

    Attributes
    ----------
    path : str
        Zarr store made by ``build-labels``.
    polarisations, dates : tuple of str
        What it covers.
    multilook_px : int
        Spatial mean that the dates had before.
    """

    path: str
    polarisations: tuple[str, ...]
    dates: tuple[str, ...]
    shape: Shape
    multilook_px: int

    @classmethod
    def open(cls, path: str | Path, stack: Stack) -> "Labels":
        """Open a store and check that it belongs to a stack.

        Raises
        ------
        UsageError
            If it is not a labels store.
        StackError
            If its grid is another one, or it lacks a polarisation.
        """
        import zarr

        try:
            group = zarr.open_group(str(path), mode="r")
            attributes = dict(group.attrs)
            polarisations = tuple(str(p) for p in np.asarray(group["polarisation"][:]))
            shape = Shape(*group["mean"].shape[1:])
            settings = json.loads(str(attributes["settings"]))
        except (OSError, KeyError, ValueError) as failure:
            raise UsageError(
                f"labels = {str(path)!r} is not a labels store ({failure})",
                expected="a Zarr store made by `sarstack build-labels`",
                do=f"sarstack build-labels {stack.path} -o labels.zarr",
            ) from failure
        lacking = [p for p in stack.polarisations if p not in polarisations]
        if shape != stack.grid.shape or lacking:
            raise StackError(
                f"the labels have {shape.y} x {shape.x} px and {', '.join(polarisations)}",
                expected=f"{stack.grid.shape.y} x {stack.grid.shape.x} px and "
                f"{', '.join(stack.polarisations)}, as the stack",
                where=str(path),
                do="build the labels of this very stack, with the same --bbox and --pol",
            )
        dates: Any = attributes["dates"]
        return cls(str(path), polarisations, tuple(dates), shape, int(settings["multilook_px"]))

    def read(self, name: str, polarisation: str, window: Window) -> NDArray[Any]:
        """Read one variable of one polarisation, shape of `window`."""
        import zarr

        layer = self.polarisations.index(polarisation)
        array = zarr.open_array(f"{self.path}/{name}", mode="r")
        return np.asarray(array[(layer, *window.slices)])


@dataclass(frozen=True)
class StackPatches:
    """Patches of a stack, as a training source: batch number n is always the same.

    Attributes
    ----------
    stack : Stack or CubeStack
    labels : Labels or None
        None: the noisy image is its own target; tuning makes its own.
    cells : tuple of (str, Window)
        Polarisation and place of the patches.
    batch_size : int
    seed : int
    statistics : dict of str to dict of int to SceneStatistics
        Of each polarisation and date: what the network is told of the speckle.
    linear : bool
        Whether images are divided by their 98th percentile, for networks on linear intensity.
    n_dates : int
        Dates drawn of each place, next to each other in the batch.
    share : slice
        Which places of every batch are read: all, or those of one of several processes.
    """

    stack: ImageStack
    labels: Labels | None
    cells: tuple[tuple[str, Window], ...]
    batch_size: int
    seed: int
    statistics: dict[str, dict[int, SceneStatistics]]
    linear: bool = False
    n_dates: int = 1
    share: slice = field(default_factory=lambda: slice(None))

    @property
    def n_places(self) -> int:
        """Places of a whole batch."""
        return max(1, self.batch_size // self.n_dates)

    def batch(self, step: int) -> Batch:
        """Draw places, dates and flips from the step's number, and read them."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._draw(rng) for _ in range(self.n_places)]
        places = [self._read_flipped(*place) for place in drawn[self.share]]
        return Batch(*(np.concatenate(parts) for parts in zip(*places, strict=True)))

    def _draw(self, rng: np.random.Generator) -> tuple[str, Window, list[int], NDArray[np.int64]]:
        """Draw one place, its dates and flips; never rotated: azimuth is not range."""
        polarisation, window = self.cells[rng.integers(len(self.cells))]
        usable = self.dates_of(polarisation)
        # Far apart: speckle of neighbouring dates can be the same where nothing grows.
        turn = rng.integers(len(usable)) + np.arange(self.n_dates) * len(usable) // self.n_dates
        dates = [usable[i] for i in turn % len(usable)]
        return polarisation, window, dates, rng.choice([-1, 1], 2)

    def _read_flipped(
        self, polarisation: str, window: Window, dates: list[int], flips: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], ...]:
        *images, sensor = self.read(polarisation, window, dates)
        flipped = (image[..., :: flips[0], :: flips[1]] for image in images)
        return *map(np.ascontiguousarray, flipped), sensor

    def dates_of(self, polarisation: str) -> list[int]:
        """Return the numbers of the dates that have a polarisation."""
        rasters = self.stack.rasters[polarisation]
        return [i for i, raster in enumerate(rasters) if raster is not None]

    def read(
        self, polarisation: str, window: Window, dates: Sequence[int]
    ) -> tuple[NDArray[np.float32], ...]:
        """Read one place on several dates.

        Returns
        -------
        intensity, target, weight : ndarray, shape (date, 1, y, x), float32
        sensor : ndarray, shape (date, 4), float32
            Of a :class:`Batch`.
        """
        patches = [self._read_one(polarisation, date, window) for date in dates]
        images = (np.stack(parts)[:, np.newaxis] for parts in zip(*patches, strict=True))
        known = [self.statistics[polarisation][date] for date in dates]
        told = [[*k.sensor, 1.0] if k.sensor else [1.0, 0.0, 0.0, 0.0] for k in known]
        return *images, np.array(told, dtype=np.float32)

    def _read_one(
        self, polarisation: str, date: int, window: Window
    ) -> tuple[NDArray[np.float32], ...]:
        raster = self.stack.rasters[polarisation][date]
        assert raster is not None, "chosen from the dates that have this polarisation"
        bright = self.statistics[polarisation][date].bright if self.linear else 1.0
        divisor = np.float32(bright)
        if self.labels is None:
            intensity = raster.read(window) / divisor
            return intensity, intensity, np.isfinite(intensity).astype(np.float32)
        outer = window.expand(self.labels.multilook_px // 2, self.stack.grid.shape)
        block = raster.read(outer)
        intensity = block[window.inside(outer)]
        target: NDArray[np.float32] = self.labels.read("mean", polarisation, window)
        if str(self.stack.dates[date].time) in self.labels.dates:
            count = self.labels.read("count", polarisation, window)
            smooth = multilook(block, self.labels.multilook_px)[window.inside(outer)]
            target = mean_without(target, count, smooth)
        stable = self.labels.read("stable", polarisation, window)
        usable = np.isfinite(target) & (target > 0) & np.isfinite(intensity) & (stable == 1)
        return intensity / divisor, target / divisor, usable.astype(np.float32)

    def read_with_others(
        self, polarisation: str, window: Window, dates: Sequence[int], shown: Sequence[int]
    ) -> Batch:
        """Read a place on some dates, each with the mean of all other `dates` as its target.

        Parameters
        ----------
        polarisation, window
            The place.
        dates : sequence of int
            Dates that make up the targets.
        shown : sequence of int
            Those of `dates` that are returned.
        """
        intensity, _, weight, sensor = self.read(polarisation, window, dates)
        target, rows = mean_of_others(intensity), [list(dates).index(date) for date in shown]
        return Batch(intensity[rows], target[rows], weight[rows], sensor[rows])


def split_cells(
    stack: ImageStack, labels: Labels | None, patch_px: int, held_out: float = 0.15, seed: int = 0
) -> tuple[tuple[tuple[str, Window], ...], tuple[tuple[str, Window], ...]]:
    """Cut the scene into cells and keep some of them for validation, never trained on.

    Parameters
    ----------
    stack, labels
        What the patches come from; without labels, cells need valid pixels only.
    patch_px : int
        Edge of a cell; halved until the scene holds at least four.
    held_out : float
        Share of the cells kept for validation, at least one.

    Returns
    -------
    training, validation : tuple of (str, Window)
        Polarisation and window of each cell with enough stable, valid pixels.

    Raises
    ------
    UsageError
        If there are too few dates or too few usable pixels.
    """
    scene = stack.grid.shape
    if labels is not None and len(stack.dates) < MIN_DATES:
        raise UsageError(
            f"the stack has {len(stack.dates)} dates",
            expected=f"{MIN_DATES} or more, since the label leaves the input date out",
            do="add dates, or use the shipped weights as they are",
        )
    while patch_px > 16 and (scene.y // patch_px) * (scene.x // patch_px) < 4:
        patch_px //= 2
    rng = np.random.default_rng(seed)
    places = [
        t.window for t in tile_grid(scene, patch_px) if t.window.shape == (patch_px, patch_px)
    ]
    candidates = [(p, w) for w in places for p in stack.polarisations]
    order = rng.permutation(len(candidates))[:MAX_CELLS]
    drawn = (candidates[i] for i in order)
    cells = [cell for cell in drawn if _usable_share(stack, labels, *cell) > MIN_VALID_SHARE]
    n_held_out = max(1, round(held_out * len(cells)))
    if len(cells) <= n_held_out:
        raise UsageError(
            f"only {len(cells)} cells of {patch_px} px have enough stable pixels",
            expected="at least two",
            where=labels.path if labels else stack.path,
            do="use a larger part of the scene, or labels with a milder rule (--quantile)",
        )
    held = {window for _, window in cells[:n_held_out]}
    training = tuple(cell for cell in cells if cell[1] not in held)
    return training or tuple(cells[n_held_out:]), tuple(c for c in cells if c[1] in held)


def _usable_share(
    stack: ImageStack, labels: Labels | None, polarisation: str, window: Window
) -> float:
    if labels is None:
        raster = next(r for r in stack.rasters[polarisation] if r is not None)
        return float(np.isfinite(raster.read(window)).mean())
    count = labels.read("count", polarisation, window)
    stable = labels.read("stable", polarisation, window)
    return float(np.mean((count >= MIN_DATES) & (stable == 1)))
