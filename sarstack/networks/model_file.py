"""Model files: weights and card of a network in one safetensors file.

Pickle is never read or written.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sarstack.errors import ModelCardError
from sarstack.networks.card import CARD_KEY, KNOWN_VARIANTS, ModelCard
from sarstack.networks.stored_weights import CHECKSUM_KEY, check_weights, hash_model

# The largest network that a card allows is smaller. The header of a shipped model has 30 kB.
MAX_FILE_BYTES = 2**30
MAX_HEADER_BYTES = 2**24

if TYPE_CHECKING:
    from torch import Tensor

    from sarstack.networks.network import DeSpeckNet


def save_model(
    path: str | Path,
    network: "DeSpeckNet",
    card: ModelCard,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write network and card as safetensors; the file appears only when complete.

    Parameters
    ----------
    path : str or Path
        Ends in ``.safetensors``.
    network : DeSpeckNet
        Not fused. Weights of convolutions are written in float16, all others in float32.
    card : ModelCard
        Card of this network.
    notes : dict of str, optional
        Further metadata of the file.

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
    weights = {name: _to_stored_dtype(values) for name, values in network.state_dict().items()}
    metadata = {**(notes or {}), CARD_KEY: card.to_json()}
    arrays = {name: values.numpy() for name, values in weights.items()}
    checksum = hash_model(arrays, metadata)
    write_safetensors(path, weights, metadata | {CHECKSUM_KEY: checksum})
    return Path(path)


def _to_stored_dtype(values: "Tensor") -> "Tensor":
    """Round weights of convolutions to float16: the file is half as large.

    The 11 bits of a float16 are more than the result shows.
    """
    stored = values.detach().cpu().contiguous()
    return stored.half() if stored.ndim == 4 else stored


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata to a temporary file in the same folder, then rename it."""
    from safetensors.torch import save

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # Not save_file: it has a temporary file of its own, which stays behind after a kill.
        part.write_bytes(save(dict(tensors), metadata=dict(metadata)))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file; raises as :func:`read_header`."""
    metadata: dict[str, str] = read_header(path).get("__metadata__", {})
    return metadata


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file and compare the file's length with it.

    Raises
    ------
    ModelCardError
        If the file is missing, is not safetensors, or is truncated.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():  # a named pipe would wait for ever
            raise OSError(errno.EINVAL, "it is no regular file")  # noqa: TRY301
        size = target.stat().st_size
        with target.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES) or size > MAX_FILE_BYTES:
                raise ValueError("no safetensors header, or too large")  # noqa: TRY301
            header: dict[str, Any] = json.loads(file.read(length))
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        end = max(map(int, ends), default=0)
    except OSError as error:
        raise ModelCardError(
            f"the model file cannot be read: {error.strerror}",
            expected="a .safetensors file made by sarstack",
            where=str(path),
            do="check the path",
        ) from error
    except RecursionError as error:
        raise _not_a_model_error(path, "its header is nested too deep") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _not_a_model_error(path, str(error)) from error
    if 8 + length + end != size:
        raise ModelCardError(
            f"the model file has {size} bytes",
            expected=f"{8 + length + end} bytes, as its header says: the file is truncated",
            where=str(path),
            do="copy the file again",
        )
    return header


def _not_a_model_error(path: str | Path, reason: str) -> ModelCardError:
    return ModelCardError(
        f"this is not a model file ({reason})",
        expected="a .safetensors file made by `sarstack train` (pickled models are never read)",
        where=str(path),
        do="train a model with `sarstack train`, or leave out the path to use the shipped one",
    )


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file, without its weights and without torch.

    Raises
    ------
    ModelCardError
        If the file is not a complete safetensors file, has no card, or a card with a field
        that is missing or of another type.
    """
    metadata = read_header(path).get("__metadata__", {})
    try:
        card = ModelCard.from_json(metadata[CARD_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelCardError(
            f"the model file has no usable card ({_describe(error)})",
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


def _describe(error: Exception) -> str:
    """Return the error in one line, with each wrong field of a card."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    wrong = [
        (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))
        for e in error.errors(include_url=False)
    ]
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(f"{place}: {what}" if place else what for place, what in wrong[:3]) + more


def load_model(path: str | Path) -> tuple["DeSpeckNet", ModelCard]:
    """Load a network and its card; the network is in evaluation mode, float32, on the CPU.

    Raises
    ------
    ModelCardError
        As :func:`read_card` and :func:`check_weights`, or if the weights do not fit the card.
    """
    from safetensors.torch import load_file

    from sarstack.networks.variants import build_network

    card = read_card(path)
    _check_architecture(path, card, check_weights(path))
    network = build_network(card.variant, **card.architecture)
    network.load_state_dict(load_file(str(path)))
    return network.eval(), card


def _check_architecture(
    path: str | Path, card: ModelCard, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Compare the weights with the network of the card, before memory is taken for it."""
    import torch

    from sarstack.networks.variants import build_network

    try:
        with torch.device("meta"):  # tensors of this device have a shape and no memory
            network = build_network(card.variant, **card.architecture)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise _misfit_error(path, card, str(error).splitlines()[0]) from error
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    wrong = sorted(n for n in needed | dict(shapes) if needed.get(n) != shapes.get(n))
    if wrong:
        name = wrong[0]
        reason = f"{name} has the shape {shapes.get(name)}, and needs {needed.get(name)}"
        raise _misfit_error(path, card, reason)
    if network.architecture != card.architecture:
        raise _misfit_error(path, card, f"the network is of {network.architecture}")
    for field, value in (("halo", network.halo), ("channels", network.channels)):
        if getattr(card, field) != value:
            raise ModelCardError(
                f"the card says {field} {getattr(card, field)}",
                expected=f"{value}, as the layers need",
                where=str(path),
                do="use the file as written",
            )


def _misfit_error(path: str | Path, card: ModelCard, reason: str) -> ModelCardError:
    return ModelCardError(
        f"the weights do not fit the card: {reason}",
        expected=f"a {card.variant} of {card.architecture}",
        where=str(path),
        do="use the file as written; weights and card cannot be exchanged",
    )


def model_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a model file, as hexadecimal digits."""
    status = Path(path).stat()
    return _sha256(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _sha256(path: str, _size: int, _changed_ns: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def shipped_model(variant: str) -> Path:
    """Return the path of the weights that are part of the package."""
    return Path(__file__).parent / "weights" / f"{variant}.safetensors"
