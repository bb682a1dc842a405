"""Files that somebody else made to do harm: no request is sent, no code runs, nothing hangs."""

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.errors import RasterioIOError
from written_images import SHAPE, read_whole, speckle, write_tif

from sarstack.errors import ResumeMismatchError, SarstackError, StackReadError
from sarstack.readers import index_stack
from sarstack.workflows.despeckle.results import UNFINISHED_FOLDER
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig

VRT = """<VRTDataset rasterXSize="80" rasterYSize="96">
  <VRTRasterBand dataType="Float32" band="1"{band}>
    {extra}<SimpleSource>
      <SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>
      <SrcRect xOff="0" yOff="0" xSize="80" ySize="96"/>
      <DstRect xOff="0" yOff="0" xSize="80" ySize="96"/>
    </SimpleSource>
  </VRTRasterBand>
</VRTDataset>"""
WMS = """<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/a.png</ServerUrl></Service>
<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>96</UpperLeftY><LowerRightX>80</LowerRightX>
<LowerRightY>0</LowerRightY><SizeX>80</SizeX><SizeY>96</SizeY><TileLevel>0</TileLevel></DataWindow>
<BlockSizeX>80</BlockSizeX><BlockSizeY>96</BlockSizeY><BandsCount>1</BandsCount>
<DataType>Float32</DataType></GDAL_WMS>"""
WCS = """<WCS_GDAL><ServiceURL>{url}/wcs?</ServiceURL><Version>1.0.0</Version>
<CoverageName>a</CoverageName></WCS_GDAL>"""
OVERVIEWS = """<PAMDataset><Metadata domain="OVERVIEWS">
<MDI key="OVERVIEW_FILE">/vsicurl/{url}/o.tif</MDI></Metadata></PAMDataset>"""


class Server(ThreadingHTTPServer):
    """A web server on this machine that notes every request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count_requests(self) -> int:
        """Count the requests, also one that is only just arriving."""
        time.sleep(0.1)
        return len(self.requests)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # Some calls of rasterio keep the lock of Python, so that the server cannot answer meanwhile.
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def vrt(source: object, *, relative: int = 0, band: str = "", extra: str = "") -> str:
    return VRT.format(source=source, relative=relative, band=band, extra=extra)


def use(path: Path) -> list[str]:
    """Do with a path what users do, and return the errors."""
    errors = []
    settings = DespeckleConfig(
        stack=str(path), output=str(path.parent / "out"), method="boxcar", scale="linear", looks=4
    )
    for job in (lambda: describe_stack(index_stack(path)).render(), lambda: despeckle(settings)):
        try:
            job()
        except SarstackError as error:
            errors.append(str(error))
    return errors


CONTENTS = {
    "a WMS description": lambda url: WMS.format(url=url),
    "a WCS description": lambda url: WCS.format(url=url),
    "a VRT of a URL": lambda url: vrt(f"/vsicurl/{url}/a.tif"),
    "a VRT of a WMS description": lambda url: vrt(
        WMS.format(url=url).replace("<", "&lt;").replace(">", "&gt;")
    ),
}


@pytest.mark.parametrize("name", ["a_20210104_vv.tif", "a_20210104_vv.img", "a_20210104_vv.vrt",
                                  "a_20210104_vv.dat"])  # fmt: skip
@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_of_another_kind_sends_no_request(
    content: str, name: str, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(CONTENTS[content](server.url))
    errors = use(path)
    assert len(errors) == 2
    assert all(name in error and "do this" in error for error in errors)
    assert server.count_requests() == 0


def test_the_same_files_send_requests_if_gdal_may_choose_the_driver(
    server: Server, tmp_path: Path
) -> None:
    """Without this, the test above could pass with descriptions that GDAL does not understand."""
    path = tmp_path / "a.tif"
    for content in CONTENTS.values():
        server.requests.clear()
        path.write_text(content(server.url))
        with contextlib.suppress(RasterioIOError), rasterio.open(path) as file:
            file.read(1)
        assert server.count_requests() > 0


@pytest.mark.parametrize("hidden", ["wms.tif", "inner.vrt"])
def test_a_source_of_a_vrt_that_is_of_another_kind_sends_no_request(
    hidden: str, server: Server, tmp_path: Path
) -> None:
    content = WMS.format(url=server.url) if hidden == "wms.tif" else vrt(f"{server.url}/a.tif")
    (tmp_path / hidden).write_text(content)
    view = tmp_path / "a_20210104_vv.vrt"
    view.write_text(vrt(hidden, relative=1))
    assert len(use(view)) == 2
    assert server.count_requests() == 0


def test_a_side_car_that_names_overviews_at_a_url_sends_no_request(
    server: Server, tmp_path: Path
) -> None:
    path = write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    (tmp_path / f"{path.name}.aux.xml").write_text(OVERVIEWS.format(url=server.url))
    assert use(path) == []
    assert server.count_requests() == 0


def test_a_vrt_of_local_files_is_read_and_info_shows_its_sources(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "s.tif", speckle())
    inner = tmp_path / "inner.vrt"
    inner.write_text(vrt(source))
    outer = tmp_path / "a_20210104_vv.vrt"
    outer.write_text(vrt("inner.vrt", relative=1))
    stack = index_stack(outer)
    np.testing.assert_array_equal(read_whole(stack), speckle())
    shown = describe_stack(stack).render()
    assert str(source) in shown
    assert str(inner) in shown


def test_a_vrt_with_python_code_is_refused_even_if_gdal_may_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    mark = tmp_path / "ran"
    code = (
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python"
        "</PixelFunctionLanguage><PixelFunctionCode><![CDATA[\n"
        f"open({str(mark)!r}, 'w')\ndef f(*a, **k): pass\n]]></PixelFunctionCode>"
    )
    source = write_tif(tmp_path / "s.tif", speckle())
    path = tmp_path / "a_20210104_vv.vrt"
    path.write_text(vrt(source, band=' subClass="VRTDerivedRasterBand"', extra=code))
    with pytest.raises(StackReadError, match="Python code"):
        index_stack(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<VRTDataset>", "no VRT"),
        ("not XML", "no VRT"),
        ("<other/>", "first element"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><VRTDataset/>', "entities"),
        (vrt("missing.tif"), "not a file"),
        (vrt("/dev/stdin"), "not a file"),
        ("<a>" * 100_000, "no VRT"),
    ],
)
def test_a_vrt_that_cannot_be_used_is_refused_with_the_reason(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "a_20210104_vv.vrt"
    path.write_text(text)
    with pytest.raises(StackReadError, match=reason):
        index_stack(path)


def test_vrt_files_that_name_each_other_are_refused(tmp_path: Path) -> None:
    for first, second in (("a_20210104_vv.vrt", "b.vrt"), ("b.vrt", "a_20210104_vv.vrt")):
        (tmp_path / first).write_text(vrt(second, relative=1))
    with pytest.raises(StackReadError):
        index_stack(tmp_path / "a_20210104_vv.vrt")


def test_images_of_other_suffixes_are_read(tmp_path: Path) -> None:
    """ENVI without a suffix, and a GeoTIFF that is named `.dat`."""
    write_tif(tmp_path / "a_20210104_vv.dat", speckle())
    np.testing.assert_array_equal(
        read_whole(index_stack(tmp_path / "a_20210104_vv.dat")), speckle()
    )
    envi = tmp_path / "b_20210104_vv"
    write_tif(envi, speckle(), driver="ENVI")
    assert read_whole(index_stack(envi)).shape == SHAPE


def set_tiff_tag(path: Path, tag: int, value: int) -> None:
    """Change a number in the header of a little-endian TIFF file."""
    data = bytearray(path.read_bytes())
    directory = int.from_bytes(data[4:8], "little")
    for i in range(int.from_bytes(data[directory : directory + 2], "little")):
        entry = directory + 2 + 12 * i
        if int.from_bytes(data[entry : entry + 2], "little") == tag:
            data[entry + 8 : entry + 12] = value.to_bytes(4, "little")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [(277, 60_000, "bands"), (257, 30_000_000, "its header claims|cannot be read")],
    ids=["number of bands", "height"],
)
def test_a_header_that_claims_too_much_is_refused_at_once(
    tag: int, value: int, reason: str, tmp_path: Path
) -> None:
    """These took minutes: each band, or each block, was looked up by its number."""
    path = write_tif(tmp_path / "a_20210104_vv.tif", speckle(), blockysize=1)
    set_tiff_tag(path, tag, value)
    with pytest.raises(StackReadError, match=reason):
        index_stack(path)


def test_a_damaged_netcdf_file_prints_no_traceback_of_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    path = tmp_path / "a.nc"
    dataset = xr.Dataset({"vv": (("y", "x"), speckle())}, attrs={"title": "x" * 50})
    dataset.to_netcdf(path, engine="h5netcdf")
    whole = path.read_bytes()
    start = whole.index(b"OHDR")  # the header of the root, which ends with a checksum
    for place in range(start + 4, start + 120, 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(SarstackError):
            index_stack(path)
    gc.collect()
    assert printed == []


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"[1]", b"\xff\xfe", b"{}"])
def test_a_damaged_record_of_an_interrupted_run_is_refused_and_can_be_overwritten(
    content: bytes, tmp_path: Path
) -> None:
    path = write_tif(tmp_path / "a_20210104_vv.tif", speckle())
    unfinished = tmp_path / "out" / UNFINISHED_FOLDER
    tile = unfinished / "image" / "0" / "0.tif"
    tile.parent.mkdir(parents=True)
    tile.write_bytes(b"a tile")
    for name in ("manifest.json", "statistics.json"):
        (unfinished / name).write_bytes(content)
    config = DespeckleConfig(
        stack=str(path), output=str(tmp_path / "out"), method="boxcar", scale="linear"
    )
    with pytest.raises(ResumeMismatchError, match="damaged"):
        despeckle(config)
    assert len(despeckle(config, overwrite=True).outputs) == 1
