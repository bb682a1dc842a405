"""Base class of the methods that filter groups of similar blocks."""

from typing import ClassVar

from sarstack.checks import check_choice
from sarstack.despecklers.despeckler import Despeckler

NOISES = ("correlated", "white")
# The files of block_matching import numba, so they are imported at the first use. A test compares.
HALO_PX, STEP_PX = 90, 3


class BlockMatchingMethod(Despeckler):
    """A method whose reference blocks start at every third row and column of the scene.

    Parameters
    ----------
    noise : {"correlated", "white"}
        Whether the noise of a coefficient follows the correlation of the speckle.

    Raises
    ------
    UsageError
        If `noise` is another word.
    """

    alignment: ClassVar[int] = STEP_PX
    has_thresholds: ClassVar[bool] = True

    def __init__(self, noise: str = "correlated") -> None:
        check_choice(NOISES, noise=noise)
        self.noise = noise

    @property
    def runtime_bytes(self) -> int:
        """Memory of numba and the compiled functions."""
        return 150_000_000

    def memory_bytes(self, n_px: int) -> int:
        """Estimate the memory that one call needs for an input of `n_px` pixels."""
        return 40 * 4 * n_px
