"""Paths of images: which are remote, and how a worker in another folder finds a local one."""

from pathlib import Path, PurePosixPath

from sarstack.errors import HIDDEN, hide_secrets


def is_remote(path: str) -> bool:
    """Return whether a path is a URL or a virtual path of GDAL (``/vsi...``)."""
    return "://" in path or path.startswith("/vsi")


def absolute_path(path: str) -> str:
    """Return the absolute form of a local path; a remote path stays as it is.

    Workers and later runs may start in another folder.
    """
    return path if is_remote(path) else str(Path(path).absolute())


def public_path(path: str) -> str:
    """Return a path as it may be written and printed: a URL without user, password and query."""
    return hide_secrets(path) if is_remote(path) else path


def file_name(path: str) -> str:
    """Return the name of a file without its folder; of a URL without its query."""
    if not is_remote(path):
        return Path(path).name
    return PurePosixPath(hide_secrets(path).removesuffix(f"?{HIDDEN}").rstrip("/")).name


def file_stem(path: str) -> str:
    """Return the name of a file without its folder and suffix."""
    return PurePosixPath(file_name(path)).stem
