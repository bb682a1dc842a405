"""STAC documents: read JSON from files and URLs within bounds, and collect the items in them."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from sarstack.errors import SarstackWarning, StackError, StackReadError
from sarstack.readers.paths import is_remote
from sarstack.readers.remote import make_web_request, open_storage
from sarstack.readers.stac.links import resolve_href

MAX_BYTES = 32 * 2**20
MAX_ALL_BYTES = 256 * 2**20
MAX_DOCUMENTS = 10_000
MAX_ITEMS = 10_000
_N_THREADS = 8
_TIMEOUT_S = 60
_MAX_NAME = 200
_EXPECTED = "a STAC item, an item collection, a collection or a catalogue with links to items"
_DO_SAVE = "search with pystac-client, and save the items that you need: " \
    "search.item_collection().save_object('items.json')"  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One STAC item.

    Attributes
    ----------
    name : str
        Its identifier; characters that cannot be printed are ``_``.
    location : str
        File or URL that relative references of the item begin at.
    properties : dict
    assets : dict of str to dict
        By key; entries that are no JSON objects are left out.
    """

    name: str
    location: str
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]


def collect_items(path: str) -> list[Item]:
    """Read a STAC document, and the documents that it links to, and return all items.

    Parameters
    ----------
    path : str
        File or URL of an item, an item collection (also a page of an API: further pages are
        read), a collection or a catalogue (links of the relations `item` and `child` are
        followed).

    Returns
    -------
    list of Item
        Each once, in the order of the documents.

    Raises
    ------
    StackReadError
        If a document cannot be read, or is no STAC.
    StackError
        If there is no item, or more than `MAX_ITEMS`.
    """
    found: dict[tuple[str, str], Item] = {}
    n_bytes, seen, waiting = 0, {path}, [path]
    with ThreadPoolExecutor(_N_THREADS) as pool:
        while waiting:
            # A few at a time: documents from the web may be large.
            some, waiting = waiting[:_N_THREADS], waiting[_N_THREADS:]
            for location, (document, size) in zip(some, pool.map(read_document, some), strict=True):
                n_bytes += size
                for item in _list_items(location, document):
                    hrefs = " ".join(str(asset.get("href")) for asset in item.assets.values())
                    found.setdefault((item.name, hrefs), item)
                links = dict.fromkeys(_list_links(location, document))
                waiting += [link for link in links if link not in seen]
                seen.update(links)
            _check_amounts(path, len(found), len(seen), n_bytes)
    if not found:
        raise StackError(f"{path} has no item, and no link to an item", expected=_EXPECTED,
                         do=_DO_SAVE)  # fmt: skip
    return list(found.values())


def _check_amounts(path: str, n_items: int, n_documents: int, n_bytes: int) -> None:
    if n_items > MAX_ITEMS or n_documents > MAX_DOCUMENTS or n_bytes > MAX_ALL_BYTES:
        raise StackError(
            f"{path} leads to {n_documents} documents, and to {n_items} items in {n_bytes} bytes",
            expected=f"at most {MAX_DOCUMENTS} documents, {MAX_ITEMS} items, {MAX_ALL_BYTES} bytes",
            do=_DO_SAVE,
        )


def read_document(location: str) -> tuple[dict[str, Any], int]:
    """Read one JSON document from a file or URL; return it and its size in bytes.

    Raises
    ------
    StackReadError
        If it cannot be read, is larger than `MAX_BYTES`, or is no STAC.
    """
    try:
        content = _read_remote(location) if is_remote(location) else _read_local(location)
        document = _parse(content) if len(content) <= MAX_BYTES else None
    except RecursionError as failure:
        raise _unreadable_error(location, "its JSON is nested too deep") from failure
    except (OSError, ValueError) as failure:
        reason = (str(failure) or type(failure).__name__).splitlines()[0]
        raise _unreadable_error(location, reason) from failure
    if len(content) > MAX_BYTES:
        raise _unreadable_error(location, f"it has more than {MAX_BYTES} bytes")
    if not isinstance(document, dict) or not _kind_of(document):
        raise StackReadError(
            f"{location} is JSON, but no STAC",
            expected=_EXPECTED,
            do="give the folder of the images, or a STAC document that lists them",
        )
    return document, len(content)


def _parse(content: bytes) -> Any:
    """Parse JSON; raise ValueError if it has characters that no file name or tag can have."""
    text = content.decode(json.detect_encoding(content))
    document = json.loads(text)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(document, ensure_ascii=False).encode()
    return document


def _unreadable_error(location: str, reason: str) -> StackReadError:
    return StackReadError(
        f"{location} cannot be read ({reason})",
        expected=_EXPECTED,
        do="check the path, or save the document again",
    )


def _read_local(location: str) -> bytes:
    if not Path(location).is_file():
        raise FileNotFoundError("there is no such file")
    with Path(location).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _read_remote(location: str) -> bytes:
    if not location.lower().startswith(("http://", "https://")):
        with open_storage(location).open(location, "rb") as file:
            content: bytes = file.read(MAX_BYTES + 1)
        return content
    request = make_web_request(location)
    request.add_header("Accept", "application/geo+json, application/json")
    with urlopen(request, timeout=_TIMEOUT_S) as response:
        read: bytes = response.read(MAX_BYTES + 1)
    return read


def _kind_of(document: Mapping[str, Any]) -> str:
    """Return `item`, `items` or `catalogue`; empty if a document is no STAC."""
    kind = document.get("type")
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        features = document["features"]
        return "items" if all(_is_item(f) for f in features) else ""
    if kind == "Feature":
        return "item" if _is_item(document) else ""
    # Catalogues of versions before 1.0 have no type.
    is_catalogue = kind in ("Catalog", "Collection") or (
        kind is None and "stac_version" in document
    )
    return "catalogue" if is_catalogue and isinstance(document.get("links"), list) else ""


def _is_item(feature: Any) -> bool:
    return (
        isinstance(feature, dict)
        and isinstance(feature.get("id"), str | int)
        and isinstance(feature.get("properties"), dict)
        and isinstance(feature.get("assets"), dict)
    )


def _list_items(location: str, document: Mapping[str, Any]) -> Iterator[Item]:
    kind = _kind_of(document)
    features = {"item": [document], "items": document.get("features")}.get(kind) or []
    for feature in features:
        assets = {key: asset for key, asset in feature["assets"].items() if isinstance(asset, dict)}
        base = location if kind == "item" else _find_self(feature) or location
        # It becomes a part of file names and tags.
        name = "".join(c if c.isprintable() else "_" for c in str(feature["id"])[:_MAX_NAME])
        yield Item(name, base, feature["properties"], assets)


def _find_self(feature: Mapping[str, Any]) -> str:
    """Return the URL of an item that is part of an item collection, empty if it has none."""
    for link in _read_links(feature):
        href = link["href"]
        if link.get("rel") == "self" and re.match(r"(?i)https?://", href):
            return href
    return ""


def _read_links(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    links = document.get("links")
    return [
        link
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and isinstance(link.get("href"), str)
    ]


def _list_links(location: str, document: Mapping[str, Any]) -> list[str]:
    """Return the documents to read after this one: items of a catalogue, next page of an API."""
    kind = _kind_of(document)
    relations = {"catalogue": ("item", "child"), "items": ("next",)}.get(kind, ())
    links = [link for link in _read_links(document) if link.get("rel") in relations]
    if kind == "items":
        if not document["features"]:
            return []
        posted = [link for link in links if str(link.get("method", "GET")).upper() != "GET"]
        if posted:
            text = StackError(
                f"{location} is a part of the result of a search: its next part is left out, "
                "because it must be requested by POST",
                do=_DO_SAVE,
            ).message()
            warnings.warn(SarstackWarning(text), stacklevel=2)
        links = [link for link in links if link not in posted]
    return [resolve_href(location, link["href"]) for link in links]
