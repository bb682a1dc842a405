"""Base class of the methods that run a network from a model file."""

import logging
import re
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.checks import check_choice
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import ModelCardError, NotEnoughSpaceError, UsageError
from sarstack.networks.card import ModelCard
from sarstack.networks.ensemble import SIZES
from sarstack.networks.holes import REACH_PX
from sarstack.networks.inference import (
    PRECISIONS,
    choose_device,
    choose_precision,
    despeckle_image,
    estimate_speckle,
    load_network,
)
from sarstack.networks.model_file import model_sha256, read_card, shipped_model
from sarstack.networks.stored_weights import check_weights
from sarstack.networks.torch_abilities import find_abilities
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import ALIGNMENT_PX, Shape, Window, tile_grid

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d{1,3})?")
LOGGER = logging.getLogger("sarstack")

TORCH_BYTES, CUDA_LIBRARIES_BYTES = 282 * 2**20, 390 * 2**20
MIN_BLOCK_PX = 64
# Largest block that fits into the memory of a GPU, by device; filled after a failure.
_MAX_BLOCK_PX: dict[str, int] = {}


class NetworkMethod(Despeckler):
    """A method that runs a network; it holds the path, hash and card of the model file.

    The weights are loaded once per process. So the object is small to send to a worker process.

    Parameters
    ----------
    model : str or Path, optional
        A ``.safetensors`` file of this variant; None: the weights shipped with sarstack.
    device : str, optional
        Torch device; None: a GPU if there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}
        Precision of the inner layers; auto: bfloat16 if the processor (or GPU) of the machine
        that plans the work has it in hardware. All worker processes use the same precision, also
        on other processors.
    ensemble : {1, 4, 8}
        With 4 or 8, the result is the mean over 4 mirror images or all 8 symmetries of the square:
        a smaller error for 4 or 8 times the time.

    Attributes
    ----------
    always_float32 : bool
        The network computes in float32, whatever `precision` says.
    variant : str
        Variant of the network; empty: the name of the method.
    gpu_cell_px : int
        Width of the cells on a GPU, if larger than `cell_px`.

    Raises
    ------
    ModelCardError
        If the file is missing, damaged, has no card, is of another variant, or has weights that
        are not finite.
    """

    alignment: ClassVar[int] = ALIGNMENT_PX
    always_float32: ClassVar[bool] = False
    variant: ClassVar[str] = ""
    gpu_cell_px: ClassVar[int] = 0

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        precision: str = "auto",
        ensemble: int = 1,
    ) -> None:
        check_choice(PRECISIONS, precision=precision)
        check_choice(SIZES, ensemble=ensemble)
        if not isinstance(model, str | Path | None):
            raise UsageError(f"model = {model!r}", expected="the path of a .safetensors file",
                             do="leave it out to use the shipped weights")  # fmt: skip
        if device is not None and not DEVICE.fullmatch(str(device)):
            raise UsageError(f"device = {device!r}", expected="cpu, cuda, cuda:1, mps or xpu",
                             do="leave it out: a GPU is used if there is one")  # fmt: skip
        # None stays None: each worker process uses the shipped file of its own installation. The
        # path is absolute, because a worker process may run in another folder.
        self.model = None if model is None else str(Path(model).absolute())
        self.device, self.precision, self.ensemble = device, precision, int(ensemble)
        self.card: ModelCard = read_card(self.path)
        variant = self.variant or self.name
        if self.card.variant != variant:
            raise ModelCardError(
                f"the model is a {self.card.variant}",
                expected=f"a {variant}",
                where=self.path,
                do=f"use the method {self.card.variant} with this file, or another file",
            )
        check_weights(self.path)
        self.sha256 = model_sha256(self.path)
        self.halo = self.card.halo + REACH_PX
        self.has_uncertainty = self.card.has_spread
        self.domain = "log intensity" if self.card.domain == "log" else "intensity"

    def estimate_noise(self) -> Self:
        """Return a copy whose result is the speckle: the second output of deSpeckNet."""
        noise = copy(self)
        noise.returns_speckle = True
        return noise

    @property
    def path(self) -> str:
        """Path of the model file on this machine."""
        return self.model or str(shipped_model(self.name))

    @property
    def runtime_bytes(self) -> int:
        """Memory of torch and oneDNN, measured; a build for CUDA loads larger libraries."""
        return TORCH_BYTES + (CUDA_LIBRARIES_BYTES if find_abilities().built_for_cuda else 0)

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU in this process."""
        return self._torch_device.startswith("cuda")

    @property
    def call_px(self) -> int:
        """Width of the cells in this process: on a GPU, whole tiles.

        A GPU starts some 170 kernels for each call. Below 2048 px this takes longer than to
        compute them.
        """
        return max(self.gpu_cell_px, self.cell_px) if self.on_gpu else self.cell_px

    @property
    def _torch_device(self) -> str:
        """Torch device in this process; it may differ between processes."""
        return choose_device(self.device)

    def warm_up(self) -> None:
        """Load the network into this process."""
        from sarstack.networks.cuda import is_out_of_memory

        try:
            self._network()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _no_gpu_memory(self._torch_device, "the weights of the network") from error

    def _network(self) -> "DeSpeckNet":
        return load_network(self.path, self.sha256, self._torch_device, self.precision)

    def files(self) -> list[str]:
        """Return the path of a model of the user; shipped models are on each worker already."""
        return [self.model] if self.model else []

    def memory_bytes(self, n_px: int) -> int:
        """Return the size of the activations of three layers."""
        return int(3 * 4 * self.card.channels * n_px)

    def settings(self) -> dict[str, str]:
        """Return the name and hash of the model file, and the precision."""
        named = {"output": "speckle"} if self.returns_speckle else {}
        if self.ensemble > 1:
            named["ensemble"] = str(self.ensemble)
        return named | {
            "model": Path(self.path).name,
            "model_sha256": self.sha256,
            "precision": "float32" if self.always_float32
            else choose_precision(self._torch_device, self.precision),
        }  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, with the precision that is chosen here."""
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
        """Despeckle a part of a block; layers compute only the pixels that this part needs."""
        compute = estimate_speckle if self.returns_speckle else despeckle_image
        return self._compute(compute, (), intensity, statistics, summary, inside)

    def despeckle_with_uncertainty(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None = None,
        inside: tuple[slice, slice] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Despeckle a part of a block; see :meth:`Despeckler.despeckle_with_uncertainty`."""
        self.check_uncertainty()
        compute = partial(despeckle_image, spread=True)
        both = self._compute(compute, (2,), intensity, statistics, summary, inside)
        return both[0], both[1]

    def _compute(
        self,
        compute: Callable[..., NDArray[np.float32]],
        n_images: tuple[int, ...],
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        summary: NDArray[np.float32] | None,
        inside: tuple[slice, slice] | None,
    ) -> NDArray[np.float32]:
        """Call a function of :mod:`sarstack.networks.inference` on blocks that fit into a GPU.

        If the memory of the GPU is not enough, the part is cut into blocks of half the height and
        width, again and again down to `MIN_BLOCK_PX`. Later calls begin with the size that was
        enough. The result differs by rounding only. It has the shape (*`n_images`, *`inside`).
        """
        from sarstack.networks.cuda import is_out_of_memory, release_memory

        others = None if summary is None else self.sum_other_dates(summary, intensity)
        rows, columns = inside or (slice(0, intensity.shape[0]), slice(0, intensity.shape[1]))
        wanted = Window(rows.start, rows.stop, columns.start, columns.stop)
        while True:
            side_px = _MAX_BLOCK_PX.get(self._torch_device, max(wanted.shape))
            try:
                return self._compute_blocks(
                    compute, n_images, intensity, statistics, others, wanted, side_px
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if side_px < 2 * MIN_BLOCK_PX:
                    block = f"{side_px} x {side_px} pixels"
                    raise _no_gpu_memory(self._torch_device, block) from error
            release_memory()
            _MAX_BLOCK_PX[self._torch_device] = side_px = min(side_px, max(wanted.shape)) // 2
            LOGGER.warning("GPU out of memory: continuing with blocks of %d px", side_px)

    def _compute_blocks(
        self,
        compute: Callable[..., NDArray[np.float32]],
        n_images: tuple[int, ...],
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,
        others: NDArray[np.float32] | None,
        wanted: Window,
        side_px: int,
    ) -> NDArray[np.float32]:
        """Compute the window `wanted` in blocks of at most `side_px`."""
        network, shape = self._network(), Shape(*intensity.shape)
        result = np.empty((*n_images, *wanted.shape), np.float32)
        for _, _, tile in tile_grid(wanted.shape, side_px):
            y, x = wanted.y0, wanted.x0
            block = Window(y + tile.y0, y + tile.y1, x + tile.x0, x + tile.x1)
            needed = self.input_window(block, shape)
            sums = None if others is None else others[(slice(None), *needed.slices)]
            result[(..., *tile.slices)] = compute(
                network, self.card, intensity[needed.slices], statistics, sums,
                block.slices_in(needed), self.ensemble,
            )  # fmt: skip
        return result

    def sum_other_dates(
        self, summary: NDArray[np.float32], intensity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sums over the other dates: the summary without this date."""
        raise NotImplementedError(f"{self.name} does not look at other dates")


def _no_gpu_memory(device: str, needed_for: str) -> NotEnoughSpaceError:
    return NotEnoughSpaceError(
        f"the GPU has no memory for {needed_for}",
        expected="some hundred MB free",
        where=device,
        do="end other programs that use it, or compute with --set device=cpu",
    )
