"""Attributes of stores, HDF5 and netCDF files as tags: few, short, and true for the result."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sarstack.readers.attributes import PACKING_ATTRIBUTES

MAX_TAGS = 64
MAX_NAME_CHARS, MAX_VALUE_CHARS = 64, 512

# They describe the grid, the axes or the layout of the source; a part of it has another grid.
_OF_LAYOUT = re.compile(
    r"(?i)^(_.*|coordinates|grid_mapping.*|crs.*|spatial.*|proj:.*|epsg|transform|resolution|spec"
    r"|geotransform|dimension_list|reference_list|class|name|conventions|zarr_conventions"
    r"|multiscales|time_coverage_.*|geospatial_.*|history|dtype|scale|chunks|actual_range)$"
)

# GDAL ends the name of a tag at a colon.
_NOT_OF_NAME = re.compile(r"[^\w.-]")


@dataclass(frozen=True)
class SourceMetadata:
    """What the provider of an image wrote beside its pixels, for the result.

    Attributes
    ----------
    tags : dict of str to str
        Tags of the file and the band.
    rpcs : tuple of (str, str)
        Rational polynomial coefficients of the part that belongs to the stack, as GDAL names them.
    """

    tags: dict[str, str] = field(default_factory=dict)
    rpcs: tuple[tuple[str, str], ...] = ()


def make_tags(*sources: Mapping[Any, Any]) -> dict[str, str]:
    """Return the attributes that can be tags of a result.

    Parameters
    ----------
    *sources : mapping
        Attributes; where two have a name, the later one counts.

    Returns
    -------
    dict of str to str
        At most `MAX_TAGS`: texts and numbers, and short lists of them; in names, ``_`` stands
        for colons and other special characters. Left out are attributes
        of the grid, the axes and the packing, and texts of more than `MAX_VALUE_CHARS`.
    """
    tags: dict[str, str] = {}
    for given, value in (item for source in sources for item in source.items()):
        name, text = _NOT_OF_NAME.sub("_", str(given)), _as_text(value)
        is_layout = _OF_LAYOUT.match(str(given)) or str(given) in PACKING_ATTRIBUTES
        short = len(name) <= MAX_NAME_CHARS and text and len(text) <= MAX_VALUE_CHARS
        if short and not is_layout and (name in tags or len(tags) < MAX_TAGS):
            tags[name] = text
    return tags


def _as_text(value: Any) -> str:
    """Return a text, a number or a short list of them as text; empty for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.size <= MAX_TAGS else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | bytes):
        return _as_text(value) if isinstance(value, bytes) else str(value).strip()
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        words = [_as_text(word) for word in value]
        return ", ".join(words) if all(words) else ""
    return ""
