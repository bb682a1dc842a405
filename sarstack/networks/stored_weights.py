"""The weights in a model file, checked without torch before a network is made of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import ModelCardError

CHECKSUM_KEY = "sarstack-sha256"

Arrays = Mapping[str, NDArray[Any]]


def check_weights(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Check that all weights are finite, and that the checksum of the file fits.

    Parameters
    ----------
    path : str or Path
        A model file whose card was read already.

    Returns
    -------
    dict of str to tuple of int
        The shape of each tensor.

    Raises
    ------
    ModelCardError
        If a weight is not finite, the checksum is another one, or the file is damaged.
    """
    path = str(path)
    arrays, metadata = _read(path)
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise ModelCardError(
            f"{len(wrong)} of {len(arrays)} weights of the model are not finite numbers",
            expected="finite numbers: NaN or infinity in one layer makes every pixel useless",
            where=[path, *wrong],
            do="train the model again, with a lower learning rate",
        )
    saved = metadata.get(CHECKSUM_KEY)  # files of earlier versions have none
    if saved and saved != hash_model(arrays, metadata):
        raise ModelCardError(
            "the model file is damaged: its checksum differs",
            expected="the weights and the card that were written",
            where=path,
            do="copy the file again, or train again",
        )
    return {name: array.shape for name, array in arrays.items()}


def hash_model(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of weights and metadata, whatever their order in the file.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The weights as stored.
    metadata : mapping of str to str
        The checksum itself, under `CHECKSUM_KEY`, does not count.
    """
    total = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        if name != CHECKSUM_KEY:
            total.update(f"{name}={text};".encode())
    for name, values in sorted(arrays.items()):
        total.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def _read(path: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise ModelCardError(
            f"the weights of the model cannot be read ({error})",
            expected="tensors of float16, float32 or int64, as sarstack writes them",
            where=path,
            do="copy the file again from where it was trained",
        ) from error
    return arrays, metadata
