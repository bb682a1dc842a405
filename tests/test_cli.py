"""The command line as a user meets it: what it prints, and the code it exits with."""

import dataclasses
import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from simulated_stack import SimulatedStack, assert_same_files

from sarstack.cli.commands import run
from sarstack.errors import EXIT_CODES
from sarstack.readers import index_stack
from sarstack.workflows.info import describe_stack

MakeStack = Callable[..., SimulatedStack]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_whole_job_in_three_commands(
    make_stack: MakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack()
    assert run(["info", str(stack.folder)]) == 0
    table = capsys.readouterr().out
    for word in ("2021-01-13T05:12:34", "EPSG:32631", "VV", "linear", "looks"):
        assert word in table
    assert run(["build-labels", str(stack.folder), "-o", "labels.zarr"]) == 0
    assert capsys.readouterr().out.strip().endswith("labels.zarr")
    assert run(["despeckle", str(stack.folder), "-o", "out", "--method", "lee"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.split()) == len(stack.files), "stdout is the list of results"
    assert "peak memory per worker" in printed.err


def test_info_leaves_out_what_is_damaged_and_shows_the_rest(
    make_stack: MakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack()
    foreign, damaged = stack.files[0], stack.files[-1]
    foreign.write_bytes(b"not a raster")
    content = damaged.read_bytes()
    damaged.write_bytes(content[:600] + b"\xff" * (len(content) - 700) + content[-100:])
    assert run(["info", str(stack.folder)]) == 0
    table = capsys.readouterr().out
    assert f"2 unreadable: {foreign.name}, {damaged.name}" in table
    assert f"{len(stack.files) - 2} images" in table


def test_a_description_tells_which_date_cannot_be_read(make_stack: MakeStack) -> None:
    stack = make_stack()
    indexed = index_stack(stack.folder)
    stack.files[0].unlink()
    lines = describe_stack(indexed).render().splitlines()
    assert [stack.files[0].name in line for line in lines if "unreadable" in line] == [True]


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    make_stack: MakeStack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stack = make_stack()
    before = sorted(tmp_path.rglob("*"))
    assert run(["despeckle", str(stack.folder), "--method", "quegan-yu", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    for word in ("3 (vv, vh), 6 images", "90 x 120", "halo", "to read", "to write", "MB per worker",
                 "about"):  # fmt: skip
        assert word in plan
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_stack_the_folders_sarstack_yaml_is_run(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack()
    settings = {"stack": str(stack.folder), "output": "a", "method": "boxcar", "tile_px": 256}
    Path("sarstack.yaml").write_text(yaml.safe_dump(settings))
    assert run(["-q", "despeckle"]) == 0
    assert run(["-q", "despeckle", "--config", "a/run.yaml", "-o", "b"]) == 0
    assert_same_files(tmp_path / "a", tmp_path / "b")


def test_a_command_without_a_stack_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["despeckle"]) == 2
    assert "sarstack despeckle FOLDER" in capsys.readouterr().err


def test_option_cluster_does_not_take_the_stack_as_its_value(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack()
    seen = []
    monkeypatch.setattr(
        "sarstack.workflows.despeckle.plan.plan_despeckle",
        lambda config, **_: seen.append((config.stack, config.cluster)) or _Plan(config),
    )
    assert run(["despeckle", "--dry-run", "--cluster", str(stack.folder)]) == 0
    assert run(["despeckle", "--dry-run", str(stack.folder), "--cluster"]) == 0
    assert run(["despeckle", "--dry-run", str(stack.folder), "--cluster", "tcp://h:1"]) == 0
    assert seen == [
        (str(stack.folder), "local"), (str(stack.folder), "local"), (str(stack.folder), "tcp://h:1"),
    ]  # fmt: skip


@dataclasses.dataclass
class _Plan:
    config: Any

    def check_memory(self) -> None:
        pass

    def render(self) -> str:
        return ""


MISTAKES = [
    (["despeckle", "no-such-folder"], 3, "no-such-folder"),
    (["despeckle", "STACK", "--method", "lees"], 2, "'lees' is not known"),
    (["despeckle", "STACK", "--method", "lee", "--set", "window_px=4"], 2, "window_px"),
    (["despeckle", "STACK", "--method", "lee", "--set", "window=5"], 2, "no parameter window"),
    (["despeckle", "STACK", "--method", "gone.safetensors"], 5, "gone.safetensors"),
    (["despeckle", "STACK", "--tile-px", "300"], 5, "multiple of 256"),
    (["despeckle", "STACK", "--bbox", "1,2,3"], 2, "four numbers"),
    (["despeckle", "STACK", "--pol", "hh"], 2, "hh"),
    (["despeckle", "STACK", "--dates", "2030-01-01/2031-01-01"], 2, "date"),
    (["despeckle", "STACK", "--scale", "db"], 4, "db"),
    (
        ["despeckle", "STACK", "--method", "lee", "--dry-run", "--workers", "100000"],
        8,
        "do this: --workers",
    ),
    (
        ["despeckle", "STACK", "--method", "lee", "--cluster", "--workers", "100000"],
        8,
        "do this: --workers",
    ),
    (["despeckle", "--config", "none.yaml"], 5, "none.yaml"),
    (["train", "STACK", "--labels", "none.zarr"], 2, "build-labels"),
    (["train", "STACK"], 5, "labels"),
    (["finetune", "STACK", "-o", "model.pt"], 2, ".safetensors"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES)
def test_a_mistake_of_the_user_gives_an_error_without_traceback(
    make_stack: MakeStack,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    stack = make_stack()
    arguments = [str(stack.folder) if a == "STACK" else a for a in arguments]
    assert run(arguments) == code
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert code in EXIT_CODES


def test_missing_dates_have_an_exit_code_of_their_own(
    make_stack: MakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack()
    stack.files[1].write_text("not an image")
    assert run(["despeckle", str(stack.folder), "-o", "out", "--method", "lee"]) == 6
    printed = capsys.readouterr()
    assert stack.files[1].name in printed.err
    assert len(printed.out.split()) == len(stack.files) - 1


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("info", "build-labels", "train", "finetune", "despeckle"):
        assert run([command, "--help"]) == 0
        printed = capsys.readouterr().out
        assert f"sarstack {command} stack/" in printed
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(meaning[:40] in printed for meaning in EXIT_CODES.values())


def test_help_and_import_load_nothing_heavy() -> None:
    code = (
        "import sys, sarstack, sarstack.cli.commands; sarstack.cli.commands.run(['--help']); "
        "heavy = {'xarray', 'dask', 'numpy', 'pandas', 'torch', 'rasterio', 'pydantic', 'yaml'}; "
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().endswith("loaded: []")


@pytest.mark.parametrize("imports", ["sarstack, xarray as xr", "xarray as xr, sarstack"])
def test_the_accessor_is_there_in_either_order_of_imports(imports: str) -> None:
    code = f"import {imports}; print(xr.Dataset().despeck, xr.DataArray(1).despeck)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_methods_and_versions_list_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods"]) == 0
    assert "lee-sigma" in capsys.readouterr().out
    assert run(["versions"]) == 0
    assert "GDAL" in capsys.readouterr().out


def test_the_log_follows_a_stderr_that_was_replaced_and_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", io.StringIO())
        assert run(["-v", "methods"]) == 0
        sys.stderr.close()
    logging.getLogger("sarstack").warning("after it was closed")
    assert capsys.readouterr().err == "after it was closed\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["despeckle", "stack", "--quiet"], "--quiet must stand before the name"),
        (["--json", "despeckle", "stack"], "--json must stand after the name"),
        (["despeckle", "stack", "--verif"], "Did you mean"),
    ],
)
def test_an_option_on_the_wrong_side_of_the_command_is_told_so(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert expected in capsys.readouterr().err
