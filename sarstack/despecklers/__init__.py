"""Every despeckler of sarstack, by name: one file a method, one registry for all.

``make_despeckler("lee-sigma")`` builds one; ``despeckler_names()`` lists them. To add a
method, write a file with a :class:`Despeckler` subclass decorated with :func:`register`
and import it at the end of this file: it is then tiled, distributed, tested and
benchmarked like all others.
"""

from typing import Any, TypeVar

from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import UsageError

__all__ = ["Despeckler", "despeckler_names", "make_despeckler", "register"]

_CLASSES: dict[str, type[Despeckler]] = {}

_D = TypeVar("_D", bound=type[Despeckler])


def register(cls: _D) -> _D:
    """Class decorator: enter a despeckler under its ``name``."""
    _CLASSES[cls.name] = cls
    return cls


def despeckler_names() -> list[str]:
    """Return the names of all registered despecklers."""
    return list(_CLASSES)


def make_despeckler(name: str, **parameters: Any) -> Despeckler:
    """Build a despeckler from its registered name and its own keyword parameters.

    Raises
    ------
    UsageError
        If no method has this name.
    """
    if name not in _CLASSES:
        raise UsageError(
            f"method = {name!r} is not known",
            expected=f"one of {', '.join(_CLASSES)}, or the path of a .safetensors model",
            do="choose one of these names; `sarstack methods` describes them",
        )
    return _CLASSES[name](**parameters)


from sarstack.despecklers import boxcar, lee  # noqa: E402, F401
