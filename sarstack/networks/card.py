"""The card inside a model file: what the network is, what it was trained on, how it was made.

Model files are safetensors. The card is JSON in their header, so that it can be read
without the weights and without torch. Pickle is never read or written.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.errors import ModelCardError

if TYPE_CHECKING:
    from torch import Tensor

    from sarstack.networks.network import DeSpeckNet

CARD_KEY = "sarstack-card"
KNOWN_VARIANTS = ("despecknet", "despecknet-lite", "despecknet-mt", "despecknet-paper")


@dataclass(frozen=True)
class Calibration:
    """Mean of output over mean of input, measured on stationary speckle.

    Attributes
    ----------
    looks : tuple of float
        Rows of the table, increasing.
    correlation : tuple of float
        Columns: lag-1 correlation (geometric mean of both axes), increasing.
    bias : tuple of tuple of float
        Ratio of the means; the result is divided by it.
    untold : tuple of tuple of float
        The same where the network was not told looks and correlation; empty: no different.
    n_others : int
        Other dates that the network saw.
    """

    looks: tuple[float, ...] = (1.0,)
    correlation: tuple[float, ...] = (0.0,)
    bias: tuple[tuple[float, ...], ...] = ((1.0,),)
    untold: tuple[tuple[float, ...], ...] = ()
    n_others: int = 0

    def at(self, looks: float, correlation: tuple[float, float], *, told: bool = True) -> float:
        """Interpolate the bias: bilinear in log looks and in the mean correlation."""
        bias = self.bias if told else self.untold or self.bias
        shared = float(np.sqrt(max(correlation[0], 0) * max(correlation[1], 0)))
        along = [np.interp(shared, self.correlation, row) for row in bias]
        # Beyond the table the nearest entry holds: np.interp clips.
        return float(np.interp(np.log(max(looks, 1e-3)), np.log(self.looks), along))


@dataclass(frozen=True)
class ModelCard:
    """Everything a user or a program needs to know of a model file.

    Attributes
    ----------
    variant : str
        One of `KNOWN_VARIANTS`.
    domain : str
        ``log`` or ``linear``: what the branches see.
    halo : int
        Pixels needed on each side.
    architecture : dict of str to int
        Sizes, as :func:`sarstack.networks.despecknet.build_network` takes them.
    channels : float
        Activations per pixel of the widest layer.
    polarisations : tuple of str
        What it was trained on; empty: any, the simulation does not know polarisation.
    looks, correlation : tuple of float
        Range of looks and of lag-1 correlation in training.
    calibration : Calibration
        Flat-field bias of a date by itself, taken out by the despeckler.
    with_others : tuple of Calibration
        The same where other dates were seen, by their number, increasing.
    data, licence, command, sarstack_version, created : str
        Provenance. `created` is UTC, ISO 8601.
    scores : dict of str to float
        Measured after training, RMSE in dB by case.
    """

    variant: str
    domain: str
    halo: int
    architecture: dict[str, int] = field(default_factory=dict, hash=False)
    channels: float = 64.0
    polarisations: tuple[str, ...] = ()
    looks: tuple[float, float] = (1.0, 20.0)
    correlation: tuple[float, float] = (0.0, 0.85)
    calibration: Calibration = field(default_factory=Calibration)
    with_others: tuple[Calibration, ...] = ()
    data: str = ""
    licence: str = ""
    command: str = ""
    sarstack_version: str = ""
    created: str = ""
    scores: dict[str, float] = field(default_factory=dict, hash=False)

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card; unknown keys of later versions are ignored.

        Raises
        ------
        TypeError, ValueError, KeyError
            If the text is not a card.
        """
        raw: dict[str, Any] = json.loads(text)
        known = {f.name for f in fields(cls)}
        values = {key: _tuples(value) for key, value in raw.items() if key in known}
        values["calibration"] = _read_table(raw.get("calibration", {}))
        values["with_others"] = tuple(map(_read_table, raw.get("with_others", ())))
        card = cls(**values)
        if not isinstance(card.halo, int) or card.halo < 0:
            raise ValueError(f"halo = {card.halo!r}")
        return card


def _read_table(raw: dict[str, Any]) -> Calibration:
    return Calibration(**{key: _tuples(value) for key, value in raw.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def make_card(network: "DeSpeckNet", **what: Any) -> ModelCard:
    """Fill in a card for a network: architecture, version and time are known, the rest is given."""
    try:
        ours = version("sarstack")
    except PackageNotFoundError:
        ours = "unknown"
    return ModelCard(
        variant=network.variant,
        domain=network.domain,
        halo=network.halo,
        architecture=dict(network.architecture),
        channels=network.channels,
        sarstack_version=ours,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **what,
    )


def save_model(path: str | Path, network: "DeSpeckNet", card: ModelCard) -> Path:
    """Write network and card as safetensors; the file appears only when complete.

    Parameters
    ----------
    path : str or Path
        Ends in ``.safetensors``.
    network : DeSpeckNet
        Not folded; convolutions are kept in 16 bits, the rest in 32.
    card : ModelCard
        Must describe this network.

    Raises
    ------
    ModelCardError
        If the card is of another variant or another architecture.
    """
    if (card.variant, card.architecture) != (network.variant, network.architecture):
        raise ModelCardError(
            f"the card says {card.variant} {card.architecture}",
            expected=f"{network.variant} {network.architecture}, as the network",
            where=str(path),
            do="make the card with make_card(network, ...)",
        )
    weights = {k: _pack(v) for k, v in network.state_dict().items()}
    write_safetensors(path, weights, {CARD_KEY: card.to_json()})
    return Path(path)


def _pack(values: "Tensor") -> "Tensor":
    """Halve the file: 11 bits of a convolution's weights are more than a result shows."""
    packed = values.detach().cpu().contiguous()
    return packed.half() if packed.ndim == 4 else packed


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write tensors and their text through a temporary file in the same folder."""
    from safetensors.torch import save_file

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        save_file(dict(tensors), str(part), metadata=dict(metadata))
        part.chmod(0o644)  # safetensors makes it readable to its owner only
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file and check the file's length against it.

    Raises
    ------
    ModelCardError
        If the file is missing, is not safetensors, or is truncated.
    """
    target = Path(path)
    try:
        size = target.stat().st_size
        with target.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("no safetensors header")  # noqa: TRY301
            header: dict[str, Any] = json.loads(file.read(length))
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        end = max(ends, default=0)
    except OSError as error:
        raise ModelCardError(
            f"the model file cannot be read: {error.strerror}",
            expected="a .safetensors file made by sarstack",
            where=str(path),
            do="check the path",
        ) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelCardError(
            f"this is not a model file ({error})",
            expected="a .safetensors file made by `sarstack train` (pickled models are never read)",
            where=str(path),
            do="train a model with `sarstack train`, or leave out the path to use the shipped one",
        ) from error
    if 8 + length + end != size:
        raise ModelCardError(
            f"the model file has {size} bytes",
            expected=f"{8 + length + end} bytes, as its header says: the file is truncated",
            where=str(path),
            do="copy the file again",
        )
    return header


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file without its weights and without torch.

    Raises
    ------
    ModelCardError
        If the file is not a complete safetensors file or has no usable card.
    """
    metadata = read_header(path).get("__metadata__", {})
    try:
        card = ModelCard.from_json(metadata[CARD_KEY])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelCardError(
            f"the model file has no usable card ({type(error).__name__}: {error})",
            expected=f"a JSON card under {CARD_KEY!r} in the safetensors metadata",
            where=str(path),
            do="use a file written by `sarstack train` or `sarstack finetune`",
        ) from error
    if card.variant not in KNOWN_VARIANTS:
        raise ModelCardError(
            f"the card is of variant {card.variant!r}",
            expected=f"one of {', '.join(KNOWN_VARIANTS)}",
            where=str(path),
            do="update sarstack if the model was made by a later version",
        )
    return card


def load_model(path: str | Path) -> tuple["DeSpeckNet", ModelCard]:
    """Load a network and its card; the network is in evaluation mode, float32, on the CPU.

    Raises
    ------
    ModelCardError
        As :func:`read_card`, or if the weights do not fit the card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from sarstack.networks.despecknet import build_network

    card = read_card(path)
    try:
        network = build_network(card.variant, **card.architecture)
        network.load_state_dict(load_file(str(path)))
    except (RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise ModelCardError(
            f"the weights do not fit the card: {str(error).splitlines()[0]}",
            expected=f"a {card.variant} of {card.architecture}",
            where=str(path),
            do="use the file as written; weights and card cannot be exchanged",
        ) from error
    if network.halo != card.halo:
        raise ModelCardError(
            f"the card says halo {card.halo}",
            expected=f"{network.halo}, as the layers need",
            where=str(path),
            do="use the file as written",
        )
    return network.eval(), card


@lru_cache(maxsize=32)
def _hash(path: str, _size: int, _changed_ns: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def model_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a model file, as hexadecimal digits."""
    known = Path(path).stat()
    return _hash(str(path), known.st_size, known.st_mtime_ns)


def shipped_model(variant: str) -> Path:
    """Return the path of the weights that come with sarstack."""
    return Path(__file__).parent / "weights" / f"{variant}.safetensors"
