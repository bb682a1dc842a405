"""Every despeckler of sarstack, by name.

``make_despeckler("lee-sigma")`` builds one; ``despeckler_names()`` lists them. The methods of
sarstack are the classes in the files of ``despecklers/methods``, which are found here without
being listed anywhere.
"""

import pkgutil
from functools import cache
from importlib import import_module
from inspect import isabstract, signature
from typing import Any

from sarstack.despecklers import methods
from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import UsageError

DATES_FOR_STACK_METHOD = 5


@cache
def despeckler_classes() -> dict[str, type[Despeckler]]:
    """Return the class of each method, by name."""
    found = {}
    for file in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        for cls in vars(import_module(file.name)).values():
            if is_despeckler_class(cls) and cls.__module__ == file.name:
                found[cls.name] = cls
    return found


def is_despeckler_class(value: Any) -> bool:
    """Tell whether a value is a class of despecklers that can be built."""
    return (
        isinstance(value, type)
        and issubclass(value, Despeckler)
        and not isabstract(value)
        and hasattr(value, "name")
    )


def despeckler_names() -> list[str]:
    """Return the names of all methods."""
    return list(despeckler_classes())


def describe_despecklers() -> dict[str, str]:
    """Return the first line of each method's description, by name."""
    return {
        name: (cls.__doc__ or "").strip().splitlines()[0]
        for name, cls in despeckler_classes().items()
    }


def default_method(n_dates: int) -> str:
    """Return the method to use where none is named.

    ``despecknet-mt`` for five dates or more, ``despecknet`` for fewer: then the other dates
    add little to what the date itself shows.
    """
    return "despecknet-mt" if n_dates >= DATES_FOR_STACK_METHOD else "despecknet"


def make_despeckler(name: str, **parameters: Any) -> Despeckler:
    """Build a despeckler from its name and its own keyword parameters.

    Parameters
    ----------
    name : str
        The name of a method, or the path of a ``.safetensors`` model, whose card says
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
    known = despeckler_classes()
    if name not in known:
        raise UsageError(
            f"method = {name!r} is not known",
            expected=f"one of {', '.join(known)}, or the path of a .safetensors model",
            do="choose one of these names; `sarstack methods` describes them",
        )
    accepted = signature(known[name]).parameters
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise UsageError(
            f"method {name!r} has no parameter {', '.join(unknown)}",
            expected=", ".join(accepted) or "no parameters",
            do="check the spelling",
        )
    return known[name](**parameters)
