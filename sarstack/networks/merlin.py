"""The network of MERLIN: one part of a complex image in, the intensity out."""

from typing import ClassVar

from torch import nn

from sarstack.networks.despecknet import LogDeSpeckNet
from sarstack.networks.two_scale import TwoScaleShape


class MerlinNetwork(LogDeSpeckNet):
    """MERLIN (Dalsasso et al. 2022), with the layers of ``despecknet-lite``.

    The input is ``2 a**2`` or ``2 b**2`` of a single look complex image ``a + j b``: intensity with
    half a look of speckle, whose expectation is that of ``a**2 + b**2``. Given the reflectivity,
    a and b are independent, so one part is a target for the estimate from the other, without a
    clean image. There is no branch for the speckle.
    """

    variant = "merlin"
    shape: ClassVar[TwoScaleShape] = TwoScaleShape(32, 48, 0, 4, 1, dilation=3)

    def __init__(self, **shape: int) -> None:
        super().__init__(**shape)
        self.noise = nn.Identity()
