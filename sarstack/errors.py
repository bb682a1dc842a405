"""Errors for users, in four parts: what, expected, where, do this.

Each class also derives from the builtin that a Python user would catch, and has the exit code of
the command line.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"
"""Stands for the secret part of a URL."""
_REST = r"[^\s\"'<>]*"
_USER = re.compile(r"(?<=://)(?:[^\s\"'/@]*:[^\s\"'@]*|[^\s\"'/@]+)@")
_OPTIONS = re.compile(r"(/vsi\w+)\?([^\s\"'<>]+)")
_QUERY = re.compile(rf"((?:[a-zA-Z][\w+.-]*://|/vsi\w+/)[^\s\"'<>?#]*)[?#](?!&?url=){_REST}")
_NAME_QUERY = re.compile(rf"(\.\w{{1,8}})(?:\?|%3[Ff])[\w.~%-]+?(?:=|%3[Dd]){_REST}")
_PAIR = re.compile(
    r"(?i)((?:x-amz-\w+|x-goog-\w+|sig|signature|(?:access_)?token|api_?key)=)[^\s&\"'<>]+"
)
_HEADER = re.compile(r"(?i)(authorization\s*[:=]\s*(?:(?:bearer|basic)\s+)?)[^\s&\"'<>]+")

EXIT_CODES = {
    0: "success",
    1: "unexpected failure (a bug: please report it)",
    2: "wrong use of the command line",
    3: "input not found or not readable",
    4: "dates, grids or scales of the stack do not fit together",
    5: "configuration, model or method cannot be used, or a resumed run has other settings",
    6: "finished, but some dates failed (they are listed; run the same command again to retry); "
    "`check`: results are damaged or missing",
    7: "cluster not reachable, or without the resource a task needs",
    8: "not enough disk or memory, or the disk cannot be written",
    130: "interrupted (run the same command again to continue)",
}


def hide_secrets(text: str) -> str:
    """Replace the secret parts of all URLs in a text: user, password, query and fragment.

    Everything that sarstack writes or prints goes through this function. What is left names the
    file: ``https://***@host/x.tif?***``. Applied twice, it changes nothing more.

    Parameters
    ----------
    text : str
        A URL, a virtual path of GDAL (``/vsicurl/...``, ``/vsicurl?url=...``), or any text.
    """
    text = _OPTIONS.sub(_hide_options, text)
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1?{HIDDEN}", text)
    text = _NAME_QUERY.sub(rf"\1?{HIDDEN}", text)
    return _HEADER.sub(rf"\1{HIDDEN}", _PAIR.sub(rf"\1{HIDDEN}", text))


def _hide_options(path: re.Match[str]) -> str:
    """Keep the URL of a virtual path of GDAL; its other options can be headers with a secret."""
    for option in path[2].split("&"):
        if option.startswith("url="):
            return f"{path[1]}/{hide_secrets(unquote(option.removeprefix('url=')))}"
    return f"{path[1]}/{HIDDEN}"


class SarstackError(Exception):
    """Base class of all errors that a user can cause and correct.

    Parameters
    ----------
    what : str
        What is wrong, with the value that was given.
    expected : str, optional
        What would be right.
    where : str or iterable of str, optional
        Files, dates or options; the first three are shown, the others counted.
    do : str, optional
        What the user can do now.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, expected: str = "", where: str | Iterable[str] = (), do: str = ""
    ) -> None:
        self.what, self.expected, self.do = map(hide_secrets, (what, expected, do))
        places = [where] if isinstance(where, str) and where else list(where)
        self.where = [hide_secrets(str(place)) for place in places]
        super().__init__(self.message())

    def message(self) -> str:
        """Return the four parts, one line each, without empty ones."""
        lines = [self.what]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.where:
            more = f" and {len(self.where) - 3} more" if len(self.where) > 3 else ""
            lines.append(f"  where: {', '.join(self.where[:3])}{more}")
        if self.do:
            lines.append(f"  do this: {self.do}")
        return "\n".join(lines)

    def summary(self) -> str:
        """Return `what` and `where` in one line, for a list of failures."""
        place = f", {', '.join(self.where[:3])}" if self.where else ""
        return self.what + place

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword parts when the error crosses a process boundary."""
        return _rebuild, (type(self), self.what, self.expected, self.where, self.do)


def _rebuild(
    kind: type[SarstackError], what: str, expected: str, where: list[str], do: str
) -> SarstackError:
    return kind(what, expected=expected, where=where, do=do)


class UsageError(SarstackError, ValueError):
    """An argument has a value that cannot be used."""

    exit_code = 2


class StackReadError(SarstackError, OSError):
    """A file of the stack is missing, truncated or not an image."""

    exit_code = 3


class StackError(SarstackError, ValueError):
    """The dates of a stack do not fit together (all problems listed at once)."""

    exit_code = 4


class GridMismatchError(StackError):
    """Two images of one stack lie on different grids."""


class ScaleError(StackError):
    """It is not clear whether the values are linear, amplitude or dB."""


class ConfigError(SarstackError, ValueError):
    """A configuration file or option cannot be used."""

    exit_code = 5


class ModelCardError(ConfigError):
    """A model file has no card, or a card that does not fit the job."""


class MethodError(ConfigError):
    """A method from outside the package cannot be loaded, fails, or breaks a law."""


class ResumeMismatchError(ConfigError):
    """Unfinished work in the output folder was made with other settings."""


class SomeDatesFailedError(SarstackError, RuntimeError):
    """The run finished, but some images failed."""

    exit_code = 6


class DamagedResultsError(SarstackError, RuntimeError):
    """A check found results that are damaged or missing."""

    exit_code = 6


class ClusterError(SarstackError, RuntimeError):
    """The cluster cannot be reached, or lacks what the tasks need."""

    exit_code = 7


class NotEnoughSpaceError(SarstackError, OSError):
    """The plan does not fit on the disk or into memory."""

    exit_code = 8


class DiskError(NotEnoughSpaceError):
    """A disk was full, over quota, read-only or broken while results were written."""


class MissingDependencyError(SarstackError, ImportError):
    """An optional package is not installed."""

    exit_code = 5


class SarstackWarning(UserWarning):
    """A problem that does not stop the work."""
