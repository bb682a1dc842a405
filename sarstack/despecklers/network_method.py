"""Base class of the methods that run a network, whose weights and card lie in a model file."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_choice
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import ModelCardError, NotEnoughSpaceError
from sarstack.networks.card import ModelCard
from sarstack.networks.inference import (
    PRECISIONS,
    choose_device,
    choose_precision,
    despeckle_image,
    load_network,
)
from sarstack.networks.model_file import model_sha256, read_card, shipped_model
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Shape, Window, tile_grid

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

LOGGER = logging.getLogger("sarstack")

SMALLEST_PX = 64
_LARGEST_PX: dict[str, int] = {}  # What was left after a GPU had no memory, for this process.


class NetworkMethod(Despeckler):
    """A despeckler whose weights lie in a model file; the object holds path and hash only.

    Parameters
    ----------
    model : str or Path, optional
        A ``.safetensors`` file of this variant; the weights shipped with sarstack if None.
    device : str, optional
        Torch device; a GPU if there is one, else the CPU, if None.
    precision : {"auto", "float32", "bfloat16"}
        Of the inner layers; auto: bfloat16 if the processor (GPU, if there is one) of the
        machine that plans the work computes in it. Its workers are told the outcome: all
        compute in the same, whatever their own processors are.

    Raises
    ------
    ModelCardError
        If the file is missing, damaged, has no card, or is of another variant.
    """

    # torch and oneDNN, measured.
    runtime_bytes: ClassVar[int] = 282 * 2**20

    def __init__(
        self, model: str | Path | None = None, *, device: str | None = None, precision: str = "auto"
    ) -> None:
        check_choice(PRECISIONS, precision=precision)
        # None stays None: each worker finds the shipped file in its own installation.
        # Absolute: workers may have been started in another folder.
        self.model = None if model is None else str(Path(model).absolute())
        self.device, self.precision = device, precision
        self.card: ModelCard = read_card(self.path)
        if self.card.variant != self.name:
            raise ModelCardError(
                f"the model is a {self.card.variant}",
                expected=f"a {self.name}",
                where=self.path,
                do=f"use the method {self.card.variant} with this file, or another file",
            )
        self.sha256 = model_sha256(self.path)
        self.halo = self.card.halo

    @property
    def path(self) -> str:
        """Where the weights are on this machine."""
        return self.model or str(shipped_model(self.name))

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU of this process."""
        return self._place.startswith("cuda")

    @property
    def _place(self) -> str:
        """Torch device in this process; another process may have another."""
        return choose_device(self.device)

    def warm_up(self) -> None:
        """Load the network into this process."""
        self._network()

    def _network(self) -> "DeSpeckNet":
        return load_network(self.path, self.sha256, self._place, self.precision)

    def files(self) -> list[str]:
        """Return the model's path if it is a user's; each worker has the shipped ones."""
        return [self.model] if self.model else []

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of three layers' activations."""
        return int(3 * 4 * self.card.channels * n_px)

    def settings(self) -> dict[str, str]:
        """Return the name and the hash of the weights, and what is computed in."""
        linear = self.card.domain == "linear"
        return {
            "model": Path(self.path).name,
            "model_sha256": self.sha256,
            "precision": "float32" if linear
            else choose_precision(self._place, self.precision),
        }  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to workers: they do not choose the precision."""
        return vars(self) | {"precision": self.settings()["precision"]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.path!r}, sha256={self.sha256[:12]!r})"

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle one date; see :meth:`Despeckler.despeckle`."""
        return self.despeckle_inside(intensity, statistics, summary)

    def despeckle_inside(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> NDArray[np.float32]:
        """Despeckle a part of a block; layers compute what that part needs, no more.

        What a GPU has no memory for is done in pieces, and so is all that follows: half as
        high and wide each time. They differ by rounding only.
        """
        import torch

        others = None if summary is None else self.sum_other_dates(summary, intensity)
        rows, columns = inside or (slice(0, intensity.shape[0]), slice(0, intensity.shape[1]))
        wanted = Window(rows.start, rows.stop, columns.start, columns.stop)
        while True:
            side = _LARGEST_PX.get(self._place, max(wanted.shape))
            try:
                return self._despeckle_pieces(intensity, statistics, others, wanted, side)
            except torch.cuda.OutOfMemoryError as error:
                if side < 2 * SMALLEST_PX:
                    raise NotEnoughSpaceError(
                        f"the GPU has no memory for {side} x {side} pixels",
                        expected="some hundred MB free",
                        where=self._place,
                        do="end other programs that use it, or compute with --set device=cpu",
                    ) from error
            _LARGEST_PX[self._place] = side = min(side, max(wanted.shape)) // 2
            LOGGER.warning("out of memory on the GPU: going on in pieces of %d px", side)

    def _despeckle_pieces(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        others: NDArray[np.float32] | None,
        wanted: Window,
        side_px: int,
    ) -> NDArray[np.float32]:
        network, block = self._network(), Shape(*intensity.shape)
        result = np.empty(wanted.shape, np.float32)
        for _, _, place in tile_grid(wanted.shape, side_px):
            y, x = wanted.y0, wanted.x0
            piece = Window(y + place.y0, y + place.y1, x + place.x0, x + place.x1)
            need = self.reach(piece, block)
            known = None if others is None else others[(slice(None), *need.slices)]
            result[place.slices] = despeckle_image(
                network, self.card, intensity[need.slices], statistics, known, piece.inside(need)
            )
        return result

    def sum_other_dates(
        self, summary: NDArray[np.float32], intensity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what the other dates add up to."""
        raise NotImplementedError(f"{self.name} does not look at other dates")
