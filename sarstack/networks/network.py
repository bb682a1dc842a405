"""Base class of all variants of deSpeckNet: a branch for the image, a branch for the speckle."""

import copy
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from sarstack.networks.inverse_gamma import InverseGammaPrior

Inside = tuple[slice, slice]


class Prediction(NamedTuple):
    """Output of a network for a batch; each (batch, 1, y, x), in the domain of the variant.

    Attributes
    ----------
    observed : Tensor
        The noisy image.
    clean : Tensor
        The despeckled image.
    noise, reconstruction : Tensor, optional
        The speckle, and the noisy image that follows from `clean` and `noise`; None if the noise
        branch was not computed.
    spread : Tensor, optional
        Natural logarithm of the standard deviation of the error of ln `clean`, in nat; None if it
        was not computed.
    prior : InverseGammaPrior, optional
        What the network predicts of each pixel without seeing it; blind-spot networks only.
    """

    observed: Tensor
    clean: Tensor
    noise: Tensor | None
    reconstruction: Tensor | None
    spread: Tensor | None = None
    prior: InverseGammaPrior | None = None


class DeSpeckNet(nn.Module):
    """Two branches with separate weights; a subclass defines their input and output.

    Attributes
    ----------
    variant : str
        Name of the variant.
    domain : {"log", "linear"}
        Domain in which the branches compute: log or linear intensity.
    clean, noise : nn.Module
        The branches.
    loss : {"likelihood", "square", "absolute", "blind"}
        What training minimises; see :func:`sarstack.training.losses.clean_loss`.
    architecture : dict
        Parameters of :func:`sarstack.networks.variants.build_network` for the same network.
    """

    variant: ClassVar[str]
    domain: ClassVar[Literal["log", "linear"]]
    loss: ClassVar[Literal["likelihood", "square", "absolute", "blind"]] = "likelihood"
    clean: nn.Module
    noise: nn.Module
    architecture: dict[str, Any]

    @property
    def has_spread(self) -> bool:
        """Whether the clean branch can tell how uncertain its prediction is."""
        return False

    @property
    def halo(self) -> int:
        """Pixels needed on each side; follows from the layers."""
        raise NotImplementedError

    @property
    def channels(self) -> float:
        """Activations per pixel of the widest layer."""
        raise NotImplementedError

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference with fused layers; inner layers compute in `dtype`.

        Variants that lose accuracy in `dtype` compute in float32.
        """
        return copy.deepcopy(self).eval().requires_grad_(requires_grad=False)

    def initialise_from(self, trained: "DeSpeckNet") -> None:
        """Copy the weights of a network of the same variant."""
        self.load_state_dict(trained.state_dict())

    def prepare_step(self, step: int) -> None:
        """Set what a network draws at random for a training step; here nothing."""

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        spread: bool = False,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict the clean image, and the speckle if `noise` is True.

        Parameters
        ----------
        intensity : Tensor, shape (batch, 1, y, x)
            Linear power, 0 at invalid pixels.
        valid : Tensor, shape (batch, 1, y, x), optional
            1 at valid pixels, 0 elsewhere; None: all are valid.
        sensor : Tensor, shape (batch, 5), optional
            From :func:`sarstack.networks.two_scale.encode_sensor`; None: unknown.
        others : Tensor, shape (batch, 4 or 8, y, x), optional
            Sums over the other dates, see :mod:`sarstack.networks.date_sums`; then sums over
            those that agree.
        noise : bool
            Whether to compute the noise branch.
        spread : bool
            Whether to compute the uncertainty; only with `has_spread`.
        inside : tuple of slice, optional
            Rows and columns to predict, at least `halo` pixels away from each edge of the block
            that is not an edge of the scene. None: all.
        """
        raise NotImplementedError

    def predict_speckle(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        inside: Inside | None = None,
    ) -> Tensor:
        """Predict the speckle alone; parameters are those of :meth:`forward`.

        Returns
        -------
        Tensor, shape (batch, 1, y, x) or of `inside`
            Ratio of the noisy image to the clean image, whatever the domain of the variant.
        """
        raise NotImplementedError

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Convert the clean image to linear power."""
        raise NotImplementedError
