"""Output to URLs: uploaded to s3://, and refused where it cannot be written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from object_storage import Storage, serve_storage

from sarstack.cli.commands import run
from sarstack.errors import DiskError, UsageError
from sarstack.readers.formats.gdal import open_gdal
from sarstack.workflows.remote_folder import RemoteFolder, choose_work_folder


@pytest.mark.parametrize(
    "command",
    [
        ["despeckle", "stack", "-o", "gs://bucket/out", "--method", "lee"],
        ["despeckle", "stack", "-o", "/vsis3/bucket/out", "--dry-run"],
        ["despeckle", "stack", "-o", "https://user:word@host/out?key=1", "--finetune"],
        ["build-labels", "stack", "-o", "gs://bucket/labels.zarr"],
        ["train", "stack", "--labels", "labels.zarr", "-o", "s3://bucket/model.safetensors"],
        ["finetune", "stack", "-o", "s3://bucket/model.safetensors"],
        ["bench", "quality", "-o", "s3://bucket/quality"],
        ["bench", "cases", "-o", "s3://bucket/cases"],
        ["check", "s3://bucket/out"],
    ],
    ids=" ".join,
)
def test_outputs_at_urls_are_refused_before_anything_is_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    message = capsys.readouterr().err
    parts = [line.split(":")[0].strip() for line in message.splitlines()]
    assert parts == ["error", "expected", "where", "do this"]
    assert "word" not in message
    assert not list(tmp_path.iterdir())


def test_the_accessor_refuses_to_write_a_model_to_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    images = xr.DataArray(np.ones((2, 9, 9), np.float32), dims=("time", "y", "x"), name="vv")
    with pytest.raises(UsageError, match="cannot be written to this URL"):
        images.despeck.finetune("s3://bucket/model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with serve_storage(str(tmp_path_factory.mktemp("log") / "requests.txt")) as server:
        yield server


def names_at(url: str) -> set[str]:
    return {*RemoteFolder.at(url).list_sizes()}


def test_old_speckle_is_deleted_when_images_are_made_again(storage, make_stack, tmp_path):
    stack, url = make_stack(n_dates=1, polarisations=("vv",)), "s3://archive/again/out"
    command = ["despeckle", str(stack.folder), "-o", url, "--method", "despecknet-lite",
               "--work-folder", str(tmp_path / "work"), "--no-report"]  # fmt: skip
    assert run([*command, "--output-noise"]) == 0
    assert [name for name in names_at(url) if "_noise" in name]
    shutil.rmtree(tmp_path / "work")
    assert run([*command, "--looks", "1", "--overwrite"]) == 0
    assert not [name for name in names_at(url) if "_noise" in name]
    assert f"{stack.files[0].stem}_despecknet-lite.tif" in names_at(url)


def test_results_in_object_storage_are_those_of_a_local_run(storage, make_stack, tmp_path, capsys):
    stack = make_stack(n_dates=2, polarisations=("vv",))
    url, work = "s3://archive/first/out", tmp_path / "work"
    options = ["--method", "lee", "--stac"]
    assert run(["despeckle", str(stack.folder), "-o", str(tmp_path / "out"), *options]) == 0
    capsys.readouterr()
    remote = ["despeckle", str(stack.folder), "-o", f"{url}/", "--work-folder", str(work), *options]
    assert run(remote) == 0
    local = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")
             if p.is_file()}  # fmt: skip
    assert names_at(url) == local
    printed = capsys.readouterr().out.split()
    images = sorted(name for name in local if name.endswith(".tif"))
    assert printed == [f"{url}/{name}" for name in images]
    for name in images:
        assert not (work / name).exists()
        with rasterio.open(tmp_path / "out" / name) as file, open_gdal(f"{url}/{name}") as there:
            np.testing.assert_array_equal(file.read(1), there.read(1))
    # Nothing is made again, also without the work folder.
    for _ in range(2):
        n_before = len(storage.requests())
        assert run(remote) == 0
        written = [path for method, path, _ in storage.requests()[n_before:] if method == "PUT"]
        assert not [path for path in written if path.endswith(".tif")]
        shutil.rmtree(work)


def test_the_uncertainty_is_uploaded_before_its_image(storage, make_stack, tmp_path):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    url, work = "s3://archive/spread", tmp_path / "work"
    command = ["despeckle", str(stack.folder), "-o", url, "--work-folder", str(work),
               "--method", "despecknet-lite"]  # fmt: skip
    assert run(command) == 0
    n_before = len(storage.requests())
    assert run([*command, "--output-uncertainty"]) == 0
    requests = storage.requests()[n_before:]
    images = [path for method, path, _ in requests if method == "PUT" and path.endswith(".tif")]
    assert [path.endswith("_uncertainty_db.tif") for path in images] == [True, False]
    assert {path.rpartition("/")[2] for path in images} <= names_at(url)
    assert not [*work.glob("*.tif")]
    shutil.rmtree(work)
    n_before = len(storage.requests())
    assert run([*command, "--output-uncertainty"]) == 0
    assert not [path for method, path, _ in storage.requests()[n_before:]
                if method == "PUT" and path.endswith(".tif")]  # fmt: skip


def test_an_upload_that_a_kill_prevented_is_made_by_the_next_run(
    storage, make_stack, tmp_path, monkeypatch
):
    stack = make_stack(n_dates=3, polarisations=("vv",))
    url, work = "s3://archive/second", tmp_path / "work"
    command = ["despeckle", str(stack.folder), "-o", url, "--work-folder", str(work),
               "--method", "lee"]  # fmt: skip
    upload, kept = RemoteFolder.upload, "20210113"

    def upload_some(folder: RemoteFolder, path: Path, name: str) -> None:
        if kept in name:
            raise KeyboardInterrupt
        upload(folder, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", upload_some)
        assert run(command) == 130
    [image] = work.glob("*.tif")
    assert kept in image.name
    assert not [name for name in names_at(url) if kept in name]
    inode = image.stat().st_mtime_ns
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload",
                      lambda folder, path, name: (made.append((name, path.stat().st_mtime_ns)),
                                                  upload(folder, path, name)))  # fmt: skip
        assert run(command) == 0
    assert [(n, t) for n, t in made if n.endswith(".tif")] == [(image.name, inode)]
    assert len([name for name in names_at(url) if name.endswith(".tif")]) == 3


def test_results_with_other_settings_are_refused_or_replaced(storage, make_stack, tmp_path):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    command = ["despeckle", str(stack.folder), "-o", "s3://archive/third", "--method", "boxcar",
               "--work-folder", str(tmp_path / "work")]  # fmt: skip
    assert run(command) == 0
    assert run([*command, "--verify"]) == 2
    assert run([*command, "--looks", "3"]) == 5
    assert run([*command, "--looks", "3", "--overwrite"]) == 0
    assert run([*command, "--looks", "3"]) == 0


def test_labels_in_object_storage_are_those_of_a_local_run(storage, make_stack, tmp_path):
    stack = make_stack(n_dates=3, polarisations=("vv",))
    url, work = "s3://archive/labels.zarr", str(tmp_path / "work")
    command = ["build-labels", str(stack.folder), "--work-folder", work, "-o", url]
    assert run(command) == 0
    assert run(["build-labels", str(stack.folder), "-o", str(tmp_path / "labels.zarr")]) == 0
    there, here = xr.open_zarr(url), xr.open_zarr(tmp_path / "labels.zarr", consolidated=False)
    xr.testing.assert_equal(there.compute(), here.compute())
    assert not list(Path(work).glob("labels*"))
    n_before = len(storage.requests())
    assert run(command) == 0
    assert not [r for r in storage.requests()[n_before:] if r[0] == "PUT"]
    assert run([*command, "--looks", "3"]) == 5


def test_labels_are_absent_until_their_upload_is_complete(
    storage, make_stack, tmp_path, monkeypatch
):
    stack = make_stack(n_dates=2, polarisations=("vv",))
    url = "s3://archive/broken.zarr"
    command = ["build-labels", str(stack.folder), "-o", url, "--work-folder", str(tmp_path / "w")]
    assert run(command) == 0
    upload = RemoteFolder.upload

    def break_off(folder: RemoteFolder, path: Path, name: str) -> None:
        if name.startswith("std/c"):
            raise DiskError("the connection broke")
        upload(folder, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", break_off)
        assert run([*command, "--overwrite"]) == 8
    assert "zarr.json" not in names_at(url)
    assert run(command) == 0
    assert "zarr.json" in names_at(url)


def test_a_bucket_that_cannot_be_written_is_named_first(storage, make_stack, tmp_path, capsys):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    work = tmp_path / "work"
    assert run(["despeckle", str(stack.folder), "-o", "s3://no-such-bucket/out", "--method", "lee",
                "--work-folder", str(work)]) == 8  # fmt: skip
    assert "cannot be written" in capsys.readouterr().err
    assert not list(work.glob("*.tif"))


def test_the_work_folder_is_the_same_for_the_same_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = choose_work_folder("s3://bucket/a/out", None)
    assert folder == choose_work_folder("s3://bucket/a/out/", None)
    assert folder != choose_work_folder("s3://bucket/b/out", None)
    assert folder.parent == tmp_path
