"""GDAL virtual rasters: small files that refer to the pixels of other files."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from sarstack.output.complete_file import write_text
from sarstack.output.pieces import Pieces, coarsen
from sarstack.readers.grid import Grid
from sarstack.tiles import Shape, Window


def write_mosaic(
    pieces: Pieces,
    grid: Grid,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    unit: str = "1",
) -> Path:
    """Write a virtual raster over all pieces, with the metadata of the finished file.

    Parameters
    ----------
    pieces : Pieces
        Pieces of the image, all written.
    grid : Grid
        Grid of the image.
    description : str
        Name of the band.
    tags : dict of str, optional
        Metadata of the file.
    unit : str
        Unit of the pixels.

    Returns
    -------
    Path
        ``mosaic.vrt`` beside the pieces.
    """
    overviews = "".join(
        f'    <Overview><SourceFilename relativeToVRT="1">{_write_level(pieces, level).name}'
        "</SourceFilename><SourceBand>1</SourceBand></Overview>\n"
        for level in range(1, pieces.n_overviews + 1)
    )
    items = "".join(
        f"    <MDI key={quoteattr(key)}>{escape(value)}</MDI>\n"
        for key, value in (tags or {}).items()
    )
    metadata = f"  <Metadata>\n{items}  </Metadata>\n"
    band = f"""  <VRTRasterBand dataType="Float32" band="1">
    <Description>{escape(description)}</Description>
    <UnitType>{escape(unit)}</UnitType>
    <NoDataValue>nan</NoDataValue>
{overviews}{_place_pieces(pieces)}  </VRTRasterBand>
"""
    mosaic = pieces.folder / "mosaic.vrt"
    content = _georeference(grid) + metadata + band
    mosaic.write_text(_describe_raster(grid.shape, content), encoding="utf-8")
    return mosaic


def _write_level(pieces: Pieces, level: int) -> Path:
    """Write a virtual raster over one overview of all pieces."""
    band = f"""  <VRTRasterBand dataType="Float32" band="1">
    <NoDataValue>nan</NoDataValue>
{_place_pieces(pieces, level)}  </VRTRasterBand>
"""
    path = pieces.folder / f"overview-{level}.vrt"
    path.write_text(_describe_raster(coarsen(pieces.scene, level), band), encoding="utf-8")
    return path


def _place_pieces(pieces: Pieces, level: int = 0) -> str:
    """Return the XML that places every piece, or an overview of it."""
    return "".join(
        _place_file(pieces.path(tile, level), _coarsen_window(tile.window, level))
        for tile in pieces.tiles()
    )


def _coarsen_window(window: Window, level: int) -> Window:
    y, x = window.y0 >> level, window.x0 >> level
    shape = coarsen(window.shape, level)
    return Window(y, y + shape.y, x, x + shape.x)


def name_db_view(cog: Path) -> Path:
    """Return the path of the dB view beside a COG."""
    return cog.with_name(f"{cog.stem}_db.vrt")


def write_db_view(cog: Path, grid: Grid, description: str = "") -> Path:
    """Write a virtual raster that shows a COG in dB, for QGIS; it stores no pixels.

    Parameters
    ----------
    cog : Path
        File of linear intensity; the virtual raster lies beside it.
    grid : Grid
        Grid of the COG.
    description : str
        Name of the band.

    Returns
    -------
    Path
        ``<stem>_db.vrt``; values are ``10 log10(intensity)``, nodata NaN.
    """
    view = name_db_view(cog)
    kind = 'dataType="Float32" band="1" subClass="VRTDerivedRasterBand"'
    band = f"""  <VRTRasterBand {kind}>
    <Description>{escape(description)} dB</Description>
    <UnitType>dB</UnitType>
    <NoDataValue>nan</NoDataValue>
    <PixelFunctionType>dB</PixelFunctionType>
    <PixelFunctionArguments fact="10"/>
    <SourceTransferType>Float32</SourceTransferType>
{_place_file(cog, Window(0, grid.shape.y, 0, grid.shape.x))}  </VRTRasterBand>
"""
    write_text(view, _describe_raster(grid.shape, _georeference(grid) + band))
    return view


def _place_file(path: Path, place: Window) -> str:
    """Return the XML that places a file of the same folder."""
    size = f'xSize="{place.shape.x}" ySize="{place.shape.y}"'
    return f"""    <SimpleSource>
      <SourceFilename relativeToVRT="1">{escape(path.name)}</SourceFilename>
      <SourceBand>1</SourceBand>
      <SrcRect xOff="0" yOff="0" {size}/>
      <DstRect xOff="{place.x0}" yOff="{place.y0}" {size}/>
    </SimpleSource>
"""


def _describe_raster(shape: Shape, content: str) -> str:
    size = f'rasterXSize="{shape.x}" rasterYSize="{shape.y}"'
    return f"<VRTDataset {size}>\n{content}</VRTDataset>\n"


def _georeference(grid: Grid) -> str:
    rpcs = "".join(
        f"    <MDI key={quoteattr(name)}>{escape(value)}</MDI>\n" for name, value in grid.rpcs
    )
    domain = f'  <Metadata domain="RPC">\n{rpcs}  </Metadata>\n' if rpcs else ""
    return _place_grid(grid) + domain


def _place_grid(grid: Grid) -> str:
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
