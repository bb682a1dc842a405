"""Full disks, for real: a small disk that another program fills, and a limit of file sizes."""

import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from simulated_stack import SimulatedStack, assert_same_files
from small_networks import save_small_network

from sarstack.errors import DiskError
from sarstack.workflows import build_labels as labels_module
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.despeckle import run as despeckle_module
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.disk import explain_disk_errors
from sarstack.workflows.settings import DespeckleConfig, LabelsConfig

MakeStack = Callable[..., SimulatedStack]
SIZE_MB = 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}M", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command `mount`")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave_kb: int) -> None:
    n_bytes = shutil.disk_usage(folder).free - 1000 * leave_kb
    (folder / "other-program.bin").write_bytes(b"\0" * n_bytes)


def fill_after_the_check(
    monkeypatch: pytest.MonkeyPatch, module: object, folder: Path, leave_kb: int
) -> None:
    """Let another program fill the disk just after the plan was found to fit."""
    real = module.check_space

    def check_then_fill(*arguments: object) -> None:
        real(*arguments)
        fill(folder, leave_kb)

    monkeypatch.setattr(module, "check_space", check_then_fill)


@pytest.mark.parametrize(
    ("method", "leave_kb", "cluster"),
    [("boxcar", 0, None), ("quegan-yu", 150, None), ("boxcar", 1_500, None),
     pytest.param("boxcar", 2_600, None, marks=pytest.mark.slow),
     pytest.param("boxcar", 3_000, None, marks=pytest.mark.slow),
     pytest.param("quegan-yu", 150, "local", marks=pytest.mark.slow),
     pytest.param("boxcar", 2_600, "local", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_despeckling_run_on_a_full_disk_says_so_once_and_continues_to_the_same_pixels(
    make_stack: MakeStack, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], leave_kb: int, method: str, cluster: str | None,
) -> None:  # fmt: skip
    """The disk fills at the scratch folder, a sum over dates, a piece, a COG or the picture."""
    stack = make_stack(shape=(520, 400), n_dates=3, polarisations=("vv",))

    def config(name: Path) -> DespeckleConfig:
        return DespeckleConfig.make(
            stack=str(stack.folder), output=str(name), method=method, tile_px=256,
            cluster=cluster, workers=2,
        )  # fmt: skip

    despeckle(config(tmp_path / "whole"))
    output = small_disk / "out"
    # A test of the command line in this process leaves a handler that prints.
    monkeypatch.setattr(logging.getLogger("sarstack"), "handlers", [])
    capfd.readouterr()
    with monkeypatch.context() as patch:
        fill_after_the_check(patch, despeckle_module, small_disk, leave_kb)
        with pytest.raises(DiskError, match=r"the disk is full .*(free|needs)") as caught:
            despeckle(config(output))
    assert "MB for the whole run" in caught.value.expected
    assert str(output) in caught.value.where[0]
    assert capfd.readouterr() == ("", "")
    assert not list(output.rglob("*.part"))
    (small_disk / "other-program.bin").unlink()
    despeckle(config(output))
    assert_same_files(tmp_path / "whole", output)


def test_no_tile_is_computed_after_the_disk_was_found_full(
    make_stack: MakeStack, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(shape=(520, 400), n_dates=3, polarisations=("vv",))
    computed, full = [], []
    real_window, real_check = tasks.despeckle_window, tasks.check_room

    def note_window(*arguments: object) -> object:
        computed.append(len(full))
        return real_window(*arguments)

    def note_check(pieces: object) -> None:
        try:
            real_check(pieces)
        except DiskError:
            full.append(True)
            raise

    monkeypatch.setattr(tasks, "despeckle_window", note_window)
    monkeypatch.setattr(tasks, "check_room", note_check)
    fill_after_the_check(monkeypatch, despeckle_module, small_disk, 1_000)
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(small_disk / "out"), method="boxcar", tile_px=256,
        workers=1,
    )  # fmt: skip
    with pytest.raises(DiskError):
        despeckle(config)
    assert computed
    assert set(computed) == {0}


@pytest.mark.parametrize("leave_kb", [0, 20, 1_200])
def test_labels_on_a_full_disk_say_so_once_and_continue_to_the_same_values(
    make_stack: MakeStack, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], leave_kb: int,
) -> None:  # fmt: skip
    """The disk fills at the metadata of the store, or at a tile."""
    stack = make_stack(shape=(520, 400), polarisations=("vv",))

    def config(name: Path) -> LabelsConfig:
        return LabelsConfig.make(stack=str(stack.folder), output=str(name), tile_px=256)

    whole = build_labels(config(tmp_path / "whole.zarr"))
    output = small_disk / "labels.zarr"
    # A test of the command line in this process leaves a handler that prints.
    monkeypatch.setattr(logging.getLogger("sarstack"), "handlers", [])
    capfd.readouterr()
    with monkeypatch.context() as patch:
        fill_after_the_check(patch, labels_module, small_disk, leave_kb)
        with pytest.raises(DiskError, match="the disk is full"):
            build_labels(config(output))
    assert capfd.readouterr() == ("", "")
    (small_disk / "other-program.bin").unlink()
    build_labels(config(output))
    with (
        xr.open_zarr(whole, consolidated=False) as a,
        xr.open_zarr(output, consolidated=False) as b,
    ):
        xr.testing.assert_equal(a.load(), b.load())
    assert not list(small_disk.rglob("*.part*"))


def run_with_limit(limit_kb: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where no file may become larger than a limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * limit_kb, 1000 * limit_kb))

    return subprocess.run(
        [sys.executable, "-m", "sarstack", *arguments],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "limit_kb"),
    [("despeckle", 150), ("despeckle", 500), ("build-labels", 100), ("finetune", 100)],
)  # fmt: skip
def test_a_limit_for_the_size_of_files_gives_one_clear_error(
    make_stack: MakeStack, tmp_path: Path, command: str, limit_kb: int
) -> None:
    """At a piece, at a COG, in the store of labels and at the checkpoint."""
    stack = make_stack(shape=(520, 400), n_dates=3, polarisations=("vv",))
    arguments = [command, str(stack.folder), "-o"]
    if command == "despeckle":
        arguments += [str(tmp_path / "out"), "--method", "boxcar", "--tile-px", "256"]
    elif command == "build-labels":
        arguments += [str(tmp_path / "labels.zarr")]
    else:
        model = save_small_network(tmp_path, "despecknet")
        arguments += [str(tmp_path / "tuned.safetensors"), "--model", str(model), "--steps", "2",
                      "--batch-size", "2", "--patch-px", "32"]  # fmt: skip
    done = run_with_limit(limit_kb, *arguments)
    assert done.returncode == 8, done.stderr
    assert done.stderr.count("error:") == 1
    assert "a file would be larger than this disk or `ulimit -f` allows" in done.stderr
    assert "do this:" in done.stderr
    assert "_tiff" not in done.stderr
    assert "Traceback" not in done.stderr
    assert run_with_limit(10**6, *arguments).returncode == 0


def test_a_failure_that_is_not_of_the_disk_is_not_blamed_on_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_disk_errors(tmp_path, file_bytes=1000):
        (tmp_path / "missing").read_bytes()
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_full_gives_the_error_of_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with (
        pytest.raises(DiskError, match="the disk is full"),
        explain_disk_errors(tmp_path),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(np.zeros(9).tobytes())
