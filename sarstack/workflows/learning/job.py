"""The steps that `train` and `finetune` share, in the order in which a job takes them.

Check the output, open the job's folder, prepare the patches, run the training on one or more
processes, write the model. What is trained and how is in :mod:`sarstack.workflows.learning.train`
and :mod:`sarstack.workflows.learning.finetune`.
"""

import json
import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.cluster.check import check_workers
from sarstack.cluster.workers import Workers
from sarstack.errors import ClusterError, UsageError, hide_secrets
from sarstack.html_repr import render_html
from sarstack.networks.bias import measure_bias
from sarstack.networks.card import (
    BLIND_VARIANTS,
    PART_VARIANTS,
    BiasTable,
    ModelCard,
    make_card,
)
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.model_file import (
    load_model,
    read_card,
    save_model,
    shipped_model,
)
from sarstack.readers.paths import absolute_path, file_name
from sarstack.readers.stack import ImageStack
from sarstack.speckle.complex_parts import PART_LOOKS, describe_part
from sarstack.training.batch import Batch
from sarstack.training.checkpoint import CHECKPOINT, last_step, load_best_weights
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.loop import Progress
from sarstack.training.part_patches import PartPatches
from sarstack.training.stack_patches import Labels, StackPatches, split_places
from sarstack.workflows.disk import explain_disk_errors
from sarstack.workflows.learning.ranks import Message, Report, run_ranks, torch_threads
from sarstack.workflows.learning.scene_statistics import (
    Statistics,
    list_statistics,
    measure_statistics,
)
from sarstack.workflows.lock import claim_on_this_host
from sarstack.workflows.progress import show_progress
from sarstack.workflows.settings import FinetuneConfig, TrainConfig

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

LOGGER = logging.getLogger("sarstack")
N_VALIDATION_BATCHES = 8
JOB_KEY = "sarstack-job"

FIRST_VALIDATION_BATCH = 2**30
"""Number of the first validation batch, larger than the number of any training step."""


@dataclass(frozen=True)
class Job:
    """What every process of a training needs: settings, paths, windows and numbers.

    Attributes
    ----------
    config : TrainConfig or FinetuneConfig
        With the precision decided (not ``auto``).
    start : str
        Model file with the initial weights; empty: random weights.
    training, validation : StackPatches
        Patches to train on, and held-out patches.
    folder : Path
        Folder of the checkpoint and the learning curve.
    """

    config: Any
    start: str
    training: StackPatches
    validation: StackPatches
    folder: Path

    def validation_batches(self, shard: slice = slice(None)) -> list[Batch]:
        """Return the validation batches, or those of one process."""
        numbers = range(FIRST_VALIDATION_BATCH, FIRST_VALIDATION_BATCH + N_VALIDATION_BATCHES)
        return [self.validation.batch(number) for number in numbers[shard]]

    def load_start(self) -> tuple["DeSpeckNet", ModelCard | None]:
        """Return the network before the training, the same in all processes, and its card."""
        import torch

        from sarstack.networks.variants import build_network

        if self.start:
            return load_model(self.start)
        torch.manual_seed(self.config.seed)
        return build_network(self.config.variant), None


@dataclass(frozen=True)
class Outcome:
    """What a training returns; the best weights are in its checkpoint.

    Attributes
    ----------
    improved : bool
        False: no weights were better than the initial ones.
    message : str
        Result for the user, with the scores.
    history : list of dict
        Rows of the learning curve.
    """

    improved: bool
    message: str
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class AdaptedModel:
    """A model trained or tuned on a stack.

    Attributes
    ----------
    model : Path
        The model file.
    improved : bool
        False: no weights were better than the initial ones, and the file contains those.
    message : str
        Result for the user, with the scores.
    history : list of dict
        Rows of the learning curve.
    """

    model: Path
    improved: bool
    message: str
    history: list[dict[str, float]] = field(default_factory=list)

    def _repr_html_(self) -> str:
        """Return the outcome as a notebook shows it."""
        title = "A better model" if self.improved else "Nothing became better"
        return render_html(title, {"model": str(self.model), "result": self.message})


Training = Callable[[ProcessGroup, str, Report, Job], Outcome]
"""Trains as one process of a group: ``training(group, device, report, job)``."""


def check_start(name: str, variant: str) -> str:
    """Return the path of the model to start from: ``shipped``, or a model file.

    Raises
    ------
    ModelCardError
        If the file is not a model.
    UsageError
        If the model cannot be trained on a single stack.
    """
    path = str(shipped_model(variant)) if name == "shipped" else absolute_path(name)
    if read_card(path).variant == "despecknet-mt":
        raise UsageError(
            "despecknet-mt cannot be trained or tuned on a stack: its input contains the other "
            "dates, which would be its target",
            expected="a network whose input is one date",
            where=path,
            do="start from despecknet or despecknet-lite",
        )
    return path


def prepare_job(
    config: TrainConfig | FinetuneConfig,
    stack: ImageStack,
    start: str,
    folder: Path,
    workers: Workers,
    *,
    labels: Labels | None = None,
    n_dates: int = 1,
) -> Job:
    """Measure the speckle of the stack, and choose places for training and for validation.

    Parameters
    ----------
    config, stack
    start : str
        Model file with the initial weights; empty: random weights.
    folder : Path
        From :func:`open_job_folder`.
    workers : Workers
        Where to measure.
    labels : Labels, optional
        Targets of supervised training.
    n_dates : int
        Number of dates of each place in a batch.

    Raises
    ------
    ClusterError
        If a worker sees other files.
    """
    stores, models = [labels.path] if labels else [], [start] if start else []
    check_workers(workers, stack, folder, stores=stores, models=models)
    statistics = measure_statistics(stack, config.looks, workers)
    variant = read_card(start).variant if start else config.variant  # type: ignore[union-attr]
    linear, source = variant == "despecknet-paper", StackPatches
    if variant in PART_VARIANTS:
        source = PartPatches
        statistics = {
            polarisation: {date: describe_part(of_date) for date, of_date in of_dates.items()}
            for polarisation, of_dates in statistics.items()
        }
    if variant in BLIND_VARIANTS:  # they need looks: an estimate is better than none
        statistics = {
            polarisation: {date: of_date.as_given() for date, of_date in of_dates.items()}
            for polarisation, of_dates in statistics.items()
        }
    training, validation = (
        source(stack, labels, places, config.batch_size, config.seed, statistics, linear, n_dates)
        for places in split_places(stack, labels, config.patch_px, seed=config.seed)
    )
    precision = choose_precision(choose_device(), config.precision)
    decided = config.model_copy(update={"precision": precision})
    return Job(decided, start, training, validation, folder)


def run_training(workers: Workers, training: Training, job: Job) -> Outcome:
    """Run a training in this process, or with one process on every worker of a cluster.

    Raises
    ------
    ClusterError
        If a worker is lost. The message names the step from which the same command continues.
    """
    client = workers.client
    with show_progress("training", job.config.steps, "step", 1) as bar:
        report = partial(_show_step, bar)
        if client is None:
            with torch_threads(workers.n_workers):
                return _run_process(SINGLE_PROCESS, choose_device(), report, training, job)
        n_places = job.training.places_per_batch
        try:
            return run_ranks(client, n_places, _run_process, report, (training, job))
        except ClusterError as failure:
            step = last_step(job.folder)
            continues = f"continues from step {step}" if step else "starts from step 0"
            raise ClusterError(
                failure.what,
                expected="all workers until the end",
                where=str(job.folder / CHECKPOINT) if step else str(job.folder),
                do=f"run the same command again: it {continues}, with or without --cluster",
            ) from failure


def _run_process(
    group: ProcessGroup, device: str, report: Report, training: Training, job: Job
) -> Outcome:
    """Train as one process of a group.

    Rank 0 locks the folder, too: it may go on for a while after the process of the user is lost.
    """
    lock = claim_on_this_host(job.folder) if group.is_main else nullcontext()
    with explain_disk_errors(job.folder), lock:
        sharded = replace(job, training=replace(job.training, shard=group.shard))
        return training(group, device, report, sharded)


def report_progress(report: Report) -> Callable[[Progress], None]:
    """Return a callback for a training loop that reports its progress."""
    return lambda progress: report(asdict(progress))


def _show_step(bar: Any, progress: Message) -> None:
    bar.advance(1)
    if progress["scores"] is not None:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in progress["scores"].items())
        LOGGER.info(
            "step %d of %d: loss %.4f; validation: %s; %.0f s left",
            progress["step"], progress["steps"], progress["loss"], scores, progress["eta_s"],
        )  # fmt: skip


def write_model(
    job: Job, output: Path, outcome: Outcome, verb: str, note: str = ""
) -> AdaptedModel:
    """Write the best weights, or the initial ones if nothing was better, with their card.

    `note` is that of :func:`note_job`.
    """
    network, card = job.load_start()
    if outcome.improved:
        network.load_state_dict(load_best_weights(job.folder))
    if outcome.improved or card is None:
        stack = job.training.stack
        data = f"{verb} on {len(stack.dates)} dates of {file_name(stack.path)}: {outcome.message}"
        # The factor on the uncertainty needs scenes with known truth: that of the start is nearest.
        scale = card.spread_scale if card else BiasTable()
        described = describe_model(network, stack, job.training.statistics, data)
        card = replace(described, spread_scale=scale)
    known = {"job": note, "improved": outcome.improved, "message": outcome.message}
    with explain_disk_errors(output.parent):
        save_model(output, network, card, {JOB_KEY: json.dumps(known)} if note else None)
    return AdaptedModel(output, outcome.improved, outcome.message, outcome.history)


def describe_model(
    network: "DeSpeckNet", stack: ImageStack, statistics: Statistics, data: str
) -> ModelCard:
    """Make the card of a network trained on a stack, with the measured bias of the network."""
    all_statistics = list_statistics(statistics)
    along_y_and_x = [c for s in all_statistics for c in s.correlation]
    looks = (min(s.looks for s in all_statistics), max(s.looks for s in all_statistics))
    correlation = (max(0.0, min(along_y_and_x)), max(0.0, *along_y_and_x))
    card = make_card(
        network,
        polarisations=stack.polarisations,
        looks=looks,
        correlation=correlation,
        data=data,
        licence="as the data it was trained on",
        command=hide_secrets(" ".join(["sarstack", *sys.argv[1:]])),
    )
    LOGGER.info("measuring the bias of the network on flat fields")
    looks_grid = np.geomspace(0.7 * looks[0], 1.4 * looks[1], 3)
    if network.variant in PART_VARIANTS:
        looks_grid = np.array([PART_LOOKS])
    lowest, highest = max(0.0, correlation[0] - 0.15), min(0.85, correlation[1] + 0.15)
    correlation_grid = np.linspace(lowest, highest, 2)
    table = measure_bias(
        network, card, tuple(looks_grid.tolist()), tuple(correlation_grid.tolist())
    )
    return replace(card, calibration=table)
