"""The one verb of sarstack: a despeckler turns intensities into despeckled intensities.

The tile engine, the command line, the accessor and the contract tests know only
this class. A new method is one file that subclasses it and registers itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.source import MethodSource
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, Window


class Despeckler(ABC):
    """Anything that despeckles one date, given what is known of its scene.

    Attributes
    ----------
    name : str
        Name in the registry, used in file names and tags.
    halo : int
        Pixels needed on each side of a pixel to compute it exactly.
    alignment : int
        Blocks given to the method begin at multiples of this many pixels from the scene's
        origin: 1, unless the method works on a coarser grid.
    cell_px : int
        Side of the cells into which tiles are cut. The halo is computed again in each; what is
        computed in between should stay near the processor's cache.
    n_summary : int
        Channels of the temporal summary (0: every date is despeckled alone). A
        multi-temporal method adds up one contribution per date; the sum is all
        that a date ever sees of the others, so memory does not grow with the
        number of dates and dates can be added in any order.
    runtime_bytes : int
        What the method's libraries add to a worker process, once.
    has_thresholds : bool
        The method compares pixels with thresholds. When the input is scaled, rounding may move a
        few pixels (0.2 %) to the other side.
    hole_is_border : bool
        A hole of nodata gives the same pixels around it as the scene edge would. False: about
        the same (networks that see a mask; within 0.5 dB).
    rounding : float
        Rounding error of a pixel, as a part of the brightest pixel of the block: for methods that
        sum linear intensities with weights of both signs. 0: only relative to the pixel itself.
    source : MethodSource, optional
        Set for a class from outside this package.
    """

    name: ClassVar[str]
    halo: int
    alignment: ClassVar[int] = 1
    cell_px: ClassVar[int] = 512
    n_summary: int = 0
    runtime_bytes: ClassVar[int] = 0
    has_thresholds: ClassVar[bool] = False
    hole_is_border: ClassVar[bool] = True
    rounding: ClassVar[float] = 0.0
    source: ClassVar[MethodSource | None] = None

    @property
    def summary_halo(self) -> int:
        """Pixels needed on each side to compute a contribution exactly."""
        return self.halo

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU does the arithmetic."""
        return False

    def reach(self, window: Window, scene: Shape) -> Window:
        """Return the window of pixels needed to despeckle `window` exactly."""
        return window.expand(self.halo, scene, self.alignment)

    @abstractmethod
    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date.

        Parameters
        ----------
        intensity : ndarray, shape (y, x), float32
            Linear power. NaN marks nodata; values may be zero or negative where
            thermal noise was subtracted. At least 1x1, smaller than the halo is fine.
        statistics : SceneStatistics
            Looks, correlation and brightness of the whole scene, never of the tile.
        summary : ndarray, shape (n_summary, y, x), float32, optional
            Sum of the contributions of all dates, for multi-temporal methods.

        Returns
        -------
        ndarray, shape (y, x), float32
            Linear power; NaN exactly where the input is NaN. Pixels closer than
            `halo` to an edge that is not the scene's are computed but not trusted.
        """

    def despeckle_inside(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a part of a block.

        Parameters
        ----------
        intensity, statistics, summary
            As for :meth:`despeckle`.
        inside : tuple of slice, optional
            Rows and columns to return; the rest is their halo. All, if None.

        Returns
        -------
        ndarray, shape of `inside`, float32
        """
        return self.despeckle(intensity, statistics, summary)[inside or ...]

    def contribute(
        self, intensity: NDArray[np.float32], statistics: SceneStatistics
    ) -> NDArray[np.float64]:
        """Return what one date adds to the temporal summary.

        Parameters
        ----------
        intensity : ndarray, shape (y, x), float32
            Linear power of one date, NaN = nodata.
        statistics : SceneStatistics
            Of the whole scene at this date.

        Returns
        -------
        ndarray, shape (n_summary, y, x), float64
            Zero (not NaN) where the date has no data.
        """
        raise NotImplementedError(f"{self.name} does not look at other dates")

    def warm_up(self) -> None:  # noqa: B027 - most methods have nothing to load
        """Load, once per process, what the first call would have to load (a model)."""

    def files(self) -> list[str]:
        """Return paths that every worker must see, besides the images (a user's model)."""
        return []

    def memory_bytes(self, n_px: int) -> int:
        """Return about how much memory one call needs for an input of `n_px` pixels."""
        return 16 * 8 * n_px

    def settings(self) -> dict[str, str]:
        """Return what decides the pixels besides the input, for tags and fingerprints.

        Parameters of the method by name; a network adds the hash of its weights.
        """
        return {name: str(value) for name, value in sorted(vars(self).items())}

    def provenance(self) -> dict[str, str]:
        """Return :meth:`settings`, and for a method from outside the package its source.

        This goes into the tags and the mark of every result.
        """
        if self.source is None:
            return self.settings()
        origin = {"source": self.source.label, "source_sha256": self.source.sha256}
        return self.settings() | origin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Send the source of a method from outside the package with it to a worker process."""
        if self.source is None:
            return super().__reduce_ex__(protocol)
        return _rebuild, (self.source,), self.__getstate__()

    def apply(
        self,
        block: NDArray[np.float32],
        statistics: Sequence[SceneStatistics] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a block of dates that covers a whole scene, in memory.

        Parameters
        ----------
        block : ndarray, shape (time, y, x), float32
            Linear power, NaN = nodata.
        statistics : sequence of SceneStatistics, one per date, optional
            Measured from `block` when not given.

        Returns
        -------
        ndarray, shape (time, y, x), float32
        """
        if statistics is None:
            statistics = measure_scene(block)
        summary = None
        if self.n_summary:
            total = np.zeros((self.n_summary, *block.shape[1:]))
            for date, known in zip(block, statistics, strict=True):
                total += self.contribute(date, known)
            summary = total.astype(np.float32)
        despeckled = [
            self.despeckle(date, known, summary)
            for date, known in zip(block, statistics, strict=True)
        ]
        return np.stack(despeckled) if despeckled else block.copy()


def _rebuild(source: MethodSource) -> Despeckler:
    """Make an empty object of the class; pickle then fills in its attributes."""
    cls: type[Despeckler] = source.load_class()
    return cls.__new__(cls)
