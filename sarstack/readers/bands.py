"""The bands of one file: which are images, which is a mask, and which are ignored."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from sarstack.conventions import AUXILIARY_NAME
from sarstack.errors import StackError
from sarstack.readers.names import parse_name

IGNORED = "-"
"""Name by which a user leaves out a band."""

# A file with more bands than polarisations exist can only hold dates.
_MAX_POLARISATIONS = 4
_VALIDITY = re.compile(r"(?i)^(data|valid(ity)?)?[ _-]?(mask|valid(ity)?)$|^alpha$")
_COMPANION = re.compile(
    r"(?i)(angle|mask|area|count|weight|looks|shadow|layover|elevation|std(_?dev)?|variance|noise)$"
)


def is_validity(name: str) -> bool:
    """Return whether a band name, such as ``dataMask``, is that of a mask of valid pixels."""
    return name.lower() != "mask" and bool(_VALIDITY.search(name.strip()))


def is_companion(name: str) -> bool:
    """Return whether a band name, such as ``angle``, is of something else than backscatter."""
    word = "_".join(name.split())
    return is_validity(name) or bool(_COMPANION.search(word) or AUXILIARY_NAME.search(f"_{word}"))


def name_bands(path: str, names: Sequence[str], bands: Sequence[str] | None) -> list[str | None]:
    """Choose the names of the bands of one file.

    Parameters
    ----------
    path : str
    names : sequence of str
        Descriptions in the file, empty where there is none.
    bands : sequence of str or None
        Names given by the user: one for each band (``-`` leaves out a band), or a single one
        for all.

    Returns
    -------
    list of str or None
        One name a band, None for a band that is no image. Empty names for five or more bands
        without a name: they are dates.

    Raises
    ------
    StackError
        If the bands have no names that distinguish them, or none is an image.
    """
    if bands is not None:
        return _use_given(path, names, bands)
    if len(names) == 1:
        return list(names)
    images = {i: name for i, name in enumerate(names) if not is_companion(name)}
    known = {i: name for i, name in images.items() if _key(name) != _key("")}
    if len(images) == 1 or (not known and len(images) > _MAX_POLARISATIONS):
        chosen: Mapping[int, str] = images
    elif known and len({_key(name) for name in known.values()}) == len(known):
        chosen = known
    else:
        raise StackError(
            f"{path} has {len(names)} bands, and their names do not distinguish them",
            expected="band descriptions such as VV and VH, or 'VV 2021-03-04'",
            where=[f"band {i} has the name {n!r}" for i, n in enumerate(names, 1)],
            do="name them: --bands VV,VH (in Python bands=['VV', 'VH']), with - for a band that is "
            "no backscatter, or set the band descriptions",
        )
    unnamed = not known and len(images) > _MAX_POLARISATIONS
    return [("" if unnamed else chosen[i]) if i in chosen else None for i in range(len(names))]


def _use_given(path: str, names: Sequence[str], bands: Sequence[str]) -> list[str | None]:
    if len(bands) not in (1, len(names)):
        raise StackError(
            f"{path} has {len(names)} bands, but bands = {list(bands)} names {len(bands)}",
            expected="one name for each band, or a single name for all",
            do="name each band, for example --bands VV,VH (in Python bands=['VV', 'VH']), with - "
            "for a band that is no backscatter",
        )
    given = list(bands)
    if len(bands) < len(names):
        given = [IGNORED if is_companion(name) else bands[0] for name in names]
    chosen = [None if name == IGNORED or is_validity(name) else name for name in given]
    if not any(name is not None for name in chosen):
        raise StackError(
            f"bands = {list(bands)} leaves out every band of {path}",
            expected="a polarisation for at least one band",
            do="name the bands that are images, for example --bands VV,VH,-",
        )
    return chosen


def _key(name: str) -> tuple[str, str]:
    metadata = parse_name(name)
    return metadata.polarisation, "" if np.isnat(metadata.time) else str(metadata.time)


def describe_ignored(names: Sequence[str], chosen: Sequence[str | None]) -> str:
    """Return the names of the bands that are ignored, as text; empty if there is none."""
    left_out = [
        name or f"band {i} (no name)"
        for i, (name, kept) in enumerate(zip(names, chosen, strict=True), 1)
        if kept is None and not is_validity(name)
    ]
    return ", ".join(left_out)
