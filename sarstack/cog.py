"""One despeckled image as a Cloud-Optimized GeoTIFF, and its dB view.

The file is put together from pieces whose blocks are compressed already, so finishing an
image is copying, and memory is flat whatever the size of the scene. The finished file
appears under its name only after it was checked.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from sarstack import tiff
from sarstack.errors import SarstackError
from sarstack.pieces import (
    Layout,
    choose_block_px,
    gather,
    measure_levels,
    read_blocks,
    write_piece,
)
from sarstack.readers.grid import Grid
from sarstack.tiles import Tile, Window


def write_cog(
    path: Path,
    pixels: Iterable[tuple[Window, NDArray[np.float32]]],
    grid: Grid,
    *,
    tile_px: int,
    description: str = "",
    tags: dict[str, str] | None = None,
) -> None:
    """Write one band of linear intensity as a COG on exactly the given grid.

    Parameters
    ----------
    path : Path
        Name of the finished file. It appears complete or not at all.
    pixels : iterable of (Window, ndarray of float32)
        All tiles of ``tile_grid(grid.shape, tile_px)`` in any order; NaN = nodata.
    grid : Grid
        Size, CRS and affine or ground control points; written unchanged.
    tile_px : int
        Edge of the tiles, a multiple of 256.
    description : str
        Name of the band, e.g. ``gamma0 vv``.
    tags : dict of str
        Metadata of the file.
    """
    with _temporary(path, "pieces") as folder:
        layout = layout_of(folder, grid, tile_px)
        for window, values in pixels:
            tile = Tile(window.y0 // tile_px, window.x0 // tile_px, window)
            write_piece(layout, tile, values)
        finish_cog(path, layout, grid, description=description, tags=tags)


def layout_of(folder: Path, grid: Grid, tile_px: int) -> Layout:
    """Return how an image of this size lies in pieces."""
    return Layout(folder, grid.shape, tile_px, choose_block_px(grid.shape, tile_px))


def finish_cog(
    path: Path,
    layout: Layout,
    grid: Grid,
    *,
    description: str = "",
    tags: dict[str, str] | None = None,
) -> None:
    """Put a COG together from its pieces; parameters as for :func:`write_cog`.

    Raises
    ------
    SarstackError
        If the finished file is not a valid COG (it is removed then).

    Notes
    -----
    Overviews are averages of linear intensity, valid pixels only, each of the one before.
    """
    with _temporary(path, "part") as folder:
        layouts = [layout]
        while (above := layouts[-1].above(folder / str(len(layouts)))) is not None:
            gather(layouts[-1], above)
            layouts.append(above)
        levels = [(one, i, level) for one in layouts for i, level in enumerate(measure_levels(one))]
        header = tiff.make_header([level for *_, level in levels],
                                  _describe(grid, description, tags or {}))  # fmt: skip
        unchecked = folder / "cog.tif"
        with unchecked.open("wb") as file:
            file.write(header)
            for one, i, _ in reversed(levels):
                for block in read_blocks(one, i):
                    file.writelines(tiff.wrap_block(block))
        check_cog(unchecked)
        unchecked.replace(path)


@contextmanager
def _temporary(path: Path, what: str) -> Iterator[Path]:
    """Give a folder beside a file that is being made, and remove it in the end."""
    folder = path.with_name(f".{path.name}.{what}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _describe(grid: Grid, description: str, tags: dict[str, str]) -> dict[int, tiff.Field]:
    """Let GDAL say in its own words what georeference and tags are, in a file without pixels."""
    from rasterio.io import MemoryFile

    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "float32",
               "nodata": np.nan, "bigtiff": "NO"}  # fmt: skip
    with MemoryFile() as memory:
        with without_georeference_warning(), memory.open(**profile) as raster:
            _set_georeference(raster, grid)
            raster.update_tags(**tags)
            raster.units = ("1",)
            if description:
                raster.set_band_description(1, description)
        return tiff.read_fields(memory.getbuffer())


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
