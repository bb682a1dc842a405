"""What all variants of deSpeckNet have in common: two branches, and what they promise."""

import copy
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

Inside = tuple[slice, slice]


class Prediction(NamedTuple):
    """What a network says of a batch, each (batch, 1, y, x), in the variant's own domain.

    ``noise`` and ``reconstruction`` are None when the noise branch was not asked for.
    """

    observed: Tensor
    clean: Tensor
    noise: Tensor | None
    reconstruction: Tensor | None


class DeSpeckNet(nn.Module):
    """Two branches with separate weights; subclasses say what they see and predict."""

    variant: ClassVar[str]
    domain: ClassVar[str]
    clean: nn.Module
    noise: nn.Module
    architecture: dict[str, Any]
    """What :func:`build_network` needs to build it again."""

    @property
    def halo(self) -> int:
        """Pixels needed on each side, derived from the layers."""
        raise NotImplementedError

    @property
    def channels(self) -> float:
        """Activations per pixel of the widest layer."""
        raise NotImplementedError

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Return a copy for inference, its inner layers in `dtype` where that does no harm."""
        return copy.deepcopy(self).eval().requires_grad_(requires_grad=False)

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict clean image and, if asked, speckle; all tensors (batch, 1, y, x).

        Parameters
        ----------
        intensity : Tensor
            Linear power, 0 where invalid.
        valid : Tensor, optional
            1 where there is data, 0 elsewhere; None: everywhere.
        sensor : Tensor, shape (batch, 5), optional
            See :func:`sarstack.networks.two_scale.encode_sensor`; None: unknown.
        others : Tensor, shape (batch, 4, y, x), optional
            What other dates add up to, see :class:`StackDeSpeckNet`.
        noise : bool
            Whether the noise branch is computed.
        inside : tuple of slice, optional
            Rows and columns to predict, at least `halo` away from every edge that is not
            one of the scene's; all, if None.
        """
        raise NotImplementedError

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Turn the clean prediction into linear power."""
        raise NotImplementedError
