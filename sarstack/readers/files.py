"""The image files of a stack, found from the path that the user gave."""

import glob
import os
import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sarstack.conventions import AUXILIARY_NAME, PRODUCTS
from sarstack.errors import SarstackWarning, StackReadError
from sarstack.readers.formats import eopf, nisar, zipped
from sarstack.readers.paths import file_name, is_remote
from sarstack.readers.registry import find_format, image_suffixes
from sarstack.readers.remote import is_pattern, is_storage, list_objects, scheme_of
from sarstack.readers.sentinel1.product import is_product as is_safe

_ACCEPTED = (
    "a folder of GeoTIFF/COG, ENVI, npy, netCDF or NISAR GCOV images, one such file, a Zarr store, "
    "a Sentinel-1 GRD as SAFE or EOPF product, a JSON file of STAC items, or a text file with "
    "paths and URLs"
)


_LIST_SUFFIX, _MAX_LIST_BYTES = ".txt", 2**24
# Of what a folder of object storage holds: formats that are read with requests for parts of files.
_REMOTE_SUFFIXES, _REMOTE_STORE = (".tif", ".tiff"), ".zarr"


def find_files(path: str) -> list[str]:
    """List the image files of a stack in the order of their names.

    Parameters
    ----------
    path : str
        A file, a folder, a pattern, a store or a URL; a folder or pattern of object storage
        (``s3://bucket/folder/``); a text file with one of these in each line. In a folder, files
        with the suffix of an image count, except masks, incidence angles and other auxiliary
        files; sub-folders are not searched.

    Raises
    ------
    StackReadError
        If the path does not exist, or holds no image.
    """
    place, suffixes = Path(path), image_suffixes()
    if not is_remote(path) and any(len(os.fsencode(part)) > 255 for part in place.parts):
        raise StackReadError(
            f"{path[:80]}... is too long for a path", expected=_ACCEPTED, do="check the path"
        )
    if is_remote(path):
        return _find_remote(path)
    if _is_store(place):
        return [path]
    if place.suffix.lower() == _LIST_SUFFIX and place.is_file():
        return _read_list(place)
    if place.is_file():
        return [_pixel_file(place)]
    if place.is_dir():
        # Also broken links, which are reported as unreadable: else their dates would be missing
        # without a word.
        candidates = [p for p in place.iterdir() if not p.is_dir() or _is_product(p)]
    elif any(c in path for c in "*?["):
        suffixes += (".vrt",)  # skipped in a folder, but a pattern may ask for it
        suffixes += (".json",) if path.lower().endswith(".json") else ()
        candidates = [Path(p) for p in glob.glob(path, recursive=True)]  # noqa: PTH207
    else:
        problem = "does not exist"
        if os.path.lexists(place):
            problem = "is neither a file nor a folder, or a link to nothing"
        raise StackReadError(f"{path} {problem}", expected=_ACCEPTED, do="check the path")
    names = {candidate.name for candidate in candidates}
    images = [p for p in candidates if _is_image(p, suffixes) and not _is_unpacked(p, names)]
    if not images:
        folders = [p.name for p in place.iterdir() if p.is_dir()] if place.is_dir() else []
        raise StackReadError(
            f"{path} holds no image",
            expected=f"files ending in {', '.join(image_suffixes())}, or .SAFE folders",
            where=[f"sub-folder {name}" for name in sorted(folders)]
            or [f"only {p.name}" for p in sorted(candidates)],
            do=f"use one of its sub-folders, or a pattern such as '{path}/*/*.tif'"
            if folders
            else "check the path, and extract archives other than zip files",
        )
    return sorted(str(p) for p in images)


def _find_remote(url: str) -> list[str]:
    """List the images that a URL stands for: itself, a folder or a pattern of object storage."""
    suffix = Path(file_name(url)).suffix.lower()
    is_folder = is_storage(url) and suffix != _REMOTE_STORE and (url.endswith("/") or not suffix)
    if scheme_of(url) in ("http", "https") and urlsplit(url).path.endswith("/"):
        if suffix == _REMOTE_STORE:
            return [url]
        raise StackReadError(
            f"{url} is a folder of a web server, which cannot be listed",
            expected="URLs of files, or a folder of object storage such as s3://bucket/folder/",
            do="write the URLs into a text file, one in each line, and give that file: urls.txt",
        )
    if not (is_folder or is_pattern(url)):
        return [url]
    found = list_objects(url)
    images = [name for name in found if _is_remote_image(name)]
    if not images:
        raise StackReadError(
            f"{url} holds no image",
            expected=f"objects ending in {', '.join(_REMOTE_SUFFIXES)}, or {_REMOTE_STORE} stores",
            where=[f"folder {name}" for name in found if name.endswith("/")]
            or [f"only {file_name(name)}" for name in found],
            do="check the path and the credentials; sub-folders are not searched",
        )
    masks = [file_name(name) for name in found if name.removesuffix(".msk") in {*images} - {name}]
    if masks:
        text = StackReadError(
            f"{len(masks)} mask files beside remote images are not used",
            where=masks,
            do="download images and masks, if the masks matter, and use the copies",
        ).message()
        warnings.warn(SarstackWarning(text), stacklevel=3)
    return images


def _is_remote_image(url: str) -> bool:
    place = Path(file_name(url))
    if place.suffix.lower() == _REMOTE_STORE:
        return True
    is_image = place.suffix.lower() in _REMOTE_SUFFIXES and not url.endswith("/")
    return is_image and not place.name.startswith(".") and not AUXILIARY_NAME.search(place.stem)


def _read_list(file: Path) -> list[str]:
    """Return the images that a text file names, one path or URL in each line."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_LIST_BYTES + 1)
        if len(text) > _MAX_LIST_BYTES:
            raise ValueError(f"it has more than {_MAX_LIST_BYTES} bytes")  # noqa: TRY301
        lines = [line.strip() for line in text.decode("utf-8-sig").splitlines()]
    except (OSError, ValueError) as failure:
        raise StackReadError(
            f"{file} cannot be read as a list of images ({failure})",
            expected="a text file in UTF-8 with one path or URL in each line",
            do="check the file",
        ) from failure
    names = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    found: dict[str, None] = {}
    for name in names:
        if name.lower().endswith(_LIST_SUFFIX):
            raise StackReadError(
                f"{file} names another list: {name}",
                expected="paths and URLs of images, folders or stores",
                do="put all lines into one file",
            )
        found |= dict.fromkeys(find_files(name if is_remote(name) else str(file.parent / name)))
    if not found:
        raise StackReadError(
            f"{file} names no image",
            expected="one path or URL in each line",
            do="check the file",
        )
    return [*found]


def list_auxiliary(path: str) -> list[str]:
    """List the names of files in a folder that look like images, but are masks, angles and so on.

    :func:`find_files` leaves them out by their names. Those of known products are not listed:
    there the names are certain.
    """
    place, suffixes = Path(path), image_suffixes()
    if is_remote(path) or not place.is_dir() or _is_store(place):
        return []
    return sorted(
        p.name
        for p in place.iterdir()
        if p.suffix.lower() in suffixes
        and not p.name.startswith(".")
        and AUXILIARY_NAME.search(p.stem)
        and not any(product.name.search(p.name) for product in PRODUCTS)
        and not p.is_dir()
    )


def _is_image(path: Path, suffixes: Sequence[str]) -> bool:
    """Return whether a path is a store, or has the name of an image that is not auxiliary."""
    is_store = _is_store(path) or (path.suffix.lower() == ".zip" and is_safe(path))
    if is_store:
        return True
    suffix = path.suffix.lower()
    if suffix not in suffixes or path.name.startswith(".") or AUXILIARY_NAME.search(path.stem):
        return False
    if suffix in zipped.SUFFIXES:
        # A damaged one counts too: its dates would be missing without a word.
        return zipped.list_image_names(path) != []
    # HDF5 files beside images are metadata of a product (OPERA) or reports on its quality.
    return suffix not in nisar.SUFFIXES or nisar.is_product(path)


def _is_product(path: Path) -> bool:
    """Return whether a path is a Sentinel-1 product that holds one acquisition: SAFE or EOPF."""
    return is_safe(path) or eopf.matches(str(path))


def _is_unpacked(path: Path, names: Container[str]) -> bool:
    """Return whether a path is a zip file whose product or images lie unpacked beside it.

    `names` are those of the other files found.
    """
    if path.suffix.lower() != ".zip":
        return False
    if is_safe(path):
        return is_safe(path.with_suffix(".SAFE"))
    inside = zipped.list_image_names(path)
    return bool(inside) and all(name in names for name in inside or ())


def _is_store(path: Path) -> bool:
    """Return whether a path is a folder that a format opens as a whole."""
    return path.is_dir() and find_format(str(path)) is not None


def _pixel_file(path: Path) -> str:
    """Return the file of the pixels if the path is an ENVI header."""
    if path.suffix.lower() != ".hdr":
        return str(path)
    beside = [path.with_suffix(s) for s in (".img", ".dat", ".bin", "")]
    return str(next((p for p in beside if p.is_file()), path))
