"""Adapt a network to a stack: phase 1 with its labels, phase 2 with nothing but itself."""

import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack import tasks
from sarstack.calibration import calibrate
from sarstack.checkpoint import CHECKPOINT
from sarstack.config import FinetuneConfig, TrainConfig
from sarstack.errors import ResumeMismatchError, UsageError
from sarstack.networks.card import (
    ModelCard,
    load_model,
    make_card,
    read_card,
    save_model,
    shipped_model,
)
from sarstack.patches import Labels, StackPatches, bright_of, split_cells
from sarstack.readers.grid import Grid
from sarstack.readers.stack import Date, Stack
from sarstack.runlog import show_progress
from sarstack.speckle import SceneStatistics, combine_samples
from sarstack.tiles import Shape, Window
from sarstack.workflows.plan import fingerprint, identity, make_folder, select_stack

if TYPE_CHECKING:
    from sarstack.networks.despecknet import DeSpeckNet
    from sarstack.training import Progress

LOGGER = logging.getLogger("sarstack")
N_VALIDATION_BATCHES = 8
# Batch numbers of the held-out patches, far from any step of a training.
FIRST_VALIDATION_BATCH = 2**30


@dataclass(frozen=True)
class AdaptedModel:
    """A model made for a stack.

    Attributes
    ----------
    model : Path
        The file written.
    improved : bool
        False: the file holds the weights one started from, nothing was better.
    message : str
        What happened, with the numbers.
    history : list of dict
        Rows of the learning curve.
    """

    model: Path
    improved: bool
    message: str
    history: list[dict[str, float]] = field(default_factory=list)


def train_on_stack(config: TrainConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Train a network on the dates of a stack, supervised by the labels of the other dates.

    Parameters
    ----------
    config : TrainConfig
        Stack, labels, network, length; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        Beside the model lies a folder ``<model>.training`` with the checkpoint (from
        which an interrupted training continues) and the learning curve (CSV, PNG).

    Raises
    ------
    UsageError
        If there are too few dates, or too little of the scene is stable.
    ModelCardError
        If the model to start from does not fit.
    """
    import torch

    from sarstack.networks.despecknet import build_network
    from sarstack.training import TrainingSettings, plot_curve, train, validate

    output = _free_output(config.output, overwrite=overwrite)
    stack = select_stack(config)
    labels = Labels.open(config.labels, stack)
    statistics = _measure(stack, config.looks)
    patches, held_out = _patches(config, config.variant, stack, labels, statistics)
    torch.manual_seed(config.seed)
    card = None
    if config.start == "scratch":
        network = build_network(config.variant)
    else:
        network, card = load_model(_model_path(config.start, config.variant))
    settings = TrainingSettings(
        steps=config.steps, learning_rate=config.learning_rate, xi=config.xi,
        warmup_steps=min(100, config.steps // 10), decay_steps=config.steps // 3,
        patience=config.patience, validate_every=max(10, min(100, config.steps // 10)),
        checkpoint_every=100, device=_device(),
    )  # fmt: skip
    validation = [held_out.batch(FIRST_VALIDATION_BATCH + i) for i in range(N_VALIDATION_BATCHES)]
    before = validate(network.to(settings.device), validation, settings)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    folder = output.with_name(f"{output.stem}.training")
    _enter_folder(folder, config, stack, overwrite=overwrite)
    with show_progress("training", config.steps, "step", 1) as shown:
        result = train(
            network, patches, validation, settings, folder, progress=lambda p: _show(shown, p)
        )
    plot_curve(result.history, folder / "curve.png")
    best = min(result.history, key=lambda row: row["validation_loss"])
    improved = config.start == "scratch" or result.best_loss < before["validation_loss"]
    if not improved:
        network.load_state_dict(start)
    network.to("cpu")
    message = (
        f"held-out distance from the label {before['rmse_db']:.2f} dB before, "
        f"{best['rmse_db']:.2f} dB at step {result.best_step}"
        + ("" if improved else "; nothing was better than the start, which is kept")
    )
    if improved or card is None:
        card = _card(network, stack, statistics, "trained", message)
    save_model(output, network, card)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return AdaptedModel(output, improved, message, result.history)


def _enter_folder(folder: Path, config: TrainConfig, stack: Stack, *, overwrite: bool) -> None:
    """Make sure that a checkpoint found here was trained on the same images from the same start."""
    kept = config.model_dump(mode="json", exclude={"steps", "patience"})
    images = (identity(raster) for own in stack.rasters.values() for raster in own)
    mark, origin = fingerprint(kept, *images), folder / "origin.txt"
    if (folder / CHECKPOINT).exists() and (not origin.exists() or origin.read_text() != mark):
        if not overwrite:
            raise ResumeMismatchError(
                "an interrupted training on other images or from another start lies here",
                where=str(folder),
                do="repeat the earlier command to finish it, or --overwrite to start anew",
            )
        (folder / CHECKPOINT).unlink()
    make_folder(folder)
    origin.write_text(mark)


def _show(shown: object, progress: "Progress") -> None:
    shown.advance(1)  # type: ignore[attr-defined]
    if progress.validation_loss is not None:
        LOGGER.info(
            "step %d of %d: loss %.4f, held out %.4f, %.0f s left",
            progress.step, progress.steps, progress.loss, progress.validation_loss, progress.eta_s,
        )  # fmt: skip


def finetune_on_stack(config: FinetuneConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Tune a network on the noisy images of a stack, without any label (the paper's phase 2).

    Parameters
    ----------
    config : FinetuneConfig
        Stack, model, length; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        With ``improved`` False when no iterate had a better ratio image: the file then
        holds the untouched weights.
    """
    output = _free_output(config.output, overwrite=overwrite)
    return finetune_index(config, select_stack(config), output)


def finetune_index(config: FinetuneConfig, stack: Stack, output: Path) -> AdaptedModel:
    """Do the work of :func:`finetune_on_stack` on a stack that is already indexed."""
    from sarstack.finetuning import FinetuneSettings, find_homogeneous, finetune

    path = _model_path(config.model, "despecknet")
    network, card = load_model(path)
    statistics = _measure(stack, config.looks)
    patches, held_out = _patches(config, card.variant, stack, None, statistics)
    noisy = [
        held_out.batch(FIRST_VALIDATION_BATCH + i).intensity for i in range(N_VALIDATION_BATCHES)
    ]
    looks, correlation = _pooled(statistics)
    probe = find_homogeneous(noisy, looks, correlation)
    settings = FinetuneSettings(
        steps=config.steps, learning_rate=config.learning_rate, device=_device()
    )
    result = finetune(network, patches, probe, settings)
    network.to("cpu")
    if result.improved:
        card = _card(network, stack, statistics, "tuned", result.message)
    save_model(output, network, card)
    return AdaptedModel(output, result.improved, result.message, result.history)


@dataclass(frozen=True)
class CubeRaster:
    """One date and polarisation of a cube in memory or of Dask, read like a file."""

    image: xr.DataArray
    shape: Shape

    def read(self, window: Window) -> NDArray[np.float32]:
        """Compute one window, shape (y, x)."""
        return np.asarray(self.image[window.slices].values, dtype=np.float32)


def index_cube(cube: xr.Dataset) -> Stack:
    """Make a stack of a checked cube, so that patches are drawn from it as from files."""
    shape = Shape(cube.sizes["y"], cube.sizes["x"])
    rasters: dict[str, Any] = {
        str(name): tuple(CubeRaster(date, shape) for date in cube[name]) for name in cube.data_vars
    }
    dates = tuple(Date(time) for time in cube["time"].values)
    return Stack("cube", Grid(shape), dates, rasters)


def _free_output(name: str, *, overwrite: bool) -> Path:
    output = Path(name).absolute()
    if output.suffix != ".safetensors":
        raise UsageError(f"output = {name!r}", expected="a name that ends in .safetensors",
                         do=f"use {output.stem}.safetensors")  # fmt: skip
    if output.exists() and not overwrite:
        raise ResumeMismatchError(
            "the model exists already", where=str(output), do="name another -o, or --overwrite"
        )
    make_folder(output.parent)
    return output


def _model_path(name: str, variant: str) -> Path:
    path = shipped_model(variant) if name == "shipped" else Path(name)
    read_card(path)
    return path


def _device() -> str:
    from sarstack.inference import choose_device

    return choose_device()


def _measure(stack: Stack, looks: float | None) -> dict[str, dict[int, SceneStatistics]]:
    """Find the scene statistics of every image, in this process."""
    found = {}
    for polarisation in stack.polarisations:
        rasters = stack.rasters[polarisation]
        layers = [i for i, raster in enumerate(rasters) if raster is not None]
        samples = [tasks.sample_image(rasters[i], stack.grid.shape) for i in layers]  # type: ignore[arg-type]
        known = combine_samples(samples, looks=looks)
        found[polarisation] = dict(zip(layers, known, strict=True))
    return found


def _pooled(
    statistics: dict[str, dict[int, SceneStatistics]],
) -> tuple[float, tuple[float, float]]:
    """Return looks whose variance is the mean of all images', and the mean correlation."""
    known = [k for dates in statistics.values() for k in dates.values()]
    looks = 1 / float(np.mean([1 / k.looks for k in known]))
    y, x = np.mean([k.correlation for k in known], axis=0)
    return looks, (float(y), float(x))


def _patches(
    config: TrainConfig | FinetuneConfig,
    variant: str,
    stack: Stack,
    labels: Labels | None,
    statistics: dict[str, dict[int, SceneStatistics]],
) -> tuple[StackPatches, StackPatches]:
    """Return the sources of training and of held-out patches."""
    bright = bright_of(statistics) if variant == "despecknet-paper" else {}
    cells = split_cells(stack, labels, config.patch_px, seed=config.seed)
    training, held_out = (
        StackPatches(stack, labels, part, config.batch_size, config.seed, bright) for part in cells
    )
    return training, held_out


def _card(
    network: "DeSpeckNet",
    stack: Stack,
    statistics: dict[str, dict[int, SceneStatistics]],
    verb: str,
    message: str,
) -> ModelCard:
    """Describe an adapted network, with the bias it has now."""
    known = [k for dates in statistics.values() for k in dates.values()]
    shared = [c for k in known for c in k.correlation]
    looks = (min(k.looks for k in known), max(k.looks for k in known))
    correlation = (max(0.0, min(shared)), max(0.0, *shared))
    card = make_card(
        network,
        polarisations=stack.polarisations,
        looks=looks,
        correlation=correlation,
        data=f"{verb} on {len(stack.dates)} dates of {Path(stack.path).name}: {message}",
        licence="as the data it was trained on",
        command=" ".join(["sarstack", *sys.argv[1:]]),
    )
    LOGGER.info("measuring the flat-field bias of the network")
    around = np.geomspace(0.7 * looks[0], 1.4 * looks[1], 3)
    shares = np.linspace(max(0.0, correlation[0] - 0.15), min(0.85, correlation[1] + 0.15), 2)
    table = calibrate(network, card, tuple(around.tolist()), tuple(shares.tolist()))
    return replace(card, calibration=table)
