"""Train a network on a stack, with labels as target (phase 1), or a blind-spot network without."""

from sarstack.cluster.workers import open_workers
from sarstack.errors import ConfigError, UsageError
from sarstack.networks.card import BLIND_VARIANTS, PART_VARIANTS
from sarstack.networks.model_file import read_card
from sarstack.readers.paths import absolute_path
from sarstack.readers.stack import Stack
from sarstack.training.checkpoint import plot_curve
from sarstack.training.distributed import ProcessGroup
from sarstack.training.stack_patches import Labels
from sarstack.workflows.despeckle.plan import select_stack
from sarstack.workflows.disk import explain_disk_errors
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
from sarstack.workflows.settings import TrainConfig


def train_on_stack(config: TrainConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Train a network on the dates of a stack; the target is the label of the other dates.

    A blind-spot network has no target: it learns to predict a pixel from the others.

    Parameters
    ----------
    config : TrainConfig
        Stack, labels, network, number of steps; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        The folder ``<model>.training`` beside the model contains the learning curve (CSV,
        PNG) and, while the training is unfinished, the checkpoint from which it continues.

    Raises
    ------
    ConfigError
        If there are no labels and the network needs them, or the reverse.
    UsageError
        If there are too few dates or too few stable pixels.
    ModelCardError
        If the model to start from does not fit.
    """
    output = check_output(config.output)
    stack = select_stack(config)
    labels = _open_labels(config, stack)
    start = "" if config.start == "scratch" else check_start(config.start, config.variant)
    _check_supervised(start)
    note = note_job(config, stack)
    finished = find_finished(output, note, overwrite=overwrite)
    with open_job_folder(output, config, stack, overwrite=overwrite) as folder:
        if finished:
            return finished
        with open_workers(config.cluster, config.workers) as workers:
            job = prepare_job(config, stack, start, folder, workers, labels=labels)
            outcome = run_training(workers, _train, job)
        with explain_disk_errors(folder):
            plot_curve(outcome.history, folder / "curve.png")
        return write_model(job, output, outcome, "trained", note)


def _check_supervised(start: str) -> None:
    """Raise if the network to start from is not trained with labels."""
    if start and read_card(start).variant in PART_VARIANTS:
        raise UsageError(
            f"{read_card(start).variant} is not trained with labels",
            expected="a network for intensity",
            where=start,
            do="tune it on complex images: sarstack finetune SLC/ --model MODEL",
        )


def _open_labels(config: TrainConfig, stack: Stack) -> Labels | None:
    """Open the labels; None for a network that learns without."""
    is_blind = config.variant in BLIND_VARIANTS
    if is_blind == (config.labels is None):
        return None if config.labels is None else Labels.open(absolute_path(config.labels), stack)
    raise ConfigError(
        f"labels = {config.labels!r}, with the variant {config.variant}",
        expected="no labels" if is_blind else "the Zarr store of the labels of this stack",
        do="leave out --labels: the network learns from the noisy images alone" if is_blind
        else f"sarstack build-labels {config.stack} -o labels.zarr, then --labels labels.zarr; or "
        "--variant speckle2void, which needs none",
    )  # fmt: skip


def _train(group: ProcessGroup, device: str, report: Report, job: Job) -> Outcome:
    """Train as one process of a group."""
    from sarstack.training.losses import BLIND_TV
    from sarstack.training.supervised import TrainingSettings, train, validate

    config: TrainConfig = job.config
    is_blind = config.variant in BLIND_VARIANTS
    settings = TrainingSettings(
        steps=config.steps, learning_rate=config.learning_rate, xi=config.xi,
        tv=BLIND_TV if is_blind else 0.0,
        warmup_steps=min(100, config.steps // 10), decay_steps=config.steps // 3,
        patience=config.patience, validate_every=max(10, min(100, config.steps // 10)),
        checkpoint_every=100, bfloat16=config.precision == "bfloat16", device=device,
    )  # fmt: skip
    network, _ = job.load_start()
    validation = job.validation_batches(group.shard)
    before = validate(network.to(device), validation, settings, group)
    result = train(
        network, job.training, validation, settings, job.folder,
        group=group, progress=report_progress(report),
    )  # fmt: skip
    best = min(result.history, key=lambda row: row["validation_loss"])
    improved = not job.start or result.best_loss < before["validation_loss"]
    what, key, unit = (
        ("surprise", "validation_loss", "nat") if is_blind
        else ("distance from the label", "rmse_db", "dB")
    )  # fmt: skip
    message = (
        f"{what} at held-out places {before[key]:.2f} {unit} before, "
        f"{best[key]:.2f} {unit} at step {result.best_step}"
        + ("" if improved else "; no step improved the loss, so the initial weights are kept")
    )
    return Outcome(improved, message, result.history)
