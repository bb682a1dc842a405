"""References in STAC documents: from a text that anybody wrote to a path that may be opened."""

import os
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from sarstack.errors import StackReadError
from sarstack.readers.paths import is_remote

_SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss")
_MAX_LENGTH = 8192


def resolve_href(location: str, href: str) -> str:
    """Return the path or URL that a reference in a document means.

    Parameters
    ----------
    location : str
        File or URL of the document. Relative references begin at its folder.
    href : str
        As it stands in the document.

    Returns
    -------
    str

    Raises
    ------
    StackReadError
        If it is neither a URL of web or object storage nor the path of a file: virtual paths of
        GDAL, other schemes, and local files in a document from the web are refused.
    """
    scheme = urlsplit(href).scheme.lower() if _is_text(href) else ""
    if scheme in _SCHEMES:
        return href
    is_local = scheme == "file" or len(scheme) < 2  # one letter is a drive of Windows
    allowed = _is_text(href) and is_local and not href.startswith(("/vsi", "<"))
    if not allowed or (is_remote(location) and scheme):
        raise StackReadError(
            f"{location} refers to {href[:200]!r}, which is not opened",
            expected="https, s3 or another URL, or the path of a file beside a local document",
            do="check where the document comes from, and correct the reference",
        )
    if is_remote(location):
        return _join_url(location, href)
    if scheme == "file":
        return url2pathname(urlsplit(href).path)
    folder = Path(location).parent
    # References are URLs, so special characters may be encoded; not all writers do that.
    names = (href, unquote(href))
    return str(folder / next((name for name in names if os.path.exists(folder / name)), href))  # noqa: PTH110 (no error for names that are too long)


def _is_text(href: str) -> bool:
    return bool(href.strip()) and len(href) <= _MAX_LENGTH and href.isprintable()


def _join_url(location: str, href: str) -> str:
    """Join a URL and a relative reference, also for schemes that urllib does not know."""
    scheme, _, rest = location.partition("://")
    return scheme + urljoin(f"https://{rest}", href).removeprefix("https")
