"""Parse a file name or band description: time, polarisation, platform, orbit, scale."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sarstack.conventions import (
    CALIBRATION_WORDS,
    HYP3_CALIBRATIONS,
    HYP3_NAME,
    HYP3_SCALES,
    POLARISATIONS,
    PRODUCTS,
    RELATIVE_ORBIT_OFFSET,
    SCALE_WORDS,
    SCALE_WORDS_IN_NAMES,
    Scale,
)
from sarstack.readers.paths import near_folders
from sarstack.readers.times import NOT_A_TIME, find_times

_PLATFORM = re.compile(
    r"(?i)(?<![a-z0-9])(?:S1([A-Z])|SENTINEL-?1([A-Z])|(ALOS)-?(\d)|(NISAR))(?![a-z0-9])"
)
_PYROSAR = re.compile(r"S1[A-Z]_+(?:IW|EW|SM|S\d)_+([AD])_")
_S1TILING_ORBIT = re.compile(r"(?i)(?<![a-z0-9])(DES|ASC)_(\d{3})(?!\d)")
_BURST = re.compile(r"(?<![A-Za-z0-9])T(\d{3})-(\d{6})-([A-Z]{2}\d)")
_ABSOLUTE_ORBIT = re.compile(r"\d{8}T\d{6}_\d{8}T\d{6}_(\d{6})_[0-9A-F]{6}")

_INSTRUMENT_MODE = re.compile(r"(?i)(?<![a-z0-9])(IW|EW|WV|SM)[1-5]?(?![a-z0-9])")


@dataclass(frozen=True)
class Metadata:
    """What tags or a name say about an image; empty, None or NaT for what they do not say.

    Attributes
    ----------
    time : numpy.datetime64
        Acquisition, UTC: the first timestamp of the name.
    processed : numpy.datetime64
        Processing, UTC: the second timestamp of an OPERA name.
    polarisation : str
        ``vv``, ``vh``, ``hh``, ``hv``.
    platform, orbit_direction, relative_orbit
        As in :class:`~sarstack.readers.stack.Date`.
    scale : {"linear", "amplitude", "db"} or None
        A word of the name, or the only scale of the product.
    calibration : str
        ``gamma0``, ``sigma0``, ``beta0``.
    product : str
        Title of the product whose naming convention matches.
    burst : str
        Burst identifier of an OPERA name.
    filtered : bool
        Whether the name says that a speckle filter was applied.
    """

    time: np.datetime64 = NOT_A_TIME
    processed: np.datetime64 = NOT_A_TIME
    polarisation: str = ""
    platform: str = ""
    orbit_direction: str = ""
    relative_orbit: int | None = None
    scale: Scale | None = None
    calibration: str = ""
    product: str = ""
    burst: str = ""
    filtered: bool = False


def parse_name(name: str) -> Metadata:
    """Parse a file name or band description.

    Parameters
    ----------
    name : str
        Name without folder, with or without extension. Known conventions: OPERA RTC-S1,
        ASF HyP3, Planetary Computer, S1Tiling, pyroSAR/SNAP, ESA SAFE. Of any other name,
        the times that :func:`~sarstack.readers.times.find_times` finds, and a polarisation that
        is a whole word.

    Returns
    -------
    Metadata
    """
    times = find_times(name)
    product = next((p for p in PRODUCTS if p.name.search(name)), None)
    hyp3 = HYP3_NAME.search(name)
    burst = _BURST.search(name)
    platform = _find_platform(name)
    is_opera = product is not None and product.title.startswith("OPERA")
    return Metadata(
        time=times[0] if times else NOT_A_TIME,
        processed=times[1] if is_opera and len(times) > 1 else NOT_A_TIME,
        polarisation=find_polarisation(name),
        platform=platform,
        orbit_direction=_find_direction(name),
        relative_orbit=_find_relative_orbit(name, platform),
        scale=HYP3_SCALES[hyp3["scale"]]
        if hyp3
        else _find_scale(name, product.scale if product else None),
        calibration=HYP3_CALIBRATIONS[hyp3["calibration"]]
        if hyp3
        else _find_calibration(name) or (product.calibration if product else ""),
        product=product.title if product else "",
        burst=burst.group(0) if burst else "",
        filtered=bool(hyp3 and hyp3["filtered"] == "f"),
    )


def find_polarisation(name: str) -> str:
    """Return the polarisation in a name, empty if no whole word or more than one is one."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    found = [p for p in POLARISATIONS if p in words]
    return found[0] if len(found) == 1 else ""


def find_instrument_mode(names: Iterable[str]) -> str:
    """Return the mode of Sentinel-1 (IW, EW, WV, SM) in names of one acquisition, else empty."""
    found = {mode[1].upper() for name in names for mode in _INSTRUMENT_MODE.finditer(name)}
    return found.pop() if len(found) == 1 else ""


def find_scale_word(text: str) -> Scale | None:
    """Return the scale that a unit or a tag means, None if it is not a scale."""
    return SCALE_WORDS.get(text.strip().lower())


def product_folder(path: str) -> str:
    """Return the nearest folder name that follows a convention of a product, else ``""``.

    The Planetary Computer has a folder for each scene, and gives the same name
    ``iw-vv.rtc.tiff`` to the images of all scenes. Only the folder name has the time.
    """
    for folder in near_folders(path):
        if any(p.name.search(folder) for p in PRODUCTS):
            return folder
    return ""


def _find_platform(name: str) -> str:
    match = _PLATFORM.search(name)
    if not match:
        return ""
    letter = match[1] or match[2]
    if match[5]:
        return "nisar"
    return f"sentinel-1{letter.lower()}" if letter else f"alos-{match[4]}"


def _find_direction(name: str) -> str:
    tiled, pyrosar = _S1TILING_ORBIT.search(name), _PYROSAR.search(name)
    letter = tiled[1][0].upper() if tiled else pyrosar[1] if pyrosar else ""
    return {"A": "ascending", "D": "descending"}.get(letter, "")


def _find_relative_orbit(name: str, platform: str) -> int | None:
    if match := _S1TILING_ORBIT.search(name):
        return int(match[2])
    if match := _BURST.search(name):
        return int(match[1])
    match = _ABSOLUTE_ORBIT.search(name)
    if match and platform in RELATIVE_ORBIT_OFFSET:
        return (int(match[1]) - RELATIVE_ORBIT_OFFSET[platform]) % 175 + 1
    return None


def _find_scale(name: str, default: Scale | None) -> Scale | None:
    words = re.split(r"[^a-z0-9]+", name.lower())
    found = {SCALE_WORDS[w] for w in words if w in SCALE_WORDS_IN_NAMES}
    # "intensity_db" is decibel: the unit counts more than the quantity.
    if "db" in found:
        return "db"
    return found.pop() if len(found) == 1 else default


def _find_calibration(name: str) -> str:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((CALIBRATION_WORDS[w] for w in words if w in CALIBRATION_WORDS), "")
