"""A stack on disk, as an index: which file holds which date and polarisation, on which grid.

All classes are small, frozen and picklable: this is what travels to the workers of a
cluster, never an open file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sarstack.conventions import POLARISATIONS
from sarstack.readers.grid import Grid
from sarstack.readers.raster import IntensityReader, Raster


@dataclass(frozen=True)
class Date:
    """One acquisition: its full UTC timestamp (NaT if unknown) and where it came from.

    `is_numbered` tells that the time only keeps an undated series in order.
    """

    time: np.datetime64
    platform: str = ""
    orbit_direction: str = ""
    relative_orbit: int | None = None
    is_numbered: bool = False

    @property
    def timestamp(self) -> str:
        """The acquisition time as ISO 8601 in UTC, empty when it is not known."""
        if self.is_numbered or np.isnat(self.time):
            return ""
        return f"{self.time.astype('datetime64[s]')}Z"


@dataclass(frozen=True)
class Stack:
    """Everything known of a stack without reading its pixels.

    Attributes
    ----------
    path : str
        What the user gave.
    grid : Grid
        Common to all images.
    dates : tuple of Date
        In order of time.
    rasters : dict of str to tuple of (Raster or None)
        For each polarisation (``vv``, ``vh``, ``hh``, ``hv``), one entry per date;
        None where the date lacks the polarisation.
    calibration : str
        ``gamma0``, ``sigma0``, ``beta0`` or empty when unknown.
    skipped : tuple of (str, str)
        Files that could not be read and were left out on request, each with the reason.
    """

    path: str
    grid: Grid
    dates: tuple[Date, ...]
    rasters: dict[str, tuple[Raster | None, ...]] = field(hash=False)
    calibration: str = ""
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def polarisations(self) -> tuple[str, ...]:
        """Names of the polarisations, in the order vv, vh, hh, hv."""
        return tuple(p for p in POLARISATIONS if p in self.rasters)

    @property
    def n_dates(self) -> int:
        """Number of dates."""
        return len(self.dates)


class ImageStack(Protocol):
    """What training reads from: a :class:`Stack` of files, or a cube (``CubeStack``)."""

    @property
    def path(self) -> str:
        """Name for messages."""

    @property
    def grid(self) -> Grid:
        """Common to all images."""

    @property
    def dates(self) -> Sequence[Date]:
        """In order of time."""

    @property
    def polarisations(self) -> tuple[str, ...]:
        """Names of the polarisations, in the order vv, vh, hh, hv."""

    @property
    def rasters(self) -> Mapping[str, Sequence[IntensityReader | None]]:
        """For each polarisation, one image per date; None where the date lacks it."""
