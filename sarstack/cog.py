"""One despeckled image as a Cloud-Optimized GeoTIFF, and its dB view.

Two steps keep memory flat whatever the size of the scene: tiles are streamed into a
temporary tiled GeoTIFF, which GDAL's COG driver copies with overviews. The finished
file appears under its name only after it was checked.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import SarstackError
from sarstack.readers.grid import Grid
from sarstack.tiles import Shape, Window

BLOCK_PX = 512
CACHE_MAX_BYTES = 128 * 2**20


def write_cog(
    path: Path,
    pixels: Iterable[tuple[Window, NDArray[np.float32]]],
    grid: Grid,
    *,
    description: str = "",
    tags: dict[str, str] | None = None,
    n_threads: int = 1,
) -> None:
    """Write one band of linear intensity as a COG on exactly the given grid.

    Parameters
    ----------
    path : Path
        Name of the finished file. It appears complete or not at all.
    pixels : iterable of (Window, ndarray of float32)
        Parts of the image in any order, together covering it once; NaN = nodata.
    grid : Grid
        Size, CRS and affine or ground control points; written unchanged.
    description : str
        Name of the band, e.g. ``gamma0 vv``.
    tags : dict of str
        Written into the file's metadata before the pixels.
    n_threads : int
        Threads of the compressor.

    Raises
    ------
    SarstackError
        If the finished file is not a valid COG (it is removed then).

    Notes
    -----
    Overviews are averages of linear intensity, valid pixels only. Memory: one part and
    GDAL's block cache (128 MiB).
    """
    import rasterio
    from rasterio.shutil import copy

    striped, unchecked = (path.with_name(f".{path.name}.{part}.tif") for part in ("part", "cog"))
    options = {"GDAL_CACHEMAX": CACHE_MAX_BYTES, "GDAL_TIFF_INTERNAL_MASK": False}
    try:
        with rasterio.Env(**options):
            _stream_pixels(striped, pixels, grid, description, tags or {})
            copy(
                str(striped), str(unchecked), driver="COG", compress="DEFLATE", predictor="YES",
                blocksize=choose_block_px(grid.shape), overview_resampling="AVERAGE",
                num_threads=str(n_threads), bigtiff="IF_SAFER",
            )  # fmt: skip
        check_cog(unchecked)
        unchecked.replace(path)
    finally:
        for leftover in (striped, unchecked):
            leftover.unlink(missing_ok=True)


def choose_block_px(shape: Shape) -> int:
    """Return the edge of a block: 512, or 256 where an overview is exactly one block wide.

    Validators take an image as wide as its block for an untiled one.
    """
    width, height = shape.x, shape.y
    while width > BLOCK_PX or height > BLOCK_PX:
        if width == BLOCK_PX:
            return BLOCK_PX // 2
        width, height = width // 2, height // 2
    return BLOCK_PX


def _stream_pixels(
    path: Path,
    pixels: Iterable[tuple[Window, NDArray[np.float32]]],
    grid: Grid,
    description: str,
    tags: dict[str, str],
) -> None:
    import rasterio
    from rasterio import windows

    profile = {
        "driver": "GTiff", "width": grid.shape.x, "height": grid.shape.y, "count": 1,
        "dtype": "float32", "nodata": np.nan, "tiled": True, "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX, "compress": "ZSTD", "zstd_level": 1, "predictor": 3,
        "bigtiff": "IF_SAFER",
    }  # fmt: skip
    with without_georeference_warning(), rasterio.open(path, "w", **profile) as raster:
        _set_georeference(raster, grid)
        raster.update_tags(**tags)
        raster.units = ("1",)
        if description:
            raster.set_band_description(1, description)
        for window, values in pixels:
            place = windows.Window(window.x0, window.y0, window.shape.x, window.shape.y)
            raster.write(values, 1, window=place)


def _set_georeference(raster: object, grid: Grid) -> None:
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    crs = CRS.from_wkt(grid.crs_wkt) if grid.crs_wkt else None
    if grid.gcps:
        points = [GroundControlPoint(p.row, p.column, p.x, p.y, p.z) for p in grid.gcps]
        raster.gcps = (points, crs)  # type: ignore[attr-defined]
        return
    if crs is not None:
        raster.crs = crs  # type: ignore[attr-defined]
    if grid.transform != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        raster.transform = Affine(*grid.transform)  # type: ignore[attr-defined]


@contextmanager
def without_georeference_warning() -> Iterator[None]:
    """Silence rasterio where an image without georeference is what the user has."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def check_cog(path: Path) -> None:
    """Raise if a file is not a valid Cloud-Optimized GeoTIFF, overviews included."""
    from rio_cogeo.cogeo import cog_validate

    with without_georeference_warning():
        valid, problems, warnings = cog_validate(str(path), strict=True, quiet=True)
    if not valid:
        raise SarstackError(
            f"{path.name} did not become a valid COG",
            expected="tiled, overviews included, header in front",
            where=[*problems, *warnings],
            do="check the free space of the disk and run the same command again",
        )


def write_db_view(cog: Path, grid: Grid, description: str = "") -> Path:
    """Write a small VRT that shows a COG in dB, for QGIS; no pixels are stored.

    Parameters
    ----------
    cog : Path
        A finished file of linear intensity; the view lies beside it.
    grid : Grid
        Of the COG.
    description : str
        Name of the band.

    Returns
    -------
    Path
        ``<stem>_db.vrt``; values are ``10 log10(intensity)``, nodata NaN.
    """
    view = cog.with_name(f"{cog.stem}_db.vrt")
    size = f'xSize="{grid.shape.x}" ySize="{grid.shape.y}"'
    band = 'dataType="Float32" band="1" subClass="VRTDerivedRasterBand"'
    text = f"""<VRTDataset rasterXSize="{grid.shape.x}" rasterYSize="{grid.shape.y}">
{_vrt_georeference(grid)}  <VRTRasterBand {band}>
    <Description>{escape(description)} dB</Description>
    <UnitType>dB</UnitType>
    <NoDataValue>nan</NoDataValue>
    <PixelFunctionType>dB</PixelFunctionType>
    <PixelFunctionArguments fact="10"/>
    <SourceTransferType>Float32</SourceTransferType>
    <SimpleSource>
      <SourceFilename relativeToVRT="1">{escape(cog.name)}</SourceFilename>
      <SourceBand>1</SourceBand>
      <SrcRect xOff="0" yOff="0" {size}/>
      <DstRect xOff="0" yOff="0" {size}/>
    </SimpleSource>
  </VRTRasterBand>
</VRTDataset>
"""
    unfinished = view.with_name(f".{view.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(view)
    return view


def _vrt_georeference(grid: Grid) -> str:
    wkt = escape(grid.crs_wkt)
    if grid.gcps:
        points = "".join(
            f'    <GCP Id="{i}" Pixel="{p.column!r}" Line="{p.row!r}" '
            f'X="{p.x!r}" Y="{p.y!r}" Z="{p.z!r}"/>\n'
            for i, p in enumerate(grid.gcps, 1)
        )
        projection = escape(grid.crs_wkt, {'"': "&quot;"})
        return f'  <GCPList Projection="{projection}">\n{points}  </GCPList>\n'
    a, b, c, d, e, f = grid.transform
    lines = f"  <SRS>{wkt}</SRS>\n" if wkt else ""
    if (a, b, c, d, e, f) != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        lines += f"  <GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>\n"
    return lines
