"""sarstack: despeckle whole Sentinel-1 archives.

A folder of Sentinel-1 images in, despeckled and georeferenced images out, on a laptop,
a GPU or a cluster. ``import sarstack`` registers the accessor ``ds.despeck``.
"""

from typing import TYPE_CHECKING, Any

from sarstack.cube import accessor as _accessor  # noqa: F401 - registers ds.despeck

__version__ = "0.1.0"

__all__ = ["__version__", "build_labels", "despeckle", "open_stack"]

if TYPE_CHECKING:
    from sarstack.readers import open_stack
    from sarstack.workflows.build_labels import build_labels
    from sarstack.workflows.despeckle.run import despeckle

# Loaded on first use: `import sarstack` costs xarray and nothing heavier.
_HOMES = {
    "open_stack": "sarstack.readers",
    "build_labels": "sarstack.workflows.build_labels",
    "despeckle": "sarstack.workflows.despeckle.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sarstack' has no attribute {name!r}")
