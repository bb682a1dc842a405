"""Disks that are full, over quota or read-only: refuse tiles early, and one error for all signs."""

import ctypes
import errno
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from sarstack.errors import DiskError
from sarstack.output.pieces import Pieces

PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than this disk or `ulimit -f` allows",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk reports an error",
}
_KEPT_MESSAGES = 100
BYTES_PER_PX = 4


class _GdalMessages(logging.Handler):
    """Keep the messages of GDAL of each thread: its exceptions do not have the error number.

    With a handler, the messages do not go to the terminal either.
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def of_this_thread(self) -> list[str]:
        """Return the list of the messages of the current thread."""
        if not hasattr(self._local, "texts"):
            self._local.texts = []
        texts: list[str] = self._local.texts
        return texts

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        texts = self.of_this_thread()
        texts.append(record.getMessage())
        del texts[:-_KEPT_MESSAGES]


_GDAL_MESSAGES = _GdalMessages()


@contextmanager
def explain_disk_errors(
    folder: Path, needed_bytes: int = 0, *, file_bytes: int = 0
) -> Iterator[None]:
    """Raise one :class:`DiskError` if anything inside fails because of the disk.

    Python gives an error number, GDAL and safetensors only its text.

    Parameters
    ----------
    folder : Path
        Folder that is written into.
    needed_bytes : int
        Most bytes that the whole run writes, for the message; 0: not known.
    file_bytes : int
        Largest size of a file that GDAL writes inside. Its errors often have no reason; then a
        file of this size is tried. 0: none is tried.

    Raises
    ------
    DiskError
        If the disk is full, over quota, read-only or broken, or a file too large.
    """
    import rasterio  # noqa: F401 (loads libtiff)

    silence_libtiff()
    logging.getLogger("rasterio").addHandler(_GDAL_MESSAGES)
    messages = _GDAL_MESSAGES.of_this_thread()
    messages.clear()
    try:
        yield
    except DiskError as known:
        if known.expected or not needed_bytes:
            raise
        raise _with_need(known, needed_bytes) from None
    except Exception as failure:
        code = find_error_number(failure, messages) or probe_disk(folder, file_bytes)
        if not code:
            raise
        error = _describe(code, folder)
        raise (_with_need(error, needed_bytes) if needed_bytes else error) from None


def find_error_number(failure: BaseException, messages: list[str]) -> int | None:
    """Return the number of the disk error that caused an exception; None if none did.

    Parameters
    ----------
    failure : BaseException
        Its causes are searched, too.
    messages : list of str
        Messages of GDAL before it.
    """
    texts = [*messages]
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in PROBLEMS:
            return cause.errno
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    for code in PROBLEMS:
        words = re.compile(rf"{re.escape(os.strerror(code))}|\(os error {code}\)")
        if any(words.search(text) for text in texts):
            return code
    return None


def probe_disk(folder: Path, n_bytes: int) -> int:
    """Return the error number of a new file of this size in a folder; 0 if there is room for it."""
    if not n_bytes or not hasattr(os, "posix_fallocate"):
        return 0
    probe = folder / f".{uuid.uuid4().hex}.part"
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as failure:
        return failure.errno if failure.errno in PROBLEMS else 0
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return 0


@cache
def silence_libtiff() -> None:
    """Stop libtiff from printing: it tells the terminal, not GDAL, that it cannot write."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    for path in {line.split()[-1] for line in lines if "/libtiff" in line}:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(path).TIFFSetErrorHandler(None)


def _describe(code: int, folder: Path) -> DiskError:
    free = _free_bytes(folder)
    left = "" if free is None else f"; {format_bytes(free)} are free"
    return DiskError(
        f"{PROBLEMS[code]} ({os.strerror(code)}){left if code == errno.ENOSPC else ''}",
        where=str(folder),
        do="free disk space (or choose another place with -o), and run the same command again: it "
        "continues"
        if code in (errno.ENOSPC, errno.EDQUOT)
        else "correct this (or choose another place with -o), and run the same command again: it "
        "continues",
    )


def _with_need(error: DiskError, needed_bytes: int) -> DiskError:
    needed = f"up to {format_bytes(needed_bytes)} for the whole run, with what is already written"
    return DiskError(error.what, expected=needed, where=error.where, do=error.do)


def check_room(pieces: Pieces) -> None:
    """Raise before a tile is computed that could not be written.

    Without this, all workers would go on to compute tiles for a full disk.
    """
    rows, columns = (min(length, pieces.tile_px) for length in pieces.scene)
    check_free(pieces.folder, image_bytes(rows, columns))


def image_bytes(rows: int, columns: int) -> int:
    """Return the largest size of a file of float32 pixels and their overviews."""
    return rows * columns * BYTES_PER_PX * 4 // 3


def check_free(folder: Path, needed_bytes: int) -> None:
    """Raise if the disk of a folder, which need not exist yet, has less free space.

    Raises
    ------
    DiskError
        With the free and the needed space.
    """
    free = _free_bytes(folder)
    if free is not None and free < needed_bytes:
        error = _describe(errno.ENOSPC, folder)
        what = f"{error.what}, and the next file needs {format_bytes(needed_bytes)}"
        raise DiskError(what, where=error.where, do=error.do)


def _free_bytes(folder: Path) -> int | None:
    """Return the free space; None if the file system does not say it."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if existing is None:
        return None
    usage = shutil.disk_usage(existing)
    return usage.free if usage.total else None


def format_bytes(n_bytes: int) -> str:
    """Return a size in GB, MB or kB."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB")):
        if n_bytes >= 0.1 * factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
