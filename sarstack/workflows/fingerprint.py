"""Fingerprints: hashes of settings and inputs, by which a later run recognises a finished result.

In the fingerprint of a despeckled image: method, parameters, hash of a model or source file,
looks, part of the scene, version of sarstack; the grid; and of each input image all that decides
its pixels (:meth:`sarstack.readers.raster.Raster.identity`): name, band, variable, index, scale,
gain, offset, nodata, origin, shape, and the sizes and modification times of its sources: the file,
its side-cars, the mask of its product, the files that a VRT names, or the chunks of the date in a
Zarr store. A multi-temporal method has the sources of all dates. Not in it: pixels of the input,
the folder, tile size, workers, processor. The fingerprint of labels has all settings but output,
cluster and workers, so also the path of the stack and the tile size.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sarstack import __version__
from sarstack.despecklers import Despeckler
from sarstack.output.rounding import ALL_BITS
from sarstack.readers.raster import Raster
from sarstack.readers.remote import is_server_file, read_object_version
from sarstack.readers.stack import Stack
from sarstack.readers.versions import list_with_side_cars
from sarstack.workflows.settings import DespeckleConfig

FINGERPRINT_TAG = "SARSTACK_FINGERPRINT"
FileStamp = list[int | str]


def settings_of(config: DespeckleConfig, despeckler: Despeckler) -> dict[str, Any]:
    """Return the settings that the pixels of a result depend on."""
    rounded = {"keep_bits": config.keep_bits} if config.keep_bits < ALL_BITS else {}
    prepared = {"decorrelate": True} if config.decorrelate else {}
    return {
        "method": despeckler.name,
        **despeckler.provenance(),
        "looks": config.looks,
        "bbox": config.bbox,
        "version": __version__,
        **rounded,
        **prepared,
    }


def fingerprint(*parts: Any) -> str:
    """Return a short hash of settings and inputs."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(raster: Raster | None) -> dict[str, Any]:
    """Return what identifies an input image without reading its pixels; empty without one."""
    return {} if raster is None else raster.identity()


def stamp_files(stack: Stack) -> dict[str, FileStamp]:
    """Return size, modification time and time of the last change of the files of a stack, by path.

    An interrupted run compares them when it continues. A fingerprint does not see a file of the
    same size whose modification time was set back; the time of the last change sees it. It changes
    also with the owner or the permissions, so it is not part of fingerprints. Of a Zarr store it
    is the newest of its files and folders. Of a URL it is what the server tells.
    """
    rasters = [r for own in stack.rasters.values() for r in own if r is not None]
    paths = {path for raster in rasters for path in raster.versions}
    files = {path for path in paths if is_server_file(path) or Path(path).exists()}
    files |= {
        beside for path in files if Path(path).is_file() for beside in list_with_side_cars(path)
    }
    return {file: stamp_file(file) for file in sorted(files)}


def stamp_file(file: str) -> FileStamp:
    """Return the stamp of one file, store or URL; see :func:`stamp_files`."""
    if is_server_file(file):
        version = read_object_version(file)
        return [version.size_bytes, f"{version.etag} {version.modified}"]
    path = Path(file)
    if not path.is_dir():
        status = path.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    # Files too: a program can write into an existing chunk, which does not change its folder.
    inside = [Path(folder, name) for folder, _, files in os.walk(path) for name in ("", *files)]
    changes = [place.stat() for place in inside]
    return [len(changes), max(s.st_mtime_ns for s in changes), max(s.st_ctime_ns for s in changes)]


def read_tags(result: Path | str) -> dict[str, str]:
    """Read the tags of a finished image.

    Raises
    ------
    StackReadError
        If the file is truncated or damaged.
    """
    from sarstack.readers.formats.gdal import open_gdal
    from sarstack.readers.registry import list_images

    list_images(str(result))
    with open_gdal(str(result)) as raster:
        return dict(raster.tags())
