"""What manifest and annotation of a SAFE product say of one image."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np

from sarstack.readers.grid import GroundControlPoint
from sarstack.readers.image import Slice
from sarstack.readers.sentinel1.look_up_table import Array, Vector, check_axis
from sarstack.readers.sentinel1.product import MANIFEST, SafeProduct
from sarstack.tiles import Shape

LIGHT_M_S = 299_792_458.0


@dataclass(frozen=True)
class Annotation:
    """Facts about one image (one polarisation) of a product.

    Attributes
    ----------
    product_type : str
        ``GRD`` or ``SLC``.
    swath : str
        ``IW``, ``IW1``, ``S3`` and so on.
    polarisation : str
        ``VV``, ``VH``, ``HH`` or ``HV``.
    platform : str
        ``sentinel-1a`` and so on.
    start_time : str
        Time of the first line, ISO 8601, UTC.
    orbit_direction : str
        ``Ascending`` or ``Descending``.
    shape : Shape
        Lines and samples.
    gcps : tuple of GroundControlPoint
        The geolocation grid, in degrees of WGS 84 (EPSG:4326).
    noise_removed : bool
        Whether thermal noise was already subtracted.
    slice : Slice
        Its place in the pass.
    """

    product_type: str
    swath: str
    polarisation: str
    platform: str
    start_time: str
    orbit_direction: str
    shape: Shape
    gcps: tuple[GroundControlPoint, ...]
    noise_removed: bool
    slice: Slice


def read_annotation(product: SafeProduct, member: str) -> Annotation:
    """Read the annotation of one image.

    Raises
    ------
    ValueError
        If an entry is missing or has no meaning.
    """
    root = parse_xml(product, member)
    mission = text_of(root, "adsHeader/missionId", member)
    information = "imageAnnotation/imageInformation/"
    lines, samples = (
        int(text_of(root, information + name, member))
        for name in ("numberOfLines", "numberOfSamples")
    )
    flag = "imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed"
    noise_removed = (root.findtext(flag) or "").strip() == "true"
    return Annotation(
        product_type=text_of(root, "adsHeader/productType", member),
        swath=text_of(root, "adsHeader/swath", member),
        polarisation=text_of(root, "adsHeader/polarisation", member),
        platform=f"sentinel-1{mission[-1].lower()}",
        start_time=text_of(root, "adsHeader/startTime", member),
        orbit_direction=text_of(root, "generalAnnotation/productInformation/pass", member),
        shape=Shape(lines, samples),
        gcps=tuple(_read_point(p, member) for p in root.iter("geolocationGridPoint")),
        noise_removed=noise_removed,
        slice=_read_slice(root, member, noise_removed=noise_removed),
    )


def _read_slice(root: ET.Element, member: str, *, noise_removed: bool) -> Slice:
    header = ("missionId", "mode", "productType", "absoluteOrbitNumber", "missionDataTakeId")
    information = "imageAnnotation/imageInformation/"
    names = ("azimuthTimeInterval", "slantRangeTime", "rangePixelSpacing", "azimuthPixelSpacing")
    interval_s, two_way_s, spacing_m, azimuth_spacing_m = (
        float(text_of(root, information + name, member)) for name in names
    )
    first_line = text_of(root, information + "productFirstLineUtcTime", member)
    if not (interval_s > 0 and spacing_m > 0):
        raise ValueError(f"{member} has no distance of lines or samples")
    return Slice(
        of_pass=(*(text_of(root, f"adsHeader/{name}", member) for name in header),
                 f"noise removed: {noise_removed}"),
        first_line=np.datetime64(first_line.removesuffix("Z"), "ns"),
        interval_s=interval_s,
        near_range_m=two_way_s / 2 * LIGHT_M_S,
        spacing_m=spacing_m,
        azimuth_spacing_m=azimuth_spacing_m,
    )  # fmt: skip


def _read_point(point: ET.Element, member: str) -> GroundControlPoint:
    names = ("line", "pixel", "longitude", "latitude", "height")
    numbers = [float(text_of(point, name, member)) for name in names]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{member} has a point of the geolocation grid that is not finite")
    return GroundControlPoint(*numbers)


def read_relative_orbit(product: SafeProduct) -> str:
    """Return the relative orbit in the manifest, empty if it has none."""
    root = parse_xml(product, MANIFEST)
    orbits = (e.text for e in root.iter() if e.tag.endswith("}relativeOrbitNumber"))
    return (next(orbits, None) or "").strip()


def read_processor_version(product: SafeProduct) -> float:
    """Return the version of the processor (IPF) in the manifest, for example 3.4.

    Infinite if it has none: then the rules of the newest version hold.
    """
    for element in parse_xml(product, MANIFEST).iter():
        if element.tag.endswith("}software") and "IPF" in element.get("name", ""):
            return float(element.get("version", ""))
    return math.inf


def parse_xml(product: SafeProduct, member: str) -> ET.Element:
    """Parse an XML file of a product.

    Raises
    ------
    ValueError
        If it is no XML.
    """
    try:
        return ET.fromstring(product.read(member))
    except ET.ParseError as err:
        raise ValueError(f"{member} is no XML: {err}") from err


def text_of(element: ET.Element, path: str, member: str) -> str:
    """Return the text of a child element.

    Raises
    ------
    ValueError
        If it is missing or empty.
    """
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"{member} has no {path.split('/')[-1]}")
    return text


def read_vectors(elements: Iterable[ET.Element], name: str, member: str) -> tuple[Vector, ...]:
    """Read vectors from XML elements with the children ``line``, ``pixel`` and `name`.

    Returns
    -------
    tuple of Vector
        In order of their lines, one for each line.

    Raises
    ------
    ValueError
        If there is none, or its numbers cannot be used.
    """
    found = {}
    for element in elements:
        line = int(text_of(element, "line", member))
        pixels, values = (read_numbers(element, child, member) for child in ("pixel", name))
        check_axis(pixels, values, f"{name} of line {line} in {member}")
        found[line] = Vector(line, pixels, values)
    if not found:
        raise ValueError(f"{member} has no vector of {name}")
    return tuple(found[line] for line in sorted(found))


def read_numbers(element: ET.Element, name: str, member: str) -> Array:
    """Return the numbers of a child element that has a list of them."""
    return np.array(text_of(element, name, member).split(), np.float64)
