"""Training patches of single look complex images: one part is the input, the other the target."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.decorrelated import read_centred
from sarstack.readers.raster import Raster
from sarstack.speckle.complex_parts import split_parts
from sarstack.tiles import Window
from sarstack.training.stack_patches import StackPatches

FloatImage = NDArray[np.float32]


@dataclass(frozen=True)
class PartPatches(StackPatches):
    """Patches ``2 a**2`` with the target ``2 b**2``, or the reverse, at random.

    Attributes are those of :class:`StackPatches`; `statistics` are those of one part, from
    :func:`sarstack.speckle.complex_parts.describe_part`.
    """

    def _draw(self, rng: np.random.Generator) -> tuple[str, Window, list[int], NDArray[np.int64]]:
        """Draw a place, its dates, flips, and the order of the parts (as a third flip)."""
        polarisation, window, dates, flips = super()._draw(rng)
        return polarisation, window, dates, np.append(flips, rng.choice([-1, 1]))

    def _read_flipped(
        self, polarisation: str, window: Window, dates: list[int], flips: NDArray[np.int64]
    ) -> tuple[FloatImage, ...]:
        *parts, weight, sensor = super()._read_flipped(polarisation, window, dates, flips)
        return *parts[:: flips[2]], weight, sensor

    def _read_date(
        self, polarisation: str, date: int, window: Window
    ) -> tuple[FloatImage, FloatImage, FloatImage]:
        """Read both parts and the weight of one date, each (y, x)."""
        raster = self.stack.rasters[polarisation][date]
        assert isinstance(raster, Raster), "chosen from the dates that have this polarisation"
        first, second = split_parts(read_centred(raster, window))
        return first, second, np.isfinite(first).astype(np.float32)
