"""Several processes train like one, and all end if one fails."""

import copy
import csv
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.testing import assert_allclose
from simulated_stack import SimulatedStack
from small_networks import save_small_network, small_network

from sarstack.cluster.workers import open_workers
from sarstack.errors import ClusterError, UsageError
from sarstack.networks.model_file import load_model
from sarstack.networks.network import DeSpeckNet
from sarstack.training.batch import Batch
from sarstack.training.checkpoint import CHECKPOINT, last_step, load_best_weights
from sarstack.training.distributed import SINGLE_PROCESS, ProcessGroup
from sarstack.training.ratio import despeckle_batches
from sarstack.training.supervised import TrainingSettings, train
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.learning.ranks import run_ranks
from sarstack.workflows.learning.train import train_on_stack
from sarstack.workflows.settings import FinetuneConfig, LabelsConfig, TrainConfig

MakeStack = Callable[..., SimulatedStack]
SETTINGS = TrainingSettings(
    steps=24, warmup_steps=4, decay_steps=12, validate_every=6, checkpoint_every=6, tv=0.01
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True)
class UnevenPatches:
    """Patches of very different weight, for which a mean of the processes' means would be wrong."""

    shard: slice

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([step, 9])
        clean = np.exp(rng.normal(0, 0.5, (6, 1, 1, 1))) * np.ones((6, 1, 16, 16))
        noisy = clean * rng.gamma(4, 1 / 4, clean.shape)
        weight = rng.random(clean.shape) < np.array([1, 0.01, 0.9, 0.1, 0.5, 0])[:, *[None] * 3]
        parts = (part.astype(np.float32)[self.shard] for part in (noisy, clean, weight))
        return Batch(*parts)


START = small_network()
VALIDATION = [UnevenPatches(slice(None)).batch(1000 + i) for i in range(3)]


def run_together(n: int, function: Callable[[ProcessGroup], Any]) -> list[Any]:
    """Run a function in threads, as the processes of a group."""
    barrier, tensors = threading.Barrier(n, timeout=60), [torch.empty(0)] * n

    def run(rank: int) -> Any:
        def all_reduce(flat: torch.Tensor) -> None:
            tensors[rank] = flat.clone()
            barrier.wait()
            flat.copy_(torch.stack(tensors).sum(dim=0))
            barrier.wait()

        try:
            return function(ProcessGroup(rank, n, all_reduce))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(run, range(n)))


def train_small(group: ProcessGroup, folder: Path, stop_at: int = 0) -> tuple[DeSpeckNet, Any]:
    network = copy.deepcopy(START)

    def stop(progress: Any) -> None:
        if progress.step == stop_at:
            raise InterruptedError

    try:
        result = train(
            network, UnevenPatches(group.shard), VALIDATION[group.shard], SETTINGS, folder,
            group=group, progress=stop,
        )  # fmt: skip
    except InterruptedError:
        return network, None
    return network, result


def assert_same_training(found: tuple[DeSpeckNet, Any], expected: tuple[DeSpeckNet, Any]) -> None:
    for mine, other in zip(found[1].history, expected[1].history, strict=True):
        for key in ("step", "validation_loss", "rmse_db"):
            assert mine[key] == pytest.approx(other[key], rel=1e-4)
    weights = expected[0].state_dict()
    for key, value in found[0].state_dict().items():
        assert_allclose(value, weights[key], atol=2e-4, err_msg=key)


@pytest.mark.parametrize("n", [2, 3])
def test_several_processes_train_like_one(tmp_path: Path, n: int) -> None:
    alone = train_small(SINGLE_PROCESS, tmp_path / "alone")
    ranks = run_together(n, lambda group: train_small(group, tmp_path / "ranks"))
    for found in ranks:
        assert_same_training(found, alone)
        for key, value in found[0].state_dict().items():
            assert torch.equal(value, ranks[0][0].state_dict()[key]), key


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_training_resumes_with_another_number_of_processes(
    tmp_path: Path, first: int, then: int
) -> None:
    whole = train_small(SINGLE_PROCESS, tmp_path / "whole")
    run_together(first, lambda group: train_small(group, tmp_path / "halted", stop_at=14))
    assert last_step(tmp_path / "halted") == 12
    resumed = run_together(then, lambda group: train_small(group, tmp_path / "halted"))
    assert_same_training(resumed[0], whole)


def test_validation_is_sharded_and_decisions_are_those_of_rank_0() -> None:
    network = small_network()
    alone = despeckle_batches(network, VALIDATION, "cpu")
    for found in run_together(
        2, lambda group: despeckle_batches(network, VALIDATION, "cpu", group)
    ):
        for mine, other in zip(found, alone, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert run_together(3, lambda group: group.broadcast(group.rank == 0)) == [True] * 3
    assert run_together(3, lambda group: group.broadcast(group.rank > 0)) == [False] * 3


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    with open_workers("local", 2) as workers:
        workers.client.wait_for_workers(2)
        yield workers.client.scheduler.address


def tuning(stack: SimulatedStack, folder: Path, name: str, **settings: object) -> FinetuneConfig:
    start = save_small_network(folder, "despecknet")
    return FinetuneConfig.make(
        stack=str(stack.folder), output=str(folder / name), model=str(start),
        **{"steps": 20, "batch_size": 12, "learning_rate": 1e-3, "workers": 1} | settings,
    )  # fmt: skip


def read_curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "curve.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_same_curve(first: Path, second: Path, tolerance: float = 1e-5) -> None:
    for mine, other in zip(read_curve(first), read_curve(second), strict=True):
        assert mine == pytest.approx(other, rel=tolerance, nan_ok=True)


# With bfloat16, the gradients of both shards are rounded before they are summed.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "precision", "tolerance"),
    [
        ("noise2noise", "float32", 1e-5),
        ("paper", "float32", 1e-5),
        ("noise2noise", "bfloat16", 5e-3),
    ],
)
def test_tuning_on_two_workers_equals_tuning_in_one_process(
    make_stack: MakeStack,
    tmp_path: Path,
    scheduler: str,
    mode: str,
    precision: str,
    tolerance: float,
) -> None:
    stack = make_stack(shape=(128, 128), n_dates=4)
    same = {"mode": mode, "precision": precision}
    alone = finetune_on_stack(tuning(stack, tmp_path, "a.safetensors", **same))
    found = finetune_on_stack(tuning(stack, tmp_path, "b.safetensors", cluster=scheduler, **same))
    assert found.improved == alone.improved
    assert_same_curve(tmp_path / "b.training", tmp_path / "a.training", tolerance)
    expected = load_model(alone.model)[0].state_dict()
    for key, value in load_model(found.model)[0].state_dict().items():
        assert_allclose(value, expected[key], atol=tolerance, err_msg=key)
    assert not (tmp_path / "b.training" / CHECKPOINT).exists()


@pytest.mark.slow
def test_training_on_two_workers_equals_training_in_one_process(
    make_stack: MakeStack, tmp_path: Path, scheduler: str
) -> None:
    stack = make_stack(shape=(96, 96), n_dates=4)
    labels = build_labels(
        LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "labels.zarr"))
    )
    start = save_small_network(tmp_path, "despecknet")
    for name, cluster in (("a", None), ("b", scheduler)):
        config = TrainConfig.make(
            stack=str(stack.folder), labels=str(labels), start=str(start),
            output=str(tmp_path / f"{name}.safetensors"),
            steps=20, batch_size=3, patch_px=32, cluster=cluster, workers=1, precision="float32",
        )  # fmt: skip
        train_on_stack(config)
    assert_same_curve(tmp_path / "b.training", tmp_path / "a.training")


def kill_a_worker(checkpoint: Path) -> None:
    """Kill one of the worker processes as soon as there is a checkpoint."""
    while not checkpoint.exists():
        time.sleep(0.05)
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    workers[-1].kill()


@pytest.mark.slow
def test_a_lost_worker_is_named_and_the_checkpoint_resumes_in_one_process(
    make_stack: MakeStack, tmp_path: Path, scheduler: str
) -> None:
    stack = make_stack(shape=(128, 128), n_dates=4)
    endless = {"steps": 100_000, "learning_rate": 1e-9}
    config = tuning(stack, tmp_path, "t.safetensors", cluster=scheduler, **endless)
    folder = tmp_path / "t.training"
    killer = threading.Thread(target=kill_a_worker, args=(folder / CHECKPOINT,))
    killer.start()
    with pytest.raises(ClusterError, match="1 of 2 workers were lost: tcp://") as caught:
        finetune_on_stack(config)
    killer.join()
    step = last_step(folder)
    assert step >= 10
    assert str(folder / CHECKPOINT) in caught.value.where
    assert f"continues from step {step}" in caught.value.do
    assert load_best_weights(folder)
    entries = {"cluster": None, "steps": step + 10}
    adapted = finetune_on_stack(config.model_copy(update=entries))
    assert [row["step"] for row in adapted.history] == [*range(0, step + 1, 10), step + 10]
    # The other worker still runs, and Dask has replaced the killed one.
    again = tuning(stack, tmp_path, "again.safetensors", cluster=scheduler)
    assert finetune_on_stack(again).model.exists()


def fail_on_one(group: ProcessGroup, _device: str, _report: object, rank: int) -> None:
    if group.rank == rank:
        raise UsageError("this rank cannot", do="try another")
    group.sum_in_place([torch.zeros(3)])


def count(group: ProcessGroup, _device: str, report: Callable[[dict[str, int]], None]) -> int:
    total = torch.tensor([float(group.rank + 1)])
    group.sum_in_place([total])
    report({"total": int(total)})
    return int(total)


@pytest.mark.slow
def test_the_error_of_one_rank_is_raised_and_not_those_it_causes(scheduler: str) -> None:
    with open_workers(scheduler) as workers:
        workers.client.wait_for_workers(2)
        for rank in (0, 1, 0, 0, 1):
            with pytest.raises(UsageError, match="this rank cannot"):
                run_ranks(workers.client, 2, fail_on_one, print, (rank,))
        for n in (2, 1, 2, 2):
            assert run_ranks(workers.client, n, count, print, ()) == (3 if n == 2 else 1)


@pytest.mark.slow
def test_workers_ignore_ctrl_c(scheduler: str) -> None:
    with open_workers(scheduler) as workers:
        handlers = workers.client.run(signal.getsignal, signal.SIGINT)
    assert set(handlers.values()) == {signal.SIG_IGN}


def test_a_cube_is_not_tuned_on_a_cluster(tmp_path: Path) -> None:
    from sarstack.workflows.learning.finetune import finetune_index

    config = FinetuneConfig.make(stack="cube", cluster="local")
    with pytest.raises(UsageError, match="all workers can read"):
        finetune_index(config, None, tmp_path / "m.safetensors")
