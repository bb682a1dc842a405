"""What ``cube.despeck`` says of itself: the images, the default method, what can be called."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sarstack.cube.contract import as_cube
from sarstack.despecklers import default_method
from sarstack.errors import SarstackError
from sarstack.html_repr import Details, render_html

_TITLE = "despeck: despeckle these images"
_CALLS = (
    "cube.despeck.preview()            # a small window by several methods",
    "clean = cube.despeck.apply()      # all dates and polarisations",
    "cube.despeck.plot(clean)          # before, after, ratio",
    "clean.despeck.compute()           # a lazy result, with a progress bar",
    "cube.despeck.looks()              # looks and correlation of the speckle",
    "cube.despeck.labels()             # mean, deviation and stable pixels over time",
    "cube.despeck.evaluate(clean)      # scores",
    "cube.despeck.finetune('my.safetensors')",
)
_COMPLEX_CALLS = (
    "clean = cube.despeck.apply('merlin')   # a method that needs complex numbers",
    "intensity = abs(cube) ** 2             # all other methods: intensity.despeck.apply()",
)


def accessor_html(obj: xr.Dataset | xr.DataArray) -> str:
    """Return the HTML of the accessor of an object; no pixel is computed."""
    facts, calls = _describe(obj)
    return render_html(_TITLE, facts, [Details("what to call", {}, calls)])


def accessor_text(obj: xr.Dataset | xr.DataArray) -> str:
    """Return the same as text."""
    facts, calls = _describe(obj)
    rows = [f"  {name}: {value}" for name, value in facts.items() if value]
    return "\n".join([_TITLE, *rows, *(f"  {call}" for call in calls)])


def _describe(obj: xr.Dataset | xr.DataArray) -> tuple[dict[str, str], Sequence[str]]:
    """Return facts of an object, and lines of code; no code for what cannot be despeckled."""
    # With a name, Dask does not read the pixels to make one; nothing of this graph is computed.
    lazy = obj.chunk(token="sarstack-description")
    is_complex = all(v.dtype.kind == "c" for v in _arrays(obj))
    try:
        cube, _ = as_cube(lazy, _keep_numbers) if is_complex else as_cube(lazy)
    except SarstackError as failure:
        return {"cannot be despeckled": failure.what, "expected": failure.expected,
                "do this": failure.do}, ()  # fmt: skip
    n_dates = cube.sizes["time"]
    n_px = sum(array.size for array in cube.data_vars.values())
    in_memory = all(v.chunks is None for v in _arrays(obj))
    facts = {
        "numbers": "complex (single look complex)" if is_complex else "",
        "dates": f"{n_dates}{_span(cube)}",
        "polarisations": ", ".join(map(str, cube.data_vars)),
        "size": f"{cube.sizes['y']} x {cube.sizes['x']} px, {n_px / 1e6:.1f} Mpx in all",
        "pixels": "in memory: results are computed at once" if in_memory
        else "lazy: results are lazy, too",
        "default method": "" if is_complex else default_method(n_dates),
    }  # fmt: skip
    return facts, _COMPLEX_CALLS if is_complex else _CALLS


def _keep_numbers(cube: xr.Dataset) -> xr.Dataset:
    return cube


def _arrays(obj: xr.Dataset | xr.DataArray) -> list[Any]:
    return [obj] if isinstance(obj, xr.DataArray) else [*obj.data_vars.values()]


def _span(cube: xr.Dataset) -> str:
    times = cube["time"].values
    if times.dtype.kind != "M" or np.isnat(times).all():
        return ""
    return f", {np.nanmin(times):.10s} to {np.nanmax(times):.10s}" if times.size > 1 else ""
