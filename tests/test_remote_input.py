"""Stacks at URLs: the same pixels as local files, few requests, clear errors."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
import xarray as xr
from fsspec.core import url_to_fs
from object_storage import Storage, serve_storage
from served_folder import serve_folder
from simulated_stack import write_tif

from sarstack import open_stack
from sarstack.errors import MissingDependencyError, SarstackWarning, StackReadError
from sarstack.readers import index_stack
from sarstack.readers.files import find_files
from sarstack.readers.remote import read_object_version
from sarstack.tiles import Window
from sarstack.workflows.fingerprint import identity, stamp_files

N_DATES, SIDE_PX = 2, 600


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write COGs of two dates, and a Zarr store of the same pixels."""
    folder = tmp_path_factory.mktemp("stack")
    rng = np.random.default_rng(1)
    for date in range(N_DATES):
        pixels = rng.gamma(4, 0.05, (SIDE_PX, SIDE_PX)).astype(np.float32)
        pixels[:9, :30] = np.nan
        plain = write_tif(folder / "plain.tif", pixels)
        cog = folder / f"S1A_IW_2021010{date + 1}T051234_vv.tif"
        rasterio.shutil.copy(str(plain), str(cog), driver="COG", compress="deflate")
        Path(plain).unlink()
    cube = open_stack(folder).drop_encoding()
    cube.to_zarr(folder / "cube.zarr", consolidated=True, zarr_format=2)
    return folder


@pytest.fixture(scope="module")
def storage(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with serve_storage(str(tmp_path_factory.mktemp("log") / "requests.txt")) as server:
        system, _ = url_to_fs("s3://archive")
        for file in stack.glob("*.tif"):
            system.put(str(file), f"archive/stack/{file.name}")
        system.put(f"{stack / 'cube.zarr'}/", "archive/cube.zarr/", recursive=True)
        yield server


def assert_equal_stacks(url: str, folder: str | Path) -> None:
    xr.testing.assert_equal(
        open_stack(url).drop_attrs().compute(), open_stack(folder).drop_attrs().compute()
    )


def test_a_folder_of_object_storage_has_the_pixels_of_the_local_folder(storage, stack):
    assert_equal_stacks("s3://archive/stack", f"{stack}/*.tif")
    files = [f"s3://archive/stack/{file.name}" for file in sorted(stack.glob("*.tif"))]
    assert find_files("s3://archive/stack/") == files


def test_a_pattern_selects_objects(storage, stack):
    second = "S1A_IW_20210102T051234_vv.tif"
    assert_equal_stacks("s3://archive/sta*/*02T*_vv.tif", stack / second)


def test_a_zarr_store_in_object_storage_has_the_pixels_of_the_local_store(storage, stack):
    assert_equal_stacks("s3://archive/cube.zarr", stack / "cube.zarr")


def test_a_list_of_paths_and_urls_is_a_stack(storage, stack, tmp_path, monkeypatch):
    first, second = sorted(stack.glob("*_vv.tif"))
    beside = os.path.relpath(first, tmp_path)
    (tmp_path / "urls.txt").write_text(f"# VV\n\n{beside}\ns3://archive/stack/{second.name}\n")
    monkeypatch.chdir("/")  # relative paths begin at the folder of the list
    assert_equal_stacks(str(tmp_path / "urls.txt"), f"{stack}/*_vv.tif")


def test_a_list_that_names_nothing_or_a_list_is_refused(tmp_path):
    (tmp_path / "urls.txt").write_text("# nothing\n")
    with pytest.raises(StackReadError, match="names no image"):
        index_stack(tmp_path / "urls.txt")
    (tmp_path / "urls.txt").write_text("urls.txt\n")
    with pytest.raises(StackReadError, match="names another list"):
        index_stack(tmp_path / "urls.txt")


def test_no_request_asks_for_side_cars_and_parts_are_read_once(storage, stack):
    n_before = len(storage.requests())
    found = index_stack("s3://archive/stack/*_vv.tif")
    for raster in found.rasters["vv"]:
        for window in (Window(0, 400, 0, SIDE_PX), Window(300, SIDE_PX, 0, SIDE_PX)):
            raster.read(window)
    requests = storage.requests()[n_before:]
    names = {path for _, path, _ in requests}
    assert names == {"/archive"} | {f"/archive/stack/{f.name}" for f in stack.glob("*_vv.tif")}
    # 4 blocks: index and two windows need few requests, each opening reads the header again.
    assert max(Counter(path for _, path, _ in requests).values()) <= 25


def test_the_identity_of_a_remote_image_changes_with_the_object(storage, stack):
    file = next(stack.glob("*_vv.tif"))
    url = f"s3://archive/changing/{file.name}"
    system, _ = url_to_fs("s3://archive")
    system.put(str(file), url)
    before = index_stack(url)
    assert [*identity(before.rasters["vv"][0])["stamp"][0]][1] == file.stat().st_size
    pixels = before.rasters["vv"][0].read(Window(300, 310, 300, 310))
    changed = file.with_name("changed.tif")
    with rasterio.open(file) as source:
        write_tif(changed, source.read(1) * 2)
    try:
        system.put(str(changed), url)
    finally:
        changed.unlink()
    after = index_stack(url)
    assert identity(after.rasters["vv"][0]) != identity(before.rasters["vv"][0])
    assert stamp_files(after) != {}
    # Neither GDAL nor the cache of blocks returns pixels of the old object.
    np.testing.assert_array_equal(
        after.rasters["vv"][0].read(Window(300, 310, 300, 310)), 2 * pixels
    )


def test_masks_beside_remote_images_are_named_in_a_warning(storage, stack):
    file = next(stack.glob("*_vv.tif"))
    system, _ = url_to_fs("s3://archive")
    system.put(str(file), f"archive/masked/{file.name}")
    system.pipe(f"archive/masked/{file.name}.msk", b"mask")
    with pytest.warns(SarstackWarning, match="mask files beside remote images are not used"):
        index_stack("s3://archive/masked/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://archive/stack/missing_20210101_vv.tif", "does not exist"),
        ("s3://archive/nothing/", "holds no image"),
        ("s3://archive/stack/*_hh.tif", "holds no image"),
        ("s3://no-such-bucket/a/", "holds no image"),
    ],
)
def test_missing_objects_are_named(storage, url, message):
    with pytest.raises(StackReadError, match=message) as caught:
        index_stack(url)
    assert "check the path" in caught.value.do


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(MissingDependencyError, match=r"pip install 'sarstack\[gcs\]'"):
        index_stack("gs://bucket/folder/")
    with pytest.raises(MissingDependencyError, match=r"pip install 'sarstack\[azure\]'"):
        index_stack("az://container/image_20210101_vv.tif")


def test_an_unreliable_web_server_gives_the_pixels_of_the_local_file(stack, tmp_path):
    names = sorted(file.name for file in stack.glob("*_vv.tif"))
    with serve_folder(stack, is_reliable=False) as address:
        (tmp_path / "urls.txt").write_text("\n".join(f"{address}/{name}" for name in names))
        assert_equal_stacks(str(tmp_path / "urls.txt"), f"{stack}/*_vv.tif")


def test_errors_of_web_servers_say_what_to_check(stack):
    name = next(stack.glob("*_vv.tif")).name
    with serve_folder(stack) as address:
        for path, message, advice in (
            ("missing_20210101_vv.tif", "does not exist", "check the path"),
            (f"denied/{name}", "access is denied", "check the credentials"),
            (f"whole/{name}", "does not send parts of a file", "download the file"),
            ("", "cannot be listed", "urls.txt"),
        ):
            with pytest.raises(StackReadError, match=message) as caught:
                index_stack(f"{address}/{path}?token=secret" if path else f"{address}/")
            assert advice in caught.value.do
            assert "secret" not in str(caught.value)
        version = read_object_version(f"{address}/{name}")
        assert version.size_bytes == (stack / name).stat().st_size
        assert version.modified


def test_a_server_that_is_not_there_is_an_error_without_traceback():
    with warnings.catch_warnings(), pytest.raises(StackReadError, match="cannot be reached"):
        read_object_version("http://127.0.0.1:9/a.tif")
