"""A pool of landscapes on the device, drawn by other processes while the network trains."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarstack.training.landscape_drawing import (
    FloatImage,
    draw_packed_landscape,
    draw_remembered,
    remember_settings,
)

AHEAD_PER_PROCESS = 8
"""Landscapes that each process may draw before they are needed."""

SPARE = 8
"""Steps that may be asked for in another order."""


@dataclass(frozen=True)
class Supply:
    """Which numbers of an endless series are in use at a step.

    Attributes
    ----------
    first : int
        How many there are at step 0.
    size : int
        How many are kept at most.
    per_step : float
        How many each step adds.
    """

    first: int
    size: int
    per_step: float

    def at(self, step: int) -> range:
        """Return the numbers in use at a step."""
        stop = self.first + int(step * self.per_step)
        return range(max(0, stop - self.size), stop)


class LandscapePool:
    """Landscapes on a device; number n depends on the seed and on n only.

    Parameters
    ----------
    supply : Supply
        Which landscapes are in use at each step.
    seed, side_px, n_dates, references, reference_fraction
        See :func:`sarstack.training.landscape_drawing.draw_packed_landscape`.
    n_processes : int
        Processes that draw; 0: this one.
    device : str
        Torch device.
    """

    def __init__(
        self,
        supply: Supply,
        *,
        seed: int,
        side_px: int,
        n_dates: int = 1,
        references: Sequence[FloatImage] = (),
        reference_fraction: float = 0.25,
        n_processes: int = 0,
        device: str = "cpu",
    ) -> None:
        self.supply = supply
        self._settings = {
            "seed": seed, "side_px": side_px, "n_dates": n_dates, "references": references,
            "reference_fraction": reference_fraction,
        }  # fmt: skip
        n_planes = 2 + (n_dates if n_dates > 1 else 0)
        n_slots = supply.size + int(np.ceil(SPARE * supply.per_step)) + 1
        self.planes = torch.zeros(
            (n_slots, n_planes, side_px, side_px), dtype=torch.float16, device=device
        )
        self._held = np.full(n_slots, -1)
        self._coming: dict[int, Future[NDArray[np.float16]]] = {}
        self._next = 0  # the first landscape that was not ordered
        self._n_ahead = AHEAD_PER_PROCESS * n_processes
        self._executor: ProcessPoolExecutor | None = None
        if n_processes:
            # Only for the new processes: each draws with one thread.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            self._folder = TemporaryDirectory(prefix="sarstack-references-")
            self._executor = ProcessPoolExecutor(
                n_processes, get_context("spawn"), remember_settings,
                (self._settings | {"references": ()}, _save_images(references, self._folder.name)),
            )  # fmt: skip
            self._order(range(supply.first))

    def take(self, step: int, n: int, rng: np.random.Generator) -> Tensor:
        """Return `n` random landscapes of those in use at a step, (n, plane, y, x), float32."""
        numbers = self.supply.at(step)
        self._order(range(max(self._next, numbers.start), numbers.stop + self._n_ahead))
        wanted = np.arange(numbers.start, numbers.stop)
        for number in wanted[self._held[wanted % len(self._held)] != wanted].tolist():
            coming = self._coming.pop(number, None)
            landscape = self._draw(number) if coming is None else coming.result()
            self.planes[number % len(self._held)].copy_(torch.from_numpy(landscape))
            self._held[number % len(self._held)] = number
        slots = torch.from_numpy(rng.choice(wanted, n) % len(self._held))
        return self.planes[slots.to(self.planes.device)].float()

    def _order(self, numbers: range) -> None:
        """Let other processes draw landscapes."""
        if self._executor:
            for number in numbers:
                self._coming[number] = self._executor.submit(draw_remembered, number)
            self._next = max(self._next, numbers.stop)

    def _draw(self, number: int) -> NDArray[np.float16]:
        return draw_packed_landscape(index=number, **self._settings)  # type: ignore[arg-type]

    def close(self) -> None:
        """End the processes."""
        if self._executor:
            self._executor.shutdown(cancel_futures=True)
            self._folder.cleanup()


def _save_images(images: Sequence[FloatImage], folder: str) -> list[str]:
    """Write images to files, and return their paths.

    Arguments of a new process go through a pipe: large ones would stop this process until the new
    one has read them, one new process after the other.
    """
    paths = [str(Path(folder) / f"{number}.npy") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    return paths
