"""Paths of images: which are remote, and how a worker in another folder finds a local one."""

import hashlib
import re
from pathlib import Path, PurePath, PurePosixPath

from sarstack.errors import HIDDEN, hide_secrets


def is_remote(path: str) -> bool:
    """Return whether a path is a URL or a virtual path of GDAL (``/vsi...``)."""
    return "://" in path or path.startswith("/vsi")


def zip_path(archive: str, member: str) -> str:
    """Return the path by which GDAL opens a file in a local zip file."""
    return f"/vsizip/{{{archive}}}/{member}"


def split_zip_path(path: str) -> tuple[str, str]:
    """Return the zip file and the member of a path of :func:`zip_path`; empty texts of others."""
    if not path.startswith("/vsizip/{"):
        return "", ""
    archive, _, member = path.removeprefix("/vsizip/{").rpartition("}")
    return archive, member.strip("/")


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


def near_folders(path: str) -> list[str]:
    """Return the names of the two folders that a file lies in, the inner one first."""
    return list(PurePath(path).parts)[-2:-4:-1]


def file_stem(path: str) -> str:
    """Return the name of a file without its folder and suffix."""
    return PurePosixPath(file_name(path)).stem


def legal_name(text: str) -> str:
    """Return a text as part of a file name: white space and characters of paths become ``_``."""
    return re.sub(r'[\s/\\:*?"<>|\x00-\x1f\x7f]+', "_", text.strip())


def shorten_name(name: str, max_bytes: int = 160) -> str:
    """Return a name of at most so many bytes; the end of a longer one becomes a hash.

    File systems allow 255 bytes, and the names of results and unfinished files add some.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= max_bytes:
        return name
    mark = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: max_bytes - 9].decode('utf-8', 'ignore')}_{mark}"
