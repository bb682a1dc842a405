"""Make the output folder of a run, check its space, and delete temporary files of killed runs."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from sarstack.errors import NotEnoughSpaceError, UsageError


def make_folder(path: Path) -> Path:
    """Make a folder for results if there is none, and return it.

    Raises
    ------
    UsageError
        If it cannot be made, or is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as failure:
        raise UsageError(
            f"results cannot be written into {path}: {failure.strerror}",
            expected="a folder with permission to write",
            do="choose another place with -o",
        ) from failure
    return path


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise if the disk of a folder has less free space than a plan may need."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise NotEnoughSpaceError(
            f"the plan may write {needed_bytes / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free",
            where=str(folder),
            do="free disk space, choose another folder with -o, or fewer --dates",
        )


def remove_temporary_files(folder: Path, names: Iterable[str]) -> None:
    """Delete hidden temporary files that killed runs left beside files with these names.

    Only for a folder that is claimed: no other run writes there.
    """
    beginnings = {f".{name}." for name in names}
    for path in folder.iterdir():
        if path.name.endswith((".part", ".cog.tif", ".pieces")) and any(
            path.name.startswith(beginning) for beginning in beginnings
        ):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
