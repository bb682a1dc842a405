"""A SAFE product: a folder, or the zip file of one, with a manifest, annotation and pixels."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.safe"
_NAME = re.compile(r"(?i)^S1[A-Z]_\w\w_(?:GRD|SLC|RAW|OCN)\w_.*\.(?:SAFE|zip)$")
# The XML files of real products have about 2 MB.
_MAX_MEMBER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SafeProduct:
    """The files of one product.

    Attributes
    ----------
    path : str
        The folder with the manifest, or the zip file.
    folder : str
        Folder of the product inside the zip file, with a slash at its end; empty for a folder.
    """

    path: str
    folder: str = ""

    @property
    def is_zip(self) -> bool:
        """Whether the product is a zip file."""
        return Path(self.path).is_file()

    def list_members(self) -> tuple[str, ...]:
        """List all files by their names relative to the folder of the product, with slashes."""
        if self.is_zip:
            with zipfile.ZipFile(self.path) as archive:
                names = [n for n in archive.namelist() if n.startswith(self.folder)]
            return tuple(sorted(n.removeprefix(self.folder) for n in names if n[-1] != "/"))
        root = Path(self.path)
        return tuple(sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()))

    def read(self, member: str) -> bytes:
        """Return the content of a small file.

        Raises
        ------
        OSError, KeyError, zipfile.BadZipFile
            If it is missing or damaged.
        ValueError
            If it is larger than any XML file of a product.
        """
        if self.is_zip:
            with zipfile.ZipFile(self.path) as archive:
                size = archive.getinfo(self.folder + member).file_size
                content = b"" if size > _MAX_MEMBER_BYTES else archive.read(self.folder + member)
        else:
            file = Path(self.path) / member
            size = file.stat().st_size
            content = b"" if size > _MAX_MEMBER_BYTES else file.read_bytes()
        if size > _MAX_MEMBER_BYTES:
            raise ValueError(f"{member} has {size} bytes, more than any file of its kind")
        return content

    def file_with(self, member: str) -> str:
        """Return the file on disk that has a member: itself, or the zip file."""
        return self.path if self.is_zip else str(Path(self.path) / member)

    def modified_ns(self, member: str) -> int:
        """Return the time when a member, or the zip file with it, was changed."""
        return Path(self.file_with(member)).stat().st_mtime_ns

    def compressed_bytes(self, member: str) -> int:
        """Return the size of a member that is compressed in a zip file; 0 if it is not."""
        if not self.is_zip:
            return 0
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(self.folder + member)
        return 0 if info.compress_type == zipfile.ZIP_STORED else info.file_size

    def gdal_path(self, member: str) -> str:
        """Return the path by which GDAL opens a member."""
        if self.is_zip:
            return f"/vsizip/{{{self.path}}}/{self.folder}{member}"
        return str(Path(self.path) / member)


def find_product(path: str) -> SafeProduct | None:
    """Return the product at a path; None if there is something else.

    Parameters
    ----------
    path : str
        A folder with ``manifest.safe`` and ``annotation``, this manifest, or the zip file of such
        a folder. The name of the folder does not matter.
    """
    place = Path(path)
    if place.name == MANIFEST:
        place = place.parent
    if (place / MANIFEST).is_file() and (place / "annotation").is_dir():
        return SafeProduct(str(place))
    if place.suffix.lower() == ".zip" and place.is_file():
        manifests = [n for n in _list_members(place) if n.split("/")[1:] == [MANIFEST]]
        if len(manifests) == 1:
            return SafeProduct(str(place), manifests[0].removesuffix(MANIFEST))
    return None


def _list_members(path: Path) -> list[str]:
    """Return the names of the members of a zip file; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def is_product(path: Path) -> bool:
    """Return whether a folder or zip file is a product, or is named as one."""
    return path.exists() and (has_product_name(str(path)) or find_product(str(path)) is not None)


def has_product_name(path: str) -> bool:
    """Return whether a folder or zip file is named as a product, complete or not."""
    return bool(_NAME.match(Path(path).name))
