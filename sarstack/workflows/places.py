"""Check that nothing of the wrong kind has the name of a file or folder that a run will write."""

import stat
from collections.abc import Iterable
from pathlib import Path

from sarstack.errors import UsageError


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
