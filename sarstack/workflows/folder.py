"""The folder of a run: made, checked for space, and kept free of a second run."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sarstack.errors import NotEnoughSpaceError, UsageError

LOGGER = logging.getLogger("sarstack")


def make_folder(path: Path) -> Path:
    """Make a folder for results, and return it.

    Raises
    ------
    UsageError
        If it cannot be made or may not be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as failure:
        raise UsageError(
            f"results cannot be written into {path}: {failure.strerror}",
            expected="a folder that exists or can be made, with permission to write",
            do="choose another place with -o",
        ) from failure
    return path


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise if a folder's disk has less free space than a plan may need."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise NotEnoughSpaceError(
            f"the plan may write {needed_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(folder),
            do="free some space, choose another folder with -o, or fewer --dates",
        )


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder while this one works in it.

    The system lets go of the folder when the process ends, however it ends. Where it
    knows no such locks (Windows, some network disks) nothing is kept out.

    Raises
    ------
    UsageError
        If another run holds the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        os.close(handle)
        raise UsageError(
            f"another run is writing into {folder}",
            expected="one run for each folder of results",
            do="wait until it ends, or choose another place with -o",
        ) from held
    except OSError:
        LOGGER.debug("no lock on %s: its disk does not offer any", folder)
    try:
        yield
    finally:
        os.close(handle)
