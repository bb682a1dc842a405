"""What the header of one file says: the images in it, before they are put into a stack."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sarstack.conventions import Scale
from sarstack.errors import StackError, StackReadError
from sarstack.readers.grid import Grid
from sarstack.readers.names import (
    NOT_A_TIME,
    NameFacts,
    find_scale_word,
    parents_of_product,
    parse_name,
    parse_time,
)
from sarstack.readers.raster import Raster

# Tags that name the acquisition time; TIFFTAG_DATETIME is left out, it is processing time.
_TIME_TAGS = (
    "ACQUISITION_DATETIME",
    "ZERO_DOPPLER_START_TIME",
    "ACQUISITIONDATETIME",
    "DATETIME",
    "TIME_COVERAGE_START",
    "START_TIME",
)
_WHOLE_NUMBER = re.compile(r"\s*(\d+)(\.0*)?\s*$")
_SCALE_TAGS = ("BACKSCATTER_SCALE", "SCALE", "UNITS", "UNIT", "UNITTYPE")


@dataclass(frozen=True)
class Image:
    """One date and polarisation found in a header; its place in the stack is not settled yet.

    Attributes
    ----------
    raster : Raster
        Where its pixels lie; its scale is not settled yet.
    grid : Grid
        Where they lie on the ground.
    facts : NameFacts
        Time, polarisation, platform and so on; tags beat names.
    declared : tuple of (Scale, str)
        What each tag, unit or name says about the scale, and which one says it.
    order : int or None
        Place in an undated series: a running number in the name, or the band.
    series : str
        Name without running number and polarisation: equal within one series.
    is_numbered : bool
        The time in `facts` was made from `order`.
    """

    raster: Raster
    grid: Grid
    facts: NameFacts
    declared: tuple[tuple[Scale, str], ...] = ()
    order: int | None = None
    series: str = ""
    is_numbered: bool = False

    @property
    def name(self) -> str:
        """File name, with band, variable or time index where the file holds several images."""
        name = Path(self.raster.path).name
        if self.raster.variable:
            name += f":{self.raster.variable}"
        if self.raster.index is not None:
            name += f"[{self.raster.index}]"
        return name + (f" band {self.raster.band}" if self.raster.band > 1 else "")


def describe_image(
    raster: Raster, grid: Grid, names: Sequence[str], tags: Mapping[str, Any]
) -> Image:
    """Put together what names and tags tell of one image.

    Parameters
    ----------
    raster : Raster
    grid : Grid
    names : sequence of str
        From the most specific (band description, variable) to the least (file name).
    tags : mapping of str
        Of the band and the file, the band's taking precedence; keys in any case.

    Returns
    -------
    Image
    """
    upper = {str(key).upper(): str(value) for key, value in tags.items()}
    product = parents_of_product(raster.path)
    named = [parse_name(n) for n in [*names, product] if n]
    tagged = _facts_from_tags(upper)
    facts = NameFacts(
        **{
            field: _first([getattr(f, field) for f in [tagged, *named]])
            for field in NameFacts.__dataclass_fields__
        }
    )
    declared = [
        (scale, f"{key} = {upper[key]}")
        for key in _SCALE_TAGS
        if key in upper and (scale := find_scale_word(upper[key]))
    ]
    declared += [
        (fact.scale, "its name, " + (fact.product or f"the word in {name}"))
        for name, fact in zip([n for n in [*names, product] if n], named, strict=True)
        if fact.scale
    ]
    order, series = _split_number(Path(raster.path).stem, facts.polarisation)
    return Image(raster, grid, facts, tuple(declared), order, series)


def _facts_from_tags(tags: Mapping[str, str]) -> NameFacts:
    times = [parse_time(tags[key]) for key in _TIME_TAGS if key in tags]
    polarisation = tags.get("POLARIZATION", tags.get("POLARISATION", "")).strip()
    direction = tags.get("ORBIT_DIRECTION", tags.get("ORBIT_PASS_DIRECTION", "")).upper()[:3]
    orbit = tags.get("RELATIVE_ORBIT", tags.get("RELATIVE_ORBIT_NUMBER", tags.get("TRACK_NUMBER")))
    words = parse_name(" ".join(tags.get(k, "") for k in ("CALIBRATION", "SHORT_NAME")))
    return replace(
        parse_name(f"{tags.get('PLATFORM', '')} {polarisation}"),
        time=_first([*times, NOT_A_TIME]),
        orbit_direction={"ASC": "ascending", "DES": "descending"}.get(direction, ""),
        relative_orbit=int(match[1]) if (match := _WHOLE_NUMBER.match(orbit or "")) else None,
        calibration=words.calibration,
        scale=None,
    )


def _first(values: Sequence[Any]) -> Any:
    """Return the first value that says something, else the last."""

    def says(value: Any) -> bool:
        return not np.isnat(value) if isinstance(value, np.datetime64) else bool(value)

    return next((v for v in values if says(v)), values[-1])


def _split_number(stem: str, polarisation: str) -> tuple[int | None, str]:
    """Split a name into its last running number and what stays the same in the series."""
    words = [w for w in re.split(r"(\d+)", stem) if w]
    numbers = [i for i, w in enumerate(words) if w.isdigit()]
    order = int(words.pop(numbers[-1])) if numbers else None
    series = "".join(words).lower()
    return order, series.replace(polarisation, "") if polarisation else series


def unreadable_error(path: str, reason: str) -> StackReadError:
    """Return the error of a file that is missing, truncated or not an image."""
    return StackReadError(
        f"{path} cannot be read: {reason}",
        expected="a GeoTIFF, COG, ENVI, netCDF, Zarr or npy image",
        do="copy or download the file again, or remove it",
    )


def complex_numbers_error(path: str) -> StackError:
    """Return the error of a file of single look complex data."""
    return StackError(
        f"{path} holds complex numbers (single look complex)",
        expected="intensity, amplitude or decibel",
        do="detect it first: write abs(value)**2 as a float32 GeoTIFF (deburst TOPS data before)",
    )


def name_bands(path: str, names: Sequence[str], bands: Sequence[str] | None) -> list[str]:
    """Decide what the bands of one raster are called.

    Parameters
    ----------
    path : str
    names : sequence of str
        Descriptions in the file, empty where there is none.
    bands : sequence of str or None
        Names given by the user: one for each band, or a single one for all.

    Returns
    -------
    list of str
        Two to four bands must tell their polarisations apart; five or more bands without
        a name can only be dates.

    Raises
    ------
    StackError
        If it cannot be decided which band is what.
    """
    if bands is not None:
        if len(bands) not in (1, len(names)):
            raise StackError(
                f"{path} has {len(names)} bands, but bands = {list(bands)} names {len(bands)}",
                do="give one name for each band, for example VV,VH",
            )
        return list(bands) if len(bands) == len(names) else list(bands) * len(names)
    told = [parse_name(n) for n in names]
    keys = {(t.polarisation, str(t.time)) for t in told}
    if len(names) == 1 or len(keys) == len(names):
        return list(names)
    if len(names) > 4 and not any(t.polarisation or not np.isnat(t.time) for t in told):
        return [""] * len(names)
    raise StackError(
        f"{path} has {len(names)} bands, and their names do not tell what they are",
        expected="band descriptions such as VV and VH, or 'VV 2021-03-04'",
        where=[f"band {i} is called {n!r}" for i, n in enumerate(names, 1)],
        do="name them: --bands VV,VH (in Python bands=['VV', 'VH']), or set the band descriptions",
    )
