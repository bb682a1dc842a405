"""From a block of intensities through a network to despeckled intensities, numpy to numpy.

A network is loaded once per process, folded, and shared by all threads.
"""

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import ModelCardError
from sarstack.networks.card import ModelCard
from sarstack.networks.date_sums import scale_date_count
from sarstack.networks.memory_pages import keep_freed_memory
from sarstack.networks.model_file import load_model, model_sha256
from sarstack.speckle.statistics import SceneStatistics

if TYPE_CHECKING:
    from torch import Tensor

    from sarstack.networks.network import DeSpeckNet

PRECISIONS = ("auto", "float32", "bfloat16")

_LOADING = threading.Lock()

# Share of the scene's brightness given to pixels about which nothing is known.
_FLOOR = 1e-8
_PAPER_FLOOR = 1e-4


def load_network(
    path: str, sha256: str, device: str = "cpu", precision: str = "auto"
) -> "DeSpeckNet":
    """Load a network for inference: folded, channels last, cached for the process.

    Parameters
    ----------
    path : str
        A ``.safetensors`` model file, readable by this process.
    sha256 : str
        What the file must be, so that every worker computes with the same weights.
    device : str
        A torch device.
    precision : {"auto", "float32", "bfloat16"}
        Of the inner layers, see :func:`choose_precision`.

    Raises
    ------
    ModelCardError
        If the file is not a model, or not the one expected.
    """
    with _LOADING:
        keep_freed_memory()
        return _load(path, sha256, device, choose_precision(device, precision))


@lru_cache(maxsize=8)
def _load(path: str, sha256: str, device: str, precision: str) -> "DeSpeckNet":
    import torch

    network, _ = load_model(path)
    found = model_sha256(path)
    if found != sha256:
        raise ModelCardError(
            f"the model file has the SHA-256 {found[:12]}",
            expected=f"{sha256[:12]}, as where this work was planned",
            where=path,
            do="give all workers the same file, and do not change it during a run",
        )
    if device.startswith("cuda"):  # for good: threads that switch it to and fro would collide
        torch.backends.cudnn.allow_tf32 = False
    fused = network.fuse(getattr(torch, precision))
    fused.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fused


def choose_device(wanted: str | None = None) -> str:
    """Return the torch device to use: the one wanted, else a GPU if there is one."""
    if wanted:
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_precision(device: str, wanted: str = "auto") -> str:
    """Return ``bfloat16`` where the processor computes in it, else ``float32``.

    bfloat16 inside, float32 at both ends: 0.005 to 0.015 dB from the result in float32
    throughout, twice as fast. Processors that only imitate it would be slower.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if _computes_in_bfloat16(device) else "float32"


def _computes_in_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def run_network(
    network: "DeSpeckNet",
    intensity: NDArray[np.float32],
    scale: float = 1.0,
    *,
    sensor: tuple[float, float, float] | None = None,
    others: NDArray[np.float32] | None = None,
    inside: tuple[slice, slice] | None = None,
) -> NDArray[np.float32]:
    """Run the clean branch over one image.

    Parameters
    ----------
    network : DeSpeckNet
        From :func:`load_network`.
    intensity : ndarray, shape (y, x), float32
        Linear power, any sign, NaN = nodata; any size from 1x1.
    scale : float
        The image is divided by it before and multiplied after.
    sensor : tuple of float, optional
        Looks and lag-1 correlation along y and x; None: the network is told nothing.
    others : ndarray, shape (4, y, x), float32, optional
        Sums over other dates, for ``despecknet-mt``.
    inside : tuple of slice, optional
        Rows and columns to return; all, if None.

    Returns
    -------
    ndarray, shape (y, x) or of `inside`, float32
        Linear power. NaN where the input is NaN, and where a network on log intensity had
        no positive pixel in reach; see :func:`despeckle_image`.
    """
    import torch

    from sarstack.networks.two_scale import encode_sensor

    device = next(network.parameters()).device
    finite = np.isfinite(intensity)
    whole = bool(finite.all())
    image = intensity / np.float32(scale)
    if not whole:
        image[~finite] = 0

    def send(values: NDArray[np.float32]) -> "Tensor":
        return torch.from_numpy(values)[None].to(device)

    told = None
    if sensor is not None:
        looks, correlation = torch.tensor(sensor[:1]), torch.tensor([sensor[1:]])
        told = encode_sensor(looks, correlation, torch.ones(1)).to(device)
    valid = None if whole else send(finite[None].astype(np.float32))
    seen = None if others is None else send(others)
    with torch.inference_mode():
        found = network(
            send(image[None]), valid, sensor=told, others=seen, noise=False, inside=inside
        )
        despeckled = network.to_intensity(found.clean)[0, 0].cpu().numpy()
    despeckled *= np.float32(scale)
    if not whole:
        despeckled[~finite[inside or ...]] = np.nan
    return np.asarray(despeckled, dtype=np.float32)


def despeckle_image(
    network: "DeSpeckNet",
    card: ModelCard,
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    others: NDArray[np.float32] | None = None,
    inside: tuple[slice, slice] | None = None,
) -> NDArray[np.float32]:
    """Despeckle one image and take out the network's known flat-field bias.

    Parameters
    ----------
    network, card
        Network and card of the same file.
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    statistics : SceneStatistics
        Of the whole scene; the network is told what is sure in them.
    others : ndarray, shape (4, y, x), float32, optional
        Sums over other dates, for ``despecknet-mt``.
    inside : tuple of slice, optional
        Rows and columns to return, the rest being their surroundings; all, if None.

    Returns
    -------
    ndarray, shape (y, x) or of `inside`, float32
        Positive linear power, NaN exactly where the input is not finite.
    """
    missing = ~np.isfinite(intensity[inside or ...])
    if missing.all():
        return np.full(missing.shape, np.nan, np.float32)
    bright, looks, correlation = statistics.bright, statistics.looks, statistics.correlation
    reference = float(bright) if np.isfinite(bright) and bright > 0 else 1.0
    linear, sensor_given = card.domain == "linear", statistics.sensor is not None
    despeckled = run_network(
        network,
        intensity,
        reference if linear else 1.0,
        sensor=statistics.sensor,
        others=others,
        inside=inside,
    )
    tables = (card.calibration, *card.with_others)
    bias = np.array(
        [table.interpolate(looks, correlation, sensor_given=sensor_given) for table in tables],
        np.float32,
    )
    if others is None:
        despeckled /= bias[0]
    else:
        count = others[0][inside or ...].astype(np.intp)
        known = scale_date_count(np.array([float(table.n_others) for table in tables]))
        of_count = np.interp(scale_date_count(np.arange(count.max() + 1.0)), known, bias)
        despeckled /= of_count.astype(np.float32)[count]
    # Linear networks may return nothing or less; windows without a positive pixel, NaN.
    floor = np.float32(max(reference * (_PAPER_FLOOR if linear else _FLOOR), 1e-37))
    if linear:
        np.maximum(despeckled, floor, out=despeckled)
    despeckled[np.isnan(despeckled) & ~missing] = floor
    return despeckled
