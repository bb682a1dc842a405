"""Layers that lie beside the images of a product: masks of layover and shadow, numbers of looks.

Which file belongs to which image is known from the names of OPERA RTC-S1 and ASF HyP3 RTC.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sarstack.conventions import HYP3_NAME, MASK_WORDS, MaskWord
from sarstack.errors import UsageError
from sarstack.readers.names import parse_name
from sarstack.readers.paths import is_remote, split_zip_path

_IMAGE = re.compile(r"_(VV|VH|HH|HV)\.tiff?$")
_OPERA = "OPERA_L2_RTC-S1_"
_OPERA_STATIC = re.compile(
    r"^OPERA_L2_RTC-S1-STATIC_(?P<burst>T\d{3}-\d{6}-[A-Z]{2}\d)_\w+_v[\d.]+_(?P<layer>[a-z]\w+)\.tif$"
)


@dataclass(frozen=True)
class Folder:
    """The files that lie beside an image.

    Attributes
    ----------
    names : frozenset of str
    static : dict of (str, str) to str
        Files of OPERA RTC-S1 static products, by burst and layer.
    """

    names: frozenset[str] = frozenset()
    static: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Folder":
        """Make the folder of these files."""
        ordered = sorted(names)
        matches = [match for name in ordered if (match := _OPERA_STATIC.match(name))]
        return cls(frozenset(ordered), {(m["burst"], m["layer"]): m.string for m in matches})


ListFolder = Callable[[str], Folder]


@dataclass(frozen=True)
class MaskLayer:
    """A file with codes of layover and shadow beside an image.

    Attributes
    ----------
    name : str
        Of the file, in the folder of the image.
    fill : tuple of int
        Codes of pixels without data.
    codes : dict of str to tuple of int
        Codes of pixels in ``shadow`` and in ``layover``.
    """

    name: str
    fill: tuple[int, ...]
    codes: dict[MaskWord, tuple[int, ...]]

    def select(self, words: Sequence[MaskWord]) -> tuple[int, ...]:
        """Return all codes that are nodata if the user asks for `words`."""
        return tuple(sorted({*self.fill, *(code for word in words for code in self.codes[word])}))


def parse_mask(mask: str | Sequence[str] | None) -> tuple[MaskWord, ...]:
    """Return the parts of a mask that a user names, as ``shadow,layover`` or as a list.

    Raises
    ------
    UsageError
        If a word is not known.
    """
    words = mask.split(",") if isinstance(mask, str) else list(mask or ())
    wanted = [word.strip().lower() for word in words]
    if unknown := [word for word in wanted if word not in MASK_WORDS]:
        raise UsageError(
            f"mask = {unknown[0]!r} is not known",
            expected=f"{' or '.join(MASK_WORDS)}, or both",
            do="write for example --mask shadow,layover",
        )
    return tuple(word for word in MASK_WORDS if word in wanted)


def list_folder(folder: str) -> Folder:
    """List the files of a folder, which may be in a zip file; empty if it is remote."""
    archive, inside = split_zip_path(folder.rstrip("/"))
    if archive:
        prefix = f"{inside}/" if inside else ""
        with zipfile.ZipFile(archive) as opened:
            members = [m.removeprefix(prefix) for m in opened.namelist() if m.startswith(prefix)]
        return Folder.of(member for member in members if "/" not in member)
    return Folder.of([] if is_remote(folder) else (p.name for p in Path(folder).iterdir()))


def find_mask(name: str, folder: Folder) -> MaskLayer | None:
    """Find the mask of an image.

    Parameters
    ----------
    name : str
        File name of the image.
    folder : Folder
        In which it lies.

    Returns
    -------
    MaskLayer or None
        For OPERA RTC-S1 the mask of the acquisition, else that of the burst.

    Notes
    -----
    Codes of OPERA: 0 neither, 1 shadow, 2 layover, 3 both, 255 fill (its product specification).
    HyP3 adds 1 tested, 2 slope steeper than the look angle, 4 affected by layover, 8 slope away
    from the radar steeper than the look angle, 16 affected by shadow (its README).
    """
    stem = _IMAGE.sub("", name)
    if stem == name:
        return None
    if name.startswith(_OPERA):
        own = f"{stem}_mask.tif"
        found = own if own in folder.names else find_static_layer(name, "mask", folder)
        return MaskLayer(found, (255,), {"shadow": (1, 3), "layover": (2, 3)}) if found else None
    own = f"{stem}_ls_map.tif"
    if HYP3_NAME.search(stem) and own in folder.names:
        shadow, layover = (tuple(c for c in range(32) if c & bits) for bits in (8 | 16, 2 | 4))
        return MaskLayer(own, (), {"shadow": shadow, "layover": layover})
    return None


def find_static_layer(name: str, layer: str, folder: Folder) -> str:
    """Return the name of a layer of the burst of an OPERA RTC-S1 image, empty if there is none."""
    burst = parse_name(name).burst if name.startswith(_OPERA) else ""
    return folder.static.get((burst, layer), "")
