"""Where the results of a run go: a local folder, or a folder of object storage."""

import os
from pathlib import Path

from sarstack.readers.paths import file_stem, is_remote
from sarstack.workflows.places import local_output
from sarstack.workflows.remote_folder import RemoteFolder, choose_work_folder, is_writable_url
from sarstack.workflows.settings import DespeckleConfig


def default_output(stack_path: str) -> Path:
    """Return the default output folder."""
    # An absolute path, because '.' and '..' have no name.
    stem = file_stem(os.path.abspath(stack_path) if not is_remote(stack_path) else stack_path)  # noqa: PTH100 (resolve() would lose the name of a link)
    return Path.cwd() / f"{stem.replace('*', '_')}-despeckled"


def find_output(config: DespeckleConfig) -> tuple[RemoteFolder | None, Path]:
    """Return the folder of object storage for the results, if any, and the local folder."""
    if config.output and is_writable_url(config.output):
        remote = RemoteFolder.at(config.output)
        return remote, choose_work_folder(remote.url, config.work_folder)
    return None, local_output(config.output or default_output(config.stack))
