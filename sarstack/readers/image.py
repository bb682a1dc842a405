"""The images found in the headers of files, before they are put into a stack."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sarstack.conventions import MaskWord, Scale, find_sensor
from sarstack.errors import SarstackError, StackError
from sarstack.readers.grid import Grid
from sarstack.readers.names import (
    Metadata,
    find_scale_word,
    parse_name,
    product_folder,
)
from sarstack.readers.paths import file_name, file_stem, public_path
from sarstack.readers.problems import UnreadableFileError
from sarstack.readers.product_layers import ListFolder
from sarstack.readers.raster import Raster
from sarstack.readers.times import NOT_A_TIME, parse_time

# Tags that hold the acquisition time. TIFFTAG_DATETIME is not one: it is the processing time.
_TIME_TAGS = (
    "ACQUISITION_DATETIME",
    "ZERO_DOPPLER_START_TIME",
    "ACQUISITIONDATETIME",
    "DATETIME",
    "TIME_COVERAGE_START",
    "START_TIME",
)
_SCALE_TAGS = ("BACKSCATTER_SCALE", "SCALE", "UNITS", "UNIT", "UNITTYPE")
_WHOLE_NUMBER = re.compile(r"\s*(\d+)(\.0*)?\s*$")


@dataclass(frozen=True)
class Notice:
    """Something surprising about a file that does not stop the work.

    Attributes
    ----------
    what, do : str
        What it is, and what the user can do. Files with the same notice share one warning.
    detail : str
        About this file.
    """

    what: str
    do: str
    detail: str = ""


@dataclass(frozen=True)
class Slice:
    """The place of an image in its pass over the ground.

    Attributes
    ----------
    of_pass : tuple of str
        Platform, orbit and all else that the slices of one pass share.
    first_line : numpy.datetime64
        Time of the first line.
    interval_s : float
        Time between two lines.
    near_range_m : float
        Distance of the first sample from the radar.
    spacing_m : float
        Distance of two samples: on the ground, or from the radar (SLC).
    azimuth_spacing_m : float
        Distance of two lines on the ground.
    """

    of_pass: tuple[str, ...]
    first_line: np.datetime64
    interval_s: float
    near_range_m: float
    spacing_m: float
    azimuth_spacing_m: float


@dataclass(frozen=True)
class Image:
    """One date and polarisation, as its header describes it.

    Attributes
    ----------
    raster : Raster
        Reads its pixels. The scale is not decided yet.
    grid : Grid
        Place of the pixels on the ground.
    metadata : Metadata
        Time, polarisation, platform and so on. A tag counts more than a name.
    declared : tuple of (Scale, str)
        Scales declared by tags, units and names, each with its source.
    order : int or None
        Position in an undated series: a running number in the name, or the band.
    series : str
        Name without running number and polarisation: equal within one series.
    is_numbered : bool
        Whether the time in `metadata` was made from `order`.
    notices : tuple of Notice
        About its file.
    in_radar_geometry : bool
        Whether images of other dates are on other grids, because nothing co-registered them.
    slice : Slice or None
        If the image may be joined with others of its pass.
    """

    raster: Raster
    grid: Grid
    metadata: Metadata
    declared: tuple[tuple[Scale, str], ...] = ()
    order: int | None = None
    series: str = ""
    is_numbered: bool = False
    notices: tuple[Notice, ...] = ()
    in_radar_geometry: bool = False
    slice: Slice | None = None

    @property
    def name(self) -> str:
        """File name, with band, variable or time index where the file holds several images."""
        name = name_file(self.raster)
        if self.raster.variable:
            name += f":{self.raster.variable}"
        if self.raster.index is not None:
            name += f"[{self.raster.index}]"
        return name + (f" band {self.raster.band}" if self.raster.band > 1 else "")


Found = Image | SarstackError
"""An image, or in its place the error of one that cannot be used."""


def describe_image(
    raster: Raster, grid: Grid, names: Sequence[str], tags: Mapping[str, Any]
) -> Image:
    """Describe one image from its tags and names.

    Parameters
    ----------
    raster : Raster
    grid : Grid
    names : sequence of str
        From the most specific (band description, variable) to the least (file name).
    tags : mapping of str
        Tags of the band and of the file, in any case. Where both have a tag, pass the band's.

    Returns
    -------
    Image
        Each value is from the first source that has it: tags, then `names` in their order, then
        the folder of a product.
    """
    upper = {str(key).upper(): str(value) for key, value in tags.items()}
    sources = [name for name in [*names, product_folder(public_path(raster.path))] if name]
    parsed = [parse_name(name) for name in sources]
    from_tags = _parse_tags(upper)
    metadata = Metadata(
        **{
            field: _first_nonempty([getattr(f, field) for f in [from_tags, *parsed]])
            for field in Metadata.__dataclass_fields__
        }
    )
    declared = [
        (scale, f"{key} = {upper[key]}")
        for key in _SCALE_TAGS
        if key in upper and (scale := find_scale_word(upper[key]))
    ]
    declared += [
        (found.scale, "its name, " + (found.product or f"the word in {name}"))
        for name, found in zip(sources, parsed, strict=True)
        if found.scale
    ]
    order, series = _split_number(file_stem(raster.path), metadata.polarisation)
    return Image(raster, grid, metadata, tuple(declared), order, series)


def calibrate(image: Image, calibration: str | None, *, remove_noise: bool = False) -> Image:
    """Return an image with the calibration that the user chose, None for the default.

    Raises
    ------
    SarstackError
        If the format of the image leaves no choice, or its tables cannot be read.
    """
    raster = image.raster.choose_calibration(calibration, remove_noise=remove_noise)
    if calibration is None:
        return replace(image, raster=raster)
    known = "" if calibration == "dn" else calibration
    return replace(image, raster=raster, metadata=replace(image.metadata, calibration=known))


def use_layers(image: Image, mask: Sequence[MaskWord], list_folder: ListFolder) -> Image:
    """Return an image with the layers of its product; see ``Raster.use_layers``.

    Raises
    ------
    SarstackError
        If it has not the mask that the user wants, or a layer is damaged or on another grid.
    """
    return replace(image, raster=image.raster.use_layers(image.grid, mask, list_folder))


def _parse_tags(tags: Mapping[str, str]) -> Metadata:
    """Parse tags, keys in upper case. Scales are left out: their source is reported too."""
    times = [parse_time(tags[key]) for key in _TIME_TAGS if key in tags]
    polarisation = tags.get("POLARIZATION", tags.get("POLARISATION", "")).strip()
    direction = tags.get("ORBIT_DIRECTION", tags.get("ORBIT_PASS_DIRECTION", "")).upper()[:3]
    orbit = tags.get("RELATIVE_ORBIT", tags.get("RELATIVE_ORBIT_NUMBER", tags.get("TRACK_NUMBER")))
    words = parse_name(" ".join(tags.get(k, "") for k in ("CALIBRATION", "SHORT_NAME")))
    platform = tags.get("PLATFORM", "").strip()
    named = parse_name(f"{platform} {polarisation}")
    other = platform.lower() if find_sensor(platform).band else ""
    return replace(
        named,
        platform=named.platform or other,
        time=_first_nonempty([*times, NOT_A_TIME]),
        orbit_direction={"ASC": "ascending", "DES": "descending"}.get(direction, ""),
        relative_orbit=int(match[1]) if (match := _WHOLE_NUMBER.match(orbit or "")) else None,
        calibration=words.calibration,
        scale=None,
    )


def _first_nonempty(values: Sequence[Any]) -> Any:
    """Return the first value that is not empty, None or NaT; the last one if all are."""

    def is_nonempty(value: Any) -> bool:
        return not np.isnat(value) if isinstance(value, np.datetime64) else bool(value)

    return next((v for v in values if is_nonempty(v)), values[-1])


def _split_number(stem: str, polarisation: str) -> tuple[int | None, str]:
    """Split a name into its last running number and the rest, without the polarisation."""
    words = [w for w in re.split(r"(\d+)", stem) if w]
    numbers = [i for i, w in enumerate(words) if w.isdigit()]
    order = int(words.pop(numbers[-1])) if numbers else None
    series = "".join(words).lower()
    return order, series.replace(polarisation, "") if polarisation else series


def name_file(raster: Raster) -> str:
    """Return the name of a file; before it stands the STAC item that lists it, if one does."""
    name = file_name(raster.opened_path)
    return f"{raster.item}/{name}" if raster.item else name


def unreadable_error(path: str, reason: str) -> UnreadableFileError:
    """Return the error of a file whose header cannot be read."""
    return UnreadableFileError.of(
        path, reason, expected="a GeoTIFF, COG, ENVI, netCDF, Zarr, NISAR or npy image"
    )


def complex_numbers_error(path: str) -> StackError:
    """Return the error of a file of complex numbers."""
    return StackError(
        f"{path} holds complex numbers (single look complex)",
        expected="intensity, amplitude or decibel",
        do="detect it first: write abs(value)**2 as a float32 GeoTIFF (deburst TOPS data before)",
    )
