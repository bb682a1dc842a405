"""Versions of files: by size, time and header, a worker tells whether it sees the same file.

Stamps of files, with which a later run tells whether the inputs of a result changed.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sarstack.readers.paths import is_remote

HEADER_BYTES = 2**14
"""Part of a file that is hashed."""

_METADATA = ("zarr.json", ".zmetadata", ".zattrs", ".zgroup")
# A mask, and the headers of ENVI and EHdr. Georeferences in side-cars are part of the grid.
_SIDE_CARS = ("{path}.msk", "{path}.hdr", "{path}.HDR", "{stem}.hdr", "{stem}.HDR")
# Viewers write statistics into a side-car of GDAL; they change no pixel.
_STATISTICS = re.compile(
    rb'<MDI key="STATISTICS_\w+">[^<]*</MDI>|<Histograms>.*?</Histograms>', re.DOTALL
)
_EMPTY_ELEMENT = re.compile(rb"<(\w+)(?: [^<>]*)?>\s*</\1>")
Stamp = tuple[str | int, ...]
_METADATA_OF_VARIABLES = ("*/zarr.json", "*/.zarray", "*/.zattrs")


@dataclass(frozen=True)
class FileVersion:
    """What distinguishes two versions of a file, or of a Zarr store.

    Attributes
    ----------
    size_bytes : int
        Of a store: size of its metadata file.
    modified_s : int
        Time of modification in whole seconds: some network disks keep no fractions.
    header : str
        Hash of the first kilobytes of the file, or of all metadata of the store.
    """

    size_bytes: int
    modified_s: int
    header: str

    def __str__(self) -> str:
        """Return size, time and hash for a message."""
        time = datetime.fromtimestamp(self.modified_s, UTC)
        return f"{self.size_bytes} bytes, {time:%Y-%m-%dT%H:%M:%SZ}, header {self.header[:8]}"


def read_version(path: str) -> FileVersion | None:
    """Read the version of a file or store; None if there is none, or if it is remote."""
    if is_remote(path):
        return None
    parts = [Path(path)]
    if parts[0].is_dir():
        own = [parts[0] / name for name in _METADATA]
        variables = [file for name in _METADATA_OF_VARIABLES for file in parts[0].glob(name)]
        parts = [file for file in (*own, *sorted(variables)) if file.is_file()]
    contents, status = hashlib.sha256(), None
    try:
        for part in parts:
            with part.open("rb") as file:
                # Opened first: a network disk then asks the server for the present state.
                status = status or os.fstat(file.fileno())
                contents.update(file.read(HEADER_BYTES))
    except OSError:
        return None
    if status is None:
        return None
    return FileVersion(status.st_size, int(status.st_mtime), contents.hexdigest()[:16])


def has_changed(path: str, version: FileVersion) -> bool:
    """Return whether a file or store has another size or time; its content is not read."""
    place = Path(path)
    if place.is_dir():
        place = next((file for name in _METADATA if (file := place / name).is_file()), place)
    try:
        status = place.stat()
    except OSError:
        return False  # reading it will say more
    return (status.st_size, int(status.st_mtime)) != (version.size_bytes, version.modified_s)


def hash_content(path: str) -> str:
    """Return a hash of a whole file, empty if it cannot be read. For small files."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def list_with_side_cars(path: str) -> list[str]:
    """Return a local file and the files beside it that decide its pixels; all files of a folder."""
    if Path(path).is_dir():
        return sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
    stem = str(Path(path).with_suffix(""))
    names = dict.fromkeys(name.format(path=path, stem=stem) for name in _SIDE_CARS)
    return [path, *(name for name in names if Path(name).is_file())]


def stamp_sources(paths: Iterable[str]) -> list[Stamp]:
    """Return name, size and modification time of files, with what GDAL keeps beside them.

    Parameters
    ----------
    paths : iterable of str
        Local files; others are left out.

    Returns
    -------
    list of tuple
        One for each file that exists, and a hash of its ``.aux.xml`` if that holds more than
        statistics: nodata, a gain or a mask can stand there.
    """
    stamps: list[Stamp] = []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError:
            continue
        auxiliary = _hash_auxiliary(f"{path}.aux.xml")
        stamps.append((Path(path).name, status.st_size, status.st_mtime_ns, *auxiliary))
    return stamps


def _hash_auxiliary(path: str) -> tuple[str, ...]:
    try:
        text = _STATISTICS.sub(b"", Path(path).read_bytes())
    except OSError:
        return ()
    before = b""
    while text != before:
        before, text = text, _EMPTY_ELEMENT.sub(b"", text).strip()
    return (hashlib.sha256(text).hexdigest()[:16],) if text else ()
