"""Where a method from outside the package comes from, and how it gets to a worker process.

A class keeps its source in ``Despeckler.source``. The hash of the source goes into the tags and
marks of all results. A worker process gets the text of a file with the task. Of an installed
package it needs a copy with the same hash.
"""

import hashlib
import linecache
import sys
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from inspect import getsourcefile
from pathlib import Path
from types import ModuleType
from typing import Any

from sarstack.errors import MethodError


@dataclass(frozen=True)
class MethodSource:
    """Where the class of a method comes from.

    Attributes
    ----------
    path : str
        The source file, on the machine that planned the work.
    class_name : str
        Name of the class in it.
    sha256 : str
        Hash of the text of that file. It does not cover other files that the class imports.
    module : str
        Module of an installed package; empty for a file of the user.
    package : str
        Name and version of the installed package; empty for a file of the user.
    text : str
        Text of a file of the user; empty for an installed package.
    """

    path: str
    class_name: str
    sha256: str
    module: str = ""
    package: str = ""
    text: str = field(default="", repr=False)

    @property
    def label(self) -> str:
        """Name of file or package, and class."""
        return f"{self.package or Path(self.path).name}:{self.class_name}"

    def load_class(self) -> Any:
        """Return the class in this process.

        Raises
        ------
        MethodError
            If the text or the installed package is another one than when the work was planned, or
            cannot be imported.
        """
        cls = getattr(self.load_module(), self.class_name, None)
        if isinstance(cls, type):
            cls.source = self  # type: ignore[attr-defined]
        return cls

    def load_module(self) -> ModuleType:
        """Return the module of the class, imported or run in this process."""
        if not self.text:
            module = import_module(self.module)
            found = hash_text(Path(getsourcefile(module) or "").read_text(encoding="utf-8"))
        else:
            found = hash_text(self.text)
        if found != self.sha256:
            raise MethodError(
                f"the source of {self.label} has the hash {found[:12]}",
                expected=f"{self.sha256[:12]}, as where the work was planned",
                where=self.package or self.path,
                do="install the same version on all workers",
            )
        return _run_text(self.text, self.path) if self.text else module


def describe_failure(failure: BaseException, source: MethodSource) -> str:
    """Return the error and the last line of the method's own file that led to it."""
    frames = traceback.extract_tb(failure.__traceback__)
    lines = [f.lineno for f in frames if f.filename == source.path]
    if isinstance(failure, SyntaxError):
        lines.append(failure.lineno)
    place = f" (line {lines[-1]} of {Path(source.path).name})" if lines else ""
    return f"{type(failure).__name__}: {failure}{place}"


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _run_text(text: str, path: str) -> ModuleType:
    """Run the text of a file as a module, once per process and text."""
    name = f"sarstack_method_{hash_text(text)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = path
    # So that tracebacks show the lines of the file, also on a worker that does not have the file.
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except Exception as failure:
        del sys.modules[name]
        source = MethodSource(path, "", hash_text(text), text=text)
        raise MethodError(
            f"the file of the method cannot be run: {describe_failure(failure, source)}",
            expected="a file that imports installed packages only, not files beside it",
            where=path,
            do="run it with Python to see the whole error",
        ) from failure
    return module
