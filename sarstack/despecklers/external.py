"""Find the despeckler classes outside this package, and check them when they are loaded.

A method is one class: in a Python file that the user names (``my_file.py:MyFilter``), or in an
installed package that registers it in the entry point group ``sarstack.despecklers``. Code of a
file runs only because the user named the file.
"""

import re
from importlib.metadata import EntryPoint, entry_points
from inspect import getsourcefile, isabstract
from pathlib import Path
from typing import Any

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.source import MethodSource, hash_text
from sarstack.errors import MethodError

ENTRY_POINT_GROUP = "sarstack.despecklers"
# Results are named after the method: only characters that all file systems allow.
METHOD_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


_FILE = re.compile(r"(?P<path>.*\.py)(:(?P<class_name>\w+))?")


def is_method_file(method: str) -> bool:
    """Return whether a method is named by a Python file: ``my_file.py:MyFilter``."""
    return _FILE.fullmatch(method) is not None


def absolute_method(method: str) -> str:
    """Return ``my_file.py:MyFilter`` with the absolute path of the file."""
    path, _, class_name = method.rpartition(":")
    return f"{Path(path).absolute()}:{class_name}"


def class_from_file(method: str) -> type[Despeckler]:
    """Run a Python file and return the despeckler class in it.

    Parameters
    ----------
    method : str
        ``path/to/my_file.py:MyFilter``.

    Raises
    ------
    MethodError
        If the file cannot be read or run, has no such class, or the class is not a despeckler.
    """
    match = _FILE.fullmatch(method)
    assert match is not None
    path, class_name = Path(match["path"]).absolute(), match["class_name"]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise MethodError(
            f"method = {method!r}: the file cannot be read ({failure})",
            expected="a Python file and the name of a class in it",
            do="check the path: --method my_file.py:MyFilter",
        ) from failure
    if class_name is None:
        names = re.findall(r"^class (\w+)", text, re.MULTILINE)
        raise MethodError(
            f"method = {method!r} names no class",
            expected="my_file.py:MyFilter",
            do=f"name one of its classes: {', '.join(f'{path.name}:{n}' for n in names) or 'none'}",
        )
    source = MethodSource(str(path), class_name, hash_text(text), text=text)
    cls: type[Despeckler] = source.load_class()
    check_class(cls, source)
    return cls


def installed_sources() -> list[EntryPoint]:
    """Return the entry points by which installed packages register their despecklers."""
    return sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)


def class_from_entry_point(entry: EntryPoint) -> type[Despeckler]:
    """Import the despeckler class that an installed package registers.

    Raises
    ------
    MethodError
        If it cannot be imported, or is not a despeckler.
    """
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
    try:
        cls = entry.load()
        path = getsourcefile(cls) or ""
        text = Path(path).read_text(encoding="utf-8")
    except Exception as failure:
        raise MethodError(
            f"the method {entry.name!r} cannot be imported: {type(failure).__name__}: {failure}",
            where=f"{package}, {entry.value}",
            do=f"update or remove the package: pip uninstall {package.split()[0]}",
        ) from failure
    source = MethodSource(path, cls.__name__, hash_text(text), cls.__module__, package)
    check_class(cls, source)
    cls.source = source
    return cls


def check_class(cls: Any, source: MethodSource) -> None:
    """Raise unless a class is a despeckler with a name.

    Raises
    ------
    MethodError
        The message says what is missing.
    """
    if not isinstance(cls, type) or not issubclass(cls, Despeckler):
        lacks = "is not a subclass of sarstack.despecklers.Despeckler"
    elif isabstract(cls):
        lacks = f"does not define {', '.join(sorted(cls.__abstractmethods__))}"
    elif not METHOD_NAME.fullmatch(str(getattr(cls, "name", ""))):
        lacks = f"has no usable name (name = {getattr(cls, 'name', None)!r})"
    else:
        return
    raise MethodError(
        f"{source.label} {lacks}",
        expected="a class that derives from Despeckler, with a class attribute "
        "name = \"my-filter\" (a-z, 0-9, '.', '_', '-'), a halo and a method despeckle()",
        where=source.path,
        do="see 'Add your own' in the documentation (docs/extend.md)",
    )
