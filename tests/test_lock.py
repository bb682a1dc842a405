"""A folder has one run: who holds its lock, and when a lock is out of date."""

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sarstack.errors import UsageError
from sarstack.workflows import lock as module
from sarstack.workflows.lock import LOCK_FILE, Holder, claim_folder


def write_lock(folder: Path, **other: object) -> Path:
    """Leave the lock file of a process, as a kill does."""
    path = folder / LOCK_FILE
    path.write_text(json.dumps(asdict(replace(Holder.this_process(), **other))))
    return path


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def _without_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as on a disk that has no flock."""
    monkeypatch.setattr(module, "_flock", lambda _handle: False)


def test_a_lock_disappears_at_the_end(tmp_path: Path) -> None:
    with claim_folder(tmp_path):
        holder = json.loads((tmp_path / LOCK_FILE).read_text())
        assert holder["process"] == os.getpid()
        with pytest.raises(UsageError, match="another run writes"), claim_folder(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists(), "a refused run removes nothing"
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_without_system_locks")
def test_without_system_locks_a_running_process_of_this_host_holds_its_lock(
    tmp_path: Path,
) -> None:
    with claim_folder(tmp_path):
        with pytest.raises(UsageError, match=f"process {os.getpid()} on"), claim_folder(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_system_locks", [True, False])
@pytest.mark.parametrize("since", ["2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_the_lock_of_a_dead_process_is_out_of_date_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_system_locks: bool, since: str
) -> None:
    if not has_system_locks:
        monkeypatch.setattr(module, "_flock", lambda _handle: False)
    write_lock(tmp_path, process=dead_process(), since=since)
    with claim_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_restarted_machine_holds_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = replace(Holder.this_process(), machine="this-machine")
    monkeypatch.setattr(Holder, "this_process", lambda: me)
    write_lock(tmp_path, boot="an earlier one")
    with claim_folder(tmp_path):
        pass
    write_lock(tmp_path, boot="an earlier one", machine="")
    with pytest.raises(UsageError, match="another run writes"), claim_folder(tmp_path):
        pass


@pytest.mark.parametrize("process", [1, 2**22 - 1])
def test_the_lock_of_another_host_is_refused_with_the_file_to_delete(
    tmp_path: Path, process: int
) -> None:
    path = write_lock(tmp_path, host="node7", process=process, since="2026-01-02T03:04:05+00:00")
    with pytest.raises(UsageError) as refusal, claim_folder(tmp_path):
        pass
    message = str(refusal.value)
    assert f"process {process} on node7, since 2026-01-02T03:04:05" in message
    assert f"delete {path}" in message
    assert path.exists()
    path.unlink()
    with claim_folder(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", bytes(200)])
def test_a_lock_file_that_was_cut_off_does_not_block(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with claim_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_something_else_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("something else")
    with pytest.raises(UsageError, match="another run"), claim_folder(tmp_path):
        pass
    (tmp_path / LOCK_FILE).unlink()
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(UsageError, match="cannot be locked"), claim_folder(tmp_path):
        pass


def test_a_lock_that_somebody_deleted_and_took_is_left_alone(tmp_path: Path) -> None:
    with claim_folder(tmp_path):
        (tmp_path / LOCK_FILE).unlink()
        other = write_lock(tmp_path, host="node7")
    assert other.exists()


def count_together(folder: Path, counter: Path, n: int) -> None:
    """Add one to a number in a file, under the lock, `n` times."""
    done = 0
    while done < n:
        try:
            with claim_folder(folder):
                counter.write_text(str(int(counter.read_text()) + 1))
                done += 1
        except UsageError:
            continue


@pytest.mark.skipif(os.name == "nt", reason="needs locks of the system")
def test_processes_that_race_for_a_lock_never_hold_it_together(tmp_path: Path) -> None:
    folder, counter = tmp_path / "out", tmp_path / "counter"
    folder.mkdir()
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=count_together, args=(folder, counter, 25)) for _ in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join(60)
    assert [process.exitcode for process in runs] == [0, 0, 0]
    assert counter.read_text() == "75"
