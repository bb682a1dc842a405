"""From a block of intensities through a network to despeckled intensities, numpy to numpy.

A network is loaded once per process, folded, and shared by all threads.
"""

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from sarstack.errors import ModelCardError
from sarstack.gamma import log_speckle_variance, log_variance_spread, pair_correlation
from sarstack.masking import box_mean
from sarstack.networks.card import ModelCard, load_model, model_sha256

if TYPE_CHECKING:
    from sarstack.networks.despecknet import DeSpeckNet

TEXTURE_WINDOW_PX = 15
# Standard deviations by which a window's variance must exceed that of speckle.
_BEYOND_CHANCE = 1.5
# Share of speckle that is darker than any ratio counted.
_DARKEST_SHARE = 1e-3

_LOADING = threading.Lock()

# Share of the scene's brightness given to pixels about which nothing is known.
_FLOOR = 1e-8
_PAPER_FLOOR = 1e-4


def load_network(path: str, sha256: str, device: str = "cpu") -> "DeSpeckNet":
    """Load a network for inference: folded, channels last, cached for the process.

    Parameters
    ----------
    path : str
        A ``.safetensors`` model file, readable by this process.
    sha256 : str
        What the file must be, so that every worker computes with the same weights.
    device : str
        A torch device.

    Raises
    ------
    ModelCardError
        If the file is not a model, or not the one expected.
    """
    with _LOADING:
        return _load(path, sha256, device)


@lru_cache(maxsize=8)
def _load(path: str, sha256: str, device: str) -> "DeSpeckNet":
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
    network.requires_grad_(requires_grad=False)
    folded = network.fold()
    folded.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded


def choose_device(wanted: str | None = None) -> str:
    """Return the torch device to use: the one wanted, else a GPU if there is one."""
    if wanted:
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def run_network(
    network: "DeSpeckNet", intensity: NDArray[np.float32], scale: float = 1.0
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

    Returns
    -------
    ndarray, shape (y, x), float32
        Linear power. NaN where the input is NaN, and where a ``despecknet`` had no
        positive pixel in reach; see :func:`despeckle_image`.

    Notes
    -----
    A hole is treated as the edge of the scene: the activations are zero in it after every
    layer, as the padding is zero outside, and local means do not count it.
    """
    import torch

    device = next(network.parameters()).device
    finite = np.isfinite(intensity)
    filled = np.where(finite, intensity, np.float32(0)) / np.float32(scale)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        image = torch.from_numpy(filled)[None, None].to(device)
        valid = None
        if not finite.all():
            valid = torch.from_numpy(finite.astype(np.float32))[None, None].to(device)
        clean = network.to_intensity(network(image, valid, noise=False).clean)
        despeckled = clean[0, 0].cpu().numpy() * np.float32(scale)
    despeckled[~finite] = np.nan
    return np.asarray(despeckled, dtype=np.float32)


def despeckle_image(
    network: "DeSpeckNet",
    card: ModelCard,
    intensity: NDArray[np.float32],
    *,
    looks: float,
    correlation: tuple[float, float],
    bright: float,
    texture: bool = True,
) -> NDArray[np.float32]:
    """Despeckle one image and take out the network's known flat-field bias.

    Parameters
    ----------
    network, card
        Network and card of the same file.
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    looks, correlation, bright
        Of the whole scene, as in :class:`sarstack.speckle.SceneStatistics`.
    texture : bool
        For networks on log intensity: give back what cannot have been speckle, see
        :func:`give_texture_back`. Needs looks that were measured or given.

    Returns
    -------
    ndarray, shape (y, x), float32
        Positive linear power, NaN exactly where the input is not finite.
    """
    missing = ~np.isfinite(intensity)
    if missing.all():
        return np.full_like(intensity, np.nan)
    reference = float(bright) if np.isfinite(bright) and bright > 0 else 1.0
    linear = card.domain == "linear"
    despeckled = run_network(network, intensity, reference if linear else 1.0)
    despeckled /= np.float32(card.calibration.at(looks, correlation))
    # Linear networks may return nothing or less; windows without a positive pixel, NaN.
    floor = np.float32(max(reference * (_PAPER_FLOOR if linear else _FLOOR), 1e-37))
    if linear:
        np.maximum(despeckled, floor, out=despeckled)
    despeckled[np.isnan(despeckled) & ~missing] = floor
    if texture and not linear:
        return give_texture_back(intensity, despeckled, looks, correlation)
    return despeckled


def give_texture_back(
    intensity: NDArray[np.float32],
    despeckled: NDArray[np.float32],
    looks: float,
    correlation: tuple[float, float],
) -> NDArray[np.float32]:
    """Return what was taken out beyond the variance that speckle of these looks has.

    A network blind to looks takes fine white texture for speckle of fewer looks. The log
    ratio ``r = ln(y / xhat)`` shows it: where its local variance v exceeds that of speckle,
    s, by more than chance, the share ``w = 1 - s / v`` of it is given back, as in an MMSE
    filter: ``ln xhat + w (r - mean r) - w^2 v / 2`` (the last term keeps the mean).

    Parameters
    ----------
    intensity, despeckled : ndarray, shape (y, x), float32
        Linear power before and after; NaN = nodata.
    looks, correlation
        Of the whole scene.

    Returns
    -------
    ndarray, shape (y, x), float32
        `despeckled` itself where the ratio is no rougher than speckle.
    """
    valid = np.isfinite(intensity) & (intensity > 0)
    ratio = np.log(np.where(valid, intensity, 1).astype(np.float64))
    ratio -= np.log(np.where(valid, despeckled, 1).astype(np.float64))
    # A few pixels near zero (sensors round) would be all the variance of their windows.
    np.maximum(ratio, np.log(gammaincinv(looks, _DARKEST_SHARE) / looks), out=ratio)
    mean = box_mean(ratio, valid, TEXTURE_WINDOW_PX)
    variance = np.maximum(box_mean(ratio**2, valid, TEXTURE_WINDOW_PX) - mean**2, 1e-12)
    speckle = log_speckle_variance(looks) * (1 - pair_correlation(correlation, TEXTURE_WINDOW_PX))
    speckle *= 1 + _BEYOND_CHANCE * log_variance_spread(looks, correlation, TEXTURE_WINDOW_PX)
    share = np.where(valid, np.maximum(1 - speckle / variance, 0), 0)
    gain = np.exp(share * (ratio - mean) - share**2 * variance / 2)
    return np.where(share > 0, despeckled * gain, despeckled).astype(np.float32)
