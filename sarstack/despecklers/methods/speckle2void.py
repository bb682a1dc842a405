"""Speckle2Void: a blind-spot network and Bayes' rule."""

from typing import ClassVar

from sarstack.despecklers.network_method import NetworkMethod


class Speckle2VoidDespeckler(NetworkMethod):
    """Speckle2Void (Molini et al. 2020): a blind-spot network that learns from noisy images alone.

    The network predicts each pixel from all others, as an inverse-gamma distribution. Bayes' rule
    adds the pixel itself: the result is the mean of its clean intensity, given all pixels. The
    training needs no clean image, no second date and no label; see ``sarstack train --variant
    speckle2void``. It is meant for single looks whose speckle is white. Where the speckle is
    correlated, the neighbours of a pixel tell its speckle: along such an axis, the pixels at a
    distance of one are a part of the blind spot.

    Deviations: a network with two grids, which has a twentieth of the operations of the published
    one; the input is ln y without a mean of the surroundings, which does not contain the pixel
    itself, so a factor on the scene is the same factor on the result; pixels 26 to 35 dB above
    their prior keep their value.

    References
    ----------
    A. B. Molini, D. Valsesia, G. Fracastoro, E. Magli, "Speckle2Void: deep self-supervised SAR
    despeckling with blind-spot convolutional neural networks", IEEE TGRS 60, 2022 (first published
    in 2020).
    """

    name: ClassVar[str] = "speckle2void"
    nodata_acts_as_edge: ClassVar[bool] = False  # the network has a mask of valid pixels as input
    always_float32: ClassVar[bool] = True
