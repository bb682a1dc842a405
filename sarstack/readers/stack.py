"""The index of a stack: which file holds which date and polarisation, on which grid.

All classes are small, frozen and picklable. They are sent to the workers of a cluster, which
open the files themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sarstack.conventions import POLARISATIONS
from sarstack.errors import StackError
from sarstack.readers.grid import Grid
from sarstack.readers.paths import public_path
from sarstack.readers.raster import IntensityReader, Raster


@dataclass(frozen=True)
class Date:
    """One acquisition.

    Attributes
    ----------
    time : numpy.datetime64
        UTC with time of day, NaT if unknown.
    platform : str
        ``sentinel-1a`` and so on, empty if unknown.
    orbit_direction : str
        ``ascending``, ``descending`` or empty.
    relative_orbit : int or None
    is_numbered : bool
        Whether the time was made up to keep the order of an undated series.
    """

    time: np.datetime64
    platform: str = ""
    orbit_direction: str = ""
    relative_orbit: int | None = None
    is_numbered: bool = False

    @property
    def timestamp(self) -> str:
        """The acquisition time as ISO 8601 in UTC, empty if it is unknown."""
        if self.is_numbered or np.isnat(self.time):
            return ""
        return f"{self.time.astype('datetime64[s]')}Z"


@dataclass(frozen=True)
class Stack:
    """A stack of files, indexed without reading all pixels.

    Attributes
    ----------
    path : str
        As given by the user.
    grids : tuple of Grid
        One that is common to all images; or one for each date, if the dates are not co-registered
        (products in radar geometry).
    dates : tuple of Date
        In order of time.
    rasters : dict of str to tuple of (Raster or None)
        For each polarisation (``vv``, ``vh``, ``hh``, ``hv``), one entry per date;
        None where the date lacks the polarisation.
    calibration : str
        ``gamma0``, ``sigma0``, ``beta0`` or empty if unknown or mixed.
    skipped : tuple of (str, str)
        Files that cannot be read and were left out on request, each with the reason.
    """

    path: str
    grids: tuple[Grid, ...]
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

    @property
    def is_coregistered(self) -> bool:
        """Whether a pixel is the same place at all dates."""
        return len(self.grids) == 1

    @property
    def grid(self) -> Grid:
        """The grid of all dates.

        Raises
        ------
        StackError
            If the dates are not co-registered.
        """
        self.check_coregistered("this job")
        return self.grids[0]

    def grid_at(self, date: int) -> Grid:
        """Return the grid of a date, by its index."""
        return self.grids[0] if self.is_coregistered else self.grids[date]

    def check_coregistered(self, job: str, do: str = "") -> None:
        """Raise if the dates are not co-registered.

        Parameters
        ----------
        job : str
            What needs co-registered dates.
        do : str, optional
            A way to do without.

        Raises
        ------
        StackError
        """
        if self.is_coregistered:
            return
        names = [str(date.time.astype("datetime64[s]")) for date in self.dates]
        way = "make terrain-corrected images first (HyP3 RTC, OPERA RTC-S1, pyroSAR, SNAP)"
        raise StackError(
            f"{job} needs dates on a common grid, but the {len(names)} images of "
            f"{public_path(self.path)} are in radar geometry, each on a grid of its own",
            expected="one SAFE product, or images on a common grid",
            where=names,
            do=f"{do}; or {way}" if do else way,
        )


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


def find_product_looks(images: Iterable[IntensityReader | None]) -> float | None:
    """Return the equivalent number of looks that a product tells of its images.

    Parameters
    ----------
    images : iterable of image or None
        All dates of one polarisation; None where a date has no image.

    Returns
    -------
    float or None
        The median over the images; None if the product does not tell it of every image.
    """
    told = [image.looks if isinstance(image, Raster) else None for image in images if image]
    known = [looks for looks in told if looks is not None]
    return float(np.median(known)) if known and len(known) == len(told) else None
