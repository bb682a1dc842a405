"""GeoTIFF, COG, ENVI and other rasters that GDAL opens.

GDAL finds the format of a file from its content: a ``.tif`` may hold the description of a web
service, and opening it then sends requests. So a file is opened by the drivers that its suffix
promises, and by no others.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import MaskWord
from sarstack.readers.bands import describe_ignored, name_bands
from sarstack.readers.block_cache import read_blocks
from sarstack.readers.complex_numbers import convert_complex
from sarstack.readers.digital_numbers import use_factor
from sarstack.readers.grid import IDENTITY, Grid, GroundControlPoint, crop_rpcs
from sarstack.readers.image import (
    Image,
    Notice,
    describe_image,
    unreadable_error,
)
from sarstack.readers.layer_files import (
    check_layer,
    open_layer,
    path_beside,
    read_codes,
    read_looks,
)
from sarstack.readers.masks import check_mask_files, find_masks, read_masked
from sarstack.readers.names import parse_name
from sarstack.readers.paths import file_name, file_stem, is_remote, legal_name, zip_path
from sarstack.readers.product_layers import ListFolder, find_mask, find_static_layer
from sarstack.readers.raster import Raster
from sarstack.readers.remote import (
    gdal_environment,
    gdal_path,
    is_server_file,
    read_again,
    read_object_version,
)
from sarstack.readers.source_tags import SourceMetadata
from sarstack.readers.truncation import check_complete
from sarstack.readers.versions import (
    FileVersion,
    Stamp,
    list_with_side_cars,
    read_version,
    stamp_sources,
)
from sarstack.readers.virtual_raster import list_vrt_sources
from sarstack.tiles import Shape, Window

TITLE = "GeoTIFF"
# Files with these names are found in a folder. Without .vrt: a VRT is a view of other files, and
# sarstack writes one (the dB view) beside every COG. A .vrt that the user names is opened.
SUFFIXES = (".tif", ".tiff", ".img")
_DRIVERS = {
    ".tif": ["GTiff"],
    ".tiff": ["GTiff"],
    ".img": ["ENVI", "HFA"],
    ".vrt": ["VRT"],
}
# For all other suffixes: drivers that read pixels from the file itself.
_OTHER_DRIVERS = ["GTiff", "ENVI", "HFA", "EHdr", "AAIGrid", "GSBG", "ISCE", "JP2OpenJPEG", "NITF",
                  "PCIDSK", "PNG", "ROI_PAC", "RST", "SAGA"]  # fmt: skip

# A damaged header can claim 65,535 bands, and each band takes a millisecond.
MAX_BANDS = 4096


def matches(path: str) -> bool:
    """Return whether a path is a file or a URL. Only opening it shows whether GDAL can read it."""
    return not Path(path).is_dir()


def list_images(
    path: str, bands: Sequence[str] | None, *, size_bytes: int | None = None
) -> list[Image]:
    """List the images of a raster, see :class:`sarstack.readers.registry.Format`.

    `size_bytes` is the size of a file that is not local: of one in a zip file.
    """
    if is_server_file(path):
        read_object_version(path)
    elif not is_remote(path):
        _check_exists(path)
        size_bytes = Path(path).stat().st_size
    with open_gdal(path) as dataset:
        if dataset.count > MAX_BANDS:
            raise unreadable_error(path, f"it has {dataset.count} bands, more than {MAX_BANDS}")
        if size_bytes is not None:
            check_complete(path, dataset, size_bytes)
        return _list_bands(path, dataset, _read_grid(dataset), bands)


def _list_bands(path: str, dataset: Any, grid: Grid, bands: Sequence[str] | None) -> list[Image]:
    described = [_describe_band(dataset, band) for band in range(1, dataset.count + 1)]
    names = name_bands(path, described, bands)
    given = list(bands) if bands and len(bands) == dataset.count > 1 else described
    ignored = "" if bands else describe_ignored(described, names)
    check_mask_files(path)
    masks = find_masks(dataset, given, names)
    images = [
        _make_image(path, dataset, grid, i, name, masks[i])
        for i, name in enumerate(names)
        if name is not None
    ]
    notice = Notice(
        "bands are no backscatter by their names, and are ignored",
        "if one is an image, name all bands, for example --bands vv,vh,- (- leaves out one)",
        ignored,
    )
    return [replace(image, notices=(notice,) if ignored else ()) for image in images]


@dataclass(frozen=True)
class GdalRaster(Raster):
    """One band of a raster file.

    Attributes
    ----------
    masks : tuple of int
        Where masks tell the valid pixels, see :func:`sarstack.readers.masks.find_masks`.
    member : str
        Name in the zip file `path`, if the raster is in one; else empty.
    mask_name : str
        File of the product beside the image with codes of layover and shadow; empty without.
    mask_codes : tuple of int
        Codes in this file that are nodata.
    mask_version : FileVersion or None
        The version of this file that was indexed.
    complex_nodata : tuple of float
        Declared nodata of complex numbers.
    """

    masks: tuple[int, ...] = ()
    member: str = ""
    mask_name: str = ""
    mask_codes: tuple[int, ...] = ()
    mask_version: FileVersion | None = None
    complex_nodata: tuple[float, ...] = ()

    @property
    def is_masked(self) -> bool:
        """Whether the file has a mask of valid pixels."""
        return bool(self.masks)

    @property
    def opened_path(self) -> str:
        """Path by which GDAL opens the file."""
        return zip_path(self.path, self.member) if self.member else self.path

    @property
    def versions(self) -> Mapping[str, FileVersion | None]:
        """The versions of the file and of the mask."""
        layers = () if self.member else self.layer_files
        return {**super().versions, **dict.fromkeys(layers, self.mask_version)}

    @property
    def layer_files(self) -> tuple[str, ...]:
        """The mask of the product, if it is used."""
        return (path_beside(self.opened_path, self.mask_name),) if self.mask_name else ()

    def use_layers(self, grid: Grid, mask: Sequence[MaskWord], list_folder: ListFolder) -> Self:
        """Return the raster with mask and number of looks of an OPERA or HyP3 product."""
        if is_remote(self.path):
            return super().use_layers(grid, mask, list_folder)
        folder, name = list_folder(path_beside(self.opened_path, "")), file_name(self.opened_path)
        chosen = self
        if counts := find_static_layer(name, "number_of_looks", folder):
            looks = read_looks(path_beside(self.opened_path, counts), grid, parse_name(name).burst)
            chosen = replace(self, looks=looks)
        layer = find_mask(name, folder)
        if layer is None:
            return super(GdalRaster, chosen).use_layers(grid, mask, list_folder)
        codes = layer.select(mask)
        if not codes:
            return chosen
        check_layer(path := path_beside(self.opened_path, layer.name), grid)
        return replace(
            chosen,
            mask_name=layer.name,
            mask_codes=codes,
            mask_version=read_version(path),
            masked_parts=tuple(mask),
        )

    def read_metadata(self) -> SourceMetadata:
        """Read the tags of file and band, and rational polynomial coefficients."""
        from rasterio.errors import RasterioError

        try:
            with open_gdal(self.opened_path) as dataset:
                tags = {**dataset.tags(), **dataset.tags(self.band)}
                rpcs = crop_rpcs(_read_rpcs(dataset), *self.origin)
        except (RasterioError, ValueError, OSError):  # its pixels were read, so the result is whole
            return SourceMetadata()
        return SourceMetadata(tags, rpcs)

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored, from cached blocks where that saves decoding."""
        return read_again(self.path, windows, partial(self._decode, cache_blocks=cache_blocks))

    def _decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        with ExitStack() as files:
            dataset = files.enter_context(open_gdal(self.opened_path))
            layers = [files.enter_context(open_layer(path)) for path in self.layer_files]
            for window in windows:
                if cache_blocks:
                    stored = read_blocks(dataset, self.opened_path, self.band, window)
                else:
                    rows, columns = (window.y0, window.y1), (window.x0, window.x1)
                    stored = dataset.read(self.band, window=(rows, columns))
                if self.complex_as:
                    stored = convert_complex(stored, self.complex_nodata, self.complex_as)
                if self.masks or layers:
                    is_masked = read_masked(dataset, self.band, self.masks, window)
                    for layer in layers:
                        is_masked |= read_codes(layer, self.mask_codes, window)
                    stored = np.ma.MaskedArray(stored, is_masked)
                yield stored

    def stamp(self) -> list[Stamp]:
        """Return sizes and times of the file, its side-cars, and the sources of a VRT.

        Of a URL, what the server tells: size, tag of the content, time of the last change.
        """
        if is_server_file(self.path):
            return [(file_name(self.path), *read_object_version(self.path))]
        sources = [self.path, *self.layer_files]
        if suffix_of(self.path) == ".vrt" and not is_remote(self.path):
            sources += list_vrt_sources(self.path)
        local = [source for source in sources if not is_remote(source)]
        return stamp_sources(name for source in local for name in list_with_side_cars(source))


def open_gdal(path: str) -> Any:
    """Open a raster as a ``rasterio.DatasetReader``.

    The warning about a missing georeference is switched off: sarstack does not need one. With
    ``sharing=False`` each call gets a GDAL dataset of its own, because threads must not share one.

    Raises
    ------
    ValueError
        If the file is not of the format that its suffix promises, or is a VRT with sources that
        are not files of such formats.
    """
    if suffix_of(path) == ".vrt":
        _check_vrt(path)
    return _open(path)


def suffix_of(path: str) -> str:
    """Return the suffix of a path or URL in lower case, without the query of a URL."""
    return Path(file_name(path)).suffix.lower()


def _check_vrt(path: str) -> None:
    if is_remote(path):
        raise ValueError("a VRT must be a local file, because it can name any other file or URL")
    for source in list_vrt_sources(path):
        _open(source).close()


def _open(path: str) -> Any:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    # For the whole process, because warnings.catch_warnings is not safe with threads.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    drivers = _DRIVERS.get(suffix_of(path), _OTHER_DRIVERS)
    for driver in drivers:
        try:
            with gdal_environment(path, driver):
                return rasterio.open(gdal_path(path), sharing=False, driver=driver)
        except RasterioIOError as error:
            if "not recognized as" not in str(error):
                raise
    raise ValueError(f"its content is not of the format {' or '.join(drivers)}")


def _make_image(
    path: str, dataset: Any, grid: Grid, index: int, name: str, masks: tuple[int, ...]
) -> Image:
    band = index + 1
    stem, nodata = file_stem(path), dataset.nodatavals[index]
    declared = () if nodata is None or np.isnan(nodata) else (float(nodata),)
    is_complex = dataset.dtypes[index].startswith("complex")
    raster = GdalRaster(
        path,
        stem if dataset.count == 1 else f"{stem}_{legal_name(name) or band}",
        band=band,
        shape=grid.shape,
        nodata=() if is_complex else declared,
        nan_is_declared=nodata is not None and bool(np.isnan(nodata)),
        gain=float(dataset.scales[index] or 1.0),
        offset=float(dataset.offsets[index] or 0.0),
        masks=masks,
        complex_as="intensity" if is_complex else "",
        complex_nodata=declared if is_complex else (),
    )
    tags = {**dataset.tags(), **dataset.tags(band)}
    if dataset.units[index]:
        tags["UNITTYPE"] = dataset.units[index]
    image = describe_image(raster, grid, [name, file_name(path)], tags)
    if is_complex:
        image = replace(image, declared=(("linear", "its complex numbers"),))
    image = use_factor(image, tags, dataset.dtypes[index])
    # Bands without a date are a time series in the order of the bands.
    return image if dataset.count == 1 else replace(image, order=index, series=path)


def _describe_band(dataset: Any, band: int) -> str:
    """Return description and polarisation tag of a band as one text, empty without both.

    A band of alpha values without a description is called alpha.
    """
    from rasterio.enums import ColorInterp

    tags = {k.upper(): v for k, v in dataset.tags(band).items()}
    words = [dataset.descriptions[band - 1] or "", tags.get("POLARIZATION", "")]
    is_alpha = dataset.count > 1 and dataset.colorinterp[band - 1] == ColorInterp.alpha
    return " ".join(w for w in words if w) or ("alpha" if is_alpha else "")


def _read_grid(dataset: Any) -> Grid:
    points, gcp_crs = dataset.gcps
    shape = Shape(dataset.height, dataset.width)
    if points:
        gcps = tuple(GroundControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0) for p in points)
        return Grid(shape, gcp_crs.to_wkt() if gcp_crs else "", gcps=gcps)
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    crs = dataset.crs.to_wkt() if dataset.crs else ""
    rpcs = _read_rpcs(dataset) if (a, b, c, d, e, f) == IDENTITY else ()
    return Grid(shape, crs, (a, b, c, d, e, f), rpcs=rpcs)


def _read_rpcs(dataset: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(dataset.tags(ns="RPC").items()))


def _check_exists(path: str) -> None:
    if not Path(path).is_file():
        raise unreadable_error(path, "there is no such file")
    if Path(path).stat().st_size == 0:
        raise unreadable_error(path, "the file is empty")
