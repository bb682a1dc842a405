"""Files of web servers and object storage: what the server tells of them, lists, settings of GDAL.

Pixels are read by GDAL (GeoTIFF) and by zarr with fsspec. Both find the user's credentials in the
environment and in the files of profiles.
"""

import base64
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.client import HTTPException
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from numpy.typing import NDArray

from sarstack.errors import MissingDependencyError, StackReadError
from sarstack.readers.paths import is_remote, split_zip_path
from sarstack.tiles import Window

STORAGE = {
    "s3": ("/vsis3/", "s3fs", "s3"),
    "gs": ("/vsigs/", "gcsfs", "gcs"),
    "gcs": ("/vsigs/", "gcsfs", "gcs"),
    "az": ("/vsiaz/", "adlfs", "azure"),
    "abfs": ("/vsiaz/", "adlfs", "azure"),
    "abfss": ("/vsiaz/", "adlfs", "azure"),
}
"""Schemes of object storage: virtual folder of GDAL, package of fsspec, extra of sarstack."""

N_ATTEMPTS = 4
_FIRST_DELAY_S = 0.25
_TIMEOUT_S = 60
_TEMPORARY = (429, 500, 502, 503, 504)
# GDAL keeps what it read of a URL, also if the file changes. Only the server knows.
_GDAL_SETTINGS = {
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl:/vsis3/:/vsigs/:/vsiaz/",
    # Signed URLs are often valid for GET only.
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "GDAL_HTTP_MAX_RETRY": str(N_ATTEMPTS - 1),
    "GDAL_HTTP_RETRY_DELAY": str(_FIRST_DELAY_S),
    "GDAL_HTTP_CONNECTTIMEOUT": str(_TIMEOUT_S),
}
_Result = TypeVar("_Result")


class ObjectVersion(NamedTuple):
    """What a server tells of a file; it changes when the file changes.

    Attributes
    ----------
    size_bytes : int
        0 if the server does not tell it.
    etag, modified : str
        Tag of the content and time of the last change; empty if the server does not tell them.
    """

    size_bytes: int
    etag: str
    modified: str


def scheme_of(path: str) -> str:
    """Return the scheme of a URL in lower case, empty for other paths."""
    return path.partition("://")[0].lower() if "://" in path else ""


def is_storage(path: str) -> bool:
    """Return whether a path is a URL of object storage, whose folders can be listed."""
    return scheme_of(path) in STORAGE


def is_server_file(path: str) -> bool:
    """Return whether a path is the URL of one file, not of a Zarr store."""
    is_store = path.rstrip("/").lower().endswith(".zarr")
    return not is_store and (scheme_of(path) in ("http", "https") or is_storage(path))


def is_network_path(path: str) -> bool:
    """Return whether GDAL reads a path from a server; a file in a local zip file it does not."""
    return is_remote(path) and not split_zip_path(path)[0]


def open_storage(url: str) -> Any:
    """Return the fsspec file system of a URL.

    Raises
    ------
    MissingDependencyError
        If the package that reads such URLs is not installed.
    """
    import fsspec

    scheme = scheme_of(url)
    try:
        return fsspec.url_to_fs(url)[0]
    except ImportError as missing:
        _, package, extra = STORAGE.get(scheme, ("", "aiohttp", "https"))
        raise MissingDependencyError(
            f"{scheme}:// needs a package that is not installed: {package}",
            expected=f"the optional packages for {scheme}://",
            where=url,
            do=f"pip install 'sarstack[{extra}]'",
        ) from missing


def gdal_path(path: str) -> str:
    """Return the path that GDAL opens: a virtual path for a URL of object storage."""
    scheme, _, rest = path.partition("://")
    return STORAGE[scheme.lower()][0] + rest if is_storage(path) else path


def gdal_environment(path: str, driver: str) -> AbstractContextManager[Any]:
    """Return the context in which GDAL opens a path; GDAL keeps the settings for this file.

    Parameters
    ----------
    path : str
        A local path needs no settings.
    driver : str
        For a GeoTIFF, GDAL does not look for other files beside it: each costs a request.
    """
    import rasterio
    from rasterio.session import DummySession

    if not is_network_path(path):
        return nullcontext()
    alone = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if driver == "GTiff" else {}
    # GDAL finds the credentials itself.
    return rasterio.Env(DummySession(), **_GDAL_SETTINGS, **alone, **_storage_settings())


def _storage_settings() -> dict[str, str]:
    """Return what GDAL does not read itself of the settings of other programs for S3."""
    settings: dict[str, str] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "AWS_S3_ENDPOINT" not in os.environ:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings |= {
            "AWS_S3_ENDPOINT": parts.netloc + parts.path.rstrip("/"),
            "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "FALSE"),
        }
    # GDAL reads the setting that the AWS tools use now only in its newest versions.
    if "AWS_REGION" not in os.environ and (region := os.environ.get("AWS_DEFAULT_REGION")):
        settings["AWS_REGION"] = region
    return settings


def read_object_version(url: str) -> ObjectVersion:
    """Ask the server for size, tag and time of a file. Nothing is cached.

    Raises
    ------
    StackReadError
        If there is no such file, access is denied, the server cannot be reached, or cannot send
        parts of a file.
    MissingDependencyError
        If a package for such URLs is missing.
    """
    if is_storage(url):
        system = open_storage(url)
        with explain_access(url):
            return _version_of(system.info(url, refresh=True), url)
    with explain_access(url):
        return repeat(lambda: _ask_web_server(url))


def _version_of(about: dict[str, Any], url: str) -> ObjectVersion:
    if about.get("type") == "directory":
        raise StackReadError(
            f"{url} is a folder, or part of the names of several files",
            expected="a file",
            do=f"name a file, or the folder {url.rstrip('/')}/",
        )
    tags = [about.get(name) for name in ("ETag", "etag", "md5Hash")]
    times = [about.get(name) for name in ("LastModified", "last_modified", "updated", "mtime")]
    tag, modified = (str(next((v for v in values if v), "")) for values in (tags, times))
    return ObjectVersion(int(about.get("size") or 0), tag.strip('"'), modified)


def _ask_web_server(url: str) -> ObjectVersion:
    """Request one byte: not every server that allows GET allows HEAD."""
    request = make_web_request(url)
    request.add_header("Range", "bytes=0-0")
    with urlopen(request, timeout=_TIMEOUT_S) as response:
        if response.status != 206:
            raise StackReadError(
                f"{url}: the server does not send parts of a file",
                expected="a server that answers range requests",
                do="download the file, and use the copy",
            )
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
        tag, modified = (response.headers.get(n, "") for n in ("ETag", "Last-Modified"))
    return ObjectVersion(int(size) if size.isdigit() else 0, tag.strip('"'), modified)


def make_web_request(url: str) -> Request:
    """Return a request of a web server, with user and password of the URL in a header."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host, fragment="")))
    if user:
        # Not sent to another host that the server redirects to.
        coded = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {coded}")
    return request


def repeat(request: Callable[[], _Result]) -> _Result:
    """Send a request again, a few times with growing delays, if its failure can be temporary."""
    for attempt in range(N_ATTEMPTS - 1):
        try:
            return request()
        except HTTPError as failure:
            if failure.code not in _TEMPORARY:
                raise
        except (OSError, HTTPException) as failure:
            if isinstance(failure, StackReadError):
                raise
        _wait(attempt)
    return request()


def read_again(
    path: str,
    windows: Sequence[Window],
    read: Callable[[Sequence[Window]], Iterator[NDArray[Any]]],
) -> Iterator[NDArray[Any]]:
    """Read windows with GDAL; those of remote files again if that fails, because connections break.

    GDAL repeats a request that was refused, but not one that was answered in part.
    """
    from rasterio.errors import RasterioError

    n_read = n_failures = 0
    while n_read < len(windows):
        try:
            for pixels in read(windows[n_read:]):
                yield pixels
                n_read, n_failures = n_read + 1, 0
        except RasterioError:
            n_failures += 1
            if not is_network_path(path) or n_failures == N_ATTEMPTS:
                raise
            _wait(n_failures)


def _wait(attempt: int) -> None:
    """Wait before a request is sent again, longer after each attempt."""
    time.sleep(_FIRST_DELAY_S * 2**attempt)


@contextmanager
def explain_access(url: str) -> Iterator[None]:
    """Turn errors of web servers and object storage into errors that say what to do."""
    try:
        yield
    except StackReadError:
        raise
    except (OSError, HTTPException, ValueError) as failure:
        raise _access_error(url, failure) from None
    except Exception as failure:  # botocore, google and azure have their own errors
        if not type(failure).__module__.startswith(("botocore", "aio", "goog", "azure", "gcsfs")):
            raise
        raise _access_error(url, failure) from None


def _access_error(url: str, failure: Exception) -> StackReadError:
    code = getattr(failure, "code", None)
    reason = (str(failure) or type(failure).__name__).splitlines()[0]
    if code in (404, 410) or isinstance(failure, FileNotFoundError):
        return StackReadError(
            f"{url} does not exist",
            expected="the URL of a file",
            do="check the path, upper and lower case too",
        )
    is_denied = isinstance(failure, PermissionError) or "redential" in f"{reason}{type(failure)}"
    if code in (401, 403) or is_denied:
        return StackReadError(
            f"{url}: access is denied ({reason})",
            expected="credentials that may read it",
            do="check the credentials: the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE; a signed URL may have ended. A wrong path can also be the cause",
        )
    return StackReadError(
        f"{url} cannot be reached ({reason})",
        expected=f"an answer of the server ({N_ATTEMPTS} attempts were made)",
        do="check the address and the network, then run the same command again",
    )


def list_objects(url: str) -> list[str]:
    """List the files and folders of a folder of object storage, or those that match a pattern.

    Parameters
    ----------
    url : str
        ``s3://bucket/folder/`` or ``s3://bucket/folder/*_vv.tif``. A pattern may have ``*``, ``?``
        and ``[]``, in any part of the path but the bucket.

    Returns
    -------
    list of str
        Sorted URLs; those of folders end with ``/``. Empty if there is nothing.
    """
    system, scheme = open_storage(url), scheme_of(url)
    with explain_access(url):
        system.invalidate_cache()
        try:
            if is_pattern(url):
                found = system.glob(url, detail=True).values()
            else:
                found = system.ls(url.rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
    own = url.partition("://")[2].strip("/")
    names = (
        about["name"].strip("/") + ("/" if about.get("type") == "directory" else "")
        for about in found
    )
    return sorted(f"{scheme}://{name}" for name in names if name.strip("/") != own)


def is_pattern(url: str) -> bool:
    """Return whether a URL of object storage is a pattern."""
    return is_storage(url) and any(c in url for c in "*?[")
