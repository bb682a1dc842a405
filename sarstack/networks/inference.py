"""Inference: run a network on a block of intensities, NumPy in and NumPy out.

A network is loaded once per process, with fused layers, and shared by all threads.
"""

import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import DB_PER_NAT
from sarstack.errors import ModelCardError, UsageError
from sarstack.networks.card import BLIND_VARIANTS, ModelCard
from sarstack.networks.date_sums import scale_date_count
from sarstack.networks.ensemble import run_ensemble
from sarstack.networks.holes import fill_holes
from sarstack.networks.memory_pages import keep_freed_memory
from sarstack.networks.model_file import load_model, model_sha256
from sarstack.networks.smooth_areas import keep_smooth_areas
from sarstack.networks.torch_abilities import find_abilities
from sarstack.speckle.statistics import SceneStatistics

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

Output = Literal["clean", "speckle", "clean and spread"]
PRECISIONS = ("auto", "float32", "bfloat16")

_LOADING = threading.Lock()

# Lowest output, as a part of the 98th percentile of the scene, by domain of the network.
_LOWEST_OUTPUT = {"log": 1e-8, "linear": 1e-4}
_LOWEST_SPECKLE = np.float32(1e-8)
# Uncertainty where no pixel in the window of the local mean is positive.
_LARGEST_SPREAD_DB = np.float32(13)


def load_network(
    path: str, sha256: str, device: str = "cpu", precision: str = "auto"
) -> "DeSpeckNet":
    """Load a network for inference: fused, channels last, cached in the process.

    Parameters
    ----------
    path : str
        A ``.safetensors`` model file, readable by this process.
    sha256 : str
        Expected hash of the file, so that all workers compute with the same weights.
    device : str
        Torch device.
    precision : {"auto", "float32", "bfloat16"}
        Precision of the inner layers, see :func:`choose_precision`.

    Raises
    ------
    ModelCardError
        If the file is not a model, or has another hash.
    """
    with _LOADING:
        keep_freed_memory()
        return _load(path, sha256, device, choose_precision(device, precision))


@lru_cache(maxsize=8)
def _load(path: str, sha256: str, device: str, precision: str) -> "DeSpeckNet":
    import torch

    network, _ = load_model(path)
    actual_sha256 = model_sha256(path)
    if actual_sha256 != sha256:
        raise ModelCardError(
            f"the model file has the SHA-256 {actual_sha256[:12]}",
            expected=f"{sha256[:12]}, as where this work was planned",
            where=path,
            do="give all workers the same file, and do not change it during a run",
        )
    if device.startswith("cuda"):  # once per process: threads cannot have different settings
        torch.backends.cudnn.allow_tf32 = False
    fused = network.fuse(getattr(torch, precision))
    fused.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.startswith("cuda"):
        torch.cuda.synchronize()  # threads use the weights on streams of their own
    return fused


def choose_device(wanted: str | None = None) -> str:
    """Return the torch device: `wanted` if given, else a GPU if there is one, else the CPU."""
    if wanted and not wanted.startswith("cuda"):
        return wanted
    has_cuda = find_abilities().has_cuda
    if wanted and not has_cuda:
        raise UsageError(
            f"device = {wanted!r}: torch finds no GPU here",
            expected="a CUDA device, and a torch that was built for it",
            do="leave the device out, or compute with device=cpu",
        )
    return wanted or ("cuda" if has_cuda else "cpu")


def choose_precision(device: str, wanted: str = "auto") -> str:
    """Return the precision of the inner layers: for "auto", bfloat16 on hardware that has it.

    With bfloat16 in the inner layers a network is twice as fast. The result differs by 0.005 to
    0.015 dB from float32 throughout. Emulated bfloat16 would be slower than float32.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if _computes_in_bfloat16(device) else "float32"


def _computes_in_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and find_abilities().bfloat16_on_cpu


def run_network(
    network: "DeSpeckNet",
    intensity: NDArray[np.float32],
    scale: float = 1.0,
    *,
    sensor: tuple[float, float, float] | None = None,
    others: NDArray[np.float32] | None = None,
    inside: tuple[slice, slice] | None = None,
    output: Output = "clean",
) -> NDArray[np.float32]:
    """Run one branch of a network on one image.

    Parameters
    ----------
    network : DeSpeckNet
        From :func:`load_network`.
    intensity : ndarray, shape (y, x), float32
        Linear power, may be zero or negative; NaN = nodata. At least 1x1.
    scale : float
        The input is divided by it, the clean image multiplied by it.
    sensor : tuple of float, optional
        Looks and lag-1 correlation along y and x, further inputs; None: unknown.
    others : ndarray, shape (4 or 8, y, x), float32, optional
        Sums over the other dates, for ``despecknet-mt``.
    inside : tuple of slice, optional
        Rows and columns to return; None: all.
    output : {"clean", "speckle", "clean and spread"}
        What to predict.

    Returns
    -------
    ndarray, shape (y, x) or of `inside`, float32
        Linear power, or the ratio of the noisy to the clean image; "clean and spread": two images,
        linear power and the standard deviation of its logarithm in dB. NaN where the input is NaN,
        and where a network on log intensity has no positive pixel in the window of its local mean;
        see :func:`despeckle_image`.
    """
    import torch

    from sarstack.networks.cuda import open_lane
    from sarstack.networks.two_scale import encode_sensor

    device = next(network.parameters()).device
    finite = np.isfinite(intensity)
    has_nodata = not finite.all()
    image = intensity / np.float32(scale)
    if has_nodata:
        image[~finite] = 0

    with torch.inference_mode(), open_lane(device) as lane:
        encoded_sensor = None
        if sensor is not None:
            looks, correlation = torch.tensor(sensor[:1]), torch.tensor([sensor[1:]])
            encoded = encode_sensor(looks, correlation, torch.ones(1))
            encoded_sensor = lane.upload(encoded.numpy())
        valid = lane.upload(finite[None, None].astype(np.float32)) if has_nodata else None
        given: dict[str, Any] = {
            "sensor": encoded_sensor,
            "others": None if others is None else lane.upload(others[None]),
            "inside": inside,
        }
        there = lane.upload(image[None, None])
        if output == "speckle":
            predicted = network.predict_speckle(there, valid, **given)
        else:
            wanted = {"noise": False, "spread": output != "clean"}
            prediction = network(there, valid, **given, **wanted)
            predicted = network.to_intensity(prediction.clean)
            if prediction.spread is not None:
                spread_db = DB_PER_NAT * prediction.spread.exp()
                predicted = torch.cat([predicted, spread_db], dim=1)
        result = lane.download(predicted[0])
    if output != "speckle":
        result[0] *= np.float32(scale)
    if has_nodata:
        result[:, ~finite[inside or ...]] = np.nan
    return np.asarray(result if len(result) > 1 else result[0], dtype=np.float32)


def despeckle_image(
    network: "DeSpeckNet",
    card: ModelCard,
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    others: NDArray[np.float32] | None = None,
    inside: tuple[slice, slice] | None = None,
    ensemble: int = 1,
    *,
    spread: bool = False,
) -> NDArray[np.float32]:
    """Despeckle one image and divide by the flat-field bias of the network.

    Holes are filled first, see :mod:`sarstack.networks.holes`. Areas without speckle keep their
    values, see :mod:`sarstack.networks.smooth_areas`.

    Parameters
    ----------
    network, card
        Network and card of the same model file.
    intensity : ndarray, shape (y, x), float32
        Linear power, NaN = nodata.
    statistics : SceneStatistics
        Statistics of the whole scene. Looks and correlation are input of the network if they
        are given or measured between dates, not if they are estimated from single dates.
    others : ndarray, shape (4 or 8, y, x), float32, optional
        Sums over the other dates, for ``despecknet-mt``.
    inside : tuple of slice, optional
        Rows and columns to return; the rest is their halo. None: all.
    ensemble : {1, 4, 8}
        Number of mirror images, see :mod:`sarstack.networks.ensemble`.
    spread : bool
        Return a second image, of a network that has a spread.

    Returns
    -------
    ndarray, shape (y, x) or of `inside`, float32
        Positive linear power, NaN exactly where the input is not finite. With `spread`, of shape
        (2, y, x): the second image is the standard deviation of the error of the logarithm, in dB.
        It is 0 in areas without speckle. Of an ensemble, it is the mean over the mirror images.
    """
    block = _prepare(card, intensity, statistics, others, inside)
    predicted = block.run(network, "clean and spread" if spread else "clean", ensemble)
    despeckled = predicted[0] if spread else predicted
    despeckled /= block.bias
    # A network on linear intensity may return zero or less. A network on log intensity returns NaN
    # where no pixel in the window of the local mean is positive.
    lowest = np.float32(max(block.brightness * _LOWEST_OUTPUT[card.domain], 1e-37))
    if card.domain == "linear":
        np.maximum(despeckled, lowest, out=despeckled)
    unknown = np.isnan(despeckled)
    despeckled[unknown] = lowest
    keep_smooth_areas(despeckled, block.intensity, block.inside)
    if spread:
        predicted[1] *= find_spread_scale(card, statistics)
        predicted[1][unknown] = _LARGEST_SPREAD_DB
        keep_smooth_areas(predicted[1], block.intensity, block.inside, value=0.0)
    predicted[..., block.missing] = np.nan
    return predicted


def estimate_speckle(
    network: "DeSpeckNet",
    card: ModelCard,
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    others: NDArray[np.float32] | None = None,
    inside: tuple[slice, slice] | None = None,
    ensemble: int = 1,
) -> NDArray[np.float32]:
    """Estimate the speckle of one image: the second output of deSpeckNet.

    The despeckled image times this is the noisy image as the network reconstructs it: the
    flat-field bias, by which the despeckled image is divided, is a factor here. Areas without
    speckle are 1.

    Parameters
    ----------
    network, card, intensity, statistics, others, inside, ensemble
        As for :func:`despeckle_image`.

    Returns
    -------
    ndarray, shape (y, x) or of `inside`, float32
        Ratio of the noisy to the clean intensity, positive; NaN exactly where the input is not
        finite.

    References
    ----------
    Mullissa et al. 2020, deSpeckNet, Section III.
    """
    block = _prepare(card, intensity, statistics, others, inside)
    speckle = block.run(network, "speckle", ensemble)
    speckle *= block.bias
    np.maximum(speckle, _LOWEST_SPECKLE, out=speckle)
    speckle[np.isnan(speckle)] = 1
    keep_smooth_areas(speckle, block.intensity, block.inside, value=1.0)
    speckle[block.missing] = np.nan
    return speckle


class _Block(NamedTuple):
    """One image as the network gets it.

    Attributes
    ----------
    intensity, others : ndarray
        With narrow gaps filled.
    brightness : float
        Level of the scene.
    scale : float
        The network gets the intensity divided by it.
    statistics : SceneStatistics
    inside : tuple of slice
        Rows and columns to return.
    missing : ndarray of bool, shape of `inside`
        Nodata.
    bias : ndarray or float
        Flat-field bias of the network.
    """

    intensity: NDArray[np.float32]
    others: NDArray[np.float32] | None
    brightness: float
    scale: float
    statistics: SceneStatistics
    inside: tuple[slice, slice]
    missing: NDArray[np.bool_]
    bias: NDArray[np.float32] | np.float32

    def run(self, network: "DeSpeckNet", output: Output, ensemble: int) -> NDArray[np.float32]:
        """Return what the network predicts, NaN if all is nodata."""
        if self.missing.all():
            n_images = (2,) if output == "clean and spread" else ()
            return np.full((*n_images, *self.missing.shape), np.nan, np.float32)
        run = partial(run_network, network, scale=self.scale, output=output)
        return run_ensemble(run, self.intensity, self.statistics.sensor, self.others, self.inside,
                            ensemble)  # fmt: skip


def _prepare(
    card: ModelCard,
    intensity: NDArray[np.float32],
    statistics: SceneStatistics,
    others: NDArray[np.float32] | None,
    inside: tuple[slice, slice] | None,
) -> _Block:
    inside = inside or (slice(0, intensity.shape[0]), slice(0, intensity.shape[1]))
    if card.variant in BLIND_VARIANTS:  # they need looks: an estimate is better than none
        statistics = statistics.as_given()
    missing = ~np.isfinite(intensity[inside])
    if not missing.all():
        intensity, others = fill_holes(intensity, others, statistics.correlation)
    bright = statistics.bright
    brightness = float(bright) if np.isfinite(bright) and bright > 0 else 1.0
    scale = brightness if card.domain == "linear" else 1.0
    bias = find_bias(card, statistics, None if others is None else others[0][inside])
    return _Block(intensity, others, brightness, scale, statistics, inside, missing, bias)


def find_spread_scale(card: ModelCard, statistics: SceneStatistics) -> np.float32:
    """Return the factor on the uncertainty that a network tells."""
    sensor_given = statistics.sensor is not None
    looks, correlation = statistics.looks, statistics.correlation
    return np.float32(card.spread_scale.interpolate(looks, correlation, sensor_given=sensor_given))


def find_bias(
    card: ModelCard, statistics: SceneStatistics, n_others: NDArray[np.float32] | None
) -> NDArray[np.float32] | np.float32:
    """Return the bias of a network: one number, or one for each pixel.

    With the number of other dates at each pixel (`n_others`), the bias of each pixel is
    interpolated between the tables of the card, which were measured with different numbers. It is
    linear between whole numbers: weighted sums have others.
    """
    tables = (card.calibration, *card.with_others)
    sensor_given = statistics.sensor is not None
    bias = np.array(
        [
            table.interpolate(statistics.looks, statistics.correlation, sensor_given=sensor_given)
            for table in tables
        ],
        np.float32,
    )
    if n_others is None:
        return bias[0]
    count = n_others.astype(np.intp)
    rest = n_others - count
    table_counts = scale_date_count(np.array([float(table.n_others) for table in tables]))
    possible_counts = scale_date_count(np.arange(count.max() + 2.0))
    bias_of_count = np.interp(possible_counts, table_counts, bias).astype(np.float32)
    return bias_of_count[count] + rest * np.diff(bias_of_count)[count]
