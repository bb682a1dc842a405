"""Train a network on a stack, with labels as target (phase 1)."""

from sarstack.cluster.workers import open_workers
from sarstack.errors import UsageError
from sarstack.networks.card import PART_VARIANTS
from sarstack.networks.model_file import read_card
from sarstack.readers.paths import absolute_path
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
    UsageError
        If there are too few dates or too few stable pixels.
    ModelCardError
        If the model to start from does not fit.
    """
    output = check_output(config.output)
    stack = select_stack(config)
    labels = Labels.open(absolute_path(config.labels), stack)
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


def _train(group: ProcessGroup, device: str, report: Report, job: Job) -> Outcome:
    """Train as one process of a group."""
    from sarstack.training.supervised import TrainingSettings, train, validate

    config: TrainConfig = job.config
    settings = TrainingSettings(
        steps=config.steps, learning_rate=config.learning_rate, xi=config.xi,
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
    message = (
        f"distance from the label at held-out places {before['rmse_db']:.2f} dB before, "
        f"{best['rmse_db']:.2f} dB at step {result.best_step}"
        + ("" if improved else "; no step improved the loss, so the initial weights are kept")
    )
    return Outcome(improved, message, result.history)
