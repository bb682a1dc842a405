"""Samples of the images of a stack, from which scale and undeclared nodata are decided."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackReadError
from sarstack.networks.memory_pages import return_freed_memory
from sarstack.readers.image import Image
from sarstack.readers.problems import Problems
from sarstack.tiles import Shape, Window

_SAMPLE_PX = 64
_ENOUGH_PIXELS = 512
# A number is repeated if it fills this share of the windows or of the border, and so many pixels.
_MIN_REPEATED_SHARE = 0.01
MIN_REPEATED_PX = 8
_N_THREADS = 8
_IMAGES_AT_A_TIME = 64
# Sample windows as fractions of height and width: the centre first.
_INSIDE = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25))
_AT_BORDER = (
    (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0),
    (0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0),
)  # fmt: skip


def _no_numbers() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass(frozen=True)
class Sample:
    """Numbers of one image after gain and offset; NaN where declared nodata.

    Attributes
    ----------
    windows : ndarray, shape (n, y, x), float64
        Windows of 64 x 64 pixels. All NaN if the image cannot be read.
    border : ndarray, shape (m,), float64
        Pixels of the first and last rows and columns of the image.
    n_own : int, optional
        Number of windows that are read whatever the other images are; None: all.
    """

    windows: NDArray[np.float64] = field(
        default_factory=lambda: np.full((1, _SAMPLE_PX, _SAMPLE_PX), np.nan)
    )
    border: NDArray[np.float64] = field(default_factory=_no_numbers)
    n_own: int | None = None

    @property
    def own(self) -> "Sample":
        """The part that is read whatever the other images of the stack are.

        What is decided of one image must come from it: another decision makes its finished result
        invalid, and dates are added to a stack later.
        """
        return Sample(self.windows[: self.n_own], self.border)

    @property
    def valid(self) -> NDArray[np.float64]:
        """The numbers of the windows that are finite and not zero, shape (k,)."""
        return np.asarray(self.windows[np.isfinite(self.windows) & (self.windows != 0)])

    def count_numbers(self) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Return the different numbers, in increasing order, and how often each occurs.

        First those of the windows, then those of the border.
        """
        samples = (self.windows.ravel(), self.border)
        return [np.unique(n[np.isfinite(n)], return_counts=True) for n in samples]

    @cached_property
    def repeated(self) -> dict[float, float]:
        """The numbers that fill at least 1 % of the border or windows, with their share.

        Zero in linear and amplitude data is also among them.
        """
        shares: dict[float, float] = {}
        sizes = (self.windows.size, self.border.size)
        for (values, counts), n in zip(self.count_numbers(), sizes, strict=True):
            often = counts >= max(_MIN_REPEATED_SHARE * n, MIN_REPEATED_PX)
            found = zip(values[often].tolist(), counts[often].tolist(), strict=True)
            shares |= {value: count / n for value, count in found}
        return shares

    def without(self, numbers: Sequence[float]) -> "Sample":
        """Return the sample with NaN in place of some numbers."""
        if not numbers:
            return self
        return Sample(np.where(np.isin(self.windows, numbers), np.nan, self.windows), self.border)


def read_samples(images: Sequence[Image], problems: Problems) -> list[Sample]:
    """Read a sample of each image; an empty one, and an error, if that is impossible.

    Reads 8 windows at the border of each image. Inside, reads 5 windows of the first, middle and
    last date of each polarisation; of all other dates, windows until 512 pixels are valid.
    """
    read_fully = {0, len(images) // 2, len(images) - 1}
    for polarisation in {i.metadata.polarisation for i in images}:
        same = [k for k, i in enumerate(images) if i.metadata.polarisation == polarisation]
        read_fully |= {same[0], same[len(same) // 2], same[-1]}

    def read(k: int) -> Sample | StackReadError:
        try:
            return _read_sample(images[k], all_windows=k in read_fully)
        except StackReadError as err:
            return err

    results: list[Sample | StackReadError] = []
    with ThreadPoolExecutor(_N_THREADS) as pool:
        arriving = pool.map(read, range(len(images)))
        while some := [*islice(arriving, _IMAGES_AT_A_TIME)]:
            results += some
            # Samples stay between the decoded blocks, so the space of a block is not used again.
            return_freed_memory()
    for result in results:
        if isinstance(result, StackReadError):
            problems.add(result)
    return [Sample() if isinstance(r, StackReadError) else r for r in results]


def list_places(shape: Shape) -> list[Window]:
    """Return all windows that the sample of an image of this shape can need."""
    size = Shape(min(_SAMPLE_PX, shape.y), min(_SAMPLE_PX, shape.x))
    if size == shape:
        return [Window(0, shape.y, 0, shape.x)]
    return [_place(place, shape, size) for place in (*_INSIDE, *_AT_BORDER)]


def _read_sample(image: Image, *, all_windows: bool) -> Sample:
    shape = image.grid.shape
    size = Shape(min(_SAMPLE_PX, shape.y), min(_SAMPLE_PX, shape.x))
    if size == shape:
        [numbers] = image.raster.read_unpacked([Window(0, shape.y, 0, shape.x)])
        return Sample(numbers.astype(np.float64)[None], _outermost(numbers, (0.0, 0.0), both=True))
    found, valid, n_own = [], 0, None
    for numbers in image.raster.read_unpacked([_place(p, shape, size) for p in _INSIDE]):
        found.append(numbers.astype(np.float64))
        valid += int(np.count_nonzero(np.isfinite(numbers) & (numbers != 0)))
        if n_own is None and valid >= _ENOUGH_PIXELS:
            n_own = len(found)
            if not all_windows:
                break
    border = []
    windows = image.raster.read_unpacked([_place(p, shape, size) for p in _AT_BORDER])
    for place, numbers in zip(_AT_BORDER, windows, strict=True):
        border.append(_outermost(numbers, place))
        if all_windows or valid < _ENOUGH_PIXELS:
            # Elsewhere not kept: a long series would need much memory.
            found.append(numbers.astype(np.float64))
    return Sample(np.stack(found), np.concatenate(border), n_own)


def _place(fractions: tuple[float, float], shape: Shape, size: Shape) -> Window:
    """Return a window that begins at multiples of 64, unless it lies at the end.

    A window that crosses blocks of the file decodes all of them.
    """
    y0, x0 = (
        n - s if f == 1 else round(f * (n - s)) // _SAMPLE_PX * _SAMPLE_PX
        for f, n, s in zip(fractions, shape, size, strict=True)
    )
    return Window(y0, y0 + size.y, x0, x0 + size.x)


def _outermost(
    numbers: NDArray[Any], place: tuple[float, float], *, both: bool = False
) -> NDArray[np.float64]:
    """Return the row and the column of a window that lie at the border of the image."""
    y, x = place
    lines = [numbers[0]] * (y == 0) + [numbers[-1]] * (y == 1 or both)
    lines += [numbers[:, 0]] * (x == 0) + [numbers[:, -1]] * (x == 1 or both)
    return np.concatenate(lines).astype(np.float64)
