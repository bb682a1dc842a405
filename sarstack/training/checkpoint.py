"""Unfinished trainings on disk: weights, the optimiser's moments and where the loop stands.

A checkpoint is safetensors with JSON in its header, like a model file; never pickle.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarstack.errors import ResumeMismatchError
from sarstack.networks.model_file import read_header, write_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
_STATE_KEY = "sarstack-training"


@dataclass
class TrainingState:
    """Where the loop stands; the part of a checkpoint that is not tensors.

    `stopped` says why it ended before its last step.
    """

    step: int = 0
    best_step: int = -1
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


def copy_weights(network: "torch.nn.Module") -> dict[str, "Tensor"]:
    """Return a copy of all weights and running statistics."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def save_checkpoint(
    folder: Path,
    network: "torch.nn.Module",
    optimiser: "torch.optim.Optimizer",
    state: TrainingState,
    best: dict[str, "Tensor"],
    settings: dict[str, Any],
) -> None:
    """Write everything a resumed training needs to end in the same weights.

    Parameters
    ----------
    folder : Path
        Gets ``checkpoint.safetensors``; the old one is replaced when the new is complete.
    network, optimiser
        As they are after `state.step` steps.
    state : TrainingState
    best : dict of Tensor
        Weights of the best validation so far.
    settings : dict
        What must not change when resuming; plain JSON types.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, group in (("network", copy_weights(network)), ("best", best)):
        tensors |= {f"{prefix}/{k}": v.cpu().contiguous() for k, v in group.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for key, value in moments.items():
            tensors[f"optimiser/{index}/{key}"] = value.detach().cpu().contiguous()
    text = json.dumps({"state": asdict(state), "settings": settings})
    write_safetensors(folder / CHECKPOINT, tensors, {_STATE_KEY: text})


def resume(
    folder: Path,
    network: "torch.nn.Module",
    optimiser: "torch.optim.Optimizer",
    settings: dict[str, Any],
) -> tuple[TrainingState, dict[str, "Tensor"]]:
    """Load the checkpoint in `folder`, if there is one, into network and optimiser.

    Returns
    -------
    state : TrainingState
        A new one if there is no checkpoint.
    best : dict of Tensor
        Weights of the best validation so far.

    Raises
    ------
    ResumeMismatchError
        If the checkpoint was made with other `settings`.
    ModelCardError
        If the checkpoint is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return TrainingState(), copy_weights(network)
    known = _read_state(path)
    if known.get("settings") != settings:
        raise ResumeMismatchError(
            "an unfinished training in this folder was started with other settings",
            expected=f"{known.get('settings')}",
            where=str(path),
            do="use the same settings, or another folder",
        )
    groups = _read_tensors(path)
    network.load_state_dict(groups["network"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimiser"].items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = value
    whole = optimiser.state_dict()
    whole["state"] = moments
    optimiser.load_state_dict(whole)
    return TrainingState(**known["state"]), groups["best"]


def last_step(folder: Path) -> int:
    """Return the step of the checkpoint in a folder; 0 if there is none."""
    path = folder / CHECKPOINT
    return int(_read_state(path)["state"]["step"]) if path.exists() else 0


def best_weights(folder: Path) -> dict[str, "Tensor"]:
    """Return the weights of the best validation, from the checkpoint in a folder."""
    return _read_tensors(folder / CHECKPOINT)["best"]


def _read_state(path: Path) -> dict[str, Any]:
    text = read_header(path).get("__metadata__", {}).get(_STATE_KEY, "{}")
    return dict(json.loads(text))


def _read_tensors(path: Path) -> dict[str, dict[str, "Tensor"]]:
    from safetensors.torch import load_file

    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimiser": {}}
    for key, value in load_file(str(path)).items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    return groups
