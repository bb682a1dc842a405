"""Workers: threads, local processes, a running scheduler."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from sarstack import __version__
from sarstack.cluster.check import TOKEN, Needs, find_difference
from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.layout import GPU_THREADS, Machine, n_cores, plan_layout, visible_gpus
from sarstack.cluster.workers import open_workers
from sarstack.errors import ClusterError, UsageError
from sarstack.readers.versions import FileVersion, hash_content, read_version


def square(x: int) -> int:
    return x * x


def tell_environment() -> tuple[int, str]:
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "none")


@pytest.mark.slow
def test_one_process_per_gpu_sees_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with open_workers("local") as workers:
        assert workers.n_workers == 2 * max(GPU_THREADS, n_cores() // 2)
        assert workers.dashboard.startswith("http")
        jobs = [Task(tell_environment, (), x) for x in range(20)]
        found = {outcome for _, outcome in run_tasks(workers, jobs)}
    assert {card for _, card in found} <= {"2", "5"}
    assert os.getpid() not in {pid for pid, _ in found}


H100 = Machine(n_cores=16, gpus=("0",))


def test_each_gpu_gets_one_process_whose_threads_share_the_cores() -> None:
    two = Machine(16, ("0", "3"))
    for machine, n_workers, n_processes, n_threads, n_computing in (
        (H100, None, 1, 16, 1),
        (two, None, 2, 8, 2),
        (two, 1, 1, 16, 1),
        (H100, 8, 8, GPU_THREADS, 1),  # eight processes share the card and the cores
        (Machine(2, ("0", "1", "2")), None, 3, GPU_THREADS, 3),
        (Machine(16), None, 16, 1, 16),
        (Machine(2), 8, 8, 1, 2),
    ):
        layout = plan_layout(n_workers, machine, in_processes=True)
        assert (layout.n_processes, layout.n_threads) == (n_processes, n_threads), machine
        assert layout.n_computing == n_computing, machine
        assert layout.n_tasks == n_processes * n_threads
        assert layout.n_cells_in_memory == (0 if machine.gpus else 1)


def test_threads_of_one_process_use_one_gpu() -> None:
    on_gpu = plan_layout(None, Machine(16, ("0", "1")), in_processes=False)
    assert (on_gpu.n_processes, on_gpu.n_threads, on_gpu.n_computing) == (1, 16, 1)
    on_cores = plan_layout(6, Machine(4), in_processes=False)
    assert (on_cores.n_tasks, on_cores.n_computing, on_cores.n_cells_in_memory) == (6, 4, 4)


def test_layouts_are_described_in_words() -> None:
    assert plan_layout(None, H100, in_processes=True).describe() == "1 worker of 16 threads, 1 GPU"
    assert plan_layout(3, Machine(4), in_processes=True).describe() == "3 workers"
    assert plan_layout(3, Machine(4), in_processes=False).describe() == "3 threads in one process"


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [("", []), ("-1", []), ("2, 5", ["2", "5"]), ("0,-1,1", ["0"]), ("GPU-8f3a", ["GPU-8f3a"])],
)
def test_gpus_are_listed_as_cuda_reads_them(
    monkeypatch: pytest.MonkeyPatch, listed: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == gpus


def test_cores_respect_the_affinity_of_the_process() -> None:
    assert n_cores() == len(os.sched_getaffinity(0))


def test_more_local_processes_than_a_machine_can_run_are_refused() -> None:
    with pytest.raises(UsageError, match="workers = 5000"), open_workers("local", 5000):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"id": "Scheduler"})])
def test_a_scheduler_file_without_an_address_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(text)
    with pytest.raises(ClusterError, match="has no address"), open_workers(str(file)):
        pass


def test_after_a_nonsense_address_python_ends_without_a_message() -> None:
    code = """
from sarstack.cluster.workers import open_workers
try:
    with open_workers("nonsense"):
        pass
except Exception as failure:
    print(type(failure).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ClusterError\n", "")


def needs_of(folder: Path, **changes: object) -> Needs:
    """What a worker needs for one image and one model; the token is written."""
    image, model, token = folder / "image.tif", folder / "m.safetensors", uuid4().hex
    image.write_bytes(bytes(100))
    model.write_bytes(b"weights")
    (folder / TOKEN).write_text(token)
    entries = {
        "version": __version__, "source": None, "token_path": str(folder / TOKEN), "token": token,
        "contents": {str(model): hash_content(str(model))},
        "inputs": {str(image): read_version(str(image))},
    } | changes  # fmt: skip
    return Needs(**entries)


def test_a_worker_with_the_same_files_is_used(tmp_path: Path) -> None:
    assert find_difference(needs_of(tmp_path)) == ""


def test_each_difference_of_a_worker_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sarstack.cluster.check.TOKEN_WAIT_S", 0.0)
    image, model = str(tmp_path / "image.tif"), str(tmp_path / "m.safetensors")
    missing = str(tmp_path / "missing")
    other = FileVersion(100, 7, "0" * 16)
    for changes, problem in (
        ({"version": "0.0.1"}, f"has sarstack {__version__}"),
        ({"token": "of another disk"}, "sees another folder under the name"),
        ({"token_path": f"{missing}/{TOKEN}"}, f"does not see {missing}"),
        ({"contents": {model: "0" * 16}}, f"has another model under the name {model}"),
        ({"contents": {missing: "0" * 16}}, f"does not see {missing}"),
        ({"inputs": {image: other}}, f"sees another version of {image}: 100 bytes"),
        ({"inputs": {image: other, missing: other}}, f"{image} and 1 more"),
        ({"inputs": {missing: other}}, f"does not see {missing}"),
    ):
        assert problem in find_difference(needs_of(tmp_path, **changes))


def test_callbacks_that_meet_a_closed_connection_print_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from distributed import LocalCluster
    from distributed.comm import CommClosedError
    from tornado.ioloop import IOLoop

    def fail(failure: Exception) -> None:
        raise failure

    with (
        LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=":0") as local,
        open_workers(local.scheduler_address),
    ):
        loop = IOLoop(make_current=False)
        loop.add_callback(fail, CommClosedError("closed"))
        loop.add_callback(fail, KeyError("another failure"))
        loop.call_later(0.1, loop.stop)
        loop.start()
        loop.close()
    assert "another failure" in caplog.text
    assert "CommClosedError" not in caplog.text
