"""Tune a network on the noisy images of a stack, without any label."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.cluster.workers import open_workers
from sarstack.errors import UsageError
from sarstack.networks.card import ModelCard
from sarstack.networks.model_file import load_model, read_card
from sarstack.readers.cube import CubeStack
from sarstack.readers.stack import ImageStack
from sarstack.training.distributed import Ranks
from sarstack.training.stack_patches import StackPatches
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.learning.job import (
    AdaptedModel,
    Job,
    carry_out,
    enter_folder,
    finish,
    free_output,
    model_path,
    pooled,
    prepare,
)
from sarstack.workflows.learning.ranks import Message, Tell
from sarstack.workflows.settings import FinetuneConfig

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet
    from sarstack.training.noise_to_noise import NoiseToNoise
    from sarstack.training.tuning import FinetuneResult, PaperSignal

LOGGER = logging.getLogger("sarstack")

MIN_DATES_BETWEEN = 4
DATES_PER_PLACE = 4
"""In a batch of noise-to-noise tuning: each is input once, the others its target."""

JUDGED_PLACES, JUDGED_PATCHES = 32, 128
JUDGING_DATES = 8
"""Of a long stack, evenly spread: where nothing grows, neighbouring dates share speckle."""

FLAT_FACTOR = 2.0
"""In windows of more texture a good network cannot take out the speckle and nothing else."""

LEARNING_RATES = {"noise2noise": 1e-4, "paper": 1e-5}


def finetune_on_stack(config: FinetuneConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Tune a network on the noisy images of a stack, without any label.

    Parameters
    ----------
    config : FinetuneConfig
        Stack, model, mode, length; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        With ``improved`` False when no iterate was better at held-out places: the file then
        holds the untouched weights.

    Raises
    ------
    UsageError
        If the mode does not fit the network or the number of dates.
    """
    output = free_output(config.output, overwrite=overwrite)
    stack = select_stack(config)
    config = _resolve(config, stack)
    folder = enter_folder(output, config, stack, overwrite=overwrite)
    return _finetune(config, stack, output, folder)


def finetune_index(config: FinetuneConfig, stack: CubeStack, output: Path) -> AdaptedModel:
    """Do the work of :func:`finetune_on_stack` on a cube."""
    if config.cluster is not None:
        raise UsageError(
            f"cluster = {config.cluster!r}, for a cube",
            expected="files that all workers can read",
            do="leave out cluster, or tune on the files with `sarstack finetune`",
        )
    with TemporaryDirectory() as folder:
        return _finetune(_resolve(config, stack), stack, output, Path(folder))


def _resolve(config: FinetuneConfig, stack: ImageStack) -> FinetuneConfig:
    """Return the settings with model, mode and learning rate decided."""
    model = model_path(config.model, "despecknet")
    mode = _choose_mode(config.mode, read_card(model), stack)
    rate = config.learning_rate or LEARNING_RATES[mode]
    return config.model_copy(update={"model": model, "mode": mode, "learning_rate": rate})


def _finetune(
    config: FinetuneConfig, stack: ImageStack, output: Path, folder: Path
) -> AdaptedModel:
    with open_workers(config.cluster, config.workers) as workers:
        job = prepare(config, stack, None, config.model, folder, workers)
        if config.mode == "noise2noise":
            n_dates = min(DATES_PER_PLACE, _fewest_dates(stack), max(2, config.batch_size))
            job = replace(job, training=replace(job.training, n_dates=n_dates))
        result = carry_out(workers, _tune, job, _show)
    start, verb = load_model(config.model), f"tuned ({config.mode})"
    finish(job, output, *start, verb, result.message, improved=result.improved)
    return AdaptedModel(output, result.improved, result.message, result.history)


def _tune(ranks: Ranks, device: str, tell: Tell, job: Job) -> "FinetuneResult[Any]":
    """Tune as one of the ranks."""
    from sarstack.training.tuning import FinetuneSettings, finetune

    config: FinetuneConfig = job.config
    settings = FinetuneSettings(
        steps=config.steps, learning_rate=config.learning_rate or 0.0,
        bfloat16=config.precision == "bfloat16", device=device,
    )  # fmt: skip
    network, _ = load_model(job.start)
    speckle = pooled(job.training.statistics)
    signal: Any
    if config.mode == "noise2noise":
        signal = _other_dates(network, job.held_out, job.training.n_dates, *speckle)
    else:
        signal = _itself(job, *speckle)
    return finetune(
        network, job.training, signal, settings, job.folder, ranks=ranks,
        progress=lambda _, score: tell({"steps": settings.probe_every, "score": score.row()}),
    )  # fmt: skip


def _itself(job: Job, looks: float, correlation: tuple[float, float]) -> "PaperSignal":
    """Make the signal of the paper's mode, with its judge."""
    from sarstack.training.ratio import find_homogeneous
    from sarstack.training.tuning import PaperSignal

    return PaperSignal(find_homogeneous(job.held_out_batches(), looks, correlation))


def _choose_mode(wanted: str, card: ModelCard, stack: ImageStack) -> str:
    """Return the mode that fits network and stack, or say why the one wanted does not."""
    fewest = _fewest_dates(stack)
    fits = card.domain == "log" and fewest >= MIN_DATES_BETWEEN
    if wanted == "noise2noise" and not fits:
        raise UsageError(
            f"mode = 'noise2noise' with {card.variant} and {fewest} dates",
            expected=f"a network on log intensity and {MIN_DATES_BETWEEN} dates or more of each "
            "polarisation",
            where=stack.path,
            do="use --mode paper, or " + ("add dates" if card.domain == "log" else "despecknet"),
        )
    return "noise2noise" if fits and wanted != "paper" else "paper"


def _fewest_dates(stack: ImageStack) -> int:
    return min(sum(raster is not None for raster in stack.rasters[p]) for p in stack.polarisations)


def _other_dates(
    network: "DeSpeckNet",
    held_out: StackPatches,
    n_dates: int,
    looks: float,
    correlation: tuple[float, float],
) -> "NoiseToNoise":
    """Make the signal between dates, with its judge: held-out places on a few dates each."""
    from sarstack.speckle.homogeneous import mark_homogeneous
    from sarstack.training.noise_to_noise import DateProbe, NoiseToNoise
    from sarstack.training.ratio import RatioProbe

    batches, series, n_others = [], [], JUDGING_DATES
    cells = held_out.cells[:JUDGED_PLACES]
    for number, (polarisation, window) in enumerate(cells):
        dates = _spread(held_out.dates_of(polarisation), JUDGING_DATES)
        # Each place shows other dates than the last, so that all dates are judged somewhere.
        turn = number % len(dates)
        shown = _spread(dates[turn:] + dates[:turn], JUDGED_PATCHES // len(cells))
        batches.append(held_out.read_with_others(polarisation, window, dates, shown))
        layer = held_out.stack.polarisations.index(polarisation)
        series.append([layer * len(held_out.stack.dates) + date for date in shown])
        n_others = min(n_others, len(dates) - 1)
    # Homogeneous in the mean of the others: there texture shows that speckle hides.
    means = [batch.target for batch in batches]
    flat = mark_homogeneous(means, looks * n_others, correlation, largest_factor=FLAT_FACTOR)
    probe = DateProbe(tuple(batches), tuple(series), RatioProbe(tuple(batches), flat, looks))
    return NoiseToNoise.of(network, probe, n_dates, looks)


def _spread(dates: list[int], at_most: int) -> list[int]:
    """Choose some of the dates, evenly spread."""
    chosen = np.linspace(0, len(dates) - 1, min(len(dates), at_most)).round().astype(int)
    return [dates[i] for i in chosen]


def _show(shown: Any, told: Message) -> None:
    shown.advance(told["steps"])
    score = ", ".join(f"{key} {value:.4f}" for key, value in told["score"].items())
    LOGGER.info("held out: %s", score)
