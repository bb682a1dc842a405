"""The folder of a training beside its model, and models that are finished already."""

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sarstack.errors import ModelCardError, ResumeMismatchError, UsageError
from sarstack.networks.model_file import read_metadata
from sarstack.output.complete_file import write_text
from sarstack.readers.stack import Stack
from sarstack.training.checkpoint import CHECKPOINT, CURVE
from sarstack.workflows.disk import explain_disk_errors
from sarstack.workflows.fingerprint import fingerprint, identity
from sarstack.workflows.folder import make_folder, remove_temporary_files
from sarstack.workflows.learning.job import JOB_KEY, AdaptedModel
from sarstack.workflows.lock import claim_folder
from sarstack.workflows.places import check_places, local_output
from sarstack.workflows.settings import LearningConfig

LOGGER = logging.getLogger("sarstack")


def check_output(name: str) -> Path:
    """Return the absolute path of the model to write; make its folder.

    Raises
    ------
    UsageError
        If the name is not that of a model file, or is a URL.
    """
    output = local_output(name)
    if output.suffix != ".safetensors":
        raise UsageError(f"output = {name!r}", expected="a name that ends in .safetensors",
                         do=f"use {output.stem}.safetensors")  # fmt: skip
    folder = training_folder(output)
    files = [folder / name for name in (CHECKPOINT, CURVE, "curve.png", "origin.txt")]
    check_places([output, *files], [output.parent, folder])
    make_folder(output.parent)
    return output


def training_folder(output: Path) -> Path:
    """Return the folder of the checkpoint of a model."""
    return output.with_name(f"{output.stem}.training")


@contextmanager
def open_job_folder(
    output: Path, config: LearningConfig, stack: Stack, *, overwrite: bool
) -> Iterator[Path]:
    """Make the folder of the checkpoint beside the model, lock it, and return it.

    Raises
    ------
    ResumeMismatchError
        If the folder has a checkpoint of other images or settings.
    UsageError
        If another training writes there.
    """
    folder = make_folder(training_folder(output))
    with explain_disk_errors(folder), claim_folder(folder):
        mark, origin = _fingerprint(config, stack), folder / "origin.txt"
        if (folder / CHECKPOINT).exists() and (not origin.exists() or origin.read_text() != mark):
            if not overwrite:
                raise ResumeMismatchError(
                    "the folder contains an interrupted training on other images or with other "
                    "settings",
                    where=str(folder),
                    do="repeat the earlier command to finish it, or --overwrite to start again",
                )
            (folder / CHECKPOINT).unlink()
        write_text(origin, mark)
        yield folder
        (folder / CHECKPOINT).unlink(missing_ok=True)
        remove_temporary_files(folder, [CHECKPOINT, CURVE, origin.name])
        remove_temporary_files(output.parent, [output.name])


def _fingerprint(
    config: LearningConfig, stack: Stack, free: Collection[str] = ("steps", "patience")
) -> str:
    """Return the fingerprint of a job; `free` are settings that may change when it continues."""
    public = config.without_secrets()
    fixed = public.model_dump(mode="json", exclude={*free, "cluster", "workers"})
    images = (identity(raster) for rasters in stack.rasters.values() for raster in rasters)
    return fingerprint(fixed, *images)


def note_job(config: LearningConfig, stack: Stack) -> str:
    """Return what identifies a finished job: it is written into the model file."""
    return _fingerprint(config, stack, free=())


def find_finished(output: Path, job: str, *, overwrite: bool) -> AdaptedModel | None:
    """Return the model if the same job has finished it, None if there is no model.

    Raises
    ------
    ResumeMismatchError
        If the model is that of another job.
    """
    if overwrite or not output.exists():
        return None
    try:
        known = json.loads(read_metadata(output).get(JOB_KEY, "{}"))
    except (ModelCardError, ValueError):
        known = {}
    if known.get("job") != job:
        raise ResumeMismatchError(
            "the model exists already, of other settings or images",
            where=str(output),
            do="name another -o, or --overwrite",
        )
    LOGGER.info("the model was finished before")
    return AdaptedModel(output, bool(known["improved"]), str(known["message"]))
