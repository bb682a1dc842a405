"""The assets of a STAC item: which are images of backscatter, and how their numbers are packed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sarstack.conventions import AUXILIARY_NAME
from sarstack.errors import StackError
from sarstack.readers.bands import IGNORED, is_companion
from sarstack.readers.names import find_polarisation
from sarstack.readers.paths import file_name, file_stem
from sarstack.readers.stac.documents import Item

# Roles of assets that are no backscatter, by the STAC specification and its SAR extension.
_OTHER_ROLES = re.compile(
    r"(?i)^(thumbnail|overview|visual|graphic|metadata|.*mask|.*angle|noise-power|date-offset|covmat"
    r"|static.*|layover.*|shadow.*|water.*|snow-ice|cloud.*|archive|source|uncertainty)$"
)
_OTHER_TYPES = re.compile(
    r"(?i)^(text/|application/(xml|json|geo\+json|pdf|zip|gzip|x-tar|gml|vnd\.google)"
    r"|image/(png|jpe?g|webp|gif|svg))"
)
_OTHER_SUFFIXES = re.compile(
    r"(?i)\.(vrt|xml|json|geojson|png|jpe?g|webp|gif|kml|kmz|zip|gz|tar|txt|html?|pdf|safe|csv|iso"
    r"|met|md5)$"
)
_WORDS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Band:
    """What an item says about one band of an asset.

    Attributes
    ----------
    name : str
    nodata : float or None
        A stored number that means "no data"; NaN too.
    gain, offset : float
        ``stored * gain + offset`` is the number.
    unit : str
    """

    name: str = ""
    nodata: float | None = None
    gain: float = 1.0
    offset: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Asset:
    """An asset with an image of backscatter.

    Attributes
    ----------
    key : str
    href : str
        As it stands in the item.
    polarisation : str
        Of all its bands; empty if it has several, or if the item does not say it.
    bands : tuple of Band
        Empty if the item does not describe them.
    words : tuple of str
        Roles, key and title.
    """

    key: str
    href: str
    polarisation: str
    bands: tuple[Band, ...]
    words: tuple[str, ...]

    @property
    def band_names(self) -> list[str] | None:
        """Names of several bands, ``-`` for bands that are no backscatter; None if not told."""
        names = [band.name if find_polarisation(band.name) else IGNORED for band in self.bands]
        return names if len(names) > 1 and set(names) != {IGNORED} else None


def choose_assets(item: Item) -> list[Asset]:
    """Return the assets of an item that are images of backscatter.

    Left out are masks, thumbnails, angles, metadata and static layers, by role, media type, key
    and file name. If some of the others name a polarisation, only these are used.

    Raises
    ------
    StackError
        If there is none, or if a number in the description of a band cannot be read.
    """
    candidates = [
        _describe_asset(item, key, asset)
        for key, asset in item.assets.items()
        if not _is_other(key, asset)
    ]
    named = [asset for asset in candidates if asset.polarisation or asset.band_names]
    chosen = _drop_copies(named or candidates)
    if not chosen:
        keys = ", ".join(item.assets) or "none"
        raise StackError(
            f"the STAC item {item.name} has no asset with an image of backscatter",
            expected="assets of GeoTIFF files with the keys vv, vh, hh or hv",
            where=[f"its assets are {keys}"],
            do="select the items of another collection, or give the images themselves",
        )
    return chosen


def _is_other(key: str, asset: Mapping[str, Any]) -> bool:
    """Return whether an asset is something else than backscatter."""
    href = asset.get("href")
    if not isinstance(href, str):
        return True
    name = file_name(href)
    return (
        any(_OTHER_ROLES.match(role) for role in _texts(asset.get("roles")))
        or bool(_OTHER_TYPES.match(str(asset.get("type") or "")))
        or bool(_OTHER_SUFFIXES.search(name))
        or is_companion(key)
        or bool(AUXILIARY_NAME.search(file_stem(href)))
    )


def _describe_asset(item: Item, key: str, asset: Mapping[str, Any]) -> Asset:
    href, title = asset["href"], str(asset.get("title") or "")
    bands = tuple(
        _read_band(item, key, {**_common_fields(asset), **band}) for band in _list_bands(asset)
    )
    polarisations = _texts(asset.get("sar:polarizations"))
    names = [*(polarisations if len(polarisations) == 1 else ()), key]
    names += [band.name for band in bands] if len(bands) == 1 else []
    # An asset of several bands can have a name with one of its polarisations.
    names += [file_name(href), title] if len(bands) < 2 and len(polarisations) < 2 else []
    found = [polarisation for name in names if (polarisation := find_polarisation(name))]
    several = sum(bool(find_polarisation(band.name)) for band in bands) > 1
    words = (*_texts(asset.get("roles")), key, title)
    return Asset(key, href, found[0] if found and not several else "", bands, words)


def _list_bands(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Merge the lists of bands of STAC 1.1 (`bands`) and of the extensions `eo` and `raster`."""
    lists = [
        [band if isinstance(band, dict) else {} for band in found]
        for name in ("eo:bands", "raster:bands", "bands")
        if isinstance(found := asset.get(name), list)
    ]
    count = max(map(len, lists), default=0)
    if not count:
        return [{}] if _common_fields(asset) else []
    # A list of another length cannot be of the same bands.
    merged: list[dict[str, Any]] = [{} for _ in range(count)]
    for found in lists:
        if len(found) == count:
            for all_fields, fields in zip(merged, found, strict=True):
                all_fields.update(fields)
    return merged


def _common_fields(asset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an asset that hold for all its bands (STAC 1.1)."""
    names = ("nodata", "unit", "raster:scale", "raster:offset")
    return {name: asset[name] for name in names if name in asset}


def _read_band(item: Item, key: str, fields: Mapping[str, Any]) -> Band:
    def read(names: Sequence[str], default: float | None) -> float | None:
        value = next((fields[name] for name in names if fields.get(name) is not None), default)
        try:
            # A list or object becomes a text that is no number.
            return None if value is None else float(str(value))
        except (ValueError, OverflowError) as error:
            raise StackError(
                f"{names[0]} = {str(value)[:80]!r} of the asset {key} of the STAC item "
                f"{item.name} is not a number",
                expected="a number, or the text nan",
                do="correct the item",
            ) from error

    gain = read(("raster:scale", "scale"), 1.0) or 0.0
    offset = read(("raster:offset", "offset"), 0.0) or 0.0
    if not gain or not np.isfinite((gain, offset)).all():
        raise StackError(
            f"scale = {gain}, offset = {offset} of the asset {key} of the STAC item {item.name} "
            "unpack no number",
            expected="finite numbers, scale not zero",
            do="correct the item",
        )
    name = str(fields.get("name") or fields.get("description") or "")
    nodata = read(("nodata",), None)
    return Band(name, nodata, gain, offset, str(fields.get("unit") or ""))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _drop_copies(assets: Sequence[Asset]) -> list[Asset]:
    """Keep one asset of each image.

    Some catalogues list a file twice, with the address of a web server and of object storage. Of
    several assets of one polarisation, the one whose key is only the polarisation is used.
    """
    by_name: dict[str, Asset] = {}
    for asset in assets:
        polarisation = asset.polarisation
        name = f"{polarisation} {file_name(asset.href)}" if polarisation else asset.href
        kept = by_name.get(name)
        if kept is None or (not _is_web(kept.href) and _is_web(asset.href)):
            by_name[name] = asset
    found = list(by_name.values())
    exact = {a.polarisation for a in found if a.polarisation and a.key.lower() == a.polarisation}
    return [a for a in found if a.polarisation not in exact or a.key.lower() == a.polarisation]


def _is_web(href: str) -> bool:
    return href.lower().startswith(("http://", "https://"))
