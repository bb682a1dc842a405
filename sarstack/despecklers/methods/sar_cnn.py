"""SAR-CNN: the network of Dalsasso et al."""

from typing import ClassVar

from sarstack.despecklers.network_method import NetworkMethod


class SarCNNDespeckler(NetworkMethod):
    """SAR-CNN (Dalsasso et al. 2020): a plain stack of 19 convolutions on log intensity.

    Residual, trained with the absolute error of log intensity on simulated speckle. Two
    deviations: the input of the network is ln y minus its local mean, so a factor on the scene is
    the same factor on the result; and the training mixes looks and correlations.

    References
    ----------
    E. Dalsasso, X. Yang, L. Denis, F. Tupin, W. Yang, "SAR image despeckling by deep neural
    networks: from a pre-trained model to an end-to-end training strategy", Remote Sensing 12(16),
    2020.
    """

    name: ClassVar[str] = "sar-cnn"
    nodata_acts_as_edge: ClassVar[bool] = False  # narrow gaps are filled
    always_float32: ClassVar[bool] = True
