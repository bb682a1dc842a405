"""Remove the unfinished work of dead runs: never a finished file, never that of a live run.

The lock of a run shows whether it lives (:mod:`sarstack.workflows.lock`).
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sarstack.errors import StackReadError, UsageError
from sarstack.training.checkpoint import CHECKPOINT
from sarstack.workflows.despeckle.results import RUN_RECORD, UNFINISHED_FOLDER, keep_records
from sarstack.workflows.label_places import (
    created_store,
    label_lock,
    list_leftovers,
    replaced_store,
    unfinished_store,
)
from sarstack.workflows.learning.job_folder import training_folder
from sarstack.workflows.lock import claim, claim_folder

# What `complete_file`, `save_model`, checkpoints and `write_cog` call a file that is not complete.
_TEMPORARY = re.compile(r"\..+\.(?:[0-9a-f]{32}|\d+)\.part|\..+\.tif\.pieces")
_RUN_FILES = (RUN_RECORD, "run.yaml", UNFINISHED_FOLDER)


@dataclass(frozen=True)
class Leftover:
    """A file or folder of a dead run, and its size."""

    path: Path
    n_bytes: int


def clean(place: Path, *, dry_run: bool = False) -> list[Leftover]:
    """Remove the unfinished work of dead runs.

    Parameters
    ----------
    place : Path
        Output folder of ``despeckle``, labels store or model file; the last two need not exist.
    dry_run : bool
        Find it only.

    Returns
    -------
    list of Leftover
        What was found.

    Raises
    ------
    UsageError
        If a run writes there, or may write there, or the folder is not one of results.
    StackReadError
        If there is no such folder.
    """
    with ExitStack() as locks:
        if place.suffix == ".zarr":
            locks.enter_context(claim(label_lock(place), place))
            found = _find_stores(place)
        elif place.suffix == ".safetensors":
            found = _claim_training(training_folder(place), locks)
            found += _find_temporary(place.parent, f"{place.name}.")
        else:
            _check_folder(place)
            locks.enter_context(claim_folder(place))
            if not dry_run:
                keep_records(place)  # those of images that the dead run has finished
            found = [place / UNFINISHED_FOLDER, *_find_temporary(place)]
            for folder in place.glob("*.training"):
                found += _claim_training(folder, locks)
        leftovers = [Leftover(path, _measure(path)) for path in found if path.exists()]
        if not dry_run:
            for leftover in leftovers:
                _remove(leftover.path)
    return leftovers


def _check_folder(place: Path) -> None:
    if not place.is_dir():
        raise StackReadError(
            f"{place} is not a folder",
            expected="an output folder of `sarstack despeckle`, a .zarr or a .safetensors",
            do="check the path",
        )
    if not any((place / name).exists() for name in _RUN_FILES):
        raise UsageError(
            f"{place} is not an output folder of sarstack",
            expected=f"a folder with {' or '.join(_RUN_FILES)}",
            do="give the folder that -o named",
        )


def _claim_training(folder: Path, locks: ExitStack) -> list[Path]:
    """Lock the folder of a training, and return what of it is unfinished."""
    if not folder.is_dir():
        return []
    locks.enter_context(claim_folder(folder))
    return [folder / CHECKPOINT, *sorted(folder.glob(".*.part"))]


def _find_stores(output: Path) -> list[Path]:
    """Return unfinished stores; those of a run that was killed while renaming are complete."""
    if replaced_store(output).exists() and not output.exists():
        return [created_store(unfinished_store(output))]
    return list_leftovers(output)


def _find_temporary(folder: Path, name: str = "") -> Iterator[Path]:
    """Yield the temporary files of a folder whose names begin so, after the dot."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.name.startswith(f".{name}"):
            yield path


def _measure(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
