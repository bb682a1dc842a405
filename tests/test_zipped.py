"""Zip files of GeoTIFFs: HyP3 products and those of users, opened without unpacking."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from written_images import read_whole, speckle, write_tif

from sarstack.cli.commands import run as run_cli
from sarstack.errors import SarstackWarning, StackReadError
from sarstack.readers import index_stack
from sarstack.readers.formats import zipped
from sarstack.workflows.info import describe_stack

HYP3 = "S1A_IW_202301{day:02d}T053020_DVP_RTC30_G_gpuned_AB{day:02d}"
SHAPE = (96, 80)


def write_hyp3(folder, day, method=zipfile.ZIP_DEFLATED):
    """Write the zip file of a HyP3 product with its layers, README and metadata."""
    name = HYP3.format(day=day)
    product = folder / name
    product.mkdir()
    shadow = np.ones(SHAPE, np.uint8)
    shadow[:4], shadow[4:8], shadow[8:12] = 17, 5, 31
    for layer in ("VV", "VH"):
        write_tif(product / f"{name}_{layer}.tif", speckle(day), tiled=True, blockxsize=16,
                  blockysize=16, compress="deflate")  # fmt: skip
    write_tif(product / f"{name}_ls_map.tif", shadow)
    for layer in ("inc_map", "dem"):
        write_tif(product / f"{name}_{layer}.tif", speckle(9))
    (product / f"{name}.README.md.txt").write_text("ASF RTC")
    (product / f"{name}_VV.tif.xml").write_text("<x/>")
    archive = folder / f"{name}.zip"
    with zipfile.ZipFile(archive, "w", method) as out:
        for file in sorted(product.iterdir()):
            out.write(file, f"{name}/{file.name}")
    shutil.rmtree(product)
    return archive


@pytest.fixture
def zips(tmp_path):
    folder = tmp_path / "zips"
    folder.mkdir()
    for day in (1, 13):
        write_hyp3(folder, day)
    return folder


def read_member(archive, ending):
    """Read one member by the standard library and rasterio."""
    with zipfile.ZipFile(archive) as opened:
        [name] = [n for n in opened.namelist() if n.endswith(ending)]
        with rasterio.MemoryFile(opened.read(name)) as memory, memory.open() as image:
            return image.read(1)


def test_a_folder_of_zipped_products_is_a_stack(zips):
    (zips / "notes.zip").write_bytes(b"")
    with zipfile.ZipFile(zips / "notes.zip", "w") as out:
        out.writestr("notes.txt", "no image")
    stack = index_stack(zips)
    assert [str(d.time) for d in stack.dates] == [
        "2023-01-01T05:30:20.000000000", "2023-01-13T05:30:20.000000000",
    ]  # fmt: skip
    assert (stack.polarisations, stack.calibration) == (("vv", "vh"), "gamma0")
    for date, archive in enumerate(sorted(zips.glob("S1A*.zip"))):
        expected = read_member(archive, "_VH.tif")
        np.testing.assert_array_equal(read_whole(stack, "vh", date), expected)
    described = describe_stack(stack)
    assert described.dates[0].file.endswith("AB01_VV.tif")


def test_the_mask_of_a_zipped_product_is_read(zips):
    expected = read_member(next(zips.glob("*AB01.zip")), "_VV.tif")
    for words, rows in (("shadow", [*range(4), *range(8, 12)]), ("layover", range(4, 12))):
        pixels = read_whole(index_stack(zips, mask=words))
        masked = expected.copy()
        masked[list(rows)] = np.nan
        np.testing.assert_array_equal(pixels, masked)


def test_results_of_a_zip_equal_those_of_its_unpacked_images(zips, tmp_path):
    archive = next(zips.glob("*AB13.zip"))
    flat = tmp_path / "flat"
    flat.mkdir()
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            (flat / Path(name).name).write_bytes(opened.read(name))
    for stack, output in ((archive, "zip"), (flat, "tif")):
        arguments = ["-q", "despeckle", stack, "-o", tmp_path / output, "--method", "lee"]
        assert run_cli([str(a) for a in arguments]) == 0
    names = sorted(p.name for p in (tmp_path / "zip").glob("*.tif"))
    assert names == [f"{HYP3.format(day=13)}_{p}_lee.tif" for p in ("VH", "VV")]
    for name in names:
        with (
            rasterio.open(tmp_path / "zip" / name) as a,
            rasterio.open(tmp_path / "tif" / name) as b,
        ):
            np.testing.assert_array_equal(a.read(1), b.read(1))
            assert a.tags()["INPUT_FILE"] == b.tags()["INPUT_FILE"] == name.replace("_lee", "")
    arguments = ["despeckle", str(archive), "-o", str(tmp_path / "zip"), "--method", "lee"]
    assert run_cli(["-q", *arguments]) == 0  # finished
    write_tif(flat / "x.tif", speckle())
    with zipfile.ZipFile(archive, "a") as opened:
        opened.write(flat / "x.tif", "readme")
    assert run_cli(["-q", *arguments]) == 5  # the zip file changed


def test_a_zip_with_a_damaged_directory_is_named(zips):
    """Its end is that of a zip file, but the list of members before it is not."""
    archive = sorted(zips.glob("*.zip"))[0]
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02")] = 0
    archive.write_bytes(content)
    assert zipfile.is_zipfile(archive)
    with pytest.raises(StackReadError, match="no zip file, or not complete"):
        index_stack(zips)


def test_a_zip_beside_its_unpacked_images_counts_once(zips):
    archive = next(zips.glob("*AB01.zip"))
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            (zips / Path(name).name).write_bytes(opened.read(name))
    stack = index_stack(zips)
    assert stack.n_dates == 2
    assert [Path(r.path).suffix for r in stack.rasters["vv"]] == [".tif", ".zip"]
    (zips / archive.stem).mkdir()
    for file in zips.glob("*AB01_*.tif"):
        file.replace(zips / archive.stem / file.name)
    assert index_stack(f"{zips}/**/*AB01*").n_dates == 1


def test_any_zip_of_images_opens(tmp_path):
    for month in (1, 2):
        write_tif(tmp_path / f"field_2021{month:02}04_gamma0_linear_vv.tif", speckle(month))
    with zipfile.ZipFile(tmp_path / "mine.ZIP", "w") as out:
        for file in tmp_path.glob("*.tif"):
            out.write(file, f"a/b/{file.name}")
            out.writestr(f"__MACOSX/a/b/._{file.name}", "x")
    stack = index_stack(tmp_path / "mine.ZIP")
    assert stack.n_dates == 2
    np.testing.assert_array_equal(read_whole(stack, "vv", 1), speckle(2))


def test_zips_that_cannot_be_used_are_refused_with_the_reason(zips, tmp_path):
    def refuses(path, reason):
        with pytest.raises(StackReadError, match=reason):
            index_stack(path)

    whole = next(zips.glob("*AB01.zip"))
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(whole.read_bytes()[:-500])
    refuses(truncated, "it is no zip file, or not complete")
    shutil.copy(truncated, zips)
    refuses(zips, "truncated.zip cannot be read")
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as out:
        out.writestr("inner.zip", "PK")
    refuses(empty, "holds no image")
    lzma = tmp_path / "lzma.zip"
    with zipfile.ZipFile(lzma, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("20210304_vv.tif", b"x" * 100)
    refuses(lzma, "compression method 14")
    text = tmp_path / "text.zip"
    with zipfile.ZipFile(text, "w") as out:
        out.writestr("20210304_vv.tif", "<GDAL_WMS></GDAL_WMS>")
    refuses(text, "20210304_vv.tif")


def test_a_member_that_expands_to_far_more_than_an_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "_SUSPICIOUS_BYTES", 2**20)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("20210304_vv.tif", bytes(2**21))
    with pytest.raises(StackReadError, match=r"is no image: .* MB become"):
        index_stack(bomb)


def test_a_mask_file_in_a_zip_must_be_an_image(tmp_path):
    write_tif(tmp_path / "20210304_vv.tif", speckle())
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        out.write(tmp_path / "20210304_vv.tif", "20210304_vv.tif")
        out.writestr("20210304_vv.tif.msk", "<GDAL_WMS></GDAL_WMS>")
    with pytest.raises(StackReadError, match="msk in it is no GeoTIFF"):
        index_stack(tmp_path / "x.zip")


def test_a_truncated_image_in_a_zip_is_found_by_its_header(tmp_path):
    whole = write_tif(tmp_path / "20210304_vv.tif", speckle())
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        out.writestr("20210304_vv.tif", whole.read_bytes()[:-2000])
    with pytest.raises(StackReadError, match="it is truncated"):
        index_stack(tmp_path / "x.zip")


def test_large_compressed_images_are_told_once(zips, monkeypatch):
    monkeypatch.setattr(zipped, "LARGE_BYTES", 1000)
    with pytest.warns(SarstackWarning, match="2 files: large images are compressed") as caught:
        index_stack(zips)
    assert len(caught) == 1
