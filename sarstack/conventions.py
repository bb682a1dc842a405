"""Words, units, names and constants of Sentinel-1 products, as data.

========== ==================================================================
word       meaning in sarstack
========== ==================================================================
stack      the files of a user: images of several dates
cube       the checked lazy Dataset: ``vv vh hh hv``, dims ``(time, y, x)``
date       one acquisition with its full timestamp (not only the day)
intensity  linear power, the only scale inside the package; other scales
           have a suffix (``_db``, ``_amplitude``)
chunk      unit of Dask and Zarr
tile       the pixels that one task writes
halo       pixels around a tile or cell that are read, but not written
block      GeoTIFF internal block
patch      training sample
label      temporal mean and standard deviation used as training target
looks      equivalent number of looks, not a number of images
card       the metadata that travels inside a model file
========== ==================================================================

Rows come before columns everywhere: ``(y, x)``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "amplitude", "db"]

SCALES: tuple[Scale, ...] = ("linear", "amplitude", "db")

Calibration = Literal["sigma0", "beta0", "gamma0", "dn"]

# What a user can make of the pixels of a SAFE or EOPF product; dn: squared digital numbers.
CALIBRATIONS: tuple[Calibration, ...] = ("sigma0", "beta0", "gamma0", "dn")

MAX_GAIN_DB = 200.0
"""Largest calibration factor that a user can give, and the smallest with a minus."""

MaskWord = Literal["shadow", "layover"]

# What a user can make nodata by the mask of a product.
MASK_WORDS: tuple[MaskWord, ...] = ("shadow", "layover")

POLARISATIONS = ("vv", "vh", "hh", "hv")

# HyP3 says power, amplitude, decibel; Earth Engine LINEAR, DB; pyroSAR linear, dB;
# SNAP intensity, intensity_db. Words are compared in lower case.
SCALE_WORDS: dict[str, Scale] = {
    "linear": "linear",
    "power": "linear",
    "intensity": "linear",
    "natural": "linear",
    "m/m": "linear",
    "m2/m2": "linear",
    "m^2/m^2": "linear",
    "m2 m-2": "linear",
    "amplitude": "amplitude",
    "amp": "amplitude",
    "magnitude": "amplitude",
    "db": "db",
    "decibel": "db",
    "decibels": "db",
    "intensity_db": "db",
    "10*log10": "db",
    "10log10": "db",
}

# In file names only these words mean a scale: "power" and "natural" can be parts of place names.
SCALE_WORDS_IN_NAMES = ("linear", "intensity", "amplitude", "amp", "db", "decibel")

# Names of axes in stores and arrays, in lower case.
TIME_NAMES = ("time", "t", "date", "dates")
Y_NAMES = ("y", "lat", "latitude", "northing", "azimuth", "line", "row")
X_NAMES = ("x", "lon", "longitude", "easting", "range", "pixel", "sample", "col", "column")

CALIBRATION_WORDS: dict[str, str] = {
    "gamma0": "gamma0",
    "gammanaught": "gamma0",
    "gammanaughtrtc": "gamma0",
    "normlim": "gamma0",
    "sigma0": "sigma0",
    "sigmanaught": "sigma0",
    "beta0": "beta0",
    "betanaught": "beta0",
}

# Numbers that mean "no data" in some products, used if a file declares no nodata value:
# -9999 (s1ard and many exports), -99 (pyroSAR), -32768 (Planetary Computer).
NODATA_NUMBERS = (-9999.0, -99.0, -32768.0)

# Files beside the images that are not images of backscatter; _tv are despeckled copies of OPERA.
AUXILIARY_NAME = re.compile(
    r"(?i)[_.-](mask|water_?mask|bordermask|data_?mask|inc_map(_ell)?|inc|lia|angle|incidence(_angle)?|noise|uncertainty_db|support"
    r"|local_incidence_angle|ls_map|layover_shadow(_mask)?|rgb|dem|area|number_of_looks"
    r"|rtc_anf_\w+|browse|thumbnail|quicklook|overview|tv)$"
)

# In HyP3 names, six letters stand for the options of the processing, for example "gpuned".
HYP3_NAME = re.compile(
    r"S1[A-Z]_(?:IW|EW|SM|S\d)_\d{8}T\d{6}_[SD][VH][PRO]_RTC\d+_[GS]_"
    r"(?P<calibration>[gsb])(?P<scale>[pad])[um](?P<filtered>[nf])[ec][dm]_[0-9A-F]{4}"
)
HYP3_SCALES: dict[str, Scale] = {"p": "linear", "a": "amplitude", "d": "db"}
HYP3_CALIBRATIONS = {"g": "gamma0", "s": "sigma0", "b": "beta0"}


@dataclass(frozen=True)
class Product:
    """A product, recognised by the name of its files.

    Attributes
    ----------
    title : str
        Name of the product in messages.
    name : re.Pattern
        Searched in the file name.
    scale : {"linear", "amplitude", "db"} or None
        Scale of the product; None if it varies.
    calibration : str
        ``gamma0``, ``sigma0``, or empty if it varies.
    """

    title: str
    name: re.Pattern[str]
    scale: Scale | None
    calibration: str = ""


PRODUCTS = (
    Product("OPERA RTC-S1", re.compile(r"OPERA_L2_RTC-S1"), "linear", "gamma0"),
    Product("ASF HyP3 RTC", HYP3_NAME, None),
    Product(
        "Planetary Computer RTC",
        re.compile(r"S1[A-Z]_(?:IW|EW|SM)_GRD[HMF]_1S\w{2}_\d{8}T\d{6}_\d{8}T\d{6}\w*_rtc"),
        "linear",
        "gamma0",
    ),
    Product(
        "S1Tiling",
        re.compile(r"(?i)^s1[a-z]_\d{2}[a-z]{3}_(?:vv|vh|hh|hv)_(?:des|asc)_\d{3}_"),
        "linear",
    ),
)

# Orbit number to relative orbit: (absolute - offset) % 175 + 1 (Sentinel-1 cycle of 175 orbits).
# Sentinel-1C and 1D are left out: their offsets changed when the constellation was rearranged.
RELATIVE_ORBIT_OFFSET = {"sentinel-1a": 73, "sentinel-1b": 27}


@dataclass(frozen=True)
class Sensor:
    """What the name of a platform says about its radar; empty or None for what is not certain.

    Attributes
    ----------
    platforms : tuple of str
        First parts of the names of its platforms, in lower case.
    constellation : str
        As STAC catalogues name it.
    band : str
        Letter of the frequency band.
    frequency_ghz : float or None
        Centre frequency.
    """

    platforms: tuple[str, ...]
    constellation: str = ""
    band: str = ""
    frequency_ghz: float | None = None


# NISAR has two radars, of the bands L and S.
SENSORS = (
    Sensor(("sentinel-1",), "sentinel-1", "C", 5.405),
    Sensor(("radarsat-2",), "", "C", 5.405),
    Sensor(("rcm",), "rcm", "C", 5.405),
    Sensor(("envisat",), "", "C", 5.331),
    Sensor(("radarsat", "ers-", "gaofen-3"), "", "C"),
    Sensor(("alos",), "", "L"),
    Sensor(("saocom",), "saocom", "L"),
    Sensor(("iceye",), "iceye", "X"),
    Sensor(("capella",), "capella", "X"),
    Sensor(("umbra",), "umbra", "X"),
    Sensor(("cosmo-skymed", "csk", "csg"), "cosmo-skymed", "X"),
    Sensor(("terrasar-x", "tandem-x", "paz", "kompsat-5"), "", "X"),
)


def find_sensor(platform: str) -> Sensor:
    """Return the sensor of a platform; an empty one if the platform is not known."""
    name = platform.strip().lower()
    return next((s for s in SENSORS if name.startswith(s.platforms)), Sensor(()))


TAGS: dict[str, str] = {
    "ACQUISITION_DATETIME": "time of the acquisition, ISO 8601, UTC",
    "PLATFORM": "satellite, for example sentinel-1a",
    "ORBIT_DIRECTION": "ascending or descending",
    "RELATIVE_ORBIT": "number of the relative orbit, 1 to 175",
    "POLARIZATION": "VV, VH, HH or HV",
    "CALIBRATION": "gamma0, sigma0 or beta0",
    "PRODUCT_NAME": "name of the product, if the input is one (SAFE, EOPF, NISAR)",
    "PROCESSOR_VERSION": "version of the processor of the product",
    "FREQUENCY_BAND": "letter of the radar band, for example C",
    "BACKSCATTER_SCALE": "scale of the pixels: always linear",
    "CONTENT": "speckle (--output-noise), uncertainty (--output-uncertainty, standard deviation in "
    "dB) or support (--output-support, number of other dates), if the pixels are not intensity",
    "GAIN_DB": "decibels added to the input: calibration factor of the product, or --gain-db",
    "MASKED": "parts that the mask of the product makes nodata (--mask): shadow, layover",
    "THERMAL_NOISE": "subtracted, if it was subtracted after despeckling (--remove-noise)",
    "DECORRELATED": "yes, if the speckle was decorrelated before (--decorrelate)",
    "BANDWIDTH": "of `decorrelate`: width of the band along y and x, parts of the sampling rate",
    "SPECTRUM_CENTRE": "of `decorrelate`: middle of the band along y and x, cycles per pixel",
    "BASEBAND": "yes, if the Doppler ramp of bursts was removed (`decorrelate --resample`)",
    "SPECKLE_FILTER": "name of the method",
    "SPECKLE_*": "parameters of the method; hash of its model (MODEL_SHA256) or source file",
    "HALO_PX": "halo of the method",
    "MANTISSA_BITS": "bits of the mantissa that the pixels are rounded to (--keep-bits)",
    "TILE_SIZE_PX": "width of the tiles; it does not change pixels",
    "INPUT_FILE": "name of the input file, after that of its STAC item; all files of joined slices",
    "ENL_BEFORE": "equivalent number of looks of the input",
    "ENL_SOURCE": "origin of ENL_BEFORE: given, product, compared, estimated or nominal",
    "ENL_AFTER": "equivalent number of looks of the result, if it could be estimated",
    "SPECKLE_CORRELATION": "lag-1 correlation of the speckle, along y and x",
    "DATES_SEEN": "number of dates in the sums of a multi-temporal method, its own included",
    "DATES_SEEN_FIRST": "time of the first of them",
    "DATES_SEEN_LAST": "time of the last of them",
    "PROCESSING_DATETIME": "time of the processing, ISO 8601, UTC",
    "SARSTACK_VERSION": "version of sarstack",
    "TIFFTAG_SOFTWARE": "sarstack and its version",
    "SARSTACK_FINGERPRINT": "hash of settings and inputs, by which a finished result is recognised",
    "SARSTACK_SETTINGS": "of a multi-temporal method: hash of the settings without inputs",
    "SARSTACK_DATES": "the dates of DATES_SEEN, each with a hash of its input (--keep-dates)",
}
"""Tags of a result and their meaning; tags without a value are left out."""

# Other content has no calibration.
_OF_INTENSITY = ("CALIBRATION", "BACKSCATTER_SCALE", "GAIN_DB", "THERMAL_NOISE")


def describe_content(tags: Mapping[str, str], content: str) -> dict[str, str]:
    """Return the tags of an image that is not intensity, from those of the intensity.

    Parameters
    ----------
    tags : mapping of str to str
    content : str
        ``speckle``, ``uncertainty`` or ``support``; see `TAGS`.
    """
    kept = {name: value for name, value in tags.items() if name not in _OF_INTENSITY}
    return kept | {"CONTENT": content}


DB_PER_NAT = 4.342944819032518
"""10 / ln 10: a change of a natural logarithm by 1, in dB."""
SPECKLE_ATTRIBUTES = {"long_name": "speckle: noisy / speckle-free intensity", "units": "1"}


@dataclass(frozen=True)
class Extra:
    """A further image of a result, made in the same pass.

    Attributes
    ----------
    content : str
        What it is: tag CONTENT, and end of the name of its STAC asset.
    ending : str
        End of the names of files and variables.
    unit : str
    long_name : str
    """

    content: str
    ending: str
    unit: str
    long_name: str

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of a variable."""
        return {"long_name": self.long_name, "units": self.unit}


# Not "sigma": that is a backscatter coefficient.
UNCERTAINTY = Extra("uncertainty", "_uncertainty_db", "dB",
                    "uncertainty of the despeckled intensity: standard deviation")  # fmt: skip
SUPPORT = Extra("support", "_support", "1", "number of other dates that agree with this date")
EXTRAS = (UNCERTAINTY, SUPPORT)
INTENSITY_LONG_NAME = "radar backscatter intensity"
CF_STANDARD_NAME = "surface_backwards_scattering_coefficient_of_radar_wave"
CF_CONVENTIONS = "CF-1.11"


def intensity_attributes(polarisation: str, calibration: str = "") -> dict[str, str]:
    """Return the CF attributes of an intensity variable.

    Parameters
    ----------
    polarisation : str
        ``vv``, ``vh``, ``hh`` or ``hv``.
    calibration : str, optional
        ``gamma0``, ``sigma0``, ``beta0`` or empty when unknown.

    Returns
    -------
    dict of str to str
        By name. The unit of linear power is ``"1"``.
    """
    attributes = {
        "long_name": f"{INTENSITY_LONG_NAME} {polarisation.upper()}",
        "units": "1",
        "scale": "linear",
        "polarisation": polarisation.upper(),
        "grid_mapping": "spatial_ref",
    }
    if calibration:
        attributes["calibration"] = calibration
        attributes["standard_name"] = CF_STANDARD_NAME
    return attributes
