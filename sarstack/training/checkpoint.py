"""Files of a training: its checkpoint and its learning curve.

A checkpoint is safetensors with JSON in its header, like a model file; never pickle.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarstack.errors import ResumeMismatchError
from sarstack.networks.model_file import read_header, write_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
CURVE = "curve.csv"
_STATE_KEY = "sarstack-training"


@dataclass
class TrainingState:
    """Progress of a training; the part of a checkpoint that is not tensors.

    Attributes
    ----------
    step : int
        Steps done.
    best_step, best_loss : int, float
        Step of the best validation (-1: none yet) and its loss (supervised training only).
    history : list of dict
        Rows of the learning curve, one per validation.
    stopped : str
        Why the training ended before its last step; empty: it did not.
    smoothed_loss : float, optional
        Training loss, smoothed over some 50 steps; None before the first step.
    seconds : float
        Time of all steps, for a training that ends after a given time.
    """

    step: int = 0
    best_step: int = -1
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    smoothed_loss: float | None = None
    seconds: float = 0.0


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
    """Write all that a resumed training needs to end with the same weights.

    Parameters
    ----------
    folder : Path
        Folder of ``checkpoint.safetensors``. An old file is replaced once the new one is
        complete.
    network, optimiser
        As they are after `state.step` steps.
    state : TrainingState
    best : dict of Tensor
        Weights of the best validation so far.
    settings : dict
        Settings that must not change when resuming; plain JSON types.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, weights in (("network", copy_weights(network)), ("best", best)):
        tensors |= {f"{prefix}/{k}": v.cpu().contiguous() for k, v in weights.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for key, value in moments.items():
            tensors[f"optimiser/{index}/{key}"] = value.detach().cpu().contiguous()
    text = json.dumps({"state": asdict(state), "settings": settings})
    write_safetensors(folder / CHECKPOINT, tensors, {_STATE_KEY: text})


def load_checkpoint(
    folder: Path,
    network: "torch.nn.Module",
    optimiser: "torch.optim.Optimizer",
    settings: dict[str, Any],
) -> tuple[TrainingState, dict[str, "Tensor"]]:
    """Load the checkpoint in `folder`, if there is one, into network and optimiser.

    Returns
    -------
    state : TrainingState
        A new state if there is no checkpoint.
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
    header = _read_state(path)
    if header.get("settings") != settings:
        raise ResumeMismatchError(
            "an unfinished training in this folder was started with other settings",
            expected=f"{header.get('settings')}",
            where=str(path),
            do="use the same settings, or another folder",
        )
    groups = _read_tensors(path)
    network.load_state_dict(groups["network"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimiser"].items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
    return TrainingState(**header["state"]), groups["best"]


def last_step(folder: Path) -> int:
    """Return the step of the checkpoint in a folder; 0 if there is none."""
    path = folder / CHECKPOINT
    return int(_read_state(path)["state"]["step"]) if path.exists() else 0


def load_best_weights(folder: Path) -> dict[str, "Tensor"]:
    """Return the weights of the best validation from the checkpoint in a folder."""
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


def write_curve(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the learning curve as CSV, one row per validation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    part.replace(path)


def plot_curve(history: Sequence[dict[str, float]], path: str | Path) -> None:
    """Draw the learning curve of a supervised training as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row["step"] for row in history]
    axes.plot(steps, [row["training_loss"] for row in history], label="training loss")
    axes.plot(steps, [row["validation_loss"] for row in history], label="validation loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_yscale("log")
    axes.legend(loc="upper right")
    right = axes.twinx()
    right.plot(steps, [row["rmse_db"] for row in history], color="black", linestyle=":")
    right.set_ylabel("validation RMSE [dB] (dotted)")
    figure.savefig(path, dpi=120)
