"""Progress bar, log file and JSON record of a run."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from sarstack.errors import hide_secrets
from sarstack.output.complete_file import write_text
from sarstack.workflows.notebook_bar import open_notebook_bar

LOGGER = logging.getLogger("sarstack")
HEARTBEAT_S = 30.0
LOG_BYTES, OLD_LOGS = 2_000_000, 3
"""Largest size of a log file, and how many old ones are kept: a folder can get runs for years."""


class Progress:
    """Count the finished work, and show progress and speed.

    On a terminal and in a notebook this is a bar with the remaining time, elsewhere a line of the
    log every 30 s.

    Parameters
    ----------
    what : str
        Name of the work.
    total : int
        Amount of the work.
    unit : str
        Unit of the speed.
    per_unit : float
        Amount of work in one unit.
    """

    def __init__(self, what: str, total: int, unit: str = "Mpx", per_unit: float = 1e6) -> None:
        self.what, self.total, self.done = what, total, 0
        self.unit, self.per_unit = unit, per_unit
        self._start = self._last = time.monotonic()
        self._show: Callable[[int, str, float], None] | None = None

    def advance(self, amount: int) -> None:
        """Add `amount` to the finished work."""
        self.done += amount
        now = time.monotonic()
        rate = self.done / max(now - self._start, 1e-9)
        speed = f"{rate / self.per_unit:.2f} {self.unit}/s"
        left_s = (self.total - self.done) / max(rate, 1e-9)
        if self._show is not None:
            self._show(self.done, speed, left_s)
        elif now - self._last > HEARTBEAT_S:
            self._last = now
            percent = 100 * self.done / max(self.total, 1)
            LOGGER.info("%s: %.0f %%, %s, %.0f s left", self.what, percent, speed, left_s)


@contextmanager
def show_progress(
    what: str, total: int, unit: str = "Mpx", per_unit: float = 1e6
) -> Iterator[Progress]:
    """Show progress on stderr, or below the cell of a notebook.

    Parameters
    ----------
    what, total, unit, per_unit
        As of :class:`Progress`.
    """
    progress = Progress(what, total, unit, per_unit)
    with open_notebook_bar(what, total) as show:
        if show is not None or not sys.stderr.isatty():
            progress._show = show
            yield progress
            return
    with _open_terminal_bar(what, total) as show:
        progress._show = show
        yield progress


@contextmanager
def _open_terminal_bar(what: str, total: int) -> Iterator[Callable[[int, str, float], None]]:
    """Show a bar on stderr; the function that is yielded changes it."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")
        yield lambda done, rate, _left_s: bar.update(task, completed=done, rate=rate)


class PublicFormatter(logging.Formatter):
    """Format lines of a log without the secret parts of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return hide_secrets(super().format(record))


class _LogFile(RotatingFileHandler):
    """A log file that a full disk makes incomplete, without an error of its own.

    What the run writes next finds the disk full, and that error is the one to show. A file that
    is `LOG_BYTES` long becomes ``log.txt.1``, and ``log.txt.1`` becomes ``log.txt.2``.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (name of logging)
        """Leave out a line that cannot be written."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def doRollover(self) -> None:  # noqa: N802 (name of logging)
        """Begin a new file; if the old one cannot be renamed, it becomes longer."""
        with suppress(OSError):
            super().doRollover()
        self.stream = self.stream or self._open()

    def close(self) -> None:
        """Close the file; what cannot be written is left out."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also write the log of sarstack to a file."""
    handler = _LogFile(path, maxBytes=LOG_BYTES, backupCount=OLD_LOGS, encoding="utf-8")
    handler.setFormatter(PublicFormatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON; the file gets its name when it is complete."""
    write_text(path, render_json(record) + "\n")


def render_json(record: dict[str, Any]) -> str:
    """Return a record as JSON, without the secret parts of URLs."""
    return hide_secrets(json.dumps(record, indent=2, default=str))


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a record; None without the file. A damaged file is an empty record, with a warning."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as failure:
        LOGGER.warning("the record %s cannot be read (%s)", path, failure)
        return {}
    return found if isinstance(found, dict) else {}


def count_images(n: int) -> str:
    """Return a number of images as text."""
    return "1 image" if n == 1 else f"{n} images"


def now_utc() -> str:
    """Return the current time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
