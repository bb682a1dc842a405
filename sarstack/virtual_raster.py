"""GDAL's virtual rasters: small files that show the pixels of others, without a copy."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from sarstack.pieces import Pieces
from sarstack.readers.grid import Grid
from sarstack.tiles import Window


def write_mosaic(
    pieces: Pieces, grid: Grid, description: str = "", tags: Mapping[str, str] | None = None
) -> Path:
    """Write a GDAL virtual raster over all pieces, with what the finished file is to tell.

    Parameters
    ----------
    pieces : Pieces
        All tiles are written.
    grid : Grid
        Of the image.
    description : str
        Name of the band.
    tags : dict of str, optional
        Metadata of the file.

    Returns
    -------
    Path
        ``mosaic.vrt`` beside the pieces.
    """
    sources = "".join(_point_to(pieces.path(tile), tile.window) for tile in pieces.tiles())
    told = "".join(
        f"    <MDI key={quoteattr(key)}>{escape(value)}</MDI>\n"
        for key, value in (tags or {}).items()
    )
    metadata = f"  <Metadata>\n{told}  </Metadata>\n"
    band = f"""  <VRTRasterBand dataType="Float32" band="1">
    <Description>{escape(description)}</Description>
    <UnitType>1</UnitType>
    <NoDataValue>nan</NoDataValue>
{sources}  </VRTRasterBand>
"""
    mosaic = pieces.folder / "mosaic.vrt"
    mosaic.write_text(_describe_raster(grid, metadata + band), encoding="utf-8")
    return mosaic


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
    kind = 'dataType="Float32" band="1" subClass="VRTDerivedRasterBand"'
    band = f"""  <VRTRasterBand {kind}>
    <Description>{escape(description)} dB</Description>
    <UnitType>dB</UnitType>
    <NoDataValue>nan</NoDataValue>
    <PixelFunctionType>dB</PixelFunctionType>
    <PixelFunctionArguments fact="10"/>
    <SourceTransferType>Float32</SourceTransferType>
{_point_to(cog, Window(0, grid.shape.y, 0, grid.shape.x))}  </VRTRasterBand>
"""
    unfinished = view.with_name(f".{view.name}.part")
    unfinished.write_text(_describe_raster(grid, band), encoding="utf-8")
    unfinished.replace(view)
    return view


def _point_to(path: Path, place: Window) -> str:
    """Show a whole file, which lies beside the virtual raster, at a place in it."""
    size = f'xSize="{place.shape.x}" ySize="{place.shape.y}"'
    return f"""    <SimpleSource>
      <SourceFilename relativeToVRT="1">{escape(path.name)}</SourceFilename>
      <SourceBand>1</SourceBand>
      <SrcRect xOff="0" yOff="0" {size}/>
      <DstRect xOff="{place.x0}" yOff="{place.y0}" {size}/>
    </SimpleSource>
"""


def _describe_raster(grid: Grid, content: str) -> str:
    size = f'rasterXSize="{grid.shape.x}" rasterYSize="{grid.shape.y}"'
    return f"<VRTDataset {size}>\n{_georeference(grid)}{content}</VRTDataset>\n"


def _georeference(grid: Grid) -> str:
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
