"""Products of digital numbers whose calibration factor is certain: PALSAR-2, ICEYE, Capella.

Their pixels are amplitudes in whole numbers. Other products of whole numbers are not calibrated
here: the user gives the factor (``--gain-db``).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sarstack.conventions import MAX_GAIN_DB, Scale
from sarstack.errors import UsageError
from sarstack.readers.image import Image
from sarstack.readers.paths import file_name, is_remote
from sarstack.readers.times import NOT_A_TIME, parse_time

_PALSAR_DB = -83.0
# Levels 1.5 and 2.1 of PALSAR-2 as GeoTIFF, and the yearly mosaics of PALSAR and PALSAR-2.
_PALSAR_SCENE = re.compile(r"^IMG-(?:HH|HV|VH|VV)-ALOS2\d{9}-(?P<day>\d{6})-[A-Z]{4}(?:1\.5|2\.1)")
_PALSAR_MOSAIC = re.compile(
    r"^[NS]\d{2}[EW]\d{3}_(?P<year>\d{2})_(?:sl_)?H[HV](?:_F\w{5})?\.tiff?$"
)
_ICEYE = re.compile(r"^ICEYE_(X\d+)_")
_CAPELLA = re.compile(r"^CAPELLA_C(\d+)_")
_MAX_SIDE_CAR_BYTES = 2**24


@dataclass(frozen=True)
class Factor:
    """What a product tells of its digital numbers.

    Attributes
    ----------
    gain_db : float
        Backscatter in decibel is ``20 log10(number) + gain_db``.
    calibration : str
        ``gamma0``, ``sigma0``, ``beta0``, empty if the product does not tell it.
    platform : str
        Satellite.
    time : numpy.datetime64
        Day of the acquisition, of names with another form of date than all others.
    """

    gain_db: float
    calibration: str
    platform: str
    time: np.datetime64 = NOT_A_TIME


def use_factor(image: Image, tags: Mapping[str, str], dtype: str) -> Image:
    """Return an image with the calibration factor of its product, if that is known.

    Parameters
    ----------
    image : Image
    tags : mapping of str to str
        Of file and band.
    dtype : str
        Of the stored numbers. Other than whole numbers were calibrated already.
    """
    raster = image.raster
    if not dtype.startswith(("uint", "int")) or raster.gain != 1 or raster.offset != 0:
        return image
    path = raster.opened_path
    factor = find_factor(file_name(path), tags, "" if is_remote(path) else path)
    if factor is None:
        return image
    metadata = replace(
        image.metadata,
        calibration=factor.calibration,
        platform=image.metadata.platform or factor.platform,
    )
    if np.isnat(metadata.time):
        metadata = replace(metadata, time=factor.time)
    declared: tuple[Scale, str] = ("amplitude", f"its product, of {factor.platform}")
    return replace(
        image,
        raster=replace(raster, gain_db=factor.gain_db),
        metadata=metadata,
        declared=(*image.declared, declared),
    )


def find_factor(name: str, tags: Mapping[str, str], path: str = "") -> Factor | None:
    """Find the calibration factor of a product.

    Parameters
    ----------
    name : str
        Of the file.
    tags : mapping of str to str
        Of the file.
    path : str, optional
        Of a local file, beside which a side-car can lie.

    Returns
    -------
    Factor or None

    Notes
    -----
    PALSAR-2, levels 1.5 and 2.1: sigma0 = 20 log10(DN) - 83.0 dB (JAXA, calibration results);
    mosaics the same in gamma0. ICEYE: sigma0 = calibration_factor * DN**2 of amplitude images
    (ICEYE product documentation). Capella: (scale_factor * DN)**2 in the radiometry that its
    metadata name (Capella SAR products format specification).
    """
    upper = {key.upper(): value for key, value in tags.items()}
    if match := _PALSAR_SCENE.match(name):
        return Factor(_PALSAR_DB, "sigma0", "alos-2", parse_time(f"20{match['day']}"))
    if match := _PALSAR_MOSAIC.match(name):
        satellite = _find_palsar(int(match["year"]))
        return Factor(_PALSAR_DB, "gamma0", satellite) if satellite else None
    if (match := _ICEYE.match(name)) and "_SLC_" not in name:
        factor = _parse_positive(upper.get("CALIBRATION_FACTOR"))
        platform = f"iceye-{match[1].lower()}"
        return Factor(10 * math.log10(factor), "sigma0", platform) if factor else None
    if match := _CAPELLA.match(name):
        return _find_capella(upper.get("TIFFTAG_IMAGEDESCRIPTION", ""), path, int(match[1]))
    return None


def _find_palsar(year: int) -> str:
    """Return the satellite of a mosaic; empty for JERS-1, whose factor is another one."""
    return "alos-1" if 7 <= year <= 10 else "alos-2" if 14 <= year <= 60 else ""


def _find_capella(description: str, path: str, number: int) -> Factor | None:
    side_car = Path(path).with_name(f"{Path(path).stem}_extended.json") if path else None
    for text in (description, _read_text(side_car)):
        image = _parse_image(text)
        factor = _parse_positive(image.get("scale_factor"))
        if factor:
            words = {"sigma_nought": "sigma0", "beta_nought": "beta0", "gamma_nought": "gamma0"}
            calibration = words.get(str(image.get("radiometry")).lower(), "")
            return Factor(20 * math.log10(factor), calibration, f"capella-{number}")
    return None


def _read_text(path: Path | None) -> str:
    try:
        if path is None or path.stat().st_size > _MAX_SIDE_CAR_BYTES:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parse_image(text: str) -> Mapping[str, Any]:
    """Return the object ``collect.image`` of Capella's metadata, empty without one."""
    try:
        found = json.loads(text) if text else {}
        image = found["collect"]["image"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return {}
    return image if isinstance(image, dict) else {}


def _parse_positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def add_gain(image: Image, gain_db: float | None) -> Image:
    """Return an image with the gain of the user in place of that of its product.

    Raises
    ------
    UsageError
        If it is not a number of decibel.
    """
    if gain_db is None:
        return image
    if not abs(gain_db) <= MAX_GAIN_DB:
        raise UsageError(
            f"gain_db = {gain_db} is out of range",
            expected=f"-{MAX_GAIN_DB:g} to {MAX_GAIN_DB:g} dB, for example -83 for PALSAR-2",
            do="give the decibel that the product's document adds to 20 log10(DN)",
        )
    had_gain = image.raster.gain_db != 0
    metadata = replace(image.metadata, calibration="") if had_gain else image.metadata
    return replace(image, raster=replace(image.raster, gain_db=float(gain_db)), metadata=metadata)
