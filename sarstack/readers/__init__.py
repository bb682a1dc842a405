"""Stacks on disk: folders of images, single files, Zarr stores and netCDF files."""

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
    calibration: str | None = None,
    mask: str | Sequence[str] | None = None,
    gain_db: float | None = None,
) -> "xr.Dataset":
    """Open a stack as a lazy cube.

    Parameters
    ----------
    path : str or Path
        A folder of images, one image, a pattern, a netCDF file, a Zarr store, or a JSON file or
        URL of STAC items.
    scale : str, optional
        ``linear``, ``amplitude`` or ``db``. Needed if tags, names and pixel values do not
        show it.
    chunk_px : int, optional
        Side of a chunk in pixels; each chunk holds one date.
    bands : sequence of str, optional
        Names of bands without a description in the file, e.g. ``['VV', 'VH']``.
    calibration : str, optional
        ``sigma0`` (default), ``beta0``, ``gamma0`` or ``dn``, for a SAFE product.
    mask : str or sequence of str, optional
        ``shadow``, ``layover`` or both, for OPERA RTC-S1 and HyP3 RTC images with their mask
        files: these pixels become nodata.
    gain_db : float, optional
        Decibels that are added to the backscatter: the calibration factor of digital numbers.
        Replaces the factor that the product tells.

    Returns
    -------
    xarray.Dataset
        Variables ``vv vh hh hv`` as present, dims ``(time, y, x)``, float32 linear
        intensity, NaN = nodata; CRS in ``spatial_ref``.

    Raises
    ------
    StackReadError, GridMismatchError, ScaleError, StackError
        If the stack cannot be used. One error lists all problems.

    Notes
    -----
    Lazy: only headers and a few small windows of each image are read.
    """
    from sarstack.readers.cube import build_cube

    stack = index_stack(
        path, scale=scale, bands=bands, calibration=calibration, mask=mask, gain_db=gain_db
    )
    stack.check_coregistered("a cube", do="open one GRD product, for example open_stack('X.SAFE')")
    return build_cube(stack, chunk_px)
