"""`sarstack clean`: what dead runs left goes; finished files and the work of live runs stay."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_stack import SimulatedStack

from sarstack.cli.commands import run
from sarstack.training.checkpoint import CHECKPOINT
from sarstack.workflows.despeckle.results import UNFINISHED_FOLDER
from sarstack.workflows.lock import claim, claim_folder

MakeStack = Callable[..., SimulatedStack]
PART = f".a_lee.tif.{'0123456789abcdef' * 2}.part"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of all files, without the log that every run writes."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("log.txt")]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def results(make_stack: MakeStack, tmp_path: Path) -> Path:
    """Make the results of a run."""
    out = tmp_path / "out"
    stack = make_stack(shape=(60, 70), n_dates=2).folder
    assert run(["-q", "despeckle", str(stack), "-o", str(out), "--method", "lee"]) == 0
    return out


def leave_scratch(folder: Path) -> dict[str, int]:
    """Leave what a killed run leaves, and return the sizes of what should go."""
    pieces = folder / UNFINISHED_FOLDER / "vv" / "0"
    pieces.mkdir(parents=True)
    (pieces / "0-0.tif").write_bytes(b"x" * 1000)
    (folder / PART).write_bytes(b"y" * 10)
    (folder / ".b_lee.tif.pieces").mkdir()
    training = folder / "finetuned.training"
    training.mkdir()
    (training / CHECKPOINT).write_bytes(b"z" * 20)
    (training / "curve.csv").write_text("step\n", encoding="utf-8")
    names = {UNFINISHED_FOLDER: 1000, PART: 10, ".b_lee.tif.pieces": 0}
    return names | {f"finetuned.training/{CHECKPOINT}": 20}


def test_scratch_goes_and_all_else_stays(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(results)
    sizes = leave_scratch(results)
    others = [".a.part", ".notes.pieces", "keep.part", ".hidden"]
    for name in others:  # of other programs
        (results / name).write_text("keep", encoding="utf-8")
    capsys.readouterr()
    assert run(["clean", str(results)]) == 0
    printed = capsys.readouterr()
    expected = {f"{n / 1e6:.1f} MB\t{results / name}" for name, n in sizes.items()}
    assert set(printed.out.splitlines()) == expected
    assert "4 leftovers" in printed.err
    kept = dict.fromkeys(others, b"keep") | {"finetuned.training/curve.csv": b"step\n"}
    assert snapshot(results) == before | kept
    assert run(["check", str(results)]) == 0
    assert run(["clean", str(results)]) == 0  # nothing is left


def test_a_dry_run_removes_nothing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_scratch(results)
    before = snapshot(results)
    assert run(["clean", str(results), "--dry-run"]) == 0
    assert UNFINISHED_FOLDER in capsys.readouterr().out
    assert snapshot(results) == before


@pytest.mark.parametrize("live", [".", "finetuned.training"])
def test_the_work_of_a_live_run_stays(results: Path, live: str) -> None:
    leave_scratch(results)
    with claim_folder(results / live):
        before = snapshot(results)
        assert run(["clean", str(results)]) == 2
        assert snapshot(results) == before


def test_the_records_of_images_that_a_dead_run_finished_are_kept(results: Path) -> None:
    record = json.loads((results / "run.json").read_text(encoding="utf-8"))
    killed = record["images"].pop()
    (results / "run.json").write_text(json.dumps(record), encoding="utf-8")
    folder = results / UNFINISHED_FOLDER / "results"
    folder.mkdir(parents=True)
    (folder / f"{killed['output']}.json").write_text(json.dumps(killed), encoding="utf-8")
    assert run(["clean", str(results)]) == 0
    after = json.loads((results / "run.json").read_text(encoding="utf-8"))
    assert killed in after["images"]


def test_a_run_that_was_cleaned_starts_again(
    make_stack: MakeStack, results: Path, tmp_path: Path
) -> None:
    command = ["-q", "despeckle", str(tmp_path / "stack"), "-o", str(results), "--method", "lee"]
    image = min(results.glob("*_lee.tif"))
    before = image.read_bytes()
    image.unlink()
    leave_scratch(results)
    assert run(["clean", str(results)]) == 0
    assert run(command) == 0
    assert len(image.read_bytes()) == len(before)


def test_unfinished_labels_go_and_finished_ones_stay(tmp_path: Path) -> None:
    store = tmp_path / "labels.zarr"
    names = ("labels.zarr", "labels.zarr.unfinished", ".labels.zarr.replaced", "x.zarr.unfinished")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_text("{}", encoding="utf-8")
    with claim(tmp_path / ".labels.zarr.lock", store):
        assert run(["clean", str(store)]) == 2
    assert run(["clean", str(store)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.zarr", "x.zarr.unfinished"]


def test_labels_of_a_run_killed_while_it_renamed_them_stay(tmp_path: Path) -> None:
    for name in ("labels.zarr.unfinished", ".labels.zarr.replaced"):
        (tmp_path / name).mkdir()
    assert run(["clean", str(tmp_path / "labels.zarr")]) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_the_checkpoint_of_a_dead_training_goes(tmp_path: Path) -> None:
    (tmp_path / "own.training").mkdir()
    (tmp_path / "own.training" / CHECKPOINT).write_text("", encoding="utf-8")
    for name in (".own.safetensors.123.part", "other.safetensors", ".other.safetensors.9.part"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert run(["clean", str(tmp_path / "own.safetensors")]) == 0
    left = sorted(p.name for p in tmp_path.rglob("*"))
    assert left == [".other.safetensors.9.part", "other.safetensors", "own.training"]


def test_a_folder_that_is_not_of_sarstack_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PART).write_text("", encoding="utf-8")
    assert run(["clean", str(tmp_path)]) == 2
    assert "give the folder that -o named" in capsys.readouterr().err
    assert run(["clean", str(tmp_path / "nowhere")]) == 3
    assert (tmp_path / PART).exists()
