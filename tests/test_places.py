"""Things of the wrong kind in the way, for every command: a clear error before work starts."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_stack import SimulatedStack

from sarstack.cli.commands import run

MakeStack = Callable[..., SimulatedStack]


def make_folder(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "of somebody").write_text("keep me")


def make_file(path: Path) -> None:
    path.write_text("keep me")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def make_link_to_folder(path: Path) -> None:
    target = path.parent / "elsewhere"
    make_folder(target)
    path.symlink_to(target)


NOT_A_FILE = [make_folder, make_pipe, make_loop, make_dangling, make_link_to_folder]
NOT_A_FOLDER = [make_file, make_pipe, make_loop, make_dangling]
IMAGE = "S1A_IW_20210101T051234_vv_boxcar"
DESPECKLE_FILES = ["log.txt", "run.yaml", "run.json", "quicklook.png", f"{IMAGE}.tif",
                   f"{IMAGE}_db.vrt"]  # fmt: skip
TRAINING_FILES = ["model.safetensors", "model.training/checkpoint.safetensors",
                  "model.training/curve.csv", "model.training/origin.txt"]  # fmt: skip
COMMANDS = {
    "despeckle": ["despeckle", "{stack}", "-o", "{out}", "--method", "boxcar", "--stac"],
    "labels": ["build-labels", "{stack}", "-o", "{out}/labels.zarr", "--overwrite"],
    "train": ["train", "{stack}", "-o", "{out}/model.safetensors", "--labels", "{out}/l.zarr",
              "--overwrite"],
    "finetune": ["finetune", "{stack}", "-o", "{out}/model.safetensors", "--overwrite"],
}  # fmt: skip
IN_THE_WAY = [
    *(("despeckle", name, make) for name in DESPECKLE_FILES for make in NOT_A_FILE),
    *(("despeckle", name, make) for name in ("stac", "") for make in NOT_A_FOLDER),
    *(("despeckle", ".sarstack-unfinished", make) for make in [*NOT_A_FOLDER, make_link_to_folder]),
    *(("labels", name, make) for name in ("labels.zarr", "labels.zarr.unfinished")
      for make in [*NOT_A_FOLDER, make_link_to_folder]),
    *((command, name, make) for command in ("train", "finetune") for name in TRAINING_FILES
      for make in NOT_A_FILE),
    *((command, "model.training", make) for command in ("train", "finetune")
      for make in NOT_A_FOLDER),
    *((command, "", make) for command in ("labels", "train", "finetune") for make in NOT_A_FOLDER),
]  # fmt: skip


def list_entries(folder: Path) -> set[tuple[str, bytes]]:
    return {
        (str(p), p.read_bytes() if p.is_file() else b"")
        for p in [folder, *folder.rglob("*")]
        if os.path.lexists(p)
    }


@pytest.fixture(autouse=True)
def keep_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line runs in this process, whose handlers of Ctrl-C belong to pytest."""
    monkeypatch.setattr("sarstack.cli.commands._handle_signals", lambda: None)


@pytest.fixture
def stack(make_stack: MakeStack) -> SimulatedStack:
    return make_stack(shape=(40, 50), polarisations=("vv",))


@pytest.mark.parametrize(
    ("command", "name", "make"), IN_THE_WAY, ids=lambda v: getattr(v, "__name__", v or "output")
)
def test_a_name_that_is_taken_is_refused_before_work_and_nothing_changes(
    stack: SimulatedStack, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    command: str, name: str, make: Callable[[Path], None],
) -> None:  # fmt: skip
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    make(place)
    before = list_entries(tmp_path)
    values = {"stack": stack.folder, "out": tmp_path / "out"}
    code = run([argument.format(**values) for argument in COMMANDS[command]])
    message = capsys.readouterr().err
    assert code == 2, message
    assert str(place) in message
    for part in ("error: ", "  expected: ", "  do this: "):
        assert part in message
    assert list_entries(tmp_path) == before


def write_utf_16(path: Path) -> None:
    path.write_text("stack: x\n", encoding="utf-16")


def write_latin_1(path: Path) -> None:
    path.write_bytes("stack: Gebäude\n".encode("latin-1"))


def write_control_characters(path: Path) -> None:
    path.write_bytes(b"stack: \x00\x01\n")


BAD_SETTINGS = [write_utf_16, write_latin_1, write_control_characters, make_pipe, make_loop,
                make_dangling]  # fmt: skip


@pytest.mark.parametrize("command", ["despeckle", "build-labels", "train", "finetune"])
@pytest.mark.parametrize("name", ["run.yaml", "sarstack.yaml"])
@pytest.mark.parametrize("make", BAD_SETTINGS, ids=lambda make: make.__name__)
def test_settings_that_are_no_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None], name: str, command: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    code = run([command] + (["--config", name] if name == "run.yaml" else []))
    message = capsys.readouterr().err
    assert code in (2, 5), message
    assert message.startswith(("error: the settings cannot be read", "error: no STACK was given"))
    assert "do this: " in message


def test_a_byte_order_mark_changes_nothing(
    stack: SimulatedStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "run.yaml"
    text = f"stack: {stack.folder}\nmethod: boxcar\noutput: {tmp_path / 'out'}\n"
    settings.write_text(text, encoding="utf-8-sig")
    assert run(["despeckle", "--config", str(settings), "--dry-run"]) == 0
    assert "boxcar" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["info", "despeckle", "build-labels", "finetune"])
@pytest.mark.parametrize("make", [make_pipe, make_loop, make_dangling], ids=lambda m: m.__name__)
def test_a_stack_that_is_neither_file_nor_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str,
    make: Callable[[Path], None],
) -> None:  # fmt: skip
    place = tmp_path / "stack"
    make(place)
    assert run([command, str(place)]) == 3
    assert "is neither a file nor a folder, or a link to nothing" in capsys.readouterr().err


@pytest.mark.parametrize("make", [make_pipe, make_loop, make_dangling], ids=lambda m: m.__name__)
def test_an_image_that_is_a_broken_link_is_not_left_out_without_a_word(
    stack: SimulatedStack, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
) -> None:  # fmt: skip
    name = "S1A_IW_20210401T051234_vv.tif"
    make(stack.folder / name)
    assert run(["info", str(stack.folder)]) == 0
    assert name in capsys.readouterr().err
    labels = str(tmp_path / "labels.zarr")
    assert run(["build-labels", str(stack.folder), "-o", labels]) == 3
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("make", [make_folder, make_pipe, make_loop, make_dangling, make_file],
                         ids=lambda m: m.__name__)  # fmt: skip
def test_a_model_that_is_no_file_is_refused(
    stack: SimulatedStack, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
) -> None:  # fmt: skip
    model = tmp_path / "in.safetensors"
    make(model)
    for arguments in (
        ["despeckle", str(stack.folder), "-o", str(tmp_path / "out"), "--method", str(model)],
        [
            "finetune",
            str(stack.folder),
            "-o",
            str(tmp_path / "o.safetensors"),
            "--model",
            str(model),
        ],
    ):
        assert run(arguments) == 5
        message = capsys.readouterr().err
        assert "do this: " in message
        assert "unexpected" not in message
