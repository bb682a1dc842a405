"""The formats that sarstack opens: every file of ``readers/formats`` is one, none is listed."""

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Protocol, cast

from sarstack.errors import SarstackError
from sarstack.readers import formats
from sarstack.readers.image import Found, Image, unreadable_error
from sarstack.readers.versions import read_version

_LAST = "gdal"


class Format(Protocol):
    """The names that a file of ``readers/formats`` must have at module level."""

    TITLE: str
    """Its name in the table of ``docs/inputs.md``."""

    SUFFIXES: tuple[str, ...]
    """Suffixes of its files, in lower case with the dot.

    Empty if a folder is one data set, or if its files are opened only when they are named.
    """

    def matches(self, path: str) -> bool:
        """Return whether a path is of this format, by its name or its first bytes.

        The path may be a file, a folder or a URL, and need not exist.
        """

    def list_images(self, path: str, bands: Sequence[str] | None) -> Sequence[Found]:
        """List the images of a path from its headers, without reading all pixels.

        Parameters
        ----------
        path : str
        bands : sequence of str or None
            Names of the bands given by the user, used instead of those of the file.

        Returns
        -------
        list of Image
            One for each date and polarisation, made with
            :func:`sarstack.readers.image.describe_image`. ``Image.raster`` reads the pixels. Its
            class is a subclass of :class:`sarstack.readers.raster.Raster`: one that the file
            defines, or one of another format. If the path only lists other files, an error stands
            in the place of an image that cannot be used.

        Raises
        ------
        StackError
            If it can be read, but cannot be part of a stack.
        Exception
            Any other error is reported as a file that cannot be read.
        """


@cache
def find_formats() -> tuple[Format, ...]:
    """Return all formats in the order in which they are tried: GDAL, which takes any file, last."""
    names = [file.name for file in pkgutil.iter_modules(formats.__path__)]
    names.sort(key=lambda name: (name == _LAST, name))
    return tuple(cast("Format", import_module(f"{formats.__name__}.{name}")) for name in names)


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that can hold an image, in lower case."""
    return tuple(suffix for module in reversed(find_formats()) for suffix in module.SUFFIXES)


def find_format(path: str) -> Format | None:
    """Return the first format that matches a path; None for a plain folder."""
    return next((module for module in find_formats() if module.matches(path)), None)


def list_images(path: str, bands: Sequence[str] | None = None) -> list[Found]:
    """List the images in one file or store from its header.

    Parameters
    ----------
    path : str
        A path of any format.
    bands : sequence of str, optional
        Names of the bands, for files that do not name them.

    Returns
    -------
    list of Image, or SarstackError in place of an image
        One for each date and polarisation. Errors only if the path lists other files.

    Raises
    ------
    StackReadError
        If it is missing, empty, truncated or not an image.
    StackError
        If it is an image, but cannot be part of a stack.
    """
    found = find_format(path)
    if found is None:
        raise unreadable_error(path, "it is a folder")
    try:
        images = found.list_images(path, bands)
    except SarstackError:
        raise
    except UnicodeEncodeError as err:
        raise unreadable_error(path, "its name is not UTF-8: rename it") from err
    except Exception as err:  # each library has its own errors for a damaged file
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise unreadable_error(path, reason) from err
    new = [f.raster.path for f in images if isinstance(f, Image) and f.raster.version is None]
    versions = {file: read_version(file) for file in dict.fromkeys(new)}
    return [
        replace(found, raster=replace(found.raster, version=versions[found.raster.path]))
        if isinstance(found, Image) and found.raster.path in versions
        else found
        for found in images
    ]
