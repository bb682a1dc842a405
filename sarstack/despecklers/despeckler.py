"""The base class of all methods: intensities in, despeckled intensities out.

Tiling, commands, accessor and laws use only this class. A new method is one file with a subclass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.source import MethodSource
from sarstack.errors import UsageError
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.statistics import SceneStatistics, measure_scene
from sarstack.tiles import Shape, Window


class Despeckler(ABC):
    """A method that despeckles one date of a scene.

    Attributes
    ----------
    name : str
        Name of the method, in commands, file names and tags.
    halo : int
        Number of pixels on each side of a pixel that its result depends on.
    alignment : int
        Blocks start at multiples of this number of pixels from the origin of the scene. 1, unless
        the method works on a coarser grid.
    cell_px : int
        Width of the cells into which a tile is cut. Each cell is one call. Larger cells compute
        fewer halo pixels twice (in two neighbouring cells); smaller cells fit into
        the cache of the processor.
    n_summary : int
        Number of channels of the temporal summary. 0: each date is despeckled alone. A
        multi-temporal method gets the sum of the contributions of all dates, and nothing else of
        the other dates. So memory does not grow with the number of dates, and dates can be
        summed in any order.
    first_pass : Despeckler, optional
        A method of two passes needs its results for all dates first. Its summary has twice
        `n_summary` channels: the sums over all dates, and those in which each date is weighted by
        its :meth:`agreement` with this date.
    has_thresholds : bool
        The method compares pixels with thresholds. If the input is multiplied by a constant,
        rounding may change the outcome for a few pixels.
    threshold_fraction : float
        Fraction of the pixels for which it may; larger if a threshold decides on whole blocks.
    nodata_acts_as_edge : bool
        Pixels next to nodata get the same result as pixels next to the scene edge. False: nearly
        the same, for networks whose input has a mask of valid pixels.
    edge_difference_db : float
        How nearly: largest RMS difference of the result of an image, of any width.
    rounding_of_maximum : float
        Largest absolute rounding error, as a fraction of the largest value of the block. For
        methods that sum linear intensities with positive and negative weights: an error then
        depends on the brightest pixels. 0: errors are proportional to the value of the pixel.
    needs_complex : bool
        The method works on the complex numbers of single-look images: :meth:`despeckle` and
        :meth:`contribute` get complex64 in place of intensity, NaN in both parts = nodata, without
        the Doppler ramp of TOPS bursts if the product has its tables (SAFE). The result and the
        statistics are those of intensity. Images without complex numbers are refused before work
        starts.
    source : MethodSource, optional
        Set for a class from outside this package.
    domain : str
        What the method computes on, for lists of methods.
    returns_speckle : bool
        The result is the speckle, not the intensity; see :meth:`estimate_noise`.
    has_uncertainty : bool
        The method knows how uncertain its result is; see :meth:`despeckle_with_uncertainty`.
    """

    name: ClassVar[str]
    halo: int
    alignment: ClassVar[int] = 1
    cell_px: ClassVar[int] = 512
    n_summary: int = 0
    first_pass: "Despeckler | None" = None
    has_thresholds: ClassVar[bool] = False
    threshold_fraction: ClassVar[float] = 0.002
    nodata_acts_as_edge: ClassVar[bool] = True
    edge_difference_db: ClassVar[float] = 0.5
    rounding_of_maximum: ClassVar[float] = 0.0
    needs_complex: ClassVar[bool] = False
    source: ClassVar[MethodSource | None] = None
    domain: str = "intensity"
    returns_speckle: bool = False
    has_uncertainty: bool = False

    @property
    def call_px(self) -> int:
        """Width of the cells in this process: `cell_px`, unless its device needs another one."""
        return self.cell_px

    @property
    def summary_halo(self) -> int:
        """Number of pixels on each side of a pixel that its contribution depends on."""
        return self.halo

    @property
    def runtime_bytes(self) -> int:
        """Memory that the libraries of the method need once in each worker process."""
        return 0

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU does the arithmetic."""
        return False

    @property
    def reach(self) -> int:
        """Number of pixels on each side of a pixel that its result depends on, in all passes."""
        return self.halo + (self.first_pass.reach if self.first_pass else 0)

    def input_window(self, window: Window, scene: Shape) -> Window:
        """Return the window of input pixels that the result of `window` depends on."""
        return window.expand(self.halo, scene, self.alignment)

    def contribution_window(self, window: Window, scene: Shape) -> Window:
        """Return the window of input pixels that the contribution of `window` depends on."""
        return window.expand(self.summary_halo, scene, self.alignment)

    @abstractmethod
    def despeckle(
        self,
        intensity: NDArray[Any],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date.

        Parameters
        ----------
        intensity : ndarray, shape (y, x), float32 (complex64 if `needs_complex`)
            Linear power, NaN = nodata. Values can be zero or negative where thermal noise was
            subtracted. Any size from 1 x 1, also smaller than the halo. Complex numbers: NaN in
            both parts = nodata, and zeros can occur.
        statistics : SceneStatistics
            Looks, correlation and brightness of the whole scene, never of the tile.
        summary : ndarray, shape (n_summary, y, x), float32, optional
            Sum of the contributions of all dates, for multi-temporal methods. With a `first_pass`
            the sums over the dates that agree follow: shape (2 n_summary, y, x).

        Returns
        -------
        ndarray, shape (y, x), float32
            Linear power, finite and never 0; NaN exactly where the input is NaN. The caller
            does not use pixels closer than `halo` to an edge, unless it is the edge of the scene.
        """

    def despeckle_inside(
        self,
        intensity: NDArray[Any],
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
            Rows and columns to return; the other pixels are their halo. Default: all.

        Returns
        -------
        ndarray, shape of `inside`, float32
        """
        return self.despeckle(intensity, statistics, summary)[inside or ...]

    def despeckle_with_uncertainty(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Despeckle a part of a block, and tell how uncertain each pixel is; both in one pass.

        Only a method with `has_uncertainty` defines this.

        Parameters
        ----------
        intensity, statistics, summary, inside
            As for :meth:`despeckle_inside`.

        Returns
        -------
        despeckled : ndarray, shape of `inside`, float32
            The same pixels as those of :meth:`despeckle_inside`.
        uncertainty_db : ndarray, shape of `inside`, float32
            Standard deviation of the error of ``10 log10(despeckled)``, in dB: finite, 0 or more;
            NaN exactly where the input is NaN. A factor on the scene does not change it.
        """
        self.check_uncertainty()
        raise NotImplementedError(f"{self.name} does not define despeckle_with_uncertainty()")

    def check_uncertainty(self) -> None:
        """Raise a UsageError unless the method knows how uncertain its result is."""
        if not self.has_uncertainty:
            raise UsageError(
                f"{self.name} does not know how uncertain its result is",
                expected="a method with an uncertainty; `sarstack methods` lists them",
                do="leave out --output-uncertainty (return_uncertainty in Python), or use "
                "--method despecknet",
            )

    def contribute(
        self, intensity: NDArray[Any], statistics: SceneStatistics
    ) -> NDArray[np.float64]:
        """Return the contribution of one date to the temporal summary.

        Parameters
        ----------
        intensity : ndarray, shape (y, x), float32 (complex64 if `needs_complex`)
            Linear power of one date, NaN = nodata.
        statistics : SceneStatistics
            Of the whole scene at this date.

        Returns
        -------
        ndarray, shape (n_summary, y, x), float64
            Zero (not NaN) where the date has no data.
        """
        raise NotImplementedError(f"{self.name} does not use other dates")

    def agreement(
        self, own: NDArray[np.float32], other: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the weight of another date for a date; see :class:`FirstPass`."""
        raise NotImplementedError(f"{self.name} compares no dates")

    def estimate_noise(self) -> "Despeckler":
        """Return a copy of this method whose result is the speckle itself.

        The result is the ratio of the noisy to the speckle-free intensity, without unit.

        Raises
        ------
        UsageError
            If the method does not estimate the speckle.
        """
        raise UsageError(
            f"{self.name} does not estimate the speckle",
            expected="a deSpeckNet method, which has the speckle as its second output",
            do="leave out --output-noise (return_noise in Python), and divide the noisy by the "
            "despeckled image",
        )

    def warm_up(self) -> None:  # noqa: B027 - most methods load nothing
        """Load a model into this process, before the first call needs it."""

    def files(self) -> list[str]:
        """Return the files, beside the images, that every worker must read: a user's model."""
        return []

    def memory_bytes(self, n_px: int) -> int:
        """Estimate the memory that one call needs for an input of `n_px` pixels."""
        return 16 * 8 * n_px

    def settings(self) -> dict[str, str]:
        """Return all that the result depends on, except the input, for tags and fingerprints.

        These are all attributes of the object by name. A network returns model name, hash and
        precision.
        """
        return {name: str(value) for name, value in sorted(vars(self).items())}

    def provenance(self) -> dict[str, str]:
        """Return :meth:`settings`, and for a method from outside the package its source.

        This goes into the tags and the fingerprint of every result.
        """
        if self.source is None:
            return self.settings()
        origin = {"source": self.source.label, "source_sha256": self.source.sha256}
        return self.settings() | origin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Make pickle include the source code of a method from outside the package."""
        if self.source is None:
            return super().__reduce_ex__(protocol)
        return _rebuild, (self.source,), self.__getstate__()

    def check_complex(self, without: Sequence[str]) -> None:
        """Raise a UsageError if the method needs complex numbers, and some images have none.

        Parameters
        ----------
        without : sequence of str
            Names of the images without complex numbers.
        """
        if self.needs_complex and without:
            raise UsageError(
                f"{self.name} needs single look complex images",
                expected="complex numbers: SAFE SLC products, complex GeoTIFFs or complex arrays",
                where=list(without),
                do="give the SLC of this acquisition, or choose a method for intensity "
                "(`sarstack methods`)",
            )

    def apply(
        self,
        block: NDArray[Any],
        statistics: Sequence[SceneStatistics] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a block of dates that covers a whole scene, in memory.

        Parameters
        ----------
        block : ndarray, shape (time, y, x), float32 or complex64
            Linear power, NaN = nodata; or complex numbers, NaN in both parts = nodata. A method
            for intensity gets the power of complex numbers.
        statistics : sequence of SceneStatistics, one per date, optional
            Measured from `block` when not given.

        Returns
        -------
        ndarray, shape (time, y, x), float32

        Raises
        ------
        UsageError
            If the method needs complex numbers, and `block` has none.
        """
        return self._apply(self.despeckle, block, statistics, 1)[0]

    def apply_with_uncertainty(
        self,
        block: NDArray[Any],
        statistics: Sequence[SceneStatistics] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Despeckle a block as :meth:`apply` does, and tell how uncertain the result is.

        Returns
        -------
        despeckled, uncertainty_db : ndarray, shape (time, y, x), float32
            See :meth:`despeckle_with_uncertainty`.

        Raises
        ------
        UsageError
            If the method has no uncertainty, or needs complex numbers and `block` has none.
        """
        result, uncertainty_db = self._apply(self.despeckle_with_uncertainty, block, statistics, 2)
        return result, uncertainty_db

    def _apply(
        self, despeckle: Callable[..., Any], block: NDArray[Any],
        statistics: Sequence[SceneStatistics] | None, n_images: int,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Call `despeckle` for each date; return its images, shape (n_images, time, y, x)."""
        self.check_complex([] if np.iscomplexobj(block) else [f"an array of {block.dtype}"])
        block = block if self.needs_complex else to_power(block)
        statistics = measure_scene(block) if statistics is None else statistics
        images = np.empty((n_images, *block.shape), np.float32)
        for k, sums in enumerate(self._sum_for_each(block, statistics)):
            images[:, k] = despeckle(block[k], statistics[k], sums)
        return images

    def _sum_for_each(
        self, block: NDArray[Any], statistics: Sequence[SceneStatistics]
    ) -> Iterator[NDArray[np.float32] | None]:
        """Yield the summary for each date; None if the method uses no other dates."""
        summary = self.sum_dates(block, statistics) if self.n_summary else None
        first = self.first_pass.apply(block, statistics) if self.first_pass else None
        for k in range(len(block)):
            if summary is None or first is None:
                yield summary
            else:
                yield np.concatenate([summary, self.sum_dates(block, statistics, first, k)])

    def sum_dates(
        self,
        block: NDArray[Any],
        statistics: Sequence[SceneStatistics],
        first: NDArray[np.float32] | None = None,
        date: int = 0,
    ) -> NDArray[np.float32]:
        """Sum the contributions of all dates of a whole scene, shape (n_summary, y, x).

        With the first pass of all dates (`first`), each is weighted by its agreement with `date`.
        """
        total = np.zeros((self.n_summary, *block.shape[1:]))
        for k, (image, image_statistics) in enumerate(zip(block, statistics, strict=True)):
            terms = self.contribute(image, image_statistics)
            if self.first_pass and first is not None:
                terms = terms * self.first_pass.agreement(first[date], first[k])
            total += terms
        return total.astype(np.float32)


def _rebuild(source: MethodSource) -> Despeckler:
    """Make an object without attributes; pickle sets them afterwards."""
    cls: type[Despeckler] = source.load_class()
    return cls.__new__(cls)
