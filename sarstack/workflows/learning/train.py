"""Train a network on a stack, supervised by its labels (phase 1)."""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sarstack.cluster.workers import open_workers
from sarstack.networks.card import ModelCard
from sarstack.networks.model_file import load_model
from sarstack.readers.paths import absolute_path
from sarstack.training.distributed import Ranks
from sarstack.training.stack_patches import Labels
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.learning.job import (
    AdaptedModel,
    Job,
    carry_out,
    enter_folder,
    finish,
    free_output,
    model_path,
    prepare,
)
from sarstack.workflows.learning.ranks import Message, Tell
from sarstack.workflows.settings import TrainConfig

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet
    from sarstack.training.supervised import TrainingResult

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
    from sarstack.training.supervised import plot_curve

    output = free_output(config.output, overwrite=overwrite)
    stack = select_stack(config)
    labels = Labels.open(absolute_path(config.labels), stack)
    start = "" if config.start == "scratch" else model_path(config.start, config.variant)
    folder = enter_folder(output, config, stack, overwrite=overwrite)
    with open_workers(config.cluster, config.workers) as workers:
        job = prepare(config, stack, labels, start, folder, workers)
        before, result = carry_out(workers, _train, job, _show)
    plot_curve(result.history, folder / "curve.png")
    best = min(result.history, key=lambda row: row["validation_loss"])
    improved = not start or result.best_loss < before["validation_loss"]
    message = (
        f"held-out distance from the label {before['rmse_db']:.2f} dB before, "
        f"{best['rmse_db']:.2f} dB at step {result.best_step}"
        + ("" if improved else "; nothing was better than the start, which is kept")
    )
    finish(job, output, *_start(job), "trained", message, improved=improved)
    return AdaptedModel(output, improved, message, result.history)


def _train(
    ranks: Ranks, device: str, tell: Tell, job: Job
) -> tuple[dict[str, float], "TrainingResult"]:
    """Train as one of the ranks, and return the scores before and what came of it."""
    from sarstack.training.supervised import TrainingSettings, train, validate

    config: TrainConfig = job.config
    settings = TrainingSettings(
        steps=config.steps, learning_rate=config.learning_rate, xi=config.xi,
        warmup_steps=min(100, config.steps // 10), decay_steps=config.steps // 3,
        patience=config.patience, validate_every=max(10, min(100, config.steps // 10)),
        checkpoint_every=100, bfloat16=config.precision == "bfloat16", device=device,
    )  # fmt: skip
    network, _ = _start(job)
    validation = job.held_out_batches(ranks.share)
    before = validate(network.to(device), validation, settings, ranks)
    result = train(
        network, job.training, validation, settings, job.folder,
        ranks=ranks, progress=lambda progress: tell(asdict(progress)),
    )  # fmt: skip
    return before, result


def _start(job: Job) -> tuple["DeSpeckNet", ModelCard | None]:
    """Return the network to start from, the same on all ranks."""
    import torch

    from sarstack.networks.despecknet import build_network

    if job.start:
        return load_model(job.start)
    torch.manual_seed(job.config.seed)
    return build_network(job.config.variant), None


def _show(shown: Any, told: Message) -> None:
    shown.advance(1)
    if told["validation_loss"] is not None:
        LOGGER.info(
            "step %(step)d of %(steps)d: loss %(loss).4f, held out %(validation_loss).4f, "
            "%(eta_s).0f s left", told,
        )  # fmt: skip
