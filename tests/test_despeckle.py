"""The main job end to end: files in, COGs out, on threads and on real Dask workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rio_cogeo.cogeo import cog_validate
from simulated_stack import SimulatedStack, assert_same_files, read_tif, write_tif
from small_networks import save_small_network

from sarstack.conventions import TAGS
from sarstack.despecklers import make_despeckler
from sarstack.errors import (
    ClusterError,
    ResumeMismatchError,
    SarstackWarning,
    SomeDatesFailedError,
    StackReadError,
    UsageError,
)
from sarstack.networks.model_file import model_sha256, shipped_model
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.despeckle import run as module
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import UNFINISHED_FOLDER, despeckle
from sarstack.workflows.lock import claim_folder
from sarstack.workflows.settings import DespeckleConfig, FinetuneConfig, LabelsConfig

MakeStack = Callable[..., SimulatedStack]


def config_for(stack: SimulatedStack, output: Path, **settings: object) -> DespeckleConfig:
    return DespeckleConfig.make(
        stack=str(stack.folder), output=str(output), **({"method": "lee-sigma"} | settings)
    )


@pytest.mark.parametrize("method", ["lee-sigma", "quegan-yu", "despecknet", "despecknet-mt"])
def test_every_date_becomes_a_valid_cog_on_the_input_grid(
    make_stack: MakeStack, tmp_path: Path, method: str
) -> None:
    stack = make_stack()
    outcome = despeckle(config_for(stack, tmp_path / "out", method=method))
    assert outcome.failures == {}
    assert len(outcome.outputs) == len(stack.files)
    for file in stack.files:
        output = tmp_path / "out" / f"{file.stem}_{method}.tif"
        valid, errors, _ = cog_validate(str(output), strict=True)
        assert valid, errors
        with rasterio.open(file) as before, rasterio.open(output) as after:
            assert (after.shape, after.crs, after.transform) == (
                before.shape, before.crs, before.transform,
            )  # fmt: skip
            assert np.isnan(after.nodata)
            tags = after.tags()
            np.testing.assert_array_equal(np.isnan(after.read(1)), np.isnan(before.read(1)))
        assert tags["SPECKLE_FILTER"] == method
        assert tags["ACQUISITION_DATETIME"].startswith("2021-01-")
        assert tags["INPUT_FILE"] == file.name
        assert 3 < float(tags["ENL_BEFORE"]) < 6
        assert (output.parent / f"{output.stem}_db.vrt").exists()
    assert not (tmp_path / "out" / UNFINISHED_FOLDER).exists()


@pytest.mark.parametrize("method", ["lee-sigma", "quegan-yu"])
def test_files_equal_the_method_applied_to_the_whole_cube(
    make_stack: MakeStack, tmp_path: Path, method: str
) -> None:
    stack = make_stack(shape=(300, 290), polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "out", method=method, tile_px=256, keep_bits=23))
    cube = np.stack([read_tif(file) for file in stack.files])
    expected = make_despeckler(method).apply(cube)
    for file, date in zip(stack.files, expected, strict=True):
        found = read_tif(tmp_path / "out" / f"{file.stem}_{method}.tif")
        np.testing.assert_allclose(found, date, rtol=1e-5)


@pytest.mark.parametrize("variant", ["despecknet", "despecknet-mt", "despecknet-paper"])
def test_files_equal_a_network_applied_to_the_whole_cube(
    make_stack: MakeStack, tmp_path: Path, variant: str
) -> None:
    """The tile size need not be a multiple of the cell size: 256 px is a part of a cell."""
    stack = make_stack(shape=(300, 290), n_dates=2, polarisations=("vv",))
    model = str(save_small_network(tmp_path, variant))
    exact = {"precision": "float32"}
    settings = {"method": model, "tile_px": 256, "parameters": exact, "keep_bits": 23}
    outcome = despeckle(config_for(stack, tmp_path / "out", **settings))
    cube = np.stack([read_tif(file) for file in stack.files])
    expected = make_despeckler(model, **exact).apply(cube)
    for output, date in zip(sorted(outcome.outputs), expected, strict=True):
        np.testing.assert_allclose(read_tif(output), date, rtol=1e-5, atol=1e-6)


def test_tile_size_threads_and_replay_change_no_bit(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(shape=(600, 530), n_dates=2, polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "a", tile_px=256, workers=1))
    despeckle(config_for(stack, tmp_path / "b", tile_px=1024))
    assert_same_files(tmp_path / "a", tmp_path / "b")
    saved = tmp_path / "a" / "run.yaml"
    assert yaml.safe_load(saved.read_text())["tile_px"] == 256
    despeckle(DespeckleConfig.read(saved, output=str(tmp_path / "c")))
    assert_same_files(tmp_path / "a", tmp_path / "c")


def test_selection_cuts_exactly_on_the_grid(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(n_dates=3)
    config = config_for(
        stack, tmp_path / "out", method="boxcar", dates="2021-01-10/2021-01-31",
        polarisations=["vh"], bbox=(500_100.0, 4_799_300.0, 500_500.0, 4_799_900.0),
    )  # fmt: skip
    outcome = despeckle(config)
    assert [p.name for p in outcome.outputs] == [
        "S1A_IW_20210113T051234_vh_boxcar.tif",
        "S1A_IW_20210125T051234_vh_boxcar.tif",
    ]
    with rasterio.open(outcome.outputs[0]) as raster:
        assert raster.shape == (60, 40)
        assert tuple(raster.bounds) == (500_100.0, 4_799_300.0, 500_500.0, 4_799_900.0)


def test_an_image_without_a_valid_pixel_is_named(
    make_stack: MakeStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = make_stack(n_dates=2, polarisations=("vv",))
    write_tif(stack.files[1], np.full_like(read_tif(stack.files[1]), np.nan))
    outcome = despeckle(config_for(stack, tmp_path / "out", method="boxcar"))
    assert (len(outcome.outputs), outcome.failures) == (2, {})
    warned = [text for text in caplog.messages if "no valid pixel" in text]
    assert len(warned) == 1
    assert stack.files[1].name in warned[0]


def test_a_second_run_computes_nothing_and_other_settings_are_refused(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack()
    config = config_for(stack, tmp_path / "out")
    first = despeckle(config)
    stamps = [path.stat().st_mtime_ns for path in first.outputs]
    plan = plan_despeckle(config)
    assert (len(plan.images), len(plan.finished)) == (0, len(stack.files))
    again = despeckle(config)
    assert again.outputs == first.outputs
    assert [path.stat().st_mtime_ns for path in again.outputs] == stamps
    with pytest.raises(ResumeMismatchError, match="other settings"):
        despeckle(config_for(stack, tmp_path / "out", parameters={"window_px": 5}))
    changed = despeckle(config_for(stack, tmp_path / "out", looks=3.0), overwrite=True)
    with rasterio.open(changed.outputs[0]) as raster:
        assert raster.tags()["ENL_BEFORE"] == "3.00"


def test_an_interrupted_run_continues_when_some_images_are_finished(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack()
    despeckle(config_for(stack, tmp_path / "whole"))
    real = module.tasks.finish_image

    def stop_after_the_first(source, *rest):
        if list((tmp_path / "out").glob("*.tif")):
            raise KeyboardInterrupt
        return real(source, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module.tasks, "finish_image", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            despeckle(config_for(stack, tmp_path / "out", workers=1))
    finished = list((tmp_path / "out").glob("*.tif"))
    assert len(finished) == 1
    stamp = finished[0].stat().st_mtime_ns
    despeckle(config_for(stack, tmp_path / "out"))
    assert finished[0].stat().st_mtime_ns == stamp
    assert_same_files(tmp_path / "whole", tmp_path / "out")


def test_a_second_run_with_another_tile_size_into_the_same_folder_gives_the_same_pixels(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    """A process keeps the store of a run open. The next run of the process must not use it."""
    stack = make_stack(shape=(300, 600), n_dates=1, polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "a", tile_px=512))
    despeckle(config_for(stack, tmp_path / "a", tile_px=256), overwrite=True)
    despeckle(config_for(stack, tmp_path / "b", tile_px=512))
    assert_same_files(tmp_path / "a", tmp_path / "b")


def test_an_interrupted_overwrite_continues(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(n_dates=4, polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "out", parameters={"window_px": 5}))
    config = config_for(stack, tmp_path / "out", workers=1)
    real, done = module.tasks.despeckle_tile, []

    def interrupted(despeckler, raster, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(raster.stem)
        return real(despeckler, raster, *rest)

    monkeypatch.setattr(module.tasks, "despeckle_tile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        despeckle(config, overwrite=True)
    first = list(done)
    done.clear()
    monkeypatch.setattr(
        module.tasks, "despeckle_tile", lambda d, r, *a: done.append(r.stem) or real(d, r, *a)
    )
    despeckle(config, overwrite=True)
    assert sorted(first + done) == sorted(file.stem for file in stack.files)
    despeckle(config_for(stack, tmp_path / "whole"))
    assert_same_files(tmp_path / "out", tmp_path / "whole")


def test_despeckle_with_finetune_uses_the_tuned_model_and_its_replay_does_not_tune(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(shape=(96, 96), n_dates=2, polarisations=("vv",))
    small = save_small_network(tmp_path, "despecknet")
    despeckle(config_for(stack, tmp_path / "out", method=str(small), finetune=True))
    model = tmp_path / "out" / "finetuned.safetensors"
    saved = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert (saved["method"], saved["finetune"]) == (str(model), False)
    with rasterio.open(next((tmp_path / "out").glob("*.tif"))) as raster:
        assert raster.tags()["SPECKLE_MODEL_SHA256"] == model_sha256(model)
    with pytest.raises(UsageError, match="is not a network"):
        despeckle(config_for(stack, tmp_path / "lee", method="lee", finetune=True))


@pytest.mark.parametrize("method", ["auto", "despecknet", "despecknet-lite"])
def test_the_tuning_before_a_run_starts_from_the_shipped_model_of_the_method(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    begun = []

    def begin(tuning: FinetuneConfig, **_: bool) -> None:
        begun.append(tuning.model)
        raise InterruptedError

    monkeypatch.setattr("sarstack.workflows.learning.finetune.finetune_on_stack", begin)
    stack = make_stack(shape=(96, 96), n_dates=2, polarisations=("vv",))
    with pytest.raises(InterruptedError):
        despeckle(config_for(stack, tmp_path / "out", method=method, finetune=True))
    shipped = shipped_model("despecknet" if method == "auto" else method)
    assert begun == [str(shipped)]


def test_one_unreadable_date_does_not_stop_the_others(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack()
    whole = stack.files[0].read_bytes()
    stack.files[0].write_bytes(whole[: len(whole) // 2])
    stack.files[3].write_text("not an image")
    outcome = despeckle(config_for(stack, tmp_path / "out"))
    assert len(outcome.outputs) == len(stack.files) - 2
    assert sorted(Path(p).name for p in outcome.failures) == sorted(
        [stack.files[0].name, stack.files[3].name]
    )
    with pytest.raises(SomeDatesFailedError, match="2 image"):
        outcome.raise_failures()
    stack.files[0].write_bytes(whole)
    mended = despeckle(config_for(stack, tmp_path / "out"))
    assert len(mended.outputs) == len(stack.files) - 1


def damage_unsampled_block(file: Path) -> None:
    """Damage pixels that no sample window of a scene of 64 x 2000 touches, nor the header."""
    write_tif(file, read_tif(file), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(file) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_13_0", "TIFF", bidx=1))
        size = int(raster.get_tag_item("BLOCK_SIZE_13_0", "TIFF", bidx=1))
    content = bytearray(file.read_bytes())
    content[offset + 50 : offset + size] = bytes(size - 50)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("cluster", [None, pytest.param("local", marks=pytest.mark.slow)])
def test_a_damaged_block_fails_its_image_only_with_an_error_of_one_line(
    make_stack: MakeStack, tmp_path: Path, cluster: str | None
) -> None:
    stack = make_stack(shape=(64, 2000), n_dates=2, polarisations=("vv",))
    damage_unsampled_block(stack.files[1])
    config = config_for(stack, tmp_path / "out", method="boxcar", cluster=cluster, workers=1)
    outcome = despeckle(config)
    assert [path.name for path in outcome.outputs] == [f"{stack.files[0].stem}_boxcar.tif"]
    (reason,) = outcome.failures.values()
    assert reason.startswith("cannot be read (")
    assert "rows 0 to 64, columns 0 to" in reason
    assert "\n" not in reason
    labels = {"stack": str(stack.folder), "output": str(tmp_path / "l.zarr")}
    with pytest.raises(StackReadError, match=stack.files[1].name) as refusal:
        build_labels(LabelsConfig.make(**labels, cluster=cluster, workers=1))
    assert "image(s) of the stack cannot be read" in str(refusal.value)


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    make_stack: MakeStack, tmp_path: Path, place: str
) -> None:
    stack = make_stack(n_dates=2)
    (tmp_path / "a-file").write_text("not a folder")
    output = tmp_path / place
    with pytest.raises(UsageError, match=r"cannot be written into|of another kind"):
        despeckle(config_for(stack, output))
    with pytest.raises(UsageError, match=r"cannot be written|of another kind"):
        build_labels(LabelsConfig.make(stack=str(stack.folder), output=str(output / "l.zarr")))


def test_a_second_run_into_a_folder_in_use_is_refused(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(n_dates=2)
    (tmp_path / "out").mkdir()
    with (
        claim_folder(tmp_path / "out"),
        pytest.raises(UsageError, match="another run writes"),
    ):
        despeckle(config_for(stack, tmp_path / "out"))
    despeckle(config_for(stack, tmp_path / "out"))


def test_damaged_results_are_computed_again(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(n_dates=2)
    config = config_for(stack, tmp_path / "out")
    results = despeckle(config).outputs
    despeckle(config_for(stack, tmp_path / "whole"))
    results[0].write_bytes(b"")
    results[1].write_bytes(results[1].read_bytes()[:-500])
    assert len(plan_despeckle(config).images) == 2
    despeckle(config)
    assert_same_files(tmp_path / "whole", tmp_path / "out")


def test_a_run_replays_from_another_folder(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(n_dates=2)
    monkeypatch.chdir(tmp_path)
    despeckle(DespeckleConfig.make(stack=stack.folder.name, output="out", method="boxcar"))
    monkeypatch.chdir(stack.folder)
    replay = DespeckleConfig.read(tmp_path / "out" / "run.yaml", output=str(tmp_path / "again"))
    despeckle(replay)
    assert_same_files(tmp_path / "out", tmp_path / "again")


def test_a_time_made_from_a_running_number_is_not_written_to_tags(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in (1, 2):
        pixels = (0.1 * rng.gamma(4.4, 1 / 4.4, (40, 50))).astype(np.float32)
        write_tif(tmp_path / f"site_{number}_vv.tif", pixels)
    config = DespeckleConfig.make(
        stack=str(tmp_path), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    with pytest.warns(SarstackWarning, match="no date"):
        outcome = despeckle(config)
    assert len(outcome.outputs) == 2
    with rasterio.open(outcome.outputs[0]) as raster:
        assert "ACQUISITION_DATETIME" not in raster.tags()
    assert not (tmp_path / "out" / "stac").exists()


def test_an_output_folder_with_input_images_is_refused(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(n_dates=2)
    with pytest.raises(UsageError, match="has images of the stack"):
        despeckle(config_for(stack, stack.folder))
    with pytest.raises(UsageError, match="has images of the stack"):
        despeckle(DespeckleConfig.make(stack=str(stack.files[0]), output=str(stack.folder)))
    assert not list(stack.folder.glob("*lee-sigma*"))
    monkeypatch.chdir(stack.folder)
    config = DespeckleConfig.make(stack=".", method="boxcar", polarisations=["vv"])
    assert despeckle(config).folder == stack.folder / "stack-despeckled"


def test_a_failed_tile_fails_its_image_only(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack()
    real = module.tasks.despeckle_tile

    def unlucky(despeckler, raster, *rest):
        if raster.stem == stack.files[2].stem:
            raise OSError("the disk has a hole")
        return real(despeckler, raster, *rest)

    monkeypatch.setattr(module.tasks, "despeckle_tile", unlucky)
    outcome = despeckle(config_for(stack, tmp_path / "out"))
    assert list(outcome.failures.values()) == ["the disk has a hole"]
    assert len(outcome.outputs) == len(stack.files) - 1


def test_an_unreachable_cluster_is_refused_before_any_work(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sarstack.cluster.connection.CONNECT_S", 2)
    stack = make_stack()
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9 "):
        despeckle(config_for(stack, tmp_path / "out", cluster="tcp://127.0.0.1:9"))
    with pytest.raises(ClusterError, match="scheduler file does not exist"):
        despeckle(config_for(stack, tmp_path / "out", cluster="nowhere.json"))
    with pytest.raises(ClusterError, match="'nonsense' is no address of a scheduler"):
        despeckle(config_for(stack, tmp_path / "out", cluster="nonsense"))
    assert not list((tmp_path / "out").glob("*.tif"))
    done = despeckle(config_for(stack, tmp_path / "out", looks=3.0))
    assert len(done.outputs) == len(stack.files), (
        "a run that computed no tile does not restrict the settings of the next"
    )


def run_cli(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sarstack", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@contextmanager
def running_cluster(folder: Path, n_workers: int = 2) -> Iterator[tuple[str, list]]:
    """A scheduler and workers in processes of their own, as an operator starts them."""
    port = 20_000 + os.getpid() % 20_000
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    processes = [subprocess.Popen(scheduler, **quiet)]
    processes += [subprocess.Popen(worker, **quiet) for _ in range(n_workers)]
    try:
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def wait_for(condition: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


def n_pieces(output: Path) -> int:
    return sum(1 for p in (output / UNFINISHED_FOLDER).glob("v?/*/*.tif") if p.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lee-sigma", "quegan-yu", "despecknet", "despecknet-mt"])
def test_cluster_processes_give_the_same_bits_as_threads(
    make_stack: MakeStack, tmp_path: Path, method: str
) -> None:
    stack = make_stack(shape=(560, 530), n_dates=2, polarisations=("vv",))
    despeckle(config_for(stack, tmp_path / "threads", method=method, tile_px=512))
    despeckle(config_for(stack, tmp_path / "local", method=method, tile_px=1024, cluster="local"))
    assert_same_files(tmp_path / "threads", tmp_path / "local")


@pytest.mark.slow
def test_killing_a_worker_of_a_running_cluster_changes_nothing(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(shape=(1100, 1100), n_dates=3)
    despeckle(config_for(stack, tmp_path / "whole", tile_px=256))
    output = tmp_path / "killed"
    with running_cluster(tmp_path) as (address, workers):
        run = run_cli(
            "despeckle", stack.folder, "-o", output, "--method", "lee-sigma",
            "--tile-px", 256, "--cluster", address,
        )  # fmt: skip
        wait_for(lambda: n_pieces(output) >= 8)
        workers[0].send_signal(signal.SIGKILL)
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
    assert_same_files(tmp_path / "whole", output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "how"), [("lee-sigma", signal.SIGINT), ("quegan-yu", signal.SIGKILL)]
)
def test_a_killed_run_continues_to_the_same_pixels_and_tags(
    make_stack: MakeStack, tmp_path: Path, method: str, how: signal.Signals
) -> None:
    stack = make_stack(shape=(1100, 1100), n_dates=3)
    whole, output = tmp_path / "whole", tmp_path / "killed"
    despeckle(config_for(stack, whole, method=method, tile_px=256))
    command = ("despeckle", stack.folder, "-o", output, "--method", method, "--tile-px", 256)
    run = run_cli(*command)
    wait_for(lambda: n_pieces(output) >= 12)
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert n_pieces(output) >= 12
    for path in output.glob("*.tif"):
        assert cog_validate(str(path), strict=True)[0], "a file with its final name is complete"
    finished = {path: path.stat().st_mtime_ns for path in output.glob("S1A*.tif")}
    pieces = {p: p.stat().st_mtime_ns for p in (output / UNFINISHED_FOLDER).glob("v?/*/*.tif")}
    seen = watch_pieces(run_cli(*command), pieces)
    assert seen, "finished tiles were there to be kept"
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())
    assert_same_files(whole, output)
    for path in output.glob("S1A*.tif"):
        differing_tags = {"PROCESSING_DATETIME"}
        with rasterio.open(path) as a, rasterio.open(whole / path.name) as b:
            tags_a, tags_b = a.tags(), b.tags()
        assert {k: v for k, v in tags_a.items() if k not in differing_tags} == {
            k: v for k, v in tags_b.items() if k not in differing_tags
        }


def watch_pieces(run: subprocess.Popen[str], pieces: dict[Path, int]) -> set[Path]:
    """Wait for a run; assert that no piece of the killed run is written again."""
    seen = set()
    while run.poll() is None:
        for path, stamp in pieces.items():
            try:
                assert path.stat().st_mtime_ns == stamp, f"{path} was computed again"
                seen.add(path)
            except FileNotFoundError:
                continue
        time.sleep(0.02)
    assert run.returncode == 0, run.communicate()[1]
    return seen


@pytest.mark.slow
def test_resuming_with_other_parameters_of_the_method_is_refused(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(shape=(1100, 1100), n_dates=2)
    output = tmp_path / "out"
    command = ("despeckle", stack.folder, "-o", output, "--method", "lee-sigma", "--tile-px", 256)
    run = run_cli(*command)
    wait_for(lambda: n_pieces(output) >= 4)
    run.kill()
    run.communicate()
    other = run_cli(*command, "--set", "window_px=5")
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 5
    assert "window_px: 9 before, 5 now" in errors
    assert "Traceback" not in errors


def test_every_tag_of_a_result_has_a_row_in_the_conventions(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(n_dates=1)
    outcome = despeckle(config_for(stack, tmp_path / "out", method="lee-sigma"))
    with rasterio.open(outcome.outputs[0]) as image:
        written = set(image.tags()) - {"AREA_OR_POINT", "OVR_RESAMPLING_ALG"}
    unknown = {name for name in written - set(TAGS) if not name.startswith("SPECKLE_")}
    assert not unknown
    assert {"SPECKLE_FILTER", "ENL_BEFORE", "INPUT_FILE"} <= written
