"""Folders of object storage for results: what is there, and uploads that are verified."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarstack.errors import DiskError, StackReadError
from sarstack.readers.remote import explain_access, open_storage, scheme_of

WRITABLE = ("s3",)
"""Schemes of URLs that results can be written to."""
_N_THREADS = 4


def is_writable_url(output: str | None) -> bool:
    """Return whether an output is a URL that results can be uploaded to."""
    return bool(output) and scheme_of(str(output)) in WRITABLE


def choose_work_folder(url: str, given: str | None) -> Path:
    """Return the local folder in which the results of a URL are made.

    Without one given it is in the current folder, with the same name for the same URL, so that a
    later run continues there.
    """
    if given:
        return Path(given).absolute()
    target = RemoteFolder.at(url).url
    mark = hashlib.sha256(target.encode()).hexdigest()[:8]
    return Path.cwd() / f"{target.rpartition('/')[2]}-upload-{mark}"


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of object storage.

    Attributes
    ----------
    url : str
        Without a slash at its end.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> "RemoteFolder":
        """Return the folder at a URL, with or without a slash at its end."""
        return cls(url.rstrip("/"))

    def place(self, name: str) -> str:
        """Return the URL of a file; `name` may have folders, with ``/`` between them."""
        return f"{self.url}/{name}"

    def list_sizes(self) -> dict[str, int]:
        """Return the sizes of all files in bytes, by their names in this folder."""
        system = self._open()
        with explain_access(self.url):
            try:
                found = system.find(self.url, detail=True)
            except FileNotFoundError:
                return {}
        prefix = self.url.partition("://")[2] + "/"
        return {name.removeprefix(prefix): about["size"] for name, about in found.items()}

    def upload(self, path: Path, name: str) -> None:
        """Upload a file, and verify its size. The server verifies a checksum.

        Raises
        ------
        DiskError
            If it cannot be written, or has another size than the file. A file that is there
            under this name is replaced when the upload is complete, never before.
        """
        system, url = self._open(), self.place(name)
        try:
            with explain_access(url):
                system.put_file(str(path), url)
                size = system.info(url, refresh=True)["size"]
        except StackReadError as failure:
            raise _upload_error(url, failure.what.removeprefix(f"{url} ")) from failure
        if size != path.stat().st_size:
            raise _upload_error(url, f"it has {size} of {path.stat().st_size} bytes")

    def upload_all(self, folder: Path, names: Iterable[str]) -> None:
        """Upload files of a local folder under the same names.

        Raises
        ------
        DiskError
            If one of them cannot be uploaded.
        """
        with ThreadPoolExecutor(_N_THREADS) as threads:
            list(threads.map(lambda name: self.upload(folder / name, name), names))

    def download(self, name: str, path: Path) -> None:
        """Download a file."""
        with explain_access(self.place(name)):
            self._open().get_file(self.place(name), str(path))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        system = self._open()
        with explain_access(self.url):
            for name in names:
                system.rm_file(self.place(name))

    def _open(self) -> Any:
        system = open_storage(self.url)
        system.invalidate_cache()
        return system


def _upload_error(url: str, reason: str) -> DiskError:
    return DiskError(
        f"{url} cannot be written ({reason})",
        expected="a bucket that exists, and credentials that may write there",
        do="check the URL, the credentials and the network, then run the same command again: "
        "finished results are not made again",
    )


def upload_store(store: Path, folder: RemoteFolder) -> None:
    """Upload a Zarr store so that it is complete or absent.

    A store without the metadata of its root is none. So these are deleted first and uploaded last.

    Raises
    ------
    DiskError
        If a file cannot be uploaded.
    """
    root = "zarr.json"
    before = folder.list_sizes()
    if root in before:
        folder.delete([root])
    names = [file.relative_to(store).as_posix() for file in store.rglob("*") if file.is_file()]
    folder.delete(before.keys() - {*names, root})
    folder.upload_all(store, (name for name in names if name != root))
    folder.upload(store / root, root)
