"""Training patches read from a stack and its labels, without copies on disk.

The input is one date; the target is the temporal mean of all *other* dates. If the input were
part of its own target, a network would learn to keep the speckle.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError, StackReadError, UsageError
from sarstack.labels.statistics import leave_one_out_means, mean_without, multilook
from sarstack.readers.stack import ImageStack, Stack
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window, tile_grid
from sarstack.training.batch import Batch

MIN_DATES = 3
MIN_USABLE_FRACTION = 0.5
MAX_PLACES = 1024

Place = tuple[str, Window]
"""Polarisation and window of a patch."""


@dataclass(frozen=True)
class Labels:
    """The labels store of a stack, read window by window.

    Attributes
    ----------
    path : str
        Zarr store made by ``build-labels``.
    polarisations, dates : tuple of str
        Polarisations, and times of the dates that the mean contains.
    shape : Shape
        Grid size.
    multilook_px : int
        Width of the spatial mean applied to each date before the temporal mean.
    """

    path: str
    polarisations: tuple[str, ...]
    dates: tuple[str, ...]
    shape: Shape
    multilook_px: int

    @classmethod
    def open(cls, path: str | Path, stack: Stack) -> "Labels":
        """Open a store and check that it fits a stack.

        Raises
        ------
        UsageError
            If `path` is not a labels store.
        StackError
            If the grid differs from that of the stack, or a polarisation is missing.
        """
        import zarr

        try:
            group = zarr.open_group(str(path), mode="r")
            attributes = dict(group.attrs)
            polarisations = tuple(str(p) for p in np.asarray(group["polarisation"][:]))
            shape = Shape(*group["mean"].shape[1:])
            settings = json.loads(str(attributes["settings"]))
        except (OSError, KeyError, ValueError, TypeError, RecursionError) as failure:
            raise UsageError(
                f"labels = {str(path)!r} is not a labels store ({failure})",
                expected="a Zarr store made by `sarstack build-labels`",
                do=f"sarstack build-labels {stack.path} -o labels.zarr",
            ) from failure
        missing = [p for p in stack.polarisations if p not in polarisations]
        if shape != stack.grid.shape or missing:
            raise StackError(
                f"the labels have {shape.y} x {shape.x} px and {', '.join(polarisations)}",
                expected=f"{stack.grid.shape.y} x {stack.grid.shape.x} px and "
                f"{', '.join(stack.polarisations)}, as the stack",
                where=str(path),
                do="build labels from this stack, with the same --bbox and --pol",
            )
        dates: Any = attributes["dates"]
        return cls(str(path), polarisations, tuple(dates), shape, int(settings["multilook_px"]))

    def read(self, name: str, polarisation: str, window: Window) -> NDArray[Any]:
        """Read a window of one variable (``mean``, ``count``, ``stable``), shape (y, x)."""
        import zarr

        layer = self.polarisations.index(polarisation)
        try:
            array = zarr.open_array(f"{self.path}/{name}", mode="r")
            return np.asarray(array[(layer, *window.slices)])
        except Exception as failure:  # each codec has its own errors
            raise StackReadError(
                f"the labels cannot be read: {str(failure).splitlines()[0]}",
                where=f"{self.path}/{name}",
                do=f"see which parts are damaged: sarstack check {self.path}",
            ) from failure


@dataclass(frozen=True)
class StackPatches:
    """A source of patches of a stack; batch number n is always the same.

    Attributes
    ----------
    stack : Stack or CubeStack
    labels : Labels or None
        None: the noisy image is its own target; tuning computes other targets.
    places : tuple of (str, Window)
        Polarisation and window of the patches.
    batch_size : int
    seed : int
    statistics : dict of str to dict of int to SceneStatistics
        Looks and correlation for each polarisation and date, an input of the network.
    linear : bool
        Whether images are divided by their 98th percentile, for networks on linear intensity.
    n_dates : int
        Number of dates of each place, next to each other in the batch.
    shard : slice
        Places of every batch that are read: all, or those of one of several processes.
    """

    stack: ImageStack
    labels: Labels | None
    places: tuple[Place, ...]
    batch_size: int
    seed: int
    statistics: dict[str, dict[int, SceneStatistics]]
    linear: bool = False
    n_dates: int = 1
    shard: slice = field(default_factory=lambda: slice(None))

    @property
    def places_per_batch(self) -> int:
        """Number of places in a batch of all processes."""
        return max(1, self.batch_size // self.n_dates)

    def batch(self, step: int) -> Batch:
        """Draw places, dates and flips from the number of the step, and read the patches."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._draw(rng) for _ in range(self.places_per_batch)]
        patches = [self._read_flipped(*place) for place in drawn[self.shard]]
        return Batch(*(np.concatenate(parts) for parts in zip(*patches, strict=True)))

    def _draw(self, rng: np.random.Generator) -> tuple[str, Window, list[int], NDArray[np.int64]]:
        """Draw a place, its dates and flips; no rotation, since azimuth differs from range."""
        polarisation, window = self.places[rng.integers(len(self.places))]
        usable = self.dates_of(polarisation)
        # Far apart: without vegetation, neighbouring dates can have the same speckle.
        indices = rng.integers(len(usable)) + np.arange(self.n_dates) * len(usable) // self.n_dates
        dates = [usable[i] for i in indices % len(usable)]
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
            See :class:`sarstack.training.batch.Batch`.
        """
        patches = [self._read_date(polarisation, date, window) for date in dates]
        images = (np.stack(parts)[:, np.newaxis] for parts in zip(*patches, strict=True))
        statistics = [self.statistics[polarisation][date] for date in dates]
        sensors = [[*k.sensor, 1.0] if k.sensor else [1.0, 0.0, 0.0, 0.0] for k in statistics]
        return *images, np.array(sensors, dtype=np.float32)

    def _read_date(
        self, polarisation: str, date: int, window: Window
    ) -> tuple[NDArray[np.float32], ...]:
        """Read intensity, target and weight of one date, each (y, x)."""
        raster = self.stack.rasters[polarisation][date]
        assert raster is not None, "chosen from the dates that have this polarisation"
        bright = self.statistics[polarisation][date].bright if self.linear else 1.0
        divisor = np.float32(bright)
        if self.labels is None:
            intensity = raster.read(window) / divisor
            return intensity, intensity, np.isfinite(intensity).astype(np.float32)
        outer = window.expand(self.labels.multilook_px // 2, self.stack.grid.shape)
        block = raster.read(outer)
        intensity = block[window.slices_in(outer)]
        target: NDArray[np.float32] = self.labels.read("mean", polarisation, window)
        if str(self.stack.dates[date].time) in self.labels.dates:
            count = self.labels.read("count", polarisation, window)
            smooth = multilook(block, self.labels.multilook_px)[window.slices_in(outer)]
            target = mean_without(target, count, smooth)
        stable = self.labels.read("stable", polarisation, window)
        usable = np.isfinite(target) & (target > 0) & np.isfinite(intensity) & (stable == 1)
        return intensity / divisor, target / divisor, usable.astype(np.float32)

    def read_with_others(
        self, polarisation: str, window: Window, dates: Sequence[int], inputs: Sequence[int]
    ) -> Batch:
        """Read some dates of a place, each with the mean of the other `dates` as target.

        Parameters
        ----------
        polarisation, window
            The place.
        dates : sequence of int
            All dates, for the targets.
        inputs : sequence of int
            The dates to return, a subset of `dates`.
        """
        intensity, _, weight, sensor = self.read(polarisation, window, dates)
        target, rows = leave_one_out_means(intensity), [list(dates).index(date) for date in inputs]
        return Batch(intensity[rows], target[rows], weight[rows], sensor[rows])


def split_places(
    stack: ImageStack,
    labels: Labels | None,
    patch_px: int,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Divide the scene into places for training and places for validation.

    Parameters
    ----------
    stack, labels
        Source of the patches. Without labels, places need valid pixels only.
    patch_px : int
        Side of a place; halved until the scene contains at least four.
    validation_fraction : float
        Fraction of the places for validation, at least one place.
    seed : int
        Seed of the random choice.

    Returns
    -------
    training, validation : tuple of (str, Window)
        Polarisation and window of each place with enough stable, valid pixels. A window
        is used for one purpose only, in all polarisations.

    Raises
    ------
    UsageError
        If there are too few dates or too few usable pixels.
    """
    scene = stack.grid.shape
    if labels is not None and len(stack.dates) < MIN_DATES:
        raise UsageError(
            f"the stack has {len(stack.dates)} dates",
            expected=f"{MIN_DATES} or more, since the target leaves out the input date",
            do="add dates, or use the shipped weights as they are",
        )
    while patch_px > 16 and (scene.y // patch_px) * (scene.x // patch_px) < 4:
        patch_px //= 2
    rng = np.random.default_rng(seed)
    windows = [
        t.window for t in tile_grid(scene, patch_px) if t.window.shape == (patch_px, patch_px)
    ]
    candidates = [(p, w) for w in windows for p in stack.polarisations]
    order = rng.permutation(len(candidates))[:MAX_PLACES]
    drawn = (candidates[i] for i in order)
    places = [p for p in drawn if _usable_fraction(stack, labels, *p) > MIN_USABLE_FRACTION]
    n_validation = max(1, round(validation_fraction * len(places)))
    if len(places) <= n_validation:
        raise UsageError(
            f"only {len(places)} patches of {patch_px} px have enough "
            + ("stable pixels" if labels else "valid pixels"),
            expected="at least two",
            where=labels.path if labels else stack.path,
            do="use a larger part of the scene, or "
            + ("labels with a milder rule (--quantile)" if labels else "one with fewer holes"),
        )
    held_out = {window for _, window in places[:n_validation]}
    training = tuple(place for place in places if place[1] not in held_out)
    validation = tuple(place for place in places if place[1] in held_out)
    # If each window is held out (in one polarisation), train on these windows in the other one.
    return training or tuple(places[n_validation:]), validation


def _usable_fraction(
    stack: ImageStack, labels: Labels | None, polarisation: str, window: Window
) -> float:
    if labels is None:
        raster = next(r for r in stack.rasters[polarisation] if r is not None)
        return float(np.isfinite(raster.read(window)).mean())
    count = labels.read("count", polarisation, window)
    stable = labels.read("stable", polarisation, window)
    return float(np.mean((count >= MIN_DATES) & (stable == 1)))
