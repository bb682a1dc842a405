"""Train a network on a stack, supervised by its labels (phase 1)."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sarstack.checkpoint import CHECKPOINT
from sarstack.config import TrainConfig
from sarstack.errors import ResumeMismatchError
from sarstack.inference import choose_device
from sarstack.networks.card import load_model, save_model
from sarstack.patches import Labels
from sarstack.readers.stack import Stack
from sarstack.runlog import show_progress
from sarstack.workflows.adapt import (
    FIRST_VALIDATION_BATCH,
    N_VALIDATION_BATCHES,
    AdaptedModel,
    describe,
    draw_patches,
    free_output,
    measure,
    model_path,
)
from sarstack.workflows.plan import fingerprint, identity, make_folder, select_stack

if TYPE_CHECKING:
    from sarstack.training import Progress

LOGGER = logging.getLogger("sarstack")


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

    output = free_output(config.output, overwrite=overwrite)
    stack = select_stack(config)
    labels = Labels.open(config.labels, stack)
    statistics = measure(stack, config.looks)
    patches, held_out = draw_patches(config, config.variant, stack, labels, statistics)
    torch.manual_seed(config.seed)
    card = None
    if config.start == "scratch":
        network = build_network(config.variant)
    else:
        network, card = load_model(model_path(config.start, config.variant))
    settings = TrainingSettings(
        steps=config.steps, learning_rate=config.learning_rate, xi=config.xi,
        warmup_steps=min(100, config.steps // 10), decay_steps=config.steps // 3,
        patience=config.patience, validate_every=max(10, min(100, config.steps // 10)),
        checkpoint_every=100, device=choose_device(),
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
        card = describe(network, stack, statistics, "trained", message)
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
