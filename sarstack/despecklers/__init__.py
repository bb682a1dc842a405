"""Every despeckler of sarstack, by name: one file a method, one registry for all.

``make_despeckler("lee-sigma")`` builds one; ``despeckler_names()`` lists them. To add a
method, write a file with a :class:`Despeckler` subclass decorated with :func:`register`
and import it at the end of this file: it is then tiled, distributed, tested and
benchmarked like all others.
"""

from inspect import signature
from typing import Any, TypeVar

from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import UsageError

__all__ = [
    "Despeckler",
    "default_method",
    "describe_despecklers",
    "despeckler_names",
    "make_despeckler",
    "register",
]

DATES_FOR_STACK_METHOD = 5

_CLASSES: dict[str, type[Despeckler]] = {}

_D = TypeVar("_D", bound=type[Despeckler])


def register(cls: _D) -> _D:
    """Class decorator: enter a despeckler under its ``name``."""
    _CLASSES[cls.name] = cls
    return cls


def despeckler_names() -> list[str]:
    """Return the names of all registered despecklers."""
    return list(_CLASSES)


def describe_despecklers() -> dict[str, str]:
    """Return the first line of each method's description, by name."""
    return {name: (cls.__doc__ or "").strip().splitlines()[0] for name, cls in _CLASSES.items()}


def default_method(n_dates: int) -> str:
    """Return the method to use where none is named.

    ``despecknet-mt`` from five dates on: with fewer, the others say little more than the
    date itself; ``despecknet`` below.
    """
    return "despecknet-mt" if n_dates >= DATES_FOR_STACK_METHOD else "despecknet"


def make_despeckler(name: str, **parameters: Any) -> Despeckler:
    """Build a despeckler from its registered name and its own keyword parameters.

    Parameters
    ----------
    name : str
        A registered name, or the path of a ``.safetensors`` model, whose card says
        which network it is for.
    **parameters
        Keyword parameters of the method.

    Raises
    ------
    UsageError
        If no method has this name, or the method no such parameter.
    ModelCardError
        If a model file has no card or one that does not fit.
    """
    if name.endswith(".safetensors"):
        from sarstack.networks.card import read_card

        return make_despeckler(read_card(name).variant, model=name, **parameters)
    if name not in _CLASSES:
        raise UsageError(
            f"method = {name!r} is not known",
            expected=f"one of {', '.join(_CLASSES)}, or the path of a .safetensors model",
            do="choose one of these names; `sarstack methods` describes them",
        )
    accepted = signature(_CLASSES[name]).parameters
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise UsageError(
            f"method {name!r} has no parameter {', '.join(unknown)}",
            expected=", ".join(accepted) or "no parameters",
            do="check the spelling",
        )
    return _CLASSES[name](**parameters)


from sarstack.despecklers import (  # noqa: E402
    boxcar,  # noqa: F401
    despecknet,  # noqa: F401
    lee,  # noqa: F401
    lee_sigma,  # noqa: F401
    quegan_yu,  # noqa: F401
)
