"""sarstack: despeckle whole Sentinel-1 archives.

A folder of Sentinel-1 images in, despeckled and georeferenced images out, on a laptop,
a GPU or a cluster. ``import sarstack`` registers the accessor ``ds.despeck``.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__", "build_labels", "decorrelate", "despeckle", "open_stack"]

if TYPE_CHECKING:
    from sarstack.cube.decorrelate import decorrelate
    from sarstack.readers import open_stack
    from sarstack.workflows.build_labels import build_labels
    from sarstack.workflows.despeckle.run import despeckle

# Imported at first use: `import sarstack` costs nothing heavy.
_MODULES = {
    "open_stack": "sarstack.readers",
    "build_labels": "sarstack.workflows.build_labels",
    "decorrelate": "sarstack.cube.decorrelate",
    "despeckle": "sarstack.workflows.despeckle.run",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'sarstack' has no attribute {name!r}")


def _register_accessor() -> None:
    importlib.import_module("sarstack.cube.accessor")


class _AfterXarray(MetaPathFinder):
    """Registers the accessor right after xarray is imported.

    The command line and worker processes need no xarray; to import it takes half a second.
    """

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name != "xarray":
            return None
        # Programs also search for a module without importing it, so this finder stays.
        others = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        found = (finder.find_spec(name, None) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_then_register(module: ModuleType) -> None:
            exec_module(module)
            _register_accessor()

        spec.loader.exec_module = exec_then_register  # type: ignore[method-assign]
        return spec


if "xarray" in sys.modules:
    _register_accessor()
else:
    sys.meta_path.insert(0, _AfterXarray())
