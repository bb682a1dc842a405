"""Check that a run can write under a name: it is local, and nothing of another kind has it."""

import re
import stat
from collections.abc import Iterable
from pathlib import Path

from sarstack.errors import UsageError
from sarstack.readers.paths import file_name, is_remote


def is_url(path: str | Path) -> bool:
    """Return whether a path is remote; :class:`Path` makes ``s3:/a`` of ``s3://a``."""
    return is_remote(str(path)) or bool(re.match(r"\w{2,}:/", str(path)))


def local_output(output: str | Path) -> Path:
    """Return the absolute path of a local file or folder to write.

    Parameters
    ----------
    output : str or Path

    Raises
    ------
    UsageError
        If it is a URL. Python would make a local folder with the name ``s3:`` of it.
    """
    if is_url(output):
        name = file_name(f"{output}") or "results"
        raise UsageError(
            f"results cannot be written to this URL: {output}",
            expected="a name on a disk of this machine or a network disk; for `despeckle` and "
            "`build-labels` also an s3:// URL",
            where="output (-o)",
            do=f"use a local name, for example -o {name}, and upload the results after the run",
        )
    return Path(output).absolute()


def check_places(
    files: Iterable[Path], folders: Iterable[Path] = (), *, own_folders: Iterable[Path] = ()
) -> None:
    """Refuse a run whose results have the names of other things; one error lists all.

    Parameters
    ----------
    files : iterable of Path
        Files that the run writes. Regular files may have their names.
    folders : iterable of Path
        Folders that it writes into. Folders and links to folders may have their names.
    own_folders : iterable of Path
        Folders that it makes and deletes. Only folders may have their names, no links.

    Raises
    ------
    UsageError
        If a name is taken by something of another kind.
    """
    wrong = [
        *_find_wrong(files, ("a file", "a link to a file"), "a file"),
        *_find_wrong(folders, ("a folder", "a link to a folder"), "a folder"),
        *_find_wrong(own_folders, ("a folder",), "a folder"),
    ]
    if wrong:
        raise UsageError(
            f"{len(wrong)} name(s) that the run needs are taken by something of another kind",
            expected="no entry of this name, or one of the right kind",
            where=wrong,
            do="rename or remove what is there, or choose another place with -o",
        )


def _find_wrong(paths: Iterable[Path], accepted: tuple[str, ...], wanted: str) -> list[str]:
    found = ((path, describe_entry(path)) for path in paths)
    return [
        f"{path} is {kind}, not {wanted}" for path, kind in found if kind and kind not in accepted
    ]


def describe_entry(path: Path) -> str:
    """Return what has a name: a file, a folder, a link and so on; empty if nothing has it."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISLNK(mode):
        try:
            mode = path.stat().st_mode
        except OSError:
            return "a link to itself or to nothing"
        return f"a link to {_describe_mode(mode)}"
    return _describe_mode(mode)


def _describe_mode(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a named pipe, socket or device"
