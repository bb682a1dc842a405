"""Sentinel-1 SAFE GRD and SLC: a folder or zip file as ESA delivers it, calibrated while read.

The pixels of a product are digital numbers (DN), amplitudes in radar geometry. They are squared
and divided by the look-up table of the annotation. Digital numbers of zero are nodata, and so is
the noise at the edges of old products.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sarstack.errors import SarstackError, SarstackWarning, StackError
from sarstack.readers.formats import gdal
from sarstack.readers.formats.gdal import GdalRaster
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image, describe_image, unreadable_error
from sarstack.readers.paths import is_remote
from sarstack.readers.sentinel1.annotation import (
    Annotation,
    read_annotation,
    read_processor_version,
    read_relative_orbit,
)
from sarstack.readers.sentinel1.border import FIRST_VERSION_WITHOUT
from sarstack.readers.sentinel1.product import SafeProduct, find_product, is_product
from sarstack.readers.sentinel1.raster import SafeRaster
from sarstack.readers.sentinel1.slc import SlcRaster, read_bursts

TITLE = "Sentinel-1 SAFE GRD and SLC"
LARGE_BYTES = 64 * 2**20  # a compressed image of this size takes seconds for each tile
SUFFIXES = ()  # a product is a folder, or a zip file that is named


def matches(path: str) -> bool:
    """Return whether a path is a product, or is named as one."""
    return not is_remote(path) and is_product(Path(path))


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a product, see :class:`sarstack.readers.registry.Format`."""
    if bands is not None:
        raise StackError(
            f"bands = {list(bands)} cannot be used: {path} names its polarisations itself",
            do="leave it out; --pol VV (in Python polarisations) chooses among them",
        )
    product = find_product(path)
    if product is None:
        raise unreadable_error(path, "it has no manifest.safe and annotation: it is not complete")
    members = product.list_members()
    annotations = {m: read_annotation(product, m) for m in _list_annotations(members)}
    for annotation in annotations.values():
        if annotation.product_type not in ("GRD", "SLC"):
            raise _not_image_error(path, annotation.product_type)
    pixels = {m: found for m in annotations if (found := _find_measurement(members, m))}
    if not pixels:
        raise unreadable_error(path, "it has no measurement of an annotated image")
    absent = [annotation for m, annotation in annotations.items() if m not in pixels]
    if missing := [f"{annotation.swath} {annotation.polarisation}" for annotation in absent]:
        what = f"{path} has no measurement of {', '.join(missing)}: it is used without"
        warnings.warn(what, SarstackWarning, stacklevel=2)
    _warn_if_slow(product, pixels.values())
    orbit = read_relative_orbit(product)
    border = _find_border_image(product, annotations, pixels)
    return [_make_image(product, m, pixels[m], annotations[m], orbit, border) for m in pixels]


def _warn_if_slow(product: SafeProduct, pixels: Iterable[str]) -> None:
    if max(product.compressed_bytes(member) for member in pixels) > LARGE_BYTES:
        what = (
            f"{product.path} is compressed, so each tile is decompressed from the start of the "
            "image: this takes long. Unzip it, and use the folder"
        )
        warnings.warn(what, SarstackWarning, stacklevel=3)


def _find_border_image(
    product: SafeProduct, annotations: Mapping[str, Annotation], pixels: Mapping[str, str]
) -> str:
    """Return the member with the co-polarised image if the edges are noise; else an empty text."""
    is_grd = any(annotations[m].product_type == "GRD" for m in pixels)
    if not is_grd or read_processor_version(product) >= FIRST_VERSION_WITHOUT:
        return ""
    found = [pixels[m] for m in pixels if annotations[m].polarisation in ("VV", "HH")]
    return next(iter(found), "")


def _list_annotations(members: Sequence[str]) -> list[str]:
    names = [PurePosixPath(member) for member in members]
    return [str(n) for n in names if n.parts[:-1] == ("annotation",) and n.suffix == ".xml"]


def _find_measurement(members: Sequence[str], annotation: str) -> str:
    """Return the member with the pixels of an annotation, empty if it is missing."""
    stem = PurePosixPath(annotation).stem
    # Cloud-optimised products have a suffix.
    names = [f"measurement/{stem}{end}" for end in (".tiff", "-cog.tiff", ".tif")]
    return next((name for name in names if name in members), "")


def _make_image(
    product: SafeProduct,
    member: str,
    pixels: str,
    annotation: Annotation,
    orbit: str,
    border: str,
) -> Image:
    path = product.gdal_path(pixels)
    try:
        [found] = gdal.list_images(path, [annotation.polarisation])
    except SarstackError:
        raise
    except Exception as err:
        raise unreadable_error(path, str(err).splitlines()[0]) from err
    if found.grid.shape != annotation.shape:
        size, annotated = ("{} x {}".format(*s) for s in (found.grid.shape, annotation.shape))
        raise unreadable_error(path, f"it has {size} pixels, its annotation says {annotated}")
    is_slc = annotation.product_type == "SLC"
    complex_nodata = found.raster.complex_nodata if isinstance(found.raster, GdalRaster) else ()
    raster = (SlcRaster if is_slc else SafeRaster)(
        product.file_with(pixels),
        PurePosixPath(pixels).stem,
        shape=annotation.shape,
        product=product,
        annotation=member,
        pixels=path,
        dn_nodata=found.raster.nodata + complex_nodata,
        image_shape=annotation.shape,
        border=border,
    )
    tags = {
        "ACQUISITION_DATETIME": annotation.start_time,
        "PLATFORM": annotation.platform,
        "POLARIZATION": annotation.polarisation,
        "ORBIT_DIRECTION": annotation.orbit_direction,
        "RELATIVE_ORBIT": orbit,
        "BACKSCATTER_SCALE": "linear",
        "CALIBRATION": raster.calibration,
    }
    if isinstance(raster, SlcRaster):
        rows = read_bursts(product, member).rows
        raster = replace(raster, burst_rows=rows, complex_as="intensity")
    image = describe_image(raster, _complete_grid(found.grid, annotation), [], tags)
    image = replace(image, order=None, series=product.path, in_radar_geometry=True)
    if not is_slc:
        return replace(image, slice=annotation.slice)
    # The sub-swaths of a product begin less than a second apart.
    metadata = replace(image.metadata, time=annotation.slice.first_line)
    return replace(image, metadata=metadata)


def _complete_grid(grid: Grid, annotation: Annotation) -> Grid:
    """Return the grid of the pixels, with the points of the annotation if the file has none."""
    if grid.gcps or not annotation.gcps:
        return grid
    from rasterio.crs import CRS

    return Grid(grid.shape, CRS.from_epsg(4326).to_wkt(), gcps=annotation.gcps)


def _not_image_error(path: str, product_type: str) -> StackError:
    return StackError(
        f"{path} is a SAFE product of type {product_type}",
        expected="GRD (ground range, detected) or SLC (single look complex)",
        do="download the GRD of this acquisition",
    )
