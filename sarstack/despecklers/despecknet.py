"""deSpeckNet as a despeckler: the network of this project and the one of the paper.

Mullissa, Marcos, Tuia, Herold, Reiche: deSpeckNet: Generalizing Deep Learning-Based SAR
Image Despeckling, IEEE Transactions on Geoscience and Remote Sensing, 2020.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import register
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import ModelCardError
from sarstack.inference import (
    TEXTURE_WINDOW_PX,
    choose_device,
    despeckle_image,
    load_network,
)
from sarstack.networks.card import ModelCard, model_sha256, read_card, shipped_model
from sarstack.speckle import SceneStatistics


class _NetworkDespeckler(Despeckler):
    """A despeckler whose weights lie in a model file; the object holds path and hash only.

    Parameters
    ----------
    model : str or Path, optional
        A ``.safetensors`` file of this variant; the weights shipped with sarstack if None.
    device : str, optional
        Torch device; a GPU if there is one, else the CPU, if None.

    Raises
    ------
    ModelCardError
        If the file is missing, damaged, has no card, or is of another variant.
    """

    # torch and oneDNN, measured.
    runtime_bytes: ClassVar[int] = 250 * 2**20

    def __init__(self, model: str | Path | None = None, *, device: str | None = None) -> None:
        # None stays None: each worker finds the shipped file in its own installation.
        # Absolute: workers may have been started in another folder.
        self.model = None if model is None else str(Path(model).absolute())
        self.device = device
        self.card: ModelCard = read_card(self.path)
        if self.card.variant != self.name:
            raise ModelCardError(
                f"the model is a {self.card.variant}",
                expected=f"a {self.name}",
                where=self.path,
                do=f"use the method {self.card.variant} with this file, or another file",
            )
        self.sha256 = model_sha256(self.path)
        reach = TEXTURE_WINDOW_PX // 2 if self.card.domain == "log" else 0
        self.halo = self.card.halo + reach

    @property
    def path(self) -> str:
        """Where the weights are on this machine."""
        return self.model or str(shipped_model(self.name))

    def warm_up(self) -> None:
        """Load the network into this process."""
        load_network(self.path, self.sha256, choose_device(self.device))

    def files(self) -> list[str]:
        """Return the model's path if it is a user's; each worker has the shipped ones."""
        return [self.model] if self.model else []

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of three layers' activations."""
        return 3 * 4 * self.card.width * n_px

    def settings(self) -> dict[str, str]:
        """Return the name and the hash of the weights."""
        return {"model": Path(self.path).name, "model_sha256": self.sha256}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.path!r}, sha256={self.sha256[:12]!r})"

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        network = load_network(self.path, self.sha256, choose_device(self.device))
        return despeckle_image(
            network,
            self.card,
            intensity,
            looks=statistics.looks,
            correlation=statistics.correlation,
            bright=statistics.bright,
            texture=statistics.looks_source != "nominal",
        )


@register
class DeSpeckNetDespeckler(_NetworkDespeckler):
    """deSpeckNet on log intensity, residual, blind to looks and correlation (our default).

    The local mean of ln y over 15x15 valid pixels is taken off before the network and put
    back after it: a brighter or darker scene gives the very same result, brighter or darker.
    What the network took out beyond the variance of the scene's speckle is given back.
    """

    name: ClassVar[str] = "despecknet"


@register
class PaperDeSpeckNetDespeckler(_NetworkDespeckler):
    """deSpeckNet on linear intensity, as published.

    One deviation: the scene is divided by its 98th percentile before the network and
    multiplied by it after. The published network knows the brightness of its training
    scene only (released weights saturate 8 dB above it); with this the result scales with
    the scene. It is still less accurate far below that percentile.
    """

    name: ClassVar[str] = "despecknet-paper"
