"""Further images of a result, made in the same pass: which methods have which."""

from collections.abc import Iterable

from sarstack.conventions import SUPPORT, UNCERTAINTY, Extra
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import UsageError


def choose_extras(*, uncertainty: bool, support: bool) -> tuple[Extra, ...]:
    """Return the further images that are wanted."""
    return (*([UNCERTAINTY] if uncertainty else []), *([SUPPORT] if support else []))


def check_extras(despeckler: Despeckler, extras: Iterable[Extra]) -> None:
    """Raise if a method does not have one of these images.

    Raises
    ------
    UsageError
    """
    for extra in extras:
        if extra is UNCERTAINTY:
            despeckler.check_uncertainty()
        if extra is SUPPORT and not despeckler.first_pass:
            raise UsageError(
                f"{despeckler.name} in one pass does not know which dates agree",
                expected="a method of two passes",
                do="--method despecknet-mt --set passes=2 (passes=2 in Python), or leave out "
                "--output-support (return_support)",
            )
