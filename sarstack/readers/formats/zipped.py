"""Zip files of GeoTIFFs, as ASF delivers HyP3 products: opened without unpacking."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sarstack.conventions import AUXILIARY_NAME
from sarstack.errors import SarstackError, StackReadError
from sarstack.readers.formats import gdal
from sarstack.readers.image import Image, Notice, unreadable_error
from sarstack.readers.layer_files import open_layer
from sarstack.readers.paths import is_remote, zip_path

TITLE = "zip file of GeoTIFFs"
SUFFIXES = (".zip",)
LARGE_BYTES = 64 * 2**20
"""A compressed image of this size takes seconds for each tile."""

_IMAGE_SUFFIXES = (".tif", ".tiff")
_DEFLATE_64 = 9
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _DEFLATE_64)
# No image is so large and can be compressed so much; a file made to fill memory can.
_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 2**30, 200


def matches(path: str) -> bool:
    """Return whether a path has the name of a zip file. SAFE products are tried before."""
    return path.lower().endswith(".zip") and not is_remote(path) and not Path(path).is_dir()


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of all GeoTIFFs in a zip file, see ``registry.Format``."""
    members = _list_members(path)
    found = [member for member in members if _is_image(member.filename)]
    if not found:
        raise _no_image_error(path, members)
    for member in members:
        if _is_image(member.filename):
            _check_member(path, member)
        elif member.filename.lower().endswith(".msk"):
            _check_mask(path, member.filename)
    return [image for member in found for image in _list_member(path, member, bands)]


def list_image_names(path: Path) -> list[str] | None:
    """Return the names of the images in a zip file without folders; None if it is damaged."""
    try:
        members = _list_members(str(path))
    except SarstackError:
        return None
    return [PurePosixPath(m.filename).name for m in members if _is_image(m.filename)]


def _list_members(path: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [member for member in archive.infolist() if not member.is_dir()]
    except FileNotFoundError as err:
        raise unreadable_error(path, "there is no such file") from err
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as err:
        raise unreadable_error(path, f"it is no zip file, or not complete: {err}") from err


def _is_image(member: str) -> bool:
    place = PurePosixPath(member)
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
    is_auxiliary = AUXILIARY_NAME.search(place.stem)
    return place.suffix.lower() in _IMAGE_SUFFIXES and not is_hidden and not is_auxiliary


def _check_member(path: str, member: zipfile.ZipInfo) -> None:
    """Raise if GDAL cannot read a member, or would need more memory and time than any image."""
    name, size = member.filename, member.file_size
    if member.flag_bits & 1:
        raise unreadable_error(path, f"{name} in it is encrypted: unpack it with its password")
    if member.compress_type not in _METHODS:
        method = f"{name} in it has compression method {member.compress_type}, not 0, 8 or 9"
        raise unreadable_error(path, f"{method}: unpack it")
    if size > _SUSPICIOUS_BYTES and size > _SUSPICIOUS_RATIO * member.compress_size:
        told = f"{member.compress_size / 1e6:.3g} MB become {size / 1e9:.3g} GB"
        raise unreadable_error(path, f"{name} in it is no image: {told}")


def _check_mask(path: str, member: str) -> None:
    """Raise if the mask of an image is no GeoTIFF: GDAL opens it by its content."""
    try:
        open_layer(zip_path(path, member)).close()
    except Exception as err:  # rasterio has several errors for damaged files
        raise unreadable_error(path, f"{member} in it is no GeoTIFF") from err


def _list_member(path: str, member: zipfile.ZipInfo, bands: Sequence[str] | None) -> list[Image]:
    place = zip_path(path, member.filename)
    try:
        images = gdal.list_images(place, bands, size_bytes=member.file_size)
    except SarstackError:
        raise
    except Exception as err:  # rasterio has several errors for damaged files
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise unreadable_error(path, f"{member.filename}: {reason}") from err
    notices: tuple[Notice, ...] = ()
    if member.compress_type != zipfile.ZIP_STORED and member.file_size > LARGE_BYTES:
        what = (
            "large images are compressed in a zip file, so each tile is decompressed from the "
            "start of its image: this takes long"
        )
        notices = (Notice(what, "unzip the files, and use their folder"),)
    return [
        replace(
            image,
            raster=replace(image.raster, path=path, member=member.filename),
            notices=(*image.notices, *notices),
        )
        for image in images
        if isinstance(image.raster, gdal.GdalRaster)
    ]


def _no_image_error(path: str, members: Sequence[zipfile.ZipInfo]) -> StackReadError:
    names = [member.filename for member in members]
    has_archives = any(name.lower().endswith((".zip", ".tar", ".gz", ".tgz")) for name in names)
    return StackReadError(
        f"{path} holds no image",
        expected=f"files ending in {' or '.join(_IMAGE_SUFFIXES)} that are no masks or angles",
        where=names or ["it is empty"],
        do="unzip it: it holds archives" if has_archives else "check the path",
    )
