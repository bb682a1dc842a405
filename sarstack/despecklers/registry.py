"""Find and build methods by name: those of this package and of installed packages.

``make_despeckler("lee-sigma")`` builds one; ``despeckler_names()`` lists them. The methods of
this package are the classes in the files of ``despecklers/methods``, which are detected
automatically. ``make_despeckler("my_file.py:MyFilter")`` builds one from a file.
"""

import pkgutil
import warnings
from functools import cache
from importlib import import_module
from inspect import isabstract, signature
from pathlib import Path
from typing import Any

from sarstack.checks import check_positive_int
from sarstack.despecklers import methods
from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.external import (
    class_from_entry_point,
    class_from_file,
    installed_sources,
    is_method_file,
)
from sarstack.errors import MethodError, SarstackWarning, UsageError

# From this number of dates on, a multi-temporal method is the default.
MIN_DATES_MULTI_TEMPORAL = 5


@cache
def builtin_classes() -> dict[str, type[Despeckler]]:
    """Return the class of each method of this package, by name."""
    found = {}
    for file in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        for cls in vars(import_module(file.name)).values():
            if _is_method(cls) and cls.__module__ == file.name:
                found[cls.name] = cls
    return found


def _is_method(value: Any) -> bool:
    is_class = isinstance(value, type) and issubclass(value, Despeckler)
    return is_class and not isabstract(value) and hasattr(value, "name")


@cache
def installed_classes() -> dict[str, type[Despeckler]]:
    """Return the class of each method of other installed packages, by name.

    A method that cannot be used is left out with a warning.
    """
    found: dict[str, type[Despeckler]] = {}
    for entry in installed_sources():
        try:
            cls = class_from_entry_point(entry)
            _check_name_not_builtin(cls)
        except MethodError as failure:
            warnings.warn(SarstackWarning(failure.message()), stacklevel=2)
        else:
            found[cls.name] = cls
    return found


def _check_name_not_builtin(cls: type[Despeckler]) -> None:
    if cls.name in builtin_classes():
        raise MethodError(
            f"{cls.source.label if cls.source else cls} has the name {cls.name!r}",
            expected="a name that no method of sarstack has: results are named after it",
            do='change the class attribute: name = "my-filter"',
        )


def despeckler_classes() -> dict[str, type[Despeckler]]:
    """Return the class of each method that is installed, by name."""
    return builtin_classes() | installed_classes()


def despeckler_names() -> list[str]:
    """Return the names of all methods that are installed."""
    return list(despeckler_classes())


def find_class(method: str) -> type[Despeckler]:
    """Return the class of a method.

    Parameters
    ----------
    method : str
        A name, or a file and a class: ``my_file.py:MyFilter``.

    Raises
    ------
    UsageError
        If no method has this name.
    MethodError
        If the file cannot be run, or its class is not a despeckler.
    """
    if is_method_file(method):
        cls = class_from_file(method)
        _check_name_not_builtin(cls)
        return cls
    if method in builtin_classes():
        return builtin_classes()[method]
    classes = despeckler_classes()
    if method not in classes:
        raise UsageError(
            f"method = {method!r} is not known",
            expected=f"one of {', '.join(classes)}, the path of a .safetensors model, "
            "or a class in a file of yours: my_file.py:MyFilter",
            do="choose one of these names; `sarstack methods` describes them",
        )
    return classes[method]


def default_method(n_dates: int) -> str:
    """Return the method to use where none is named.

    ``despecknet-mt`` for five dates or more, else ``despecknet``: with fewer dates, the other
    dates improve the result only little.
    """
    return "despecknet-mt" if n_dates >= MIN_DATES_MULTI_TEMPORAL else "despecknet"


def as_despeckler(method: Any, **parameters: Any) -> Despeckler:
    """Return `method` if it is a despeckler; else build it from its name or the path of a model.

    Raises
    ------
    UsageError
        If it is neither; also as :func:`make_despeckler`.
    """
    if isinstance(method, Despeckler):
        return method
    if not isinstance(method, str | Path):
        raise UsageError(
            f"method = {method!r} cannot be used",
            expected="the name of a method, the path of a model, or an object of a class that "
            "derives from sarstack.despecklers.Despeckler",
            do="`sarstack methods` lists the names",
        )
    return make_despeckler(str(method), **parameters)


def make_despeckler(name: str, **parameters: Any) -> Despeckler:
    """Build a despeckler from its name and its own keyword parameters.

    Parameters
    ----------
    name : str
        The name of a method; a file and a class, ``my_file.py:MyFilter``; or the path of a
        ``.safetensors`` model, whose card says which network it is for. Python code runs only
        from a file named here: a model file contains none.
    **parameters
        Keyword parameters of the method.

    Raises
    ------
    UsageError
        If no method has this name, or the method does not have this parameter.
    MethodError
        If a file cannot be run, or its class is not a despeckler.
    ModelCardError
        If a model file has no card or one that does not fit.
    """
    if name.endswith(".safetensors"):
        from sarstack.networks.model_file import read_card

        return make_despeckler(read_card(name).variant, model=name, **parameters)
    cls = find_class(name)
    accepted = signature(cls).parameters
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise UsageError(
            f"method {name!r} has no parameter {', '.join(unknown)}",
            expected=", ".join(accepted) or "no parameters",
            do="check the spelling",
        )
    despeckler = cls(**parameters)
    _check_sizes(despeckler)
    return despeckler


def _check_sizes(despeckler: Despeckler) -> None:
    """Check halo, cell size and alignment: a class from outside may lack them or have wrong ones.

    Raises
    ------
    MethodError, UsageError
    """
    halo = getattr(despeckler, "halo", None)
    if not isinstance(halo, int) or halo < 0:
        raise MethodError(
            f"{despeckler.name}: halo = {halo!r}",
            expected="a whole number of pixels, 0 or more, that the method needs on each side",
            do="set it in the class or in __init__: self.halo = self.window_px // 2",
        )
    check_positive_int(cell_px=despeckler.cell_px, alignment=despeckler.alignment)
