"""Files that get their names when they are complete."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield a hidden name beside `path` to write to; the file is renamed at the end.

    After an error the unfinished file is removed: on a full disk it would take space, and nothing
    would ever use it. The name is unique, because a cluster may give a task to two workers.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it gets its name when it is complete."""
    with complete_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
