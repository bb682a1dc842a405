"""The problems of a stack, collected while it is indexed and reported together."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from socket import gethostname

from sarstack.errors import (
    GridMismatchError,
    SarstackError,
    SarstackWarning,
    ScaleError,
    StackError,
    StackReadError,
)

# A report of several errors has the first of these classes that occurs. Unreadable files come
# first: their grids and scales cannot be compared.
_ORDER = (StackReadError, GridMismatchError, ScaleError, StackError)


class UnreadableFileError(StackReadError):
    """A file is missing, truncated, damaged or not an image.

    Attributes
    ----------
    path : str
        Of the file.
    reason : str
        What is wrong with it. Both are empty after pickling; the message is kept.
    """

    path: str = ""
    reason: str = ""

    @classmethod
    def of(
        cls, path: str, reason: str, *, expected: str = "", where: str = ""
    ) -> "UnreadableFileError":
        """Make the error of one file."""
        error = cls(
            f"{path} cannot be read ({reason})",
            expected=expected,
            where=where,
            do="copy or download the file again, or remove it from the stack",
        )
        error.path, error.reason = path, reason
        return error


def changed_error(path: str) -> UnreadableFileError:
    """Return the error of a file that has another size or time than when it was indexed."""
    reason = "it is another version than at the start: size or time of modification differ"
    error = UnreadableFileError(
        f"{path} cannot be read ({reason})",
        expected="a file that stays as it is during the work, the same on every worker",
        where=f"seen on {gethostname()}",
        do="give all workers the same files, and run the same command again",
    )
    error.path, error.reason = path, reason
    return error


def root_cause(err: BaseException) -> str:
    """Return the first line of the original error; rasterio chains GDAL's below its own."""
    while err.__cause__ is not None:
        err = err.__cause__
    return (str(err) or type(err).__name__).splitlines()[0]


class Problems:
    """Collects errors and warnings while a stack is indexed.

    Parameters
    ----------
    path : str
        The stack, for the first line of the report.

    Attributes
    ----------
    errors : list of SarstackError
    warnings : list of str
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.errors: list[SarstackError] = []
        self.warnings: list[str] = []
        self._files: dict[int, str] = {}

    def add(self, error: SarstackError, file: str = "") -> None:
        """Add an error, with the file if it is about one file."""
        self.errors.append(error)
        self._files[id(error)] = file

    def warn(self, what: str, *, where: Iterable[str] = (), do: str = "") -> None:
        """Add a warning: something surprising that does not stop the work."""
        self.warnings.append(SarstackError(what, where=list(where), do=do).message())

    def report(self) -> None:
        """Emit the warnings, then raise one error that lists all problems, if there are any.

        Raises
        ------
        StackReadError, GridMismatchError, ScaleError or StackError
            The class of the most fundamental problem; it also sets the exit code.
        """
        for text in self.warnings:
            warnings.warn(text, SarstackWarning, stacklevel=4)
        self.warnings.clear()
        errors = self._merge_repeated()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise self._join(errors)

    def _merge_repeated(self) -> list[SarstackError]:
        """Make one error of all errors that differ only in the file they name."""
        groups: dict[tuple[object, ...], list[SarstackError]] = defaultdict(list)
        for error in self.errors:
            file = self._files.get(id(error), "")
            text = error.what.replace(file, "") if file else id(error)
            groups[type(error), text].append(error)
        return [self._merge(same) if len(same) > 1 else same[0] for same in groups.values()]

    def _merge(self, same: list[SarstackError]) -> SarstackError:
        first = same[0]
        # A mask of several images is one file.
        files = list(dict.fromkeys(self._files[id(error)] for error in same))
        if len(files) == 1:
            return first
        what = f"{len(files)} files have the same problem: {first.what}"
        return type(first)(what, expected=first.expected, where=files, do=first.do)

    def _join(self, errors: list[SarstackError]) -> SarstackError:
        kind = next(k for k in _ORDER if any(isinstance(e, k) for e in errors))
        lines = [
            f"  {i}. " + error.message().replace("\n", "\n   ") for i, error in enumerate(errors, 1)
        ]
        return kind(
            "\n".join([f"{self.path} has {len(errors)} problems:", *lines]),
            do="correct all of them, then check again with `sarstack info`",
        )
