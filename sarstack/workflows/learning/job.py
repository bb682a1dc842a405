"""What training and tuning on a stack share: the file, the statistics, the patches, the card."""

import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import Workers
from sarstack.errors import ClusterError, ResumeMismatchError, UsageError
from sarstack.networks.bias import measure_bias
from sarstack.networks.card import ModelCard, make_card
from sarstack.networks.inference import choose_device, choose_precision
from sarstack.networks.model_file import read_card, save_model, shipped_model
from sarstack.readers.paths import absolute_path
from sarstack.readers.raster import Raster
from sarstack.readers.stack import ImageStack, Stack
from sarstack.speckle.statistics import SceneStatistics, SpeckleSample, combine_samples
from sarstack.training.checkpoint import CHECKPOINT, best_weights, last_step
from sarstack.training.distributed import ALONE, Ranks
from sarstack.training.losses import Batch
from sarstack.training.stack_patches import Labels, StackPatches, split_cells
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.fingerprint import fingerprint, identity
from sarstack.workflows.folder import claim_folder, make_folder
from sarstack.workflows.learning.ranks import Message, Tell, run_ranks, torch_threads
from sarstack.workflows.progress import show_progress
from sarstack.workflows.settings import AdaptConfig, FinetuneConfig, TrainConfig

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

LOGGER = logging.getLogger("sarstack")
Statistics = dict[str, dict[int, SceneStatistics]]
Work = Callable[[Ranks, str, Tell, "Job"], Any]
N_VALIDATION_BATCHES = 8
# Batch numbers of the held-out patches, far from any step of a training.
FIRST_VALIDATION_BATCH = 2**30


@dataclass(frozen=True)
class Job:
    """What a training or tuning needs on every worker: settings, paths, windows and numbers.

    Attributes
    ----------
    config : TrainConfig or FinetuneConfig
        Its precision decided.
    start : str
        Model file to start from; empty: from scratch.
    training, held_out : StackPatches
        What is learnt from, and what is judged by.
    folder : Path
        Gets the checkpoint and the learning curve.
    """

    config: Any
    start: str
    training: StackPatches
    held_out: StackPatches
    folder: Path

    def held_out_batches(self, share: slice = slice(None)) -> list[Batch]:
        """Return held-out batches, or those of one rank."""
        numbers = range(FIRST_VALIDATION_BATCH, FIRST_VALIDATION_BATCH + N_VALIDATION_BATCHES)
        return [self.held_out.batch(number) for number in numbers[share]]


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


def free_output(name: str, *, overwrite: bool) -> Path:
    """Return the path of the model to write, its folder made.

    Raises
    ------
    UsageError
        If the name is not that of a model file.
    ResumeMismatchError
        If there is one already.
    """
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


def enter_folder(output: Path, config: AdaptConfig, stack: Stack, *, overwrite: bool) -> Path:
    """Make the folder beside the model in which an interrupted job lies, and return it.

    Raises
    ------
    ResumeMismatchError
        If what lies there is of other images or from another start.
    """
    folder = output.with_name(f"{output.stem}.training")
    kept = config.model_dump(mode="json", exclude={"steps", "patience", "cluster", "workers"})
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
    return folder


def model_path(name: str, variant: str) -> str:
    """Return the model to start from: ``shipped``, or a file that holds a card.

    Raises
    ------
    ModelCardError
        If the file is not a model.
    UsageError
        If it is one that is not trained on a single stack.
    """
    path = str(shipped_model(variant)) if name == "shipped" else absolute_path(name)
    if read_card(path).variant == "despecknet-mt":
        raise UsageError(
            "despecknet-mt cannot be adapted: it has seen the other dates that would judge it",
            expected="a network that sees one date",
            where=path,
            do="start from despecknet or despecknet-lite",
        )
    return path


def measure(stack: ImageStack, looks: float | None, workers: Workers) -> Statistics:
    """Find the scene statistics of every image."""
    images = [
        (polarisation, layer, raster)
        for polarisation in stack.polarisations
        for layer, raster in enumerate(stack.rasters[polarisation])
        if raster is not None
    ]
    jobs = (Task(tasks.sample_image, (image[2], stack.grid.shape), image[:2]) for image in images)
    samples: dict[tuple[str, int], SpeckleSample] = {}
    for task, outcome in run_tasks(workers, jobs):
        if isinstance(outcome, Exception):
            raise outcome
        samples[task.key] = outcome
    found = {}
    for polarisation in stack.polarisations:
        layers = [layer for name, layer, _ in images if name == polarisation]
        known = combine_samples([samples[polarisation, layer] for layer in layers], looks=looks)
        found[polarisation] = dict(zip(layers, known, strict=True))
    return found


def pooled(
    statistics: Statistics,
) -> tuple[float, tuple[float, float]]:
    """Return looks whose variance is the mean of all images', and the mean correlation."""
    known = [k for dates in statistics.values() for k in dates.values()]
    looks = 1 / float(np.mean([1 / k.looks for k in known]))
    y, x = np.mean([k.correlation for k in known], axis=0)
    return looks, (float(y), float(x))


def prepare(
    config: TrainConfig | FinetuneConfig,
    stack: ImageStack,
    labels: Labels | None,
    start: str,
    folder: Path,
    workers: Workers,
) -> Job:
    """Measure the stack, and choose the places to learn from and those to be judged by."""
    statistics = measure(stack, config.looks, workers)
    variant = read_card(start).variant if start else config.variant  # type: ignore[union-attr]
    linear = variant == "despecknet-paper"
    training, held_out = (
        StackPatches(stack, labels, cells, config.batch_size, config.seed, statistics, linear)
        for cells in split_cells(stack, labels, config.patch_px, seed=config.seed)
    )
    precision = choose_precision(choose_device(), config.precision)
    decided = config.model_copy(update={"precision": precision})
    return Job(decided, start, training, held_out, folder)


def carry_out(workers: Workers, work: Work, job: Job, show: Callable[[Any, Message], None]) -> Any:
    """Do the work of a job here, or a share of it on every worker of a cluster.

    Parameters
    ----------
    workers : Workers
    work : callable
        Called as ``work(ranks, device, tell, job)``; its result is the same on all ranks.
    job : Job
    show : callable
        Called with the progress shown and what `work` tells.

    Raises
    ------
    ClusterError
        If a worker is lost; says from which step the same command goes on.
    """
    client = workers.client
    with show_progress("training", job.config.steps, "step", 1) as shown:
        tell = partial(show, shown)
        if client is None:
            with torch_threads(workers.n_workers):
                return _do_share(ALONE, choose_device(), tell, work, job)
        workers.check_paths(_paths_of(job))
        try:
            return run_ranks(client, job.training.n_places, _do_share, tell, (work, job))
        except ClusterError as failure:
            step = last_step(job.folder)
            from_where = f"goes on from step {step}" if step else "begins anew"
            raise ClusterError(
                failure.what,
                expected="all workers until the end",
                where=str(job.folder / CHECKPOINT) if step else str(job.folder),
                do=f"run the same command again: it {from_where}, with or without --cluster",
            ) from failure


def _do_share(ranks: Ranks, device: str, tell: Tell, work: Work, job: Job) -> Any:
    """Do one rank's share; the folder is kept free of other jobs meanwhile."""
    with claim_folder(job.folder) if ranks.leads else nullcontext():
        own = replace(job, training=replace(job.training, share=ranks.share))
        return work(ranks, device, tell, own)


def _paths_of(job: Job) -> list[str]:
    """List what every worker must see."""
    rasters = next(iter(job.training.stack.rasters.values()))
    first = next(raster.path for raster in rasters if isinstance(raster, Raster))
    labels = [job.training.labels.path] if job.training.labels else []
    return [first, str(job.folder), *labels, *([job.start] if job.start else [])]


def finish(
    job: Job,
    output: Path,
    network: "DeSpeckNet",
    card: ModelCard | None,
    verb: str,
    message: str,
    *,
    improved: bool,
) -> None:
    """Write the best network with its card, or the one that was started from."""
    if improved:
        network.load_state_dict(best_weights(job.folder))
    if improved or card is None:
        card = describe(network, job.training.stack, job.training.statistics, verb, message)
    save_model(output, network, card)
    (job.folder / CHECKPOINT).unlink(missing_ok=True)


def describe(
    network: "DeSpeckNet",
    stack: ImageStack,
    statistics: Statistics,
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
    table = measure_bias(network, card, tuple(around.tolist()), tuple(shares.tolist()))
    return replace(card, calibration=table)
