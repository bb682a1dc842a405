"""Workers that are forked from a process which has imported their libraries."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import rasterio
from simulated_stack import SimulatedStack, assert_same_files

from sarstack.networks import torch_abilities
from sarstack.networks.torch_abilities import Abilities

MakeStack = Callable[..., SimulatedStack]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


def start_cli(*arguments: object) -> subprocess.Popen[str]:
    """Run the command line in a session of its own, by which all its processes are found."""
    command = [sys.executable, "-m", "sarstack", *map(str, arguments)]
    return subprocess.Popen(command, start_new_session=True, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def list_processes(session: int) -> list[psutil.Process]:
    """List the processes of a session that are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def wait_until_gone(session: int, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while left := list_processes(session):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.05)


def test_another_process_is_asked_once_and_only_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def ask() -> Abilities:
        asked.append(1)
        return Abilities(built_for_cuda=True, has_cuda=True, bfloat16_on_cpu=True)

    monkeypatch.setattr(torch_abilities, "_elsewhere", None)
    torch_abilities.ask_elsewhere(ask)
    own = torch_abilities.look_at_torch()  # imports torch
    assert torch_abilities.find_abilities() == own
    assert not asked
    monkeypatch.delitem(sys.modules, "torch")
    assert torch_abilities.find_abilities() == torch_abilities.find_abilities() == ask()
    assert len(asked) == 2, "once by find_abilities, once here"


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("method", ["despecknet-lite", "lee"])
def test_forked_workers_give_the_same_files_and_end(
    make_stack: MakeStack, tmp_path: Path, method: str
) -> None:
    stack = make_stack(n_dates=2, polarisations=("vv",))
    for name, options in (("threads", []), ("forked", ["--cluster", "--workers", "2"])):
        run = start_cli("-q", "despeckle", stack.folder, "-o", tmp_path / name,
                        "--method", method, *options)  # fmt: skip
        said, errors = run.communicate(timeout=120)
        assert (run.returncode, errors) == (0, "")
        assert said.startswith("2 images in ")
        wait_until_gone(run.pid)
    assert_same_files(tmp_path / "threads", tmp_path / "forked")
    for file in (tmp_path / "threads").glob("*.tif"):
        with rasterio.open(file) as one, rasterio.open(tmp_path / "forked" / file.name) as other:
            mark = one.tags()["SARSTACK_FINGERPRINT"]
            assert mark == other.tags()["SARSTACK_FINGERPRINT"]


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["stack", "output"])
def test_after_an_error_of_the_user_no_process_is_left(
    make_stack: MakeStack, tmp_path: Path, wrong: str
) -> None:
    stack = make_stack(n_dates=1)
    places = {"stack": stack.folder, "output": tmp_path / "out"}
    places |= {"stack": {"stack": tmp_path / "missing"}, "output": {"output": stack.folder}}[wrong]
    outcomes = []
    for options in ([], ["--cluster"]):
        run = start_cli("despeckle", places["stack"], "-o", places["output"], *options)
        outcomes.append((*run.communicate(timeout=60), run.returncode))
        wait_until_gone(run.pid)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1].startswith("error: ")
    assert not (tmp_path / "out").exists()


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_a_command_that_is_killed(
    make_stack: MakeStack, tmp_path: Path, how: signal.Signals
) -> None:
    stack = make_stack(shape=(1100, 1100), n_dates=3)
    run = start_cli("despeckle", stack.folder, "-o", tmp_path / "out", "--method", "lee-sigma",
                    "--tile-px", 256, "--cluster")  # fmt: skip
    while not list((tmp_path / "out").glob(".*/*/*/*.tif")):
        assert run.poll() is None
        time.sleep(0.01)
    commands = [" ".join(process.cmdline()) for process in list_processes(run.pid)]
    assert any("forkserver" in command for command in commands)
    assert not any("spawn_main" in command for command in commands)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does
    else:
        run.send_signal(how)
    _, errors = run.communicate(timeout=60)
    wait_until_gone(run.pid)
    assert "Traceback" not in errors


@linux_only
@pytest.mark.slow
def test_ctrl_c_prints_no_traceback_of_a_process_that_just_started(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(n_dates=1)
    run = start_cli("-q", "despeckle", stack.folder, "-o", tmp_path / "out", "--cluster")
    while len(list_processes(run.pid)) < 3:  # with the fork server and the tracker of its resources
        assert run.poll() is None
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    wait_until_gone(run.pid)
    assert run.returncode == 130
    assert "Traceback" not in errors
