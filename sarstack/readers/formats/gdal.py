"""Headers of raster files (GDAL) and npy arrays: the images in them, without reading pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarstack.errors import SarstackError
from sarstack.readers.grid import Grid, GroundControlPoint
from sarstack.readers.image import Image, describe_image, name_bands, refuse_complex, unreadable
from sarstack.readers.raster import Raster, open_gdal
from sarstack.tiles import Shape


def read_headers(path: str, bands: Sequence[str] | None = None) -> list[Image]:
    """List the images in one file or store.

    Parameters
    ----------
    path : str
        GDAL raster, ``.npy``, ``.nc`` or Zarr store.
    bands : sequence of str, optional
        Names of the bands, for files that do not say what they are.

    Returns
    -------
    list of Image
        One for each date and polarisation.

    Raises
    ------
    StackReadError
        If it is missing, empty, truncated or not an image.
    StackError
        If it is an image, but not one that can be part of a stack.
    """
    from sarstack.readers.formats.stores import is_zarr, read_netcdf_header, read_zarr_header

    lower = path.lower()
    try:
        if is_zarr(path):
            return read_zarr_header(path, bands)
        if lower.endswith((".nc", ".nc4")):
            return read_netcdf_header(path, bands)
        if lower.endswith(".npy"):
            return _read_npy_header(path, bands)
        return _read_gdal_header(path, bands)
    except SarstackError:
        raise
    except Exception as err:  # each library has its own errors for a damaged file
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise unreadable(path, reason) from err


def _read_npy_header(path: str, bands: Sequence[str] | None) -> list[Image]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if np.iscomplexobj(array):
        raise refuse_complex(path)
    if array.ndim not in (2, 3):
        raise unreadable(
            path, f"an array of shape {array.shape} is neither (y, x) nor (time, y, x)"
        )
    count = 1 if array.ndim == 2 else array.shape[0]
    names = name_bands(path, [""] * count, bands) if array.ndim == 3 else list(bands or [""])[:1]
    grid = Grid(Shape(*array.shape[-2:]))
    images = []
    for i, name in enumerate(names):
        raster = Raster(path, Path(path).stem, "npy", shape=grid.shape)
        if array.ndim == 3:
            raster = replace(raster, index=i, stem=f"{raster.stem}_{i + 1}")
        image = describe_image(raster, grid, [name, Path(path).name], {})
        images.append(replace(image, order=i) if array.ndim == 3 else image)
    return images


def _read_gdal_header(path: str, bands: Sequence[str] | None) -> list[Image]:
    if _is_local(path):
        _refuse_missing(path)
    with open_gdal(path) as dataset:
        if any(dtype.startswith("complex") for dtype in dataset.dtypes):
            raise refuse_complex(path)
        if _is_local(path):
            _refuse_truncated(path, dataset)
        grid = _read_grid(dataset)
        described = [_describe_band(dataset, band) for band in range(1, dataset.count + 1)]
        names = name_bands(path, described, bands)
        return [_read_band(path, dataset, grid, i, name) for i, name in enumerate(names)]


def _read_band(path: str, dataset: Any, grid: Grid, index: int, name: str) -> Image:
    band = index + 1
    stem, nodata = Path(path).stem, dataset.nodatavals[index]
    raster = Raster(
        path,
        stem if dataset.count == 1 else f"{stem}_{'_'.join(name.split()) or band}",
        band=band,
        shape=grid.shape,
        nodata=() if nodata is None or np.isnan(nodata) else (float(nodata),),
        gain=float(dataset.scales[index] or 1.0),
        offset=float(dataset.offsets[index] or 0.0),
    )
    tags = {**dataset.tags(), **dataset.tags(band)}
    if dataset.units[index]:
        tags["UNITTYPE"] = dataset.units[index]
    image = describe_image(raster, grid, [name, Path(path).name], tags)
    return image if dataset.count == 1 else replace(image, order=index, series=path)


def _describe_band(dataset: Any, band: int) -> str:
    tags = {k.upper(): v for k, v in dataset.tags(band).items()}
    words = [dataset.descriptions[band - 1] or "", tags.get("POLARIZATION", "")]
    return " ".join(w for w in words if w)


def _read_grid(dataset: Any) -> Grid:
    points, gcp_crs = dataset.gcps
    shape = Shape(dataset.height, dataset.width)
    if points:
        gcps = tuple(GroundControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0) for p in points)
        return Grid(shape, gcp_crs.to_wkt() if gcp_crs else "", gcps=gcps)
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    return Grid(shape, dataset.crs.to_wkt() if dataset.crs else "", (a, b, c, d, e, f))


def _is_local(path: str) -> bool:
    return "://" not in path and not path.startswith("/vsi")


def _refuse_missing(path: str) -> None:
    if not Path(path).is_file():
        raise unreadable(path, "there is no such file")
    if Path(path).stat().st_size == 0:
        raise unreadable(path, "the file is empty")


def _refuse_truncated(path: str, dataset: Any) -> None:
    """Compare the size of the file with where its last block should end.

    A file cut off during a copy still opens, because its header comes first; without this
    the error would come hours later, in the middle of the run.
    """
    size = Path(path).stat().st_size
    needed = 0
    if dataset.driver == "GTiff":
        needed = max((_last_byte(dataset, band) for band in _separate_bands(dataset)), default=0)
    elif dataset.driver == "ENVI" and not dataset.compression:
        header = int(dataset.tags(ns="ENVI").get("header_offset", 0))
        sizes = [np.dtype(d).itemsize for d in dataset.dtypes]
        needed = header + sum(sizes) * dataset.height * dataset.width
    if size < needed:
        raise unreadable(path, f"it is truncated, {size} of at least {needed} bytes are there")


def _separate_bands(dataset: Any) -> range:
    interleaved = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    return range(1, 2 if interleaved else dataset.count + 1)


def _last_byte(dataset: Any, band: int) -> int:
    height, width = dataset.block_shapes[band - 1]
    last = 0
    for row in range(-(-dataset.height // height)):
        for column in range(-(-dataset.width // width)):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
            if offset:  # a sparse block has none
                size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                last = max(last, int(offset) + int(size or 0))
    return last
