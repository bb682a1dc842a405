"""Training by a schedule: rate, average, resuming, and the recipe that runs it."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import small_network

from sarstack.errors import ConfigError, ResumeMismatchError, UsageError
from sarstack.networks.log_network import centre_log
from sarstack.networks.model_file import load_model, read_card, shipped_model
from sarstack.training.batch import Batch
from sarstack.training.checkpoint import TrainingState
from sarstack.training.device_patches import DevicePatches, Simulation
from sarstack.training.scheduled import ScheduleSettings, compile_branch, train_by_schedule
from sarstack.training.simulated_patches import SimulatedPatches

RECIPE = Path(__file__).parents[1] / "recipes/train_despecknet"
SIMULATION = Simulation(
    seed=2, batch_size=4, patch_px=32, scene_px=64, scenes_per_step=2, n_scenes=8, first_scenes=4,
    landscapes_per_step=0.5, n_landscapes=4, first_landscapes=2, n_sensors=8, map_fraction=0.4,
)  # fmt: skip
SETTINGS = {"learning_rate": 2e-3, "warmup_steps": 2, "average_steps": 4.0, "validate_every": 4,
            "checkpoint_every": 4, "report_every": 2}  # fmt: skip


@pytest.fixture
def validation() -> list[Batch]:
    return [SimulatedPatches(9, 2, 32).batch(0)]


def train(folder: Path, n_steps: int, validation: list[Batch] = (), **changes: object):
    network = small_network()
    settings = ScheduleSettings(steps=n_steps, **SETTINGS | changes)
    patches = DevicePatches(SIMULATION)
    return network, train_by_schedule(network, patches, validation, settings, folder)


def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, validation: list[Batch]
) -> None:
    straight, state = train(tmp_path / "one", 8, validation)

    class Interrupted(DevicePatches):
        def batch(self, step: int):
            if step >= 6:
                raise KeyboardInterrupt
            return super().batch(step)

    settings = ScheduleSettings(steps=8, **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train_by_schedule(
            small_network(), Interrupted(SIMULATION), validation, settings, tmp_path / "two"
        )
    resumed, again = train(tmp_path / "two", 8, validation)
    for name, weights in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights, rtol=1e-5, atol=1e-7)
    assert (
        [row["step"] for row in again.history] == [row["step"] for row in state.history] == [4, 8]
    )
    with pytest.raises(ResumeMismatchError):
        train(tmp_path / "two", 12, validation, learning_rate=1e-3)


def test_training_changes_the_clean_branch_only(tmp_path: Path) -> None:
    start = small_network()
    trained, state = train(tmp_path, 3)
    assert state.step == 3
    assert state.smoothed_loss is not None
    for name, weights in start.state_dict().items():
        same = torch.equal(weights, trained.state_dict()[name])
        assert same == name.startswith("noise."), name


def test_the_rate_follows_a_cosine_over_steps_or_over_time() -> None:
    by_steps = ScheduleSettings(steps=100, learning_rate=1.0, warmup_steps=10)
    rates = [by_steps.rate(TrainingState(step=step)) for step in (0, 50, 100)]
    assert rates == pytest.approx([0.1, 0.5, 0.0])
    by_time = ScheduleSettings(seconds=60.0, learning_rate=1.0, warmup_steps=10)
    assert by_time.rate(TrainingState(step=999, seconds=30)) == pytest.approx(0.5)
    assert by_time.done(TrainingState(step=10**6, seconds=59)) < 1
    assert by_time.done(TrainingState(seconds=61)) == 1


def test_a_training_may_end_after_a_time(tmp_path: Path) -> None:
    _, state = train(tmp_path, 10**6, seconds=1e-3)
    assert 1 <= state.step < 10


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finite"):
        train(tmp_path, 8, learning_rate=1e30)


def test_networks_on_linear_intensity_are_refused(tmp_path: Path) -> None:
    network = small_network("despecknet-paper")
    with pytest.raises(UsageError, match="despecknet-paper"):
        train_by_schedule(network, DevicePatches(SIMULATION), [], ScheduleSettings(), tmp_path)


def test_a_network_is_trained_without_compiler_if_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object):
        raise RuntimeError("no compiler")

    network, batch = small_network(), DevicePatches(SIMULATION).batch(0)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", fail)
    )
    assert not compile_branch(network, batch, bfloat16=False)
    assert batch.predict(network, noise=False).clean.shape == batch.target.shape


def test_only_steps_of_the_training_are_compiled(
    tmp_path: Path, validation: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation has patches of another size, which would be compiled again."""
    shapes = []

    def remember(self: torch.nn.Module) -> None:
        def call(*inputs: object) -> torch.Tensor:
            shapes.append(inputs[0].shape[0])
            return self._call_impl(*inputs)

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", remember)
    network, state = train(tmp_path, 4, validation, compiled=True)
    assert state.history[0]["rmse_db"] > 0
    assert shapes == [SIMULATION.batch_size] * 5, "one call to compile, four steps"
    assert network.clean._compiled_call_impl is None


def test_the_path_without_questions_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, no test of the pixels decides: all take the general path."""
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.gamma(4, 0.1, (2, 1, 64, 48)).astype(np.float32))
    network = small_network()
    with torch.no_grad():
        usual = (*centre_log(image), network(image, noise=False).clean)
        monkeypatch.setattr("sarstack.networks.log_network._is_known", lambda _: False)
        general = (*centre_log(image), network(image, noise=False).clean)
    for one, other in zip(usual, general, strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.syspath_prepend(str(RECIPE))
    return runpy.run_path(str(RECIPE / "schedule.py"))


@pytest.mark.parametrize("path", sorted(RECIPE.glob("schedules/*.yaml")), ids=lambda p: p.stem)
def test_schedules_can_be_read(recipe: dict[str, object], path: Path) -> None:
    schedule = recipe["read_schedule"](path, {"training.steps": 5})
    assert schedule.training.steps == 5
    assert shipped_model(schedule.network).exists()
    assert isinstance(schedule.simulation.map_fraction, float)


def test_mistakes_in_a_schedule_are_named(recipe: dict[str, object]) -> None:
    path = RECIPE / "schedules/smoke.yaml"
    for name, words in (
        ("training.step", "training.step is no setting"),
        ("simulation.patch_px", "patch_px = 'wide' is no int"),
        ("colour", "colour is no setting"),
    ):
        with pytest.raises(SystemExit, match=words):
            recipe["read_schedule"](path, {name: "wide"})


def pack_small(path: Path) -> Path:
    rng, flat = np.random.default_rng(1), np.ones((3, 40, 40))
    arrays = {
        "image_0": rng.integers(-60, 60, (200, 220)).astype(np.int8),
        "noisy": np.log(rng.gamma(4, 0.02, flat.shape)),
        "target": flat * np.log(0.08),
        "weight": flat,
        "detail": flat,
        "sensor": np.array([[4, 0.1, 0.1, 1]] * 3),
    }
    np.savez(path, **arrays)
    return path


@pytest.mark.slow
def test_the_smoke_schedule_trains_and_continues(tmp_path: Path) -> None:
    data = pack_small(tmp_path / "data.npz")
    command = [
        sys.executable, str(RECIPE / "train_on_device.py"), str(tmp_path / "made"),
        "--schedule", str(RECIPE / "schedules/smoke.yaml"), "--data", str(data),
        "--processes", "1", "--threads", "1", "--device", "cpu",
    ]  # fmt: skip
    for n_steps in (8, 12):
        done = subprocess.run(
            [*command, "--set", f"training.steps={n_steps}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"step {n_steps}," in done.stdout
    assert "step 4," not in done.stdout, "the second run continues"
    model = tmp_path / "made/despecknet-lite.safetensors"
    assert "data.npz" in read_card(model).data
    made, shipped = (
        load_model(path)[0].clean.state_dict() for path in (model, shipped_model("despecknet-lite"))
    )
    for name, weights in made.items():
        torch.testing.assert_close(weights, shipped[name], rtol=0.05, atol=0.01)
