"""Damaged results are found, named and made again; kills lose no record of a result."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from simulated_stack import SimulatedStack, assert_same_files, write_tif
from small_networks import save_small_network

from sarstack.cli.commands import run
from sarstack.errors import DamagedResultsError, ModelCardError, ResumeMismatchError, UsageError
from sarstack.networks.model_file import load_model
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.check import check_results
from sarstack.workflows.despeckle import run as module
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.results import UNFINISHED_FOLDER, hash_file, read_records
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig, LabelsConfig

MakeStack = Callable[..., SimulatedStack]


def config_for(stack: SimulatedStack, output: Path, **settings: object) -> DespeckleConfig:
    return DespeckleConfig.make(
        stack=str(stack.folder), output=str(output), **({"method": "boxcar"} | settings)
    )


def statuses(target: Path) -> dict[str, str]:
    return {finding.path.name: finding.status for finding in check_results(target).findings}


def flip_pixel_bit(path: Path) -> None:
    """Flip one bit in the middle of the first block of the image."""
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        size = int(raster.get_tag_item("BLOCK_SIZE_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 16
    path.write_bytes(content)


def damage_block(path: Path) -> None:
    """Overwrite the first block, so that no version of GDAL can decode it."""
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        size = int(raster.get_tag_item("BLOCK_SIZE_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)


def make_header_only(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(1000)
        file.truncate(size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "bit flip": flip_pixel_bit,
    "header only": make_header_only,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
}
FOUND_WITHOUT_READING_ALL = {"zeros", "truncated", "empty", "longer"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_named_and_made_again(
    make_stack: MakeStack, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    stack = make_stack(n_dates=2, polarisations=("vv",))
    config, output = config_for(stack, tmp_path / "out"), tmp_path / "out"
    victim, other = despeckle(config).outputs
    despeckle(config_for(stack, tmp_path / "whole"))
    assert set(statuses(output).values()) == {"ok"}
    DAMAGES[damage](victim)
    assert statuses(output) == {victim.name: "damaged", other.name: "ok"}
    n_seen = len(plan_despeckle(config).images)
    if damage in FOUND_WITHOUT_READING_ALL:
        assert n_seen == 1
    caplog.clear()
    despeckle(config, verify=True)
    assert any(victim.name in message and "made again" in message for message in caplog.messages)
    assert_same_files(output, tmp_path / "whole")
    assert set(statuses(output).values()) == {"ok"}


def test_a_check_names_what_is_missing_foreign_and_without_checksum(
    make_stack: MakeStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack(n_dates=4, polarisations=("vv",))
    output = tmp_path / "out"
    first, second, third, _ = despeckle(config_for(stack, output)).outputs
    record = json.loads((output / "run.json").read_text())
    record["images"] = [i for i in record["images"] if i["output"] != second.name]
    (output / "run.json").write_text(json.dumps(record))
    first.unlink()
    write_tif(output / "other.tif", np.ones((5, 5), np.float32))
    view = output / f"{third.stem}_db.vrt"
    view.unlink()
    assert statuses(output) == {
        first.name: "missing", second.name: "unrecorded", third.name: "ok",
        "other.tif": "foreign", view.name: "missing",
        f"{stack.files[3].stem}_boxcar.tif": "ok",
    }  # fmt: skip
    capsys.readouterr()
    assert run(["check", str(output)]) == 6
    printed = capsys.readouterr()
    lines = [line.split("\t") for line in printed.out.splitlines()]
    assert {status for status, *_ in lines} == {"ok", "missing", "foreign", "unrecorded"}
    assert all(Path(path).parent == output for _, path, *_ in lines)
    assert f"sarstack despeckle --config {output / 'run.yaml'} --verify" in printed.err
    assert run(["-q", "despeckle", "--config", str(output / "run.yaml"), "--verify"]) == 0
    assert run(["check", str(output)]) == 0


def test_a_result_of_an_older_version_stays_valid(make_stack: MakeStack, tmp_path: Path) -> None:
    """Older versions wrote records without size, checksum and fingerprint."""
    stack = make_stack(n_dates=2, polarisations=("vv",))
    config, output = config_for(stack, tmp_path / "out"), tmp_path / "out"
    results = despeckle(config).outputs
    old = {"images": [{"output": path.name, "valid_px": 7} for path in results]}
    (output / "run.json").write_text(json.dumps(old))
    stamps = [path.stat().st_mtime_ns for path in results]
    despeckle(config, verify=True)
    assert [path.stat().st_mtime_ns for path in results] == stamps
    assert set(statuses(output).values()) == {"unrecorded"}
    damage_block(results[0])
    assert statuses(output)[results[0].name] == "damaged"
    (output / "run.json").write_text("{ damaged")
    assert len(plan_despeckle(config).finished) == 2
    assert len(plan_despeckle(config, verify=True).finished) == 1


def test_records_of_earlier_runs_stay_and_a_kill_loses_none(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(n_dates=3, polarisations=("vv",))
    output = tmp_path / "out"
    first = despeckle(config_for(stack, output, dates="2021-01-01/2021-01-02")).outputs
    monkeypatch.setattr(module, "complete_results", lambda *_, **__: os.kill)
    monkeypatch.setattr(module, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        despeckle(config_for(stack, output))
    monkeypatch.undo()
    (output / "quicklook.png").unlink()
    results = sorted(output.glob("*.tif"))
    assert len(results) == 3
    assert first[0] in results
    known = read_records(output)
    assert {path.name: hash_file(path) for path in results} == {
        name: record["sha256"] for name, record in known.items()
    }
    stamps = [path.stat().st_mtime_ns for path in results]
    despeckle(config_for(stack, output))
    assert [path.stat().st_mtime_ns for path in results] == stamps
    images = json.loads((output / "run.json").read_text())["images"]
    assert [image["output"] for image in images] == [path.name for path in results]
    assert all(image["valid_px"] > 0 and 0.9 < image["mean_ratio"] < 1.1 for image in images)
    assert not (output / UNFINISHED_FOLDER).exists()
    assert (output / "quicklook.png").exists()
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


def test_labels_find_a_damaged_and_a_missing_chunk(
    make_stack: MakeStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack(shape=(300, 290))
    config = LabelsConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "l.zarr"), tile_px=256,
        polarisations=["vv"], quantile=0.95,
    )  # fmt: skip
    store = build_labels(config)
    assert set(statuses(store).values()) == {"ok"}
    damaged = store / "mean" / "c" / "0" / "1" / "0"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    missing = store / "stable" / "c" / "0" / "0" / "1"
    missing.unlink()
    found = {f.path: f.status for f in check_results(store).findings if f.status != "ok"}
    assert found == {damaged: "damaged", missing: "missing"}
    assert run(["check", str(store)]) == 6
    command = capsys.readouterr().err.split("make them again: sarstack ")[1].strip().split()
    assert run(["-q", *command]) == 0
    assert run(["check", str(store)]) == 0


def test_a_damaged_model_is_refused_and_found(tmp_path: Path) -> None:
    model = save_small_network(tmp_path, "despecknet")
    assert statuses(model) == {model.name: "ok"}
    content = bytearray(model.read_bytes())
    content[-100] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelCardError, match="checksum differs"):
        load_model(model)
    with pytest.raises(DamagedResultsError, match="checksum differs"):
        check_results(model).raise_damage()


def test_a_check_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        check_results(tmp_path)
    with pytest.raises(UsageError, match="no results"):
        check_results(tmp_path / "nothing")


def test_a_file_without_a_fingerprint_is_never_taken_for_a_result(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(n_dates=1, polarisations=("vv",))
    name = f"{stack.files[0].stem}_boxcar.tif"
    (tmp_path / "out").mkdir()
    write_tif(tmp_path / "out" / name, np.ones((90, 120), np.float32))
    with pytest.raises(ResumeMismatchError, match="other settings"):
        plan_despeckle(config_for(stack, tmp_path / "out"))


def interrupt_after(n_tiles: int, config: DespeckleConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Despeckle, and stop after some tiles."""
    real, done = module.tasks.despeckle_tile, []

    def interrupted(*arguments: object) -> object:
        if len(done) == n_tiles:
            raise KeyboardInterrupt
        done.append(arguments)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.tasks, "despeckle_tile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            despeckle(config.model_copy(update={"workers": 1}))


def change_pixels(file: Path, *, same_time: bool, earlier: bool = False) -> None:
    """Mirror some rows of three tiles: the size stays, the time only if `same_time`."""
    before = file.stat()
    with rasterio.open(file, "r+") as raster:
        pixels = raster.read(1)
        pixels[200:210] = pixels[200:210, ::-1].copy()
        raster.write(pixels, 1)
    assert file.stat().st_size == before.st_size
    shift_ns = 3_600_000_000_000 if earlier else 0
    if same_time or earlier:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns - shift_ns))


@pytest.fixture
def plain_stack(make_stack: MakeStack) -> SimulatedStack:
    """One uncompressed image of six tiles: new pixels do not change its size."""
    stack = make_stack(shape=(300, 520), n_dates=1, polarisations=("vv",))
    for file in stack.files:
        with rasterio.open(file) as raster:
            pixels = raster.read(1)
        write_tif(file, pixels, compress="none")
    return stack


@pytest.mark.parametrize("earlier", [True, False])
def test_a_run_whose_image_changed_since_the_interruption_is_refused(
    plain_stack: SimulatedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    stack, output = plain_stack, tmp_path / "out"
    config = config_for(stack, output, tile_px=256)
    interrupt_after(3, config, monkeypatch)
    change_pixels(stack.files[0], same_time=False, earlier=earlier)
    with pytest.raises(ResumeMismatchError, match=f"changed: {stack.files[0].name}"):
        despeckle(config)
    despeckle(config, overwrite=True)
    despeckle(config_for(stack, tmp_path / "whole", tile_px=256))
    assert_same_files(output, tmp_path / "whole")


def test_pixels_are_of_one_version_although_size_and_time_are_the_same(
    plain_stack: SimulatedStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stack, output = plain_stack, tmp_path / "out"
    config = config_for(stack, output, tile_px=256)
    interrupt_after(3, config, monkeypatch)
    change_pixels(stack.files[0], same_time=True)
    despeckle(config)
    assert any("changed since the interruption" in text for text in caplog.messages)
    despeckle(config_for(stack, tmp_path / "whole", tile_px=256))
    assert_same_files(output, tmp_path / "whole")


def test_an_image_that_changes_while_it_is_read_fails(
    plain_stack: SimulatedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, output = plain_stack, tmp_path / "out"
    config = config_for(stack, output, tile_px=256, workers=1)
    real, done = module.tasks.despeckle_tile, []

    def changing(*arguments: object) -> object:
        if len(done) == 3:
            change_pixels(stack.files[0], same_time=False)
        done.append(arguments)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.tasks, "despeckle_tile", changing)
        outcome = despeckle(config)
    (reason,) = outcome.failures.values()
    assert "changed" in reason or "another version" in reason
    assert not list(output.glob("*.tif"))
    despeckle(config)
    despeckle(config_for(stack, tmp_path / "whole", tile_px=256))
    assert_same_files(output, tmp_path / "whole")
