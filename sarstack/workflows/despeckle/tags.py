"""Tags of a result: those of the source image, and those that sarstack adds."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sarstack import __version__
from sarstack.conventions import TAGS, describe_content
from sarstack.errors import hide_secrets
from sarstack.readers.image import name_file
from sarstack.readers.paths import file_name
from sarstack.readers.raster import Raster
from sarstack.workflows.fingerprint import FINGERPRINT_TAG
from sarstack.workflows.progress import now_utc

if TYPE_CHECKING:
    from sarstack.workflows.despeckle.images import Image
    from sarstack.workflows.despeckle.state import Run

# Tags that describe the stored numbers of the source, or how its file is made. The result has
# other numbers and another file.
_NOT_KEPT = re.compile(
    r"(?i)^(statistics_.*|calibration_factor|scale|units?|unittype|scale_factor|add_offset|_fillvalue|missing_value"
    r"|valid_(min|max|range)|_unsigned|nodata|_nodata|nodata_values|tifftag_m(in|ax)samplevalue"
    r"|ovr_resampling_alg|layout|interleave|compression|speckle_.*|sarstack_.*)$"
)
# Characters that XML does not allow.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make_tags(run: "Run", image: "Image", source: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a result.

    Parameters
    ----------
    run : Run
    image : Image
        Of the result.
    source : mapping of str to str
        Tags of the source image.

    Returns
    -------
    dict of str to str
        The tags of :data:`sarstack.conventions.TAGS`, and those of the source with other names.
    """
    own = _own_tags(run, image)
    return {**keep_source_tags(source, own), **own}


def keep_source_tags(source: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a source image that stay true in the result.

    Left out are tags that describe the stored numbers, and those of which the result has its own
    value. Upper and lower case are not distinguished, as in GDAL.
    """
    taken = {name.upper() for name in own} | {
        name for name in TAGS if name.startswith(("ENL_", "SPECKLE_", "DATES_"))
    }
    return {
        _NOT_XML.sub(" ", name): _NOT_XML.sub(" ", hide_secrets(value))
        for name, value in source.items()
        if name.upper() not in taken and not _NOT_KEPT.match(name) and not _tells_factor(value)
    }


def _own_tags(run: "Run", image: "Image") -> dict[str, str]:
    plan = run.plan
    date = plan.stack.dates[image.layer]
    gain = image.raster.gain_db or plan.config.gain_db
    statistics = run.statistics[image.polarisation][image.layer]
    tags = {
        "ACQUISITION_DATETIME": date.timestamp,
        "PLATFORM": date.platform,
        "ORBIT_DIRECTION": date.orbit_direction,
        "RELATIVE_ORBIT": "" if date.relative_orbit is None else str(date.relative_orbit),
        "POLARIZATION": image.polarisation.upper(),
        "CALIBRATION": plan.stack.calibration,
        "BACKSCATTER_SCALE": "linear",
        "GAIN_DB": f"{gain:.6g}" if gain else "",
        "MASKED": ", ".join(image.raster.masked_parts),
        "THERMAL_NOISE": "subtracted" if plan.config.remove_noise else "",
        "DECORRELATED": "yes" if plan.config.decorrelate else "",
        "SPECKLE_FILTER": image.despeckler.name,
        **{f"SPECKLE_{k.upper()}": v for k, v in image.despeckler.provenance().items()},
        "HALO_PX": str(image.despeckler.halo),
        "MANTISSA_BITS": str(plan.config.keep_bits),
        "TILE_SIZE_PX": str(plan.config.tile_px),
        "INPUT_FILE": _name_input(image.raster),
        "ENL_BEFORE": f"{statistics.looks:.2f}",
        "ENL_SOURCE": statistics.looks_source,
        "SPECKLE_CORRELATION": " ".join(f"{rho:.2f}" for rho in statistics.correlation),
        "PROCESSING_DATETIME": now_utc(),
        "SARSTACK_VERSION": __version__,
        "TIFFTAG_SOFTWARE": f"sarstack {__version__}",
        FINGERPRINT_TAG: image.fingerprint,
        **image.dates.make_tags(run.statistics[image.polarisation]),
    }
    if image.is_noise:
        tags = describe_content(tags, "speckle")
    return {name: value for name, value in tags.items() if value}


def _name_input(raster: Raster) -> str:
    """Return the names of the files with the pixels of an image."""
    if raster.opened_path != raster.path or raster.item:  # in a zip file, or listed by a STAC item
        return name_file(raster)
    return " ".join(file_name(path) for path in raster.versions if path not in raster.layer_files)


def _tells_factor(value: str) -> bool:
    """Return whether a tag is the metadata of Capella, with the factor of digital numbers."""
    return value.lstrip().startswith("{") and '"scale_factor"' in value
