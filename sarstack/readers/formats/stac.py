"""STAC items: a JSON file or URL that lists images, each opened as the format of its own file.

Time, platform, orbit and polarisation are those of the item; the grid is that of the file.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sarstack.conventions import CALIBRATION_WORDS, Scale
from sarstack.errors import SarstackError, StackError, StackReadError, hide_secrets
from sarstack.readers.image import Found, Image
from sarstack.readers.names import Metadata, find_scale_word, parse_name
from sarstack.readers.paths import absolute_path, file_name, is_remote, legal_name
from sarstack.readers.raster import Raster
from sarstack.readers.registry import list_images as list_file
from sarstack.readers.stac.assets import Asset, Band, choose_assets
from sarstack.readers.stac.documents import Item, collect_items
from sarstack.readers.stac.links import resolve_href
from sarstack.readers.times import parse_time

TITLE = "STAC items"
SUFFIXES = ()  # a JSON file is opened only if it is named: others lie beside images
_NAMES = (".json", ".geojson")
# Items of an API have no suffix.
_API = re.compile(r"/collections/[^/]+(/items(/[^/]+)?)?/?$|/search/?$")
_IMAGES = (".tif", ".tiff", ".img", ".vrt", ".zarr", ".nc", ".h5")
_MAX_ASSETS = 40_000
_MAX_LENGTH = 64
_N_THREADS = 8
_DAY = np.timedelta64(1, "D")


class UnsignedUrlError(StackReadError):
    """A URL of the Planetary Computer has no signature. No such file is left out without asking.

    Attributes
    ----------
    path : str
        The URL. Empty after pickling; the message is kept.
    """

    path: str = ""

    @classmethod
    def of(cls, path: str) -> "UnsignedUrlError":
        """Make the error of one URL."""
        error = cls(
            f"{path} cannot be read: the URL has no signature",
            expected="signed URLs, as the storage of the Planetary Computer needs them",
            do="sign the items and save them again: planetary_computer.sign(items)"
            ".save_object('items.json')",
        )
        error.path = path
        return error


def matches(path: str) -> bool:
    """Return whether a path has the name of a JSON file, or is a URL of a STAC API."""
    if is_remote(path):
        name = file_name(path).lower()
        is_api = path.lower().startswith("http") and _API.search(urlsplit(path).path)
        return name.endswith(_NAMES) or (bool(is_api) and not name.endswith(_IMAGES))
    return path.lower().endswith(_NAMES) and not Path(path).is_dir()


def list_images(path: str, bands: Sequence[str] | None) -> list[Found]:
    """List the images of all items, see :class:`sarstack.readers.registry.Format`."""
    items = collect_items(path)

    def list_one(task: tuple[Item, Asset]) -> list[Found]:
        try:
            return _list_asset(*task, bands)
        except SarstackError as error:
            return [error]

    tasks: list[tuple[Item, Asset]] = []
    images: list[Found] = []
    for item in items:
        try:
            tasks += [(item, asset) for asset in choose_assets(item)]
        except SarstackError as error:
            images.append(error)
    if len(tasks) > _MAX_ASSETS:
        raise StackError(f"{path} lists {len(tasks)} images", expected=f"at most {_MAX_ASSETS}",
                         do="save only the items of one stack")  # fmt: skip
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for found in pool.map(list_one, tasks):
            images += found
    return images


def _list_asset(item: Item, asset: Asset, bands: Sequence[str] | None) -> list[Found]:
    file = absolute_path(resolve_href(item.location, asset.href))
    if matches(file):
        raise StackError(f"the asset {asset.key} of the STAC item {item.name} is no image",
                         where=[file], do="correct the item")  # fmt: skip
    try:
        images = list_file(file, bands or asset.band_names)
    except StackReadError as error:
        raise (UnsignedUrlError.of(file) if _needs_signature(file) else error) from error
    return [
        image if isinstance(image, SarstackError)
        else _describe(image, item, asset, are_named=bands is not None)
        for image in images
    ]  # fmt: skip


def _describe(image: Image, item: Item, asset: Asset, *, are_named: bool) -> Image:
    """Return an image with all that the item says about it.

    Parameters
    ----------
    image : Image
        As its file describes it.
    item : Item
    asset : Asset
    are_named : bool
        Whether the user gave the names of the bands.
    """
    of_file = image.metadata
    of_item = parse_name(item.name)
    told = _read_properties(item)
    words = [parse_name(word) for word in asset.words]
    calibrations = [CALIBRATION_WORDS.get(word.lower(), "") for word in asset.words]
    calibrations += [of_file.calibration, *(word.calibration for word in words)]
    metadata = replace(
        of_file,
        time=_choose_time(told.time, of_file.time),
        polarisation=of_file.polarisation
        if are_named
        else _choose_polarisation(of_file.polarisation, item, asset),
        platform=told.platform or of_file.platform or of_item.platform,
        orbit_direction=told.orbit_direction or of_file.orbit_direction,
        relative_orbit=told.relative_orbit or of_file.relative_orbit or of_item.relative_orbit,
        calibration=next((c for c in (*calibrations, of_item.calibration) if c), ""),
        product=of_file.product or of_item.product,
        burst=of_file.burst or of_item.burst,
    )
    band = _find_band(image.raster, asset)
    declared = [*image.declared, *_find_scales(item, asset, band)]
    raster = replace(
        _unpack(image.raster, item, asset, band),
        stem=_name_result(image.raster.stem, item),
        item=item.name,
        href=hide_secrets(asset.href),
    )
    return replace(image, raster=raster, metadata=metadata, declared=tuple(declared))


def _read_properties(item: Item) -> Metadata:
    """Return time, platform and orbit of an item, as far as it has them."""
    told = item.properties
    time = next((str(told[k]) for k in ("datetime", "start_datetime") if told.get(k)), "")
    platform = str(told.get("platform") or "").strip()
    platform = platform if platform.isprintable() and len(platform) <= _MAX_LENGTH else ""
    direction = str(told.get("sat:orbit_state") or "").lower()
    orbit = told.get("sat:relative_orbit")
    is_number = isinstance(orbit, int | float) and not isinstance(orbit, bool) and orbit == orbit
    return Metadata(
        time=parse_time(time),
        platform=parse_name(platform).platform or platform.lower(),
        orbit_direction=direction if direction in ("ascending", "descending") else "",
        relative_orbit=int(orbit) if is_number and 0 < orbit < 10**6 else None,  # type: ignore[arg-type, operator]
    )


def _choose_time(told: np.datetime64, of_file: np.datetime64) -> np.datetime64:
    """Return the time of the item; that of the file if the item has only its day."""
    if np.isnat(told):
        return of_file
    is_day = told == told.astype("datetime64[D]")
    same_day = not np.isnat(of_file) and told <= of_file < told + _DAY
    return of_file if is_day and same_day else told


def _choose_polarisation(of_file: str, item: Item, asset: Asset) -> str:
    if asset.polarisation and of_file and asset.polarisation != of_file:
        raise StackError(
            f"the asset {asset.key} of the STAC item {item.name} is {asset.polarisation.upper()} "
            f"by the item, and {of_file.upper()} by its file",
            expected="one polarisation",
            where=[hide_secrets(asset.href)],
            do="correct the item, or open the file itself",
        )
    of_item = item.properties.get("sar:polarizations")
    only = of_item[0] if isinstance(of_item, list) and len(of_item) == 1 else ""
    return asset.polarisation or of_file or parse_name(str(only)).polarisation


def _find_band(raster: Raster, asset: Asset) -> Band:
    index = raster.band - 1
    return asset.bands[index] if index < len(asset.bands) else Band()


def _find_scales(item: Item, asset: Asset, band: Band) -> list[tuple[Scale, str]]:
    """Return the scales that an item declares, each with its source."""
    of_name = parse_name(item.name)
    found = [(find_scale_word(band.unit), f"unit = {band.unit} in its STAC item")]
    found += [(find_scale_word(word), f"{word} in its STAC item") for word in asset.words]
    found += [(parse_name(word).scale, f"{word} in its STAC item") for word in asset.words]
    found += [(of_name.scale, f"its STAC item, {of_name.product or of_name.scale}")]
    return [(scale, source) for scale, source in found if scale]


def _unpack(raster: Raster, item: Item, asset: Asset, band: Band) -> Raster:
    """Return a raster with the nodata value, gain and offset of an item.

    Raises
    ------
    StackError
        If file and item have different gains or offsets.
    """
    told, stored = (band.gain, band.offset), (raster.gain, raster.offset)
    if told != (1, 0) and stored not in ((1, 0), told):
        raise StackError(
            f"the asset {asset.key} of the STAC item {item.name} has scale and offset {told} in "
            f"the item, and {stored} in its file",
            expected="the same in both",
            where=[hide_secrets(asset.href)],
            do="correct the item, or open the file itself",
        )
    gain, offset = stored if told == (1, 0) else told
    nodata: Any = raster.nodata
    if band.nodata is not None and not np.isnan(band.nodata):
        nodata = tuple(dict.fromkeys((*nodata, band.nodata)))
    is_nan = band.nodata is not None and bool(np.isnan(band.nodata))
    nan_is_declared = raster.nan_is_declared or (is_nan and not nodata)
    return replace(raster, gain=gain, offset=offset, nodata=nodata, nan_is_declared=nan_is_declared)


def _name_result(stem: str, item: Item) -> str:
    """Return the first part of the name of a result: names such as ``vv`` get that of the item."""
    is_own = item.name in stem or not np.isnat(parse_name(stem).time)
    return stem if is_own else f"{legal_name(item.name)}_{stem}"


def _needs_signature(file: str) -> bool:
    """Return whether a URL is of storage that the Planetary Computer opens only with a token."""
    parts = urlsplit(file)
    host = parts.netloc.lower()
    return host.endswith(".blob.core.windows.net") and "sig=" not in parts.query
