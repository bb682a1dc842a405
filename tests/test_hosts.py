"""Runs on several hosts: network namespaces of this machine, see `network_of_hosts`."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_of_hosts import Network, environment, find_obstacle, python_program
from simulated_stack import SimulatedStack, assert_same_files, read_tif
from small_networks import save_small_network
from test_data_parallel import assert_same_curve

from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.learning.train import train_on_stack
from sarstack.workflows.settings import (
    DespeckleConfig,
    FinetuneConfig,
    LabelsConfig,
    LearningConfig,
    TrainConfig,
)

OBSTACLE = find_obstacle()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE)]
MakeStack = Callable[..., SimulatedStack]

SCHEDULER, FIRST, SECOND, CLIENT = 1, 2, 3, 4
"""Numbers of the hosts."""

SLOW_METHOD = """
import time
from sarstack.despecklers import Despeckler

class Slow(Despeckler):
    name, halo = "slow", 0

    def despeckle(self, intensity, statistics, summary=None):
        time.sleep(0.5)
        return intensity
"""


@dataclass(frozen=True)
class Hosts:
    """A scheduler and two workers, each on a host of its own; the programs start on a fourth."""

    network: Network
    workers: dict[int, subprocess.Popen[Any]]
    folder: Path

    @property
    def cluster(self) -> str:
        """Address of the scheduler."""
        return f"tcp://{self.network.address(SCHEDULER)}:8786"

    def run(self, *arguments: object) -> Any:
        """Run the command line on the host of the client."""
        command = python_program("sarstack", *map(str, arguments), "--cluster", self.cluster)
        return self.network.run(CLIENT, command, env=environment(), timeout=300)

    def start_slow_run(self, stack: Path, output: Path, cluster: str) -> subprocess.Popen[Any]:
        """Start a run of many slow tiles, and return when some are finished."""
        method = output.with_name("slow.py")
        method.write_text(SLOW_METHOD, encoding="utf-8")
        command = python_program(
            "sarstack", "despeckle", str(stack), "-o", str(output), "--method", f"{method}:Slow",
            "--cluster", cluster, "--keep-bits", "23",
        )  # fmt: skip
        # A lost connection is noticed after this time without an answer, 30 s by default.
        env = environment(DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP="12s")
        run = self.network.start(
            CLIENT, command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not list(output.glob("*.tif")):
            assert run.poll() is None, run.stdout.read()
            time.sleep(0.05)
        return run


def start_scheduler(network: Network, log: Path, port: int = 8786) -> subprocess.Popen[Any]:
    arguments = ["--host", network.address(SCHEDULER), "--port", str(port), "--no-dashboard"]
    program = python_program("distributed.cli.dask_scheduler", *arguments)
    with log.open("w") as file:
        return network.start(SCHEDULER, program, env=environment(), stdout=file, stderr=file)


def start_worker(
    network: Network, host: int, folder: Path, port: int = 8786
) -> subprocess.Popen[Any]:
    program = python_program(
        "distributed.cli.dask_worker", f"tcp://{network.address(SCHEDULER)}:{port}",
        "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(folder),
    )  # fmt: skip
    with (folder / f"worker-{host}-{port}.txt").open("w") as file:
        return network.start(host, program, env=environment(), stdout=file, stderr=file)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder, network = tmp_path_factory.mktemp("hosts"), Network(4)
    try:
        start_scheduler(network, folder / "scheduler.txt")
        workers = {host: start_worker(network, host, folder) for host in (FIRST, SECOND)}
        names = [f"{network.address(host)}:" for host in workers]
        while not all(name in (folder / "scheduler.txt").read_text() for name in names):
            assert all(worker.poll() is None for worker in workers.values())
            time.sleep(0.1)
        yield Hosts(network, workers, folder)
    finally:
        network.close()


def assert_curve_on_hosts(command: str, config: LearningConfig, folder: Path, hosts: Hosts) -> None:
    """Train b on the hosts; its curve is that of a, which one process trained before."""
    settings = folder / "settings.yaml"
    settings.write_text(config.to_yaml())
    done = hosts.run(command, "--config", settings)
    assert done.returncode == 0, done.stderr
    assert_same_curve(folder / "b.training", folder / "a.training")


def test_training_on_three_hosts_has_the_loss_curve_of_one_process(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(shape=(96, 96), n_dates=4)
    labels = build_labels(
        LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "labels.zarr"))
    )
    settings = {
        "stack": str(stack.folder), "labels": str(labels), "steps": 8, "batch_size": 4,
        "start": str(save_small_network(tmp_path, "despecknet")), "patch_px": 32,
        "precision": "float32",
    }  # fmt: skip
    alone = TrainConfig.make(**settings, output=str(tmp_path / "a.safetensors"), workers=1)
    train_on_stack(alone)
    config = TrainConfig.make(**settings, output=str(tmp_path / "b.safetensors"))
    assert_curve_on_hosts("train", config, tmp_path, hosts)


def test_tuning_on_three_hosts_has_the_curve_of_one_process(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(shape=(128, 128), n_dates=4)
    settings = {
        "stack": str(stack.folder), "model": str(save_small_network(tmp_path, "despecknet")),
        "steps": 8, "batch_size": 8, "patch_px": 32, "precision": "float32",
    }  # fmt: skip
    alone = FinetuneConfig.make(**settings, output=str(tmp_path / "a.safetensors"), workers=1)
    finetune_on_stack(alone)
    config = FinetuneConfig.make(**settings, output=str(tmp_path / "b.safetensors"))
    assert_curve_on_hosts("finetune", config, tmp_path, hosts)


def test_three_hosts_give_the_bits_of_one_process(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(shape=(300, 300), n_dates=2)
    config = DespeckleConfig.make(
        stack=str(stack.folder), method="lee-sigma", output=str(tmp_path / "a")
    )
    despeckle(config)
    done = hosts.run("despeckle", stack.folder, "--method", "lee-sigma", "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / "a", tmp_path / "b")


def write_other_version(file: Path, other: Path) -> Path:
    """Copy a file with one other pixel: same size and header, later time."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    later = file.stat().st_mtime + 60
    os.utime(other, (later, later))
    return other


def test_a_worker_whose_input_differs_is_refused_before_work(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(n_dates=4)
    file, worker = stack.files[-1], hosts.workers[SECOND]
    hosts.network.replace(worker, file, write_other_version(file, tmp_path / "other.tif"))
    try:
        for command in (
            ["despeckle", stack.folder, "--method", "boxcar", "-o", tmp_path / "out"],
            ["build-labels", stack.folder, "-o", tmp_path / "labels.zarr"],
            ["finetune", stack.folder, "-o", tmp_path / "tuned.safetensors"],
        ):
            done = hosts.run(*command)
            assert done.returncode == 7, done.stderr
            assert "1 of 2 workers cannot be used" in done.stderr
            assert f"tcp://{hosts.network.address(SECOND)}:" in done.stderr
            assert f"sees another version of {file}" in done.stderr
    finally:
        hosts.network.restore(worker, file)
    assert not list(tmp_path.glob("out/*.tif"))
    assert not (tmp_path / "labels.zarr").exists()
    assert not (tmp_path / "tuned.safetensors").exists()
    # The same commands work as soon as all see the same file, and leave no token.
    done = hosts.run("despeckle", stack.folder, "--method", "boxcar", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob(".sarstack*"))


def test_an_output_folder_on_another_disk_is_found_before_work(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(n_dates=2)
    output, other = tmp_path / "out", tmp_path / "other"
    for folder in (output, other):
        (folder / ".sarstack-unfinished").mkdir(parents=True)
    command = ["despeckle", stack.folder, "--method", "boxcar", "-o", output]
    hosts.network.replace(hosts.workers[SECOND], output, other)
    try:
        done = hosts.run(*command)
    finally:
        hosts.network.restore(hosts.workers[SECOND], output)
    assert done.returncode == 7, done.stderr
    assert f"{hosts.network.address(SECOND)}:" in done.stderr
    assert "sees another folder under the name" in done.stderr or "does not see" in done.stderr
    assert not list(output.glob("*.tif"))
    assert not list(other.glob("*.tif"))
    assert hosts.run(*command).returncode == 0


def test_a_lost_scheduler_is_reported_and_the_run_continues_later(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(n_dates=10, polarisations=("vv",))
    scheduler = start_scheduler(hosts.network, tmp_path / "scheduler.txt", port=8799)
    worker = start_worker(hosts.network, FIRST, tmp_path, port=8799)
    cluster = f"tcp://{hosts.network.address(SCHEDULER)}:8799"
    run = hosts.start_slow_run(stack.folder, tmp_path / "out", cluster)
    hosts.network.stop(scheduler)
    printed, _ = run.communicate(timeout=300)
    hosts.network.stop(worker)
    assert run.returncode == 7, printed
    assert_loss_is_reported(printed, cluster)
    finish_in_one_process(stack, tmp_path)


def test_a_client_that_is_cut_off_says_so_and_the_run_continues_later(
    make_stack: MakeStack, tmp_path: Path, hosts: Hosts
) -> None:
    stack = make_stack(n_dates=12, polarisations=("vv",))
    run = hosts.start_slow_run(stack.folder, tmp_path / "out", hosts.cluster)
    hosts.network.cut(CLIENT)
    try:
        printed, _ = run.communicate(timeout=300)
    finally:
        hosts.network.repair(CLIENT)
    assert run.returncode == 7, printed
    assert_loss_is_reported(printed, hosts.cluster)
    finish_in_one_process(stack, tmp_path)


def assert_loss_is_reported(printed: str, cluster: str) -> None:
    assert f"error: the connection to the scheduler {cluster} was lost" in printed
    for part in ("expected: ", "where: ", "do this: ", "run the same command again"):
        assert part in printed
    for noise in ("Traceback", "Exception ignored", "distributed."):
        assert noise not in printed


def finish_in_one_process(stack: SimulatedStack, folder: Path) -> None:
    """Continue an interrupted run of the slow method, which returns its input."""
    config = DespeckleConfig.make(
        stack=str(stack.folder),
        method=f"{folder / 'slow.py'}:Slow",
        output=str(folder / "out"),
        keep_bits=23,
    )
    assert len(despeckle(config).outputs) == len(stack.files)
    for file in stack.files:
        result = read_tif(folder / "out" / f"{file.stem}_slow.tif")
        np.testing.assert_array_equal(result, read_tif(file))
