"""One image of a SAFE product: digital numbers and the tables of its annotation."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

from numpy.typing import NDArray

from sarstack.conventions import Calibration
from sarstack.readers.block_cache import read_blocks
from sarstack.readers.formats.gdal import open_gdal
from sarstack.readers.sentinel1.annotation import read_annotation, read_processor_version
from sarstack.readers.sentinel1.border import ReadNumbers
from sarstack.readers.sentinel1.calibrated import CalibratedRaster
from sarstack.readers.sentinel1.calibration import read_calibration
from sarstack.readers.sentinel1.look_up_table import LookUpTable
from sarstack.readers.sentinel1.noise import read_noise
from sarstack.readers.sentinel1.noise_table import NoiseTable
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.readers.source_tags import SourceMetadata
from sarstack.readers.versions import Stamp, stamp_sources
from sarstack.tiles import Window


@dataclass(frozen=True)
class SafeRaster(CalibratedRaster):
    """One polarisation of a product.

    Attributes
    ----------
    product : SafeProduct
    annotation : str
        Member with the annotation of this image.
    pixels : str
        Path by which GDAL opens the digital numbers.
    border : str
        Member with the digital numbers that show where the edges of the image are noise; empty
        if the edges are zero.
    """

    product: SafeProduct = field(default=SafeProduct(""))
    annotation: str = ""
    pixels: str = ""
    border: str = ""

    @property
    def product_path(self) -> str:
        """Folder or zip file of the product."""
        return self.product.path

    def place_of_table(self, kind: str) -> str:
        """Return the member with the calibration or noise of this image."""
        return f"annotation/calibration/{kind}-{PurePosixPath(self.annotation).name}"

    def read_calibration_table(self, calibration: Calibration) -> LookUpTable:
        """Read the table of a calibration from the annotation."""
        return read_calibration(self.product, self.place_of_table("calibration"), calibration)

    def read_noise_table(self) -> NoiseTable:
        """Read the noise from the annotation."""
        return read_noise(self.product, self.place_of_table("noise"))

    def lacks_noise(self) -> bool:
        """Return whether thermal noise was already subtracted, by the annotation."""
        return read_annotation(self.product, self.annotation).noise_removed

    def has_dark_border(self) -> bool:
        """Return whether the edges of the image are noise instead of zeros."""
        return bool(self.border)

    def open_numbers(self, files: ExitStack, *, of_border: bool, cache_blocks: bool) -> ReadNumbers:
        """Open a measurement until `files` is closed, and return the function that reads it."""
        path = self.product.gdal_path(self.border) if of_border else self.pixels
        dataset = files.enter_context(open_gdal(path))

        def read(window: Window) -> NDArray[Any]:
            if cache_blocks:
                return read_blocks(dataset, path, 1, window)
            return dataset.read(1, window=((window.y0, window.y1), (window.x0, window.x1)))

        return read

    def stamp(self) -> list[Stamp]:
        """Return sizes and times of the digital numbers and of the tables."""
        members = [self.place_of_table("calibration"), self.place_of_table("noise"), self.border]
        files = {self.product.file_with(member) for member in members if member}
        return stamp_sources(sorted(files | {self.path}))

    def read_metadata(self) -> SourceMetadata:
        """Return name and processor version of the product."""
        tags = {"PRODUCT_NAME": Path(self.product.path).stem, "FREQUENCY_BAND": "C"}
        try:
            version = read_processor_version(self.product)
        except (OSError, KeyError, ValueError, BadZipFile):  # its pixels were read, so go on
            return SourceMetadata(tags)
        if version < math.inf:
            tags["PROCESSOR_VERSION"] = f"{version:.2f}"
        return SourceMetadata(tags)
