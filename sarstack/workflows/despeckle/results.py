"""Records of results: size, checksum and notes of each image, kept so that no kill loses them.

The task that writes an image puts its record into the folder of unfinished work before the image
gets its name. The end of the run, or the next run, moves the records into run.json.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sarstack.errors import SarstackError, StackReadError
from sarstack.output.vrt import name_db_view
from sarstack.workflows.fingerprint import FINGERPRINT_TAG, read_tags
from sarstack.workflows.progress import read_json, write_json
from sarstack.workflows.remote_folder import RemoteFolder

UNFINISHED_FOLDER = ".sarstack-unfinished"
"""Folder in the output folder with the pieces, sums and records of a run that is not finished."""
RUN_RECORD, RUN_REPORT = "run.json", "report.html"

Record = dict[str, Any]
"""``output``, ``bytes``, ``sha256`` and ``fingerprint`` of an image, and notes on its pixels."""


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_result_record(output: Path, complete: Path, record: Record) -> Record:
    """Write the record of an image that is complete and has a temporary name.

    Parameters
    ----------
    output : Path
        Name that the image will get.
    complete : Path
        The image, under its temporary name.
    record : dict
        Fingerprint and notes.

    Returns
    -------
    dict
        `record` with name, size and checksum.
    """
    file_record = {
        "output": output.name,
        "bytes": complete.stat().st_size,
        "sha256": hash_file(complete),
    }
    folder = _records_folder(output.parent)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{output.name}.json", file_record | record)
    return file_record | record


def read_records(folder: Path) -> dict[str, Record]:
    """Return the records of an output folder by file name, also those of an interrupted run."""
    images = (read_json(folder / RUN_RECORD) or {}).get("images")
    listed = images if isinstance(images, list) else []
    listed += [read_json(path) for path in sorted(_records_folder(folder).glob("*.json"))]
    return {r["output"]: r for r in listed if isinstance(r, dict) and "output" in r}


def keep_records(folder: Path) -> None:
    """Move the records of an interrupted run into run.json."""
    paths = sorted(_records_folder(folder).glob("*.json"))
    if paths:
        before = read_json(folder / RUN_RECORD) or {}
        write_json(folder / RUN_RECORD, before | {"images": [*read_records(folder).values()]})
        for path in paths:
            path.unlink(missing_ok=True)


def delete_results(folder: Path, names: Iterable[str], remote: RemoteFolder | None) -> None:
    """Delete images of earlier runs, and their records.

    Parameters
    ----------
    folder : Path
        Output folder.
    names : iterable of str
        Names of the images. A file without a record in run.json and without the tags of a result
        is not of an earlier run, and stays.
    remote : RemoteFolder, optional
        Where results were uploaded to.
    """
    records = read_records(folder)
    wanted = {name for name in names if name in records or _is_result(folder / name)}
    if not wanted:
        return
    files = [file for name in sorted(wanted)
             for file in (name, f"{name}.aux.xml", name_db_view(Path(name)).name)]  # fmt: skip
    if remote:
        remote.delete(remote.list_sizes().keys() & {*files})
    for file in files:
        (folder / file).unlink(missing_ok=True)
    # The records go last: if the run is killed before, the next one deletes the rest.
    kept = [record for name, record in records.items() if name not in wanted]
    write_json(folder / RUN_RECORD, (read_json(folder / RUN_RECORD) or {}) | {"images": kept})


def _is_result(path: Path) -> bool:
    """Tell whether a file has the tags of a result."""
    try:
        return path.is_file() and FINGERPRINT_TAG in read_tags(path)
    except SarstackError:
        return False


def describe_expected(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return which settings a run must have so that the results of the last run are its own.

    Parameters
    ----------
    folder : Path
        Output folder.
    settings : mapping
        Settings of the new run, see :func:`sarstack.workflows.fingerprint.settings_of`.

    Returns
    -------
    str
        The settings that differ. The last run may be of another method: then what must not differ.
    """
    before = (read_json(folder / RUN_RECORD) or {}).get("settings") or {}
    before = {key: value for key, value in before.items() if value is not None}
    now = json.loads(json.dumps(settings, default=str))
    now = {key: value for key, value in now.items() if value is not None}
    if before.get("method") != now["method"]:
        return "the same parameters and model, looks, part, version and input files"
    differs = [f"{key} {before.get(key, 'not set')} (now {now.get(key, 'not set')})"
               for key in sorted({*before, *now}) if before.get(key) != now.get(key)]  # fmt: skip
    if differs:
        return f"the settings of the last run: {', '.join(differs)}"
    return (
        "the same input files (size, time of the last change), scale, gain and mask, or the "
        "settings of an earlier run; those of the last run are the same"
    )


def _records_folder(folder: Path) -> Path:
    return folder / UNFINISHED_FOLDER / "results"


class Inspection(NamedTuple):
    """What was found in a result.

    Attributes
    ----------
    tags : mapping of str to str
        Of the image; empty if it is damaged.
    damage : str
        What is wrong with it, empty if nothing.
    """

    tags: Mapping[str, str]
    damage: str

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of its tags; None if it has none."""
        return self.tags.get(FINGERPRINT_TAG)


def inspect_result(path: Path, record: Record | None, *, every_byte: bool) -> Inspection:
    """Compare a result with its record.

    Parameters
    ----------
    path : Path
        The image.
    record : dict, optional
        Its record. Without one (results of older versions have none) the image must be readable.
    every_byte : bool
        Compare the checksum, or without one decode all pixels. Else compare the size, and check
        that the header can be read and the last block lies inside the file.
    """
    record = record or {}
    size = path.stat().st_size
    if size != record.get("bytes", size):
        return Inspection({}, f"it has {size} of {record['bytes']} bytes")
    try:
        tags = read_tags(path)
        if every_byte and "sha256" not in record:
            _decode(path)
    except SarstackError as failure:
        return Inspection({}, failure.what.removeprefix(f"{path} "))
    if "fingerprint" in record and record["fingerprint"] != tags.get(FINGERPRINT_TAG):
        return Inspection(tags, "its tags are not those that were written")
    if every_byte and "sha256" in record and hash_file(path) != record["sha256"]:
        return Inspection(tags, "its bytes are not those that were written")
    return Inspection(tags, "")


def inspect_remote(url: str, size_bytes: int, record: Record | None) -> Inspection:
    """Compare a result in object storage with its record: its size, and the tags of its header.

    An object exists only when its upload was complete.
    """
    if size_bytes != (record or {}).get("bytes", size_bytes):
        return Inspection({}, f"it has {size_bytes} bytes, and is not what was uploaded")
    try:
        return Inspection(read_tags(url), "")
    except SarstackError as failure:
        return Inspection({}, failure.what.removeprefix(f"{url} "))


def _decode(path: Path) -> None:
    """Read all pixels.

    Raises
    ------
    StackReadError
        If a block is damaged so that it cannot be decoded.
    """
    from rasterio.errors import RasterioError

    from sarstack.readers.formats.gdal import open_gdal

    with open_gdal(str(path)) as raster:
        for _, window in raster.block_windows(1):
            try:
                raster.read(1, window=window)
            except RasterioError as failure:
                reason = f"cannot be decoded: {failure.__cause__ or failure}"
                raise StackReadError(reason, where=str(path)) from failure
