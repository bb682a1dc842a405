"""Whether there is room for a run: a folder to write into, memory and disk space."""

import os
from dataclasses import replace
from pathlib import Path

from sarstack.cluster.workers import LOCAL, n_cores
from sarstack.errors import NotEnoughSpaceError, UsageError
from sarstack.workflows.despeckle.plan import Plan


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


def check_memory(plan: Plan) -> None:
    """Raise if the workers of this machine together would need more memory than it has.

    Raises
    ------
    NotEnoughSpaceError
        With the tile size or the number of workers that would fit. Workers of a scheduler
        elsewhere are not judged.
    """
    from distributed.system import MEMORY_LIMIT

    config = plan.config
    if config.cluster not in (None, LOCAL):
        return

    def needed(n_workers: int, tile_px: int) -> int:
        tried = config.model_copy(update={"workers": n_workers, "tile_px": tile_px})
        processes = n_workers if config.cluster else 1
        return processes * replace(plan, config=tried).memory_bytes

    wanted = config.workers or n_cores()
    if needed(wanted, config.tile_px) <= MEMORY_LIMIT:
        return
    choices = [(wanted, tile) for tile in (1024, 512, 256) if tile < config.tile_px]
    choices += [(n, min(config.tile_px, 512)) for n in range(wanted - 1, 0, -1)]
    fitting = next((c for c in choices if needed(*c) <= MEMORY_LIMIT), None)
    raise NotEnoughSpaceError(
        f"the plan needs {needed(wanted, config.tile_px) / 1e9:.1f} GB of memory "
        f"for {wanted} workers",
        expected=f"at most {MEMORY_LIMIT / 1e9:.1f} GB, what this machine has",
        do=f"--workers {fitting[0]} --tile-px {fitting[1]}" if fitting else "use a larger machine",
    )


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise if a folder's disk has less free space than a plan may need."""
    import shutil

    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise NotEnoughSpaceError(
            f"the plan may write {needed_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(folder),
            do="free some space, choose another folder with -o, or fewer --dates",
        )
