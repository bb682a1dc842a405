"""MERLIN: real and imaginary part of a single look complex image, each despeckled alone."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.speckle.complex_parts import describe_part, split_parts
from sarstack.speckle.statistics import SceneStatistics


class Merlin(NetworkMethod):
    """MERLIN (Dalsasso et al. 2022): a network for each part of a single look complex image.

    The real part a and the imaginary part b have independent speckle. The network estimates the
    intensity from ``2 a**2`` and, a second time, from ``2 b**2``; the result is the mean of both.
    So one part is a target for the other, and the network can be tuned on the images of a user
    without clean images.

    Deviations: the layers are those of ``despecknet-lite``, not of a U-Net; the input is the
    logarithm without its local mean, not scaled by constants of the training data, so a factor
    on the scene is the same factor on the result; the network starts from a training on simulated
    landscapes.

    Notes
    -----
    Needs complex numbers whose spectrum is centred and symmetric.

    References
    ----------
    E. Dalsasso, L. Denis, F. Tupin, "As if by magic: self-supervised training of deep despeckling
    networks with MERLIN", IEEE TGRS 60, 2022.
    """

    name: ClassVar[str] = "merlin"
    needs_complex: ClassVar[bool] = True
    nodata_acts_as_edge: ClassVar[bool] = False  # the network has a mask of valid pixels as input
    # In strips of one to five columns there is little to average half a look with: 0.6 to 1.4 dB.
    # From 20 columns on, 0.2 dB.
    edge_difference_db: ClassVar[float] = 1.8
    cell_px: ClassVar[int] = 1024

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        precision: str = "auto",
        ensemble: int = 1,
    ) -> None:
        super().__init__(model, device=device, precision=precision, ensemble=ensemble)
        self.domain = "log of both parts"

    estimate_noise = Despeckler.estimate_noise  # type: ignore[assignment]

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of the activations and of both parts."""
        return super().memory_bytes(n_px) + 16 * n_px

    def despeckle_inside(
        self,
        intensity: NDArray[Any],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a part of a block of complex numbers.

        Parameters
        ----------
        intensity : ndarray, shape (y, x), complex64
            Single look complex numbers; NaN in both parts = nodata.
        statistics : SceneStatistics
            Of the intensity of the whole scene.
        summary, inside
            As for :meth:`Despeckler.despeckle_inside`.

        Returns
        -------
        ndarray, shape of `inside`, float32
            Linear power: the mean of both estimates. (The mean of their logarithms would be
            biased.)

        Raises
        ------
        UsageError
            If the numbers are not complex.
        """
        self.check_complex([] if np.iscomplexobj(intensity) else [f"numbers of {intensity.dtype}"])
        of_part, result = describe_part(statistics), None
        for part in split_parts(intensity):
            estimate = super().despeckle_inside(part, of_part, None, inside)
            result = estimate if result is None else np.add(result, estimate, out=result)
        assert result is not None
        result *= np.float32(0.5)
        return result
