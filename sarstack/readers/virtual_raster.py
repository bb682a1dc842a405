"""VRT files: their sources, checked before GDAL opens the file.

A VRT is text that names other files. GDAL would open whatever is named there: also a URL, or a
web service that is described in the text itself.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

_MAX_BYTES = 64 * 2**20
_MAX_DEPTH = 8
# Elements that name a source, and elements whose text GDAL never opens.
_SOURCES = ("SourceFilename", "SourceDataset")
_PLAIN_TEXT = ("Metadata", "SRS", "GCPList", "Description", "CategoryNames", "Histograms")
_REMOTE_SIGNS = ("://", "/vsi")


def list_vrt_sources(path: str | Path) -> list[str]:
    """List the files that a VRT names, also through other VRT files.

    Parameters
    ----------
    path : str or Path
        A local VRT.

    Returns
    -------
    list of str
        Paths in alphabetical order, each once; VRT files among them are listed too.

    Raises
    ------
    ValueError
        If it is no VRT, names something that is not a local file, contains Python code, or is
        nested too deep.
    """
    found: set[str] = set()
    level = [Path(path)]
    for _ in range(_MAX_DEPTH):
        named = {source for vrt in level for source in _read_sources(vrt)}
        level = [Path(p) for p in sorted(named - found) if p.lower().endswith(".vrt")]
        found |= named
        if not level:
            return sorted(found)
    raise ValueError(f"VRT files name each other, more than {_MAX_DEPTH} deep")


def _read_sources(path: Path) -> set[str]:
    root = _parse(path)
    for element in root.iter():
        if element.tag in ("PixelFunctionLanguage", "PixelFunctionCode") and (
            element.tag == "PixelFunctionCode" or (element.text or "").strip().lower() == "python"
        ):
            raise ValueError(f"{path.name} contains Python code, which is never run")
    for text in _openable_texts(root):
        # Text that begins with "<" can be the description of a web service.
        if text.strip().startswith("<") or any(sign in text for sign in _REMOTE_SIGNS):
            raise ValueError(
                f"{path.name} names {text.strip()[:80]!r}, which is not a local file; "
                "download the images, and give their folder"
            )
    return {_resolve(path, element) for tag in _SOURCES for element in root.iter(tag)}


def _parse(path: Path) -> ET.Element:
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError(f"{path.name} has more than {_MAX_BYTES} bytes: too large for a VRT")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"{path.name} defines XML entities, which no VRT needs")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, RecursionError, LookupError, ValueError) as error:
        raise ValueError(f"{path.name} is no VRT: {error}") from error
    if root.tag != "VRTDataset":
        raise ValueError(f"{path.name} is no VRT: its first element is {root.tag}")
    return root


def _openable_texts(root: ET.Element) -> Iterator[str]:
    """Yield the texts and attributes that can be the name of something to open."""
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if element.tag in _PLAIN_TEXT:
            continue
        yield element.text or ""
        yield from element.attrib.values()
        waiting += element


def _resolve(path: Path, element: ET.Element) -> str:
    """Return the path of a source; raise ValueError unless it is a file."""
    name = (element.text or "").strip()
    relative = element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"
    source = path.parent / name if relative else Path(name).absolute()
    if not name or "\0" in name or not source.is_file():
        raise ValueError(f"{path.name} names {name[:80]!r}, which is not a file")
    return str(source)
