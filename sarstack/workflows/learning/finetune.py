"""Tune a network on the noisy images of a stack, without labels."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from sarstack.cluster.workers import open_workers
from sarstack.errors import UsageError
from sarstack.networks.card import BLIND_VARIANTS, PART_VARIANTS, ModelCard
from sarstack.networks.model_file import read_card
from sarstack.readers.cube import CubeStack
from sarstack.readers.raster import Raster
from sarstack.readers.stack import ImageStack
from sarstack.training.distributed import ProcessGroup
from sarstack.training.stack_patches import StackPatches
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.despeckle.plan_checks import check_independence
from sarstack.workflows.learning.job import (
    AdaptedModel,
    Job,
    Outcome,
    check_start,
    prepare_job,
    report_progress,
    run_training,
    write_model,
)
from sarstack.workflows.learning.job_folder import (
    check_output,
    find_finished,
    note_job,
    open_job_folder,
)
from sarstack.workflows.learning.ranks import Report
from sarstack.workflows.learning.scene_statistics import pool_statistics
from sarstack.workflows.settings import FinetuneConfig

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet
    from sarstack.training.noise_to_noise import NoiseToNoise
    from sarstack.training.parts import PartsObjective
    from sarstack.training.tuning import PaperObjective

LOGGER = logging.getLogger("sarstack")
MIN_NOISE2NOISE_DATES = 4

DATES_PER_PLACE = 4
"""Dates of a place in a noise2noise batch: each is input once, with the others as target."""

VALIDATION_PLACES, VALIDATION_PATCHES = 32, 128

VALIDATION_DATES = 8
"""Dates of a place in validation, evenly spaced: without vegetation, neighbouring dates can have
the same speckle."""

HOMOGENEOUS_FACTOR = 2.0
"""Largest ratio of a validation window's variation to that of speckle: in more texture, even a
good network does not remove exactly the speckle."""

LEARNING_RATES = {"noise2noise": 1e-4, "paper": 1e-5, "parts": 1e-4}


def finetune_on_stack(config: FinetuneConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Tune a network on the noisy images of a stack, without labels.

    Parameters
    ----------
    config : FinetuneConfig
        Stack, model, mode, number of steps; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        With ``improved`` False if no step was better at held-out places; then the file
        contains the initial weights.

    Raises
    ------
    UsageError
        If the mode does not fit the network or the number of dates.
    """
    output = check_output(config.output)
    stack = select_stack(config)
    config = _decide_settings(config, stack)
    note = note_job(config, stack)
    finished = find_finished(output, note, overwrite=overwrite)
    with open_job_folder(output, config, stack, overwrite=overwrite) as folder:
        if finished:
            return finished
        return _run_job(config, stack, output, folder, note)


def finetune_index(config: FinetuneConfig, stack: CubeStack, output: Path) -> AdaptedModel:
    """Tune a network on a cube, indexed by :func:`sarstack.readers.cube.index_cube`.

    Raises
    ------
    UsageError
        If a cluster is given, or the mode does not fit the network or the number of dates.
    """
    if config.cluster is not None:
        raise UsageError(
            f"cluster = {config.cluster!r}, for a cube",
            expected="files that all workers can read",
            do="leave out cluster, or tune on the files with `sarstack finetune`",
        )
    with TemporaryDirectory() as folder:
        return _run_job(_decide_settings(config, stack), stack, output, Path(folder))


def _decide_settings(config: FinetuneConfig, stack: ImageStack) -> FinetuneConfig:
    """Replace the defaults of model, mode and learning rate by values."""
    model = check_start(config.model, "merlin" if config.mode == "parts" else "despecknet")
    mode = _choose_mode(config.mode, read_card(model), stack)
    if config.model == "shipped" and mode == "noise2noise":
        LOGGER.info(
            "tuning the shipped weights gained 1 % at most on stacks that were measured"
            " (docs/training.md); if it gains nothing here, they stay as they are"
        )
    rate = config.learning_rate or LEARNING_RATES[mode]
    return config.model_copy(update={"model": model, "mode": mode, "learning_rate": rate})


def _choose_mode(mode: str, card: ModelCard, stack: ImageStack) -> str:
    """Return the mode for a network and a stack.

    Raises
    ------
    UsageError
        If the mode does not fit, or the network learns without targets.
    """
    if card.variant in BLIND_VARIANTS:
        raise UsageError(
            f"{card.variant} is not tuned with targets",
            expected="a deSpeckNet",
            where=stack.path,
            do=f"sarstack train {stack.path} --variant {card.variant} --start MODEL",
        )
    if mode == "parts" or card.variant in PART_VARIANTS:
        _check_parts(mode, card, stack)
        return "parts"
    fewest = _fewest_dates(stack)
    fits = card.domain == "log" and fewest >= MIN_NOISE2NOISE_DATES
    if mode == "noise2noise" and not fits:
        raise UsageError(
            f"mode = 'noise2noise' with {card.variant} and {fewest} dates",
            expected=f"a network on log intensity and {MIN_NOISE2NOISE_DATES} dates or more of "
            "each polarisation",
            where=stack.path,
            do="use --mode paper, or " + ("add dates" if card.domain == "log" else "despecknet"),
        )
    return "noise2noise" if fits and mode != "paper" else "paper"


def _check_parts(mode: str, card: ModelCard, stack: ImageStack) -> None:
    """Raise unless a network of parts of complex numbers gets such numbers."""
    if mode not in ("auto", "parts") or card.variant not in PART_VARIANTS:
        raise UsageError(
            f"mode = {mode!r} with {card.variant}",
            expected=f"mode parts with {' or '.join(PART_VARIANTS)}, and no other mode with it",
            where=stack.path,
            do="leave out --mode, or --model",
        )
    images = [raster for p in stack.polarisations for raster in stack.rasters[p] if raster]
    usable = [raster for raster in images if isinstance(raster, Raster) and raster.complex_as]
    if len(usable) < len(images):
        raise UsageError(
            f"{card.variant} is tuned on single look complex images",
            expected="complex numbers in all images: SAFE SLC products or complex GeoTIFFs",
            where=stack.path,
            do="give the SLC of this acquisition, or tune despecknet on intensity",
        )
    check_independence(usable[0])


def _fewest_dates(stack: ImageStack) -> int:
    return min(sum(raster is not None for raster in stack.rasters[p]) for p in stack.polarisations)


def _run_job(
    config: FinetuneConfig, stack: ImageStack, output: Path, folder: Path, note: str = ""
) -> AdaptedModel:
    n_dates = 1
    if config.mode == "noise2noise":
        n_dates = min(DATES_PER_PLACE, _fewest_dates(stack), max(2, config.batch_size))
    with open_workers(config.cluster, config.workers) as workers:
        job = prepare_job(config, stack, config.model, folder, workers, n_dates=n_dates)
        outcome = run_training(workers, _tune, job)
    return write_model(job, output, outcome, f"tuned ({config.mode})", note)


def _tune(group: ProcessGroup, device: str, report: Report, job: Job) -> Outcome:
    """Tune as one process of a group."""
    from sarstack.training.tuning import FinetuneSettings, finetune

    config: FinetuneConfig = job.config
    settings = FinetuneSettings(
        steps=config.steps, learning_rate=config.learning_rate or 0.0,
        bfloat16=config.precision == "bfloat16", device=device,
    )  # fmt: skip
    network, _ = job.load_start()
    objective: Any
    if config.mode == "noise2noise":
        objective = _noise_to_noise(job, network)
    else:
        objective = _paper_objective(job) if config.mode == "paper" else _parts_objective(job)
    result = finetune(
        network, job.training, objective, settings, job.folder,
        group=group, progress=report_progress(report),
    )  # fmt: skip
    return Outcome(result.improved, result.message, result.history)


def _paper_objective(job: Job) -> "PaperObjective":
    """Make the objective of mode ``paper``, with its validation patches."""
    from sarstack.training.ratio import RatioValidation
    from sarstack.training.tuning import PaperObjective

    looks, correlation = pool_statistics(job.training.statistics)
    batches = job.validation_batches()
    return PaperObjective(RatioValidation.from_patches(batches, looks, correlation))


def _parts_objective(job: Job) -> "PartsObjective":
    """Make the objective of mode ``parts``, with its validation patches."""
    from sarstack.training.parts import PartsObjective, PartsValidation

    _, correlation = pool_statistics(job.training.statistics)
    return PartsObjective(PartsValidation.from_batches(job.validation_batches(), correlation))


def _noise_to_noise(job: Job, network: "DeSpeckNet") -> "NoiseToNoise":
    """Make the objective of mode ``noise2noise``, with its validation patches."""
    from sarstack.speckle.homogeneous import mark_homogeneous
    from sarstack.training.noise_to_noise import NoiseToNoise, OtherDatesValidation
    from sarstack.training.ratio import RatioValidation

    looks, correlation = pool_statistics(job.training.statistics)
    patches: StackPatches = job.validation
    batches, images, n_others = [], [], VALIDATION_DATES
    places = patches.places[:VALIDATION_PLACES]
    for number, (polarisation, window) in enumerate(places):
        dates = _choose_evenly(patches.dates_of(polarisation), VALIDATION_DATES)
        # Rotated from place to place, so that all dates are inputs somewhere.
        first = number % len(dates)
        inputs = _choose_evenly(dates[first:] + dates[:first], VALIDATION_PATCHES // len(places))
        batches.append(patches.read_with_others(polarisation, window, dates, inputs))
        layer = patches.stack.polarisations.index(polarisation)
        images.append([layer * len(patches.stack.dates) + date for date in inputs])
        n_others = min(n_others, len(dates) - 1)
    # In the mean of the other dates, texture is visible that speckle hides on a single date.
    masks = mark_homogeneous(
        [batch.target for batch in batches],
        looks * n_others,
        correlation,
        largest_factor=HOMOGENEOUS_FACTOR,
    )
    ratio = RatioValidation(tuple(batches), masks, looks)
    validation = OtherDatesValidation(tuple(batches), tuple(images), ratio)
    return NoiseToNoise.from_network(network, validation, job.training.n_dates, looks)


def _choose_evenly(dates: list[int], at_most: int) -> list[int]:
    """Choose some of the dates, evenly spaced."""
    chosen = np.linspace(0, len(dates) - 1, min(len(dates), at_most)).round().astype(int)
    return [dates[i] for i in chosen]
