"""Check arguments; the message repeats the name and value that the caller gave."""

import math
from collections.abc import Sequence
from typing import Any

from sarstack.errors import UsageError

MAX_WINDOW_PX = 1001
"""Widest window of a filter: the halo of a tile has half of it on each side."""


def check_positive_int(**values: Any) -> None:
    """Refuse anything but a whole number of at least 1.

    Parameters
    ----------
    **values
        The arguments to check, under the names of the caller.

    Raises
    ------
    UsageError
        With the first argument that does not fit.
    """
    for name, value in values.items():
        if not _is_int(value) or value < 1:
            raise _usage(name, value, "a whole number of at least 1")


def check_odd_window(*, min_px: int = 3, **values: Any) -> None:
    """Refuse window widths that have no centre pixel, or are wider than `MAX_WINDOW_PX`.

    Parameters
    ----------
    min_px : int
        Smallest width; 1 where no window is a choice.
    **values
        The arguments to check, under the names of the caller.

    Raises
    ------
    UsageError
        If a value is not an odd whole number in this range.
    """
    for name, value in values.items():
        if not _is_int(value) or not min_px <= value <= MAX_WINDOW_PX or value % 2 == 0:
            first = ", ".join(str(min_px + step) for step in (0, 2, 4))
            expected = f"an odd number of pixels: {first}, ... up to {MAX_WINDOW_PX}"
            raise _usage(name, value, expected)


def check_looks(**values: Any) -> None:
    """Refuse impossible numbers of looks; None is allowed.

    Raises
    ------
    UsageError
        If a value is not a finite number of at least 0.5.
    """
    for name, value in values.items():
        if value is not None and not (_is_number(value) and 0.5 <= value < math.inf):
            raise _usage(name, value, "a number of at least 0.5 (1 = single look, GRD about 4.4)")


def check_between(low: float, high: float, **values: Any) -> None:
    """Refuse numbers outside the open interval from `low` to `high`.

    Raises
    ------
    UsageError
        If a value is not a number strictly between the limits.
    """
    for name, value in values.items():
        if not (_is_number(value) and low < value < high):
            raise _usage(name, value, f"a number between {low:g} and {high:g}")


def check_choice(allowed: Sequence[str] | Sequence[int], **values: Any) -> None:
    """Refuse words or numbers that are not allowed.

    Raises
    ------
    UsageError
        If a value is another one.
    """
    for name, value in values.items():
        if value not in allowed or isinstance(value, bool):
            raise _usage(name, value, f"one of {', '.join(map(str, allowed))}")


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _usage(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(
        f"{name} = {value!r} cannot be used", expected=expected, do=f"give another {name}"
    )
