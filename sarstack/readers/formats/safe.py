"""Sentinel-1 SAFE GRD: a folder or zip file as ESA delivers it, calibrated while it is read.

The pixels of a product are digital numbers (DN), amplitudes in radar geometry. They are squared
and divided by the look-up table of the annotation. Digital numbers of zero are nodata.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import CALIBRATIONS, Calibration
from sarstack.errors import SarstackError, SarstackWarning, StackError, StackReadError, UsageError
from sarstack.readers.block_cache import read_blocks
from sarstack.readers.formats import gdal
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image, describe_image, unreadable_error
from sarstack.readers.paths import is_remote
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.annotation import Annotation, read_annotation, read_relative_orbit
from sarstack.readers.sentinel1.calibration import read_calibration
from sarstack.readers.sentinel1.look_up_table import LookUpTable
from sarstack.readers.sentinel1.noise import read_noise
from sarstack.readers.sentinel1.product import SafeProduct, find_product, is_product
from sarstack.tiles import Window, row_strips

TITLE = "Sentinel-1 SAFE GRD"
SUFFIXES = ()  # a product is a folder, or a zip file that is named
# Smallest result of the subtraction of noise, as a fraction of the noise.
_MIN_OF_NOISE = 0.01


def matches(path: str) -> bool:
    """Return whether a path is a product, or is named as one."""
    return not is_remote(path) and is_product(Path(path))


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a product, see :class:`sarstack.readers.registry.Format`."""
    if bands is not None:
        raise StackError(
            f"bands = {list(bands)} cannot be used: {path} names its polarisations itself",
            do="leave it out; --pol VV (in Python polarisations) chooses among them",
        )
    product = find_product(path)
    if product is None:
        raise unreadable_error(path, "it has no manifest.safe and annotation: it is not complete")
    orbit = read_relative_orbit(product)
    members = product.list_members()
    images, missing = [], []
    for member in _list_annotations(members):
        annotation = read_annotation(product, member)
        if annotation.product_type != "GRD":
            raise _not_grd_error(path, annotation.product_type)
        pixels = _find_measurement(members, member)
        if pixels:
            images.append(_make_image(product, member, pixels, annotation, orbit))
        else:
            missing.append(annotation.polarisation)
    if not images:
        raise unreadable_error(path, "it has no measurement of an annotated image")
    if missing:
        what = f"{path} has no measurement of {', '.join(missing)}: it is used without"
        warnings.warn(what, SarstackWarning, stacklevel=2)
    return images


@dataclass(frozen=True)
class SafeRaster(Raster):
    """One polarisation of a product.

    Attributes
    ----------
    product : SafeProduct
    annotation : str
        Member with the annotation of this image.
    calibration : {"sigma0", "beta0", "gamma0", "dn"}
        What the pixels are divided by; ``dn``: by nothing.
    remove_noise : bool
        Whether :meth:`subtract_noise` does so.
    pixels : str
        Path by which GDAL opens the digital numbers.
    dn_nodata : tuple of float
        Digital numbers that the file declares as nodata, besides zero.
    """

    product: SafeProduct = field(default=SafeProduct(""))
    annotation: str = ""
    calibration: Calibration = "sigma0"
    remove_noise: bool = False
    pixels: str = ""
    dn_nodata: tuple[float, ...] = ()

    def choose_calibration(self, calibration: str | None, *, remove_noise: bool = False) -> Self:
        """Return the raster with a calibration, whose table is read as a check."""
        if calibration is not None and calibration not in CALIBRATIONS:
            raise UsageError(
                f"calibration = {calibration!r} is not known",
                expected=f"one of {', '.join(CALIBRATIONS)}",
                do="choose one of them",
            )
        chosen = replace(
            self, calibration=calibration or self.calibration, remove_noise=remove_noise
        )
        try:
            chosen.read_table()
        except Exception as err:  # each library has its own errors for a damaged file
            raise self._no_table_error("calibration", chosen.calibration, err) from err
        if remove_noise:
            self._check_noise()
        return chosen

    def _check_noise(self) -> None:
        """Raise if the noise table cannot be read, or the noise was already subtracted."""
        if read_annotation(self.product, self.annotation).noise_removed:
            raise UsageError(
                f"{self.product.path}: thermal noise was already subtracted",
                do="leave out --remove-noise",
            )
        try:
            read_noise(self.product, self._member("noise"))
        except Exception as err:
            raise self._no_table_error("noise", "thermal noise", err) from err

    def read_table(self) -> LookUpTable | None:
        """Read the table of the calibration, None for ``dn``."""
        if self.calibration == "dn":
            return None
        return read_calibration(self.product, self._member("calibration"), self.calibration)

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as calibrated intensity, float32, NaN = nodata."""
        table = self.read_table()
        with gdal.open_gdal(self.pixels) as dataset:
            for window in windows:
                if cache_blocks:
                    numbers = read_blocks(dataset, self.pixels, 1, window)
                else:
                    bounds = (window.y0, window.y1), (window.x0, window.x1)
                    numbers = dataset.read(1, window=bounds)
                yield self._to_intensity(numbers, window, table)

    def subtract_noise(self, intensity: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Subtract the noise of the annotation from despeckled pixels.

        The speckle of the noise is the speckle of the signal, so a method despeckles their sum.
        What remains is at least a hundredth of the noise: estimates below the noise cannot become
        negative, and stay visible in dB.
        """
        if not self.remove_noise:
            return intensity
        noise_table = read_noise(self.product, self._member("noise"))
        table = self.read_table()
        result = np.empty_like(intensity)
        y0, x0 = window.y0 + self.origin[0], window.x0 + self.origin[1]
        for rows in row_strips(intensity.shape):
            first, n = y0 + rows.start, len(intensity[rows])
            strip = Window(first, first + n, x0, x0 + intensity.shape[1])
            noise = noise_table.interpolate(strip)
            if table is not None:
                noise /= table.interpolate(strip) ** 2
            result[rows] = np.maximum(intensity[rows] - noise, _MIN_OF_NOISE * noise)
        return result

    def _to_intensity(
        self, numbers: NDArray[Any], window: Window, table: LookUpTable | None
    ) -> NDArray[np.float32]:
        intensity = np.empty(numbers.shape, np.float32)
        for rows in row_strips(numbers.shape):
            strip = numbers[rows].astype(np.float64)
            strip[np.isin(numbers[rows], (0, *self.dn_nodata))] = np.nan
            if table is not None:
                y0 = window.y0 + rows.start
                strip /= table.interpolate(Window(y0, y0 + len(strip), window.x0, window.x1))
            intensity[rows] = strip * strip
        return intensity

    def _member(self, kind: str) -> str:
        """Return the member with the calibration or noise of this image."""
        return f"annotation/calibration/{kind}-{PurePosixPath(self.annotation).name}"

    def _no_table_error(self, kind: str, what: str, err: Exception) -> StackReadError:
        reason = (str(err) or type(err).__name__).splitlines()[0]
        way = {
            "calibration": "use --calibration dn (not calibrated)",
            "noise": "leave out --remove-noise",
        }
        return StackReadError(
            f"{self.product.path} has no table for {what} that can be used ({reason})",
            expected=self._member(kind),
            do=f"download the product again, or {way[kind]}",
        )


def _list_annotations(members: Sequence[str]) -> list[str]:
    names = [PurePosixPath(member) for member in members]
    return [str(n) for n in names if n.parts[:-1] == ("annotation",) and n.suffix == ".xml"]


def _find_measurement(members: Sequence[str], annotation: str) -> str:
    """Return the member with the pixels of an annotation, empty if it is missing."""
    stem = PurePosixPath(annotation).stem
    # Cloud-optimised products have a suffix.
    names = [f"measurement/{stem}{end}" for end in (".tiff", "-cog.tiff", ".tif")]
    return next((name for name in names if name in members), "")


def _make_image(
    product: SafeProduct, member: str, pixels: str, annotation: Annotation, orbit: str
) -> Image:
    path = product.gdal_path(pixels)
    try:
        [found] = gdal.list_images(path, [annotation.polarisation])
    except SarstackError:
        raise
    except Exception as err:
        raise unreadable_error(path, str(err).splitlines()[0]) from err
    if found.grid.shape != annotation.shape:
        size, annotated = ("{} x {}".format(*s) for s in (found.grid.shape, annotation.shape))
        raise unreadable_error(path, f"it has {size} pixels, its annotation says {annotated}")
    raster = SafeRaster(
        product.file_with(pixels),
        PurePosixPath(pixels).stem,
        shape=annotation.shape,
        product=product,
        annotation=member,
        pixels=path,
        dn_nodata=found.raster.nodata,
    )
    tags = {
        "ACQUISITION_DATETIME": annotation.start_time,
        "PLATFORM": annotation.platform,
        "POLARIZATION": annotation.polarisation,
        "ORBIT_DIRECTION": annotation.orbit_direction,
        "RELATIVE_ORBIT": orbit,
        "BACKSCATTER_SCALE": "linear",
        "CALIBRATION": raster.calibration,
    }
    image = describe_image(raster, _complete_grid(found.grid, annotation), [], tags)
    return replace(image, order=None, series=product.path)


def _complete_grid(grid: Grid, annotation: Annotation) -> Grid:
    """Return the grid of the pixels, with the points of the annotation if the file has none."""
    if grid.gcps or not annotation.gcps:
        return grid
    from rasterio.crs import CRS

    return Grid(grid.shape, CRS.from_epsg(4326).to_wkt(), gcps=annotation.gcps)


def _not_grd_error(path: str, product_type: str) -> StackError:
    return StackError(
        f"{path} is a SAFE product of type {product_type}",
        expected="GRD (ground range, detected)",
        do="download the GRD of this acquisition, or detect and deburst it first (SNAP, pyroSAR)",
    )
