"""Inverse-gamma prior of a pixel, and what follows from it and from the observed intensity.

The clean intensity x of a pixel is inverse gamma with shape alpha and scale beta; the observed
intensity y is x times gamma speckle of mean 1 and L looks. Then y has a known density, and x given
y is inverse gamma with shape ``alpha + L`` and scale ``beta + L y`` (Molini et al. 2020,
Speckle2Void, equations of section III).

All tensors have the shape (batch, 1, y, x); logarithms are natural.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LEAST_LOG_SHAPE, MOST_LOG_SHAPE = -3.0, 8.0
"""Limits of ln(alpha - 1): the weight of the observed pixel at one look is 0.95 to 0.0003."""


class InverseGammaPrior(NamedTuple):
    """Prior of each pixel, in the form in which a network predicts it.

    Attributes
    ----------
    level : Tensor
        ``ln(beta / alpha)``.
    log_shape : Tensor
        ``ln(alpha - 1)``.
    looks : Tensor, shape (batch, 1, 1, 1)
        Looks L of the observed intensity.
    """

    level: Tensor
    log_shape: Tensor
    looks: Tensor

    @property
    def alpha(self) -> Tensor:
        """Shape of the prior, above 1."""
        return 1 + self.log_shape.exp()

    def posterior_mean(self, observed: Tensor) -> Tensor:
        """Return ``ln E[x | y]``, that is ln of ``(beta + L y) / (alpha + L - 1)``.

        Parameters
        ----------
        observed : Tensor
            ``ln y``.
        """
        prior = self.level + self.alpha.log()
        total = torch.logaddexp(prior, observed + self.looks.log())
        return total - (self.log_shape.exp() + self.looks).log()

    def posterior_deviation(self) -> Tensor:
        """Return the standard deviation of ``ln x`` given y, in nat; it does not depend on y."""
        return torch.polygamma(1, self.alpha + self.looks).sqrt()

    def negative_log_marginal(self, observed: Tensor) -> Tensor:
        """Return ``-ln p(ln y)``, the density of ln y: a factor on y and beta does not change it.

        Parameters
        ----------
        observed : Tensor
            ``ln y``.
        """
        alpha, looks = self.alpha, self.looks
        relative = observed + looks.log() - self.level - alpha.log()  # of L y to beta
        # Float32 has too few digits for the difference of the logarithms of large gamma functions.
        wide, wide_looks = alpha.double(), looks.double()
        beta_function = wide.lgamma() + wide_looks.lgamma() - (wide + wide_looks).lgamma()
        tail = (alpha + looks) * functional.softplus(relative) - looks * relative
        return tail + beta_function.to(alpha.dtype)
