"""Paths of images: which are remote, and how a worker in another folder finds a local one."""

from pathlib import Path


def is_remote(path: str) -> bool:
    """Return whether a path is a URL or a virtual path of GDAL (``/vsi...``)."""
    return "://" in path or path.startswith("/vsi")


def absolute_path(path: str) -> str:
    """Return the absolute form of a local path; a remote path stays as it is.

    Workers and later runs may start in another folder.
    """
    return path if is_remote(path) else str(Path(path).absolute())
