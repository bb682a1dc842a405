"""NISAR GCOV: HDF5 granules of terrain-corrected gamma0 on a map grid.

Only the groups that are needed are opened: a granule has hundreds of objects. Other NISAR products
are recognised and refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import StackError
from sarstack.readers.block_cache import Blocks, Key, empty_array, identify_file
from sarstack.readers.grid import Grid, Transform
from sarstack.readers.image import Image, Notice, describe_image, unreadable_error
from sarstack.readers.paths import file_name, file_stem
from sarstack.readers.raster import Raster
from sarstack.readers.source_tags import SourceMetadata, make_tags
from sarstack.readers.times import parse_time
from sarstack.tiles import Shape, Window

TITLE = "NISAR GCOV"
SUFFIXES = (".h5",)
FREQUENCIES = ("frequencyA", "frequencyB")
_INSTRUMENTS = ("LSAR", "SSAR")
_TERMS = {"HHHH": "hh", "HVHV": "hv", "VHVH": "vh", "VVVV": "vv"}
_REAL_TERM = re.compile(r"([A-Z]{2})\1")
_NAME = re.compile(
    r"(?i)^NISAR_[LS][0-3]_[A-Z]{2}_(?P<product>[A-Z0-9]{4,5})_(?P<cycle>\d{3})_(?P<track>\d{3})"
    r"_(?P<direction>[AD])_(?P<frame>\d{3})_"
)
# By the product guide. Not-a-number in the data is the certain sign.
_MASKED = (0, 255)
_MAX_UNEVEN_PX = 0.01
_SAMPLED_BLOCKS = 9
SPEED_OF_LIGHT_M_S = 299_792_458.0
_MAX_RATIO = 1.01  # a larger one is not that of bandwidth and sampling rate


def matches(path: str) -> bool:
    """Return whether a path has the name of an HDF5 file."""
    return path.lower().endswith(SUFFIXES) and not Path(path).is_dir()


def is_product(path: Path) -> bool:
    """Return whether an HDF5 file is a NISAR granule, and not the quality report of one."""
    import h5py

    if "_QA_" in path.name.upper():
        return False
    if _NAME.match(path.name):
        return True
    try:
        with h5py.File(path, "r") as file:
            return any(f"science/{instrument}" in file for instrument in _INSTRUMENTS)
    except OSError:
        return False


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a granule, see :class:`sarstack.readers.registry.Format`."""
    import h5py

    with h5py.File(path, "r") as file:
        instrument = next((i for i in _INSTRUMENTS if f"science/{i}" in file), "")
        science: Any = file[f"science/{instrument}"] if instrument else {}
        if instrument and science.file.filename != file.filename:
            raise unreadable_error(path, "it is a link to another file")
        if "GCOV/grids" not in science:
            raise _not_gcov_error(path, sorted(science))
        grids = science["GCOV/grids"]
        found = [name for name in FREQUENCIES if name in grids]
        if not found:
            raise unreadable_error(path, "its group GCOV/grids has no frequency")
        chosen = _choose_frequency(path, found, bands)
        identification = science.get("identification", {})
        images = _list_terms(path, grids[chosen], identification)
    if bands is None and len(found) > 1:
        what = "granules have two frequency bands: frequencyA is used"
        notice = Notice(what, "for the other one, use --bands frequencyB")
        images = [replace(i, notices=(*i.notices, notice)) for i in images]
    return images


def _choose_frequency(path: str, found: Sequence[str], bands: Sequence[str] | None) -> str:
    if bands is None:
        return found[0]
    names = {name.lower(): name for name in found} | {name[-1].lower(): name for name in found}
    if len(bands) != 1 or bands[0].lower() not in names:
        raise StackError(
            f"bands = {list(bands)} cannot be used: {path} names its polarisations itself",
            expected=f"one of its frequency bands, {' or '.join(found)}",
            do="leave it out; --pol HH (in Python polarisations) chooses among polarisations",
        )
    return names[bands[0].lower()]


def _list_terms(path: str, group: Any, identification: Any) -> list[Image]:
    """List the images of a frequency band: the real terms of the covariance matrix."""
    terms = [term for term in _TERMS if term in group]
    compact = [name for name in group if _REAL_TERM.fullmatch(name) and name not in _TERMS]
    if not terms:
        told = f"only {', '.join(compact)} (compact polarimetry)" if compact else "no backscatter"
        raise StackError(
            f"{path} has {told} in {group.name}",
            expected=f"one of {', '.join(_TERMS)}",
            do="use granules with linear polarisations",
        )
    notices: tuple[Notice, ...] = ()
    if compact:
        what = "terms of compact polarimetry are left out"
        notices = (Notice(what, "only linear polarisations are despeckled", ", ".join(compact)),)
    grid = _read_grid(path, group)
    tags = _read_tags(path, identification)
    has_mask = "mask" in group and _is_mask_sound(group["mask"], group[terms[0]])
    looks = _read_looks(group, group[terms[0]])
    images = []
    for term in terms:
        layer = group[term]
        # HDF5 can take pixels from any other file.
        if layer.external or layer.is_virtual or layer.file.filename != group.file.filename:
            raise unreadable_error(path, f"{term} is stored in another file")
        if layer.shape != tuple(grid.shape) or layer.dtype.kind != "f":
            raise unreadable_error(path, f"{term} has not the pixels of its coordinates")
        raster = NisarRaster(
            path,
            f"{file_stem(path)}_{_TERMS[term]}",
            variable=layer.name.strip("/"),
            shape=grid.shape,
            looks=looks,
            has_mask=has_mask,
        )
        own = {**tags, "POLARIZATION": _TERMS[term].upper()}
        image = describe_image(raster, grid, [file_name(path)], own)
        processed = parse_time(_text(identification, "processingDateTime"))
        metadata = replace(image.metadata, processed=processed)
        images.append(replace(image, metadata=metadata, order=None, notices=notices))
    return images


def _read_grid(path: str, group: Any) -> Grid:
    from rasterio.crs import CRS

    y, x = (_read_axis(path, group, name) for name in ("yCoordinates", "xCoordinates"))
    transform: Transform = (x[1], 0.0, x[0] - x[1] / 2, 0.0, y[1], y[0] - y[1] / 2)
    shape = Shape(len(group["yCoordinates"]), len(group["xCoordinates"]))
    if "projection" not in group:
        raise unreadable_error(path, f"{group.name} has no projection")
    projection = group["projection"]
    code = projection.attrs.get("epsg_code", projection[()])
    try:
        return Grid(shape, CRS.from_epsg(int(np.ravel(code)[0])).to_wkt(), transform)
    except Exception as err:  # rasterio has errors of its own for unknown codes
        raise unreadable_error(path, f"its projection has no EPSG code ({code})") from err


def _read_axis(path: str, group: Any, name: str) -> tuple[float, float]:
    """Return the first coordinate and the step of an axis of pixel centres.

    Raises
    ------
    StackError
        If it is not evenly spaced.
    """
    values = np.asarray(group[name][...], np.float64)
    spacing = name.removesuffix("s") + "Spacing"
    if len(values) == 1 and spacing in group:
        return float(values[0]), float(group[spacing][()])
    step = float(values[-1] - values[0]) / max(len(values) - 1, 1)
    if spacing in group and abs(float(group[spacing][()]) - step) * len(values) < abs(step) / 100:
        step = float(group[spacing][()])
    uneven = np.abs(values - (values[0] + step * np.arange(len(values)))).max()
    if not step or not uneven <= _MAX_UNEVEN_PX * abs(step):
        raise StackError(
            f"{path}: {group.name}/{name} is not evenly spaced (off by up to {uneven:.3g})",
            expected="a regular grid",
            do="download the granule again",
        )
    return float(values[0]), step


def _read_tags(path: str, identification: Any) -> dict[str, str]:
    """Return time, orbit and platform, by the name of the granule, else by its identification."""
    match = _NAME.match(file_name(path))
    direction = {"A": "ascending", "D": "descending"}[match["direction"].upper()] if match else ""
    name_has_time = match and not np.isnat(parse_time(file_name(path)))
    time = "" if name_has_time else _text(identification, "zeroDopplerStartTime")
    return {
        **({"ACQUISITION_DATETIME": time} if time else {}),
        "PLATFORM": "nisar",
        "ORBIT_DIRECTION": direction or _text(identification, "orbitPassDirection"),
        "RELATIVE_ORBIT": match["track"] if match else _text(identification, "trackNumber"),
        "CALIBRATION": "gamma0",
        "BACKSCATTER_SCALE": "linear",
    }


def _text(group: Any, name: str) -> str:
    """Return a scalar of a group as text, empty if there is none."""
    if name not in group or group[name].shape not in ((), (1,)):
        return ""
    value = np.ravel(group[name][()])[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_mask_sound(mask: Any, layer: Any) -> bool:
    """Return whether a mask agrees with the data in samples: most valid numbers are not masked.

    The meaning of its numbers is not certain; NaN in the data is.
    """
    if mask.shape != layer.shape or mask.dtype.kind != "u":
        return False
    masked = valid = 0
    for block in _sample_blocks(layer):
        is_valid = np.isfinite(layer[block.slices])
        valid += int(is_valid.sum())
        masked += int((is_valid & np.isin(mask[block.slices], _MASKED)).sum())
    return masked <= valid / 2


def _read_looks(group: Any, layer: Any) -> float | None:
    """Return the equivalent number of looks; None if the granule does not tell enough.

    ``numberOfLooks`` counts the samples of the single-look image in a pixel. They overlap: the
    samples that are independent are fewer by the ratio of bandwidth and sampling rate, in range
    and in azimuth. Windows of the spectrum are not known; they would reduce the number further.
    """
    counts = group.get("numberOfLooks")
    swaths = group.parent.parent.get("metadata/sourceData/swaths", {})
    own = swaths.get(group.name.rpartition("/")[2], {})
    names = ("rangeBandwidth", "azimuthBandwidth", "slantRangeSpacing")
    if counts is None or counts.shape != layer.shape or "zeroDopplerTimeSpacing" not in swaths:
        return None
    if not all(name in own for name in names):
        return None
    range_hz, azimuth_hz, spacing_m = (float(own[name][()]) for name in names)
    line_s = float(swaths["zeroDopplerTimeSpacing"][()])
    ratios = range_hz * 2 * spacing_m / SPEED_OF_LIGHT_M_S, azimuth_hz * line_s
    if not all(0 < ratio <= _MAX_RATIO for ratio in ratios):
        return None
    found = [counts[b.slices][np.isfinite(layer[b.slices])] for b in _sample_blocks(layer)]
    values = np.concatenate(found) if found else np.empty(0)
    values = values[values > 0]
    return float(np.median(values)) * ratios[0] * ratios[1] if len(values) else None


def _sample_blocks(layer: Any) -> list[Window]:
    """Return some chunks of a layer, spread evenly."""
    blocks = list(_list_blocks(layer))
    return blocks[:: max(len(blocks) // _SAMPLED_BLOCKS, 1)] if blocks else []


def _list_blocks(layer: Any) -> Iterator[Window]:
    (height, width), (y, x) = layer.shape, layer.chunks or (512, 512)
    for y0 in range(0, height, y):
        for x0 in range(0, width, x):
            yield Window(y0, min(y0 + y, height), x0, min(x0 + x, width))


@dataclass(frozen=True)
class NisarRaster(Raster):
    """One real term of the covariance matrix.

    Attributes
    ----------
    has_mask : bool
        Whether the layer ``mask`` tells nodata, besides NaN.
    """

    has_mask: bool = False

    @property
    def is_masked(self) -> bool:
        """Whether the granule has a mask that is used."""
        return self.has_mask

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored, by whole chunks."""
        import h5py

        with h5py.File(self.path, "r") as file:
            layer = file[self.variable]
            mask = layer.parent["mask"] if self.has_mask else None
            read = self._cut(layer, cache_blocks=cache_blocks)
            read_mask = None if mask is None else self._cut(mask, cache_blocks=cache_blocks)
            for window in windows:
                stored = read.read(window)
                if read_mask is not None:
                    is_masked = np.isin(read_mask.read(window), _MASKED)
                    stored = np.ma.MaskedArray(stored, is_masked)
                yield stored

    def _cut(self, layer: Any, *, cache_blocks: bool) -> Blocks:
        identity = identify_file(self.path) if cache_blocks and layer.chunks else ()

        def decode(block: Window) -> NDArray[Any]:
            pixels = empty_array(block.shape, layer.dtype)
            layer.read_direct(pixels, source_sel=block.slices)
            return pixels

        def identify(block: Window) -> Key:
            return (*identity, layer.name, block.y0, block.x0) if identity else ()

        size = Shape(*(layer.chunks or layer.shape))
        return Blocks(Shape(*layer.shape), size, layer.dtype, decode, identify)

    def read_metadata(self) -> SourceMetadata:
        """Return what the group ``identification`` says of the granule, and its frequency."""
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                group = file[self.variable].parent
                about = group.parent.parent.parent["identification"]
                scalars = {name: _text(about, name) for name in about}
                frequency = _text(group, "centerFrequency")
        except (OSError, KeyError, AttributeError):  # its pixels were read: the result is whole
            return SourceMetadata()
        own = {
            "PRODUCT_NAME": file_stem(self.path),
            "FREQUENCY_BAND": "S" if "/SSAR/" in f"/{self.variable}" else "L",
            "FREQUENCY": Path(self.variable).parent.name,
            "CENTER_FREQUENCY_HZ": frequency,
        }
        return SourceMetadata(make_tags(own, scalars))


def _not_gcov_error(path: str, groups: Sequence[str]) -> StackError:
    product = next((g for g in groups if g != "identification"), "")
    match = _NAME.match(file_name(path))
    kind = product or (match["product"].upper() if match else "")
    if not kind:
        return _other_hdf5_error(path)
    do = "download the GCOV granule of the same track, frame and time"
    if kind in ("GSLC", "RSLC", "SLC"):
        what = f"{path} is a NISAR {kind} granule: complex numbers (single look)"
        do += ", or write abs(value)**2 as a float32 GeoTIFF"
    else:
        what = f"{path} is a NISAR {kind} granule: it has no backscatter"
    return StackError(what, expected="NISAR GCOV (gamma0 on a map grid)", do=do)


def _other_hdf5_error(path: str) -> StackError:
    """Return the error of an HDF5 file that is no NISAR granule."""
    return StackError(
        f"{path} is an HDF5 file, but no NISAR granule",
        expected="the group science/LSAR/GCOV/grids or science/SSAR/GCOV/grids of NISAR GCOV",
        do="write its backscatter as GeoTIFF, netCDF or Zarr; rename a netCDF-4 file to .nc",
    )
