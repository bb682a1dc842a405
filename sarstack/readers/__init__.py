"""The door for what users have on disk: folders of images, single files, stores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sarstack.readers.index import index_stack

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["index_stack", "open_stack"]


def open_stack(
    path: str | Path,
    *,
    scale: str | None = None,
    chunk_px: int = 1024,
    bands: Sequence[str] | None = None,
) -> "xr.Dataset":
    """Open a stack as a lazy cube.

    Parameters
    ----------
    path : str or Path
        A folder of images, one image, a pattern, a netCDF file or a Zarr store.
    scale : str, optional
        ``linear``, ``amplitude`` or ``db``, when neither tags nor numbers tell.
    chunk_px : int, optional
        Side of a chunk in pixels; a chunk holds one date.
    bands : sequence of str, optional
        Names of bands that have none in the file, e.g. ``['VV', 'VH']``.

    Returns
    -------
    xarray.Dataset
        Variables ``vv vh hh hv`` as present, dims ``(time, y, x)``, float32 linear
        intensity, NaN = nodata; CRS in ``spatial_ref``.

    Raises
    ------
    StackReadError, GridMismatchError, ScaleError, StackError
        If the stack cannot be used; all problems are listed at once.

    Notes
    -----
    Lazy: headers and a few small windows are read, whatever the size of the stack.
    """
    from sarstack.readers.cube import build_cube

    return build_cube(index_stack(path, scale=scale, bands=bands), chunk_px)
