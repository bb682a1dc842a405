"""All problems of a stack, collected first and told at once."""

import warnings
from collections import defaultdict
from collections.abc import Iterable

from sarstack.errors import (
    GridMismatchError,
    SarstackError,
    SarstackWarning,
    ScaleError,
    StackError,
    StackReadError,
)

# Most fundamental first: what cannot be read cannot be compared.
_ORDER = (StackReadError, GridMismatchError, ScaleError, StackError)


class Problems:
    """Collects errors and warnings while a stack is indexed.

    Parameters
    ----------
    path : str
        The stack, for the headline of the message.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.errors: list[SarstackError] = []
        self.warnings: list[str] = []
        self._files: dict[int, str] = {}

    def add(self, error: SarstackError, file: str = "") -> None:
        """Remember an error, and the file that it names when it is about one file."""
        self.errors.append(error)
        self._files[id(error)] = file

    def warn(self, what: str, *, where: Iterable[str] = (), do: str = "") -> None:
        """Remember something surprising that does not stop the work."""
        self.warnings.append(SarstackError(what, where=list(where), do=do).message())

    def report(self) -> None:
        """Emit the warnings, then raise one error that lists all problems, if there are any.

        Raises
        ------
        StackReadError, GridMismatchError, ScaleError or StackError
            The kind of the most fundamental problem, which also fixes the exit code.
        """
        for text in self.warnings:
            warnings.warn(text, SarstackWarning, stacklevel=4)
        self.warnings.clear()
        told = self._group()
        if len(told) == 1:
            raise told[0]
        if told:
            raise self._join(told)

    def _group(self) -> list[SarstackError]:
        """Make one error of those that differ only in the file they name."""
        groups: dict[tuple[object, ...], list[SarstackError]] = defaultdict(list)
        for error in self.errors:
            file = self._files.get(id(error), "")
            alike = error.what.replace(file, "") if file else id(error)
            groups[type(error), alike].append(error)
        return [self._merge(same) if len(same) > 1 else same[0] for same in groups.values()]

    def _merge(self, same: list[SarstackError]) -> SarstackError:
        first = same[0]
        files = [self._files[id(error)] for error in same]
        what = f"{len(same)} files have the same problem: {first.what}"
        return type(first)(what, expected=first.expected, where=files, do=first.do)

    def _join(self, told: list[SarstackError]) -> SarstackError:
        kind = next(k for k in _ORDER if any(isinstance(e, k) for e in told))
        lines = [
            f"  {i}. " + error.message().replace("\n", "\n   ") for i, error in enumerate(told, 1)
        ]
        return kind(
            "\n".join([f"{self.path} has {len(told)} problems:", *lines]),
            do="mend all of them, then look again with `sarstack info`",
        )
