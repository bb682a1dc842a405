"""All networks, by variant."""

from sarstack.networks.blind_spot import BlindSpotNetwork
from sarstack.networks.despecknet import LiteDeSpeckNet, LogDeSpeckNet, StackDeSpeckNet
from sarstack.networks.despecknet_paper import LinearDeSpeckNet
from sarstack.networks.gaussian_cnn import GaussianCNN
from sarstack.networks.merlin import MerlinNetwork
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.sar_cnn import SarCNN

VARIANTS: dict[str, type[DeSpeckNet]] = {
    cls.variant: cls
    for cls in (
        LogDeSpeckNet,
        LiteDeSpeckNet,
        StackDeSpeckNet,
        LinearDeSpeckNet,
        SarCNN,
        BlindSpotNetwork,
    )
}
"""Networks that despeckle intensities."""

OTHER_VARIANTS: dict[str, type[DeSpeckNet]] = {
    cls.variant: cls for cls in (GaussianCNN, MerlinNetwork)
}
"""Networks with another input, and without a branch for the speckle."""


def build_network(variant: str, **architecture: int) -> DeSpeckNet:
    """Make an untrained network.

    Parameters
    ----------
    variant : str
        A key of `VARIANTS` or of `OTHER_VARIANTS`.
    **architecture : int
        Sizes: the fields of :class:`~sarstack.networks.two_scale.TwoScaleShape`; ``depth`` and
        ``width`` for ``despecknet-paper`` and ``sar-cnn``. By default those of the variant.
    """
    return (VARIANTS | OTHER_VARIANTS)[variant](**architecture)
