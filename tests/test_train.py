"""Training and tuning on a stack: targets without the input date, no model worse than before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulated_stack import SimulatedStack, read_tif
from small_networks import save_small_network

from sarstack.errors import ResumeMismatchError, StackError, UsageError
from sarstack.labels.statistics import multilook
from sarstack.networks.model_file import load_model, read_card
from sarstack.readers import index_stack
from sarstack.speckle.statistics import SceneStatistics
from sarstack.training.stack_patches import Labels, StackPatches, split_places
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.learning.train import train_on_stack
from sarstack.workflows.settings import FinetuneConfig, LabelsConfig, TrainConfig

MakeStack = Callable[..., SimulatedStack]


def labels_for(stack: SimulatedStack, folder: Path, **settings: object) -> Path:
    path = folder / "labels.zarr"
    return build_labels(LabelsConfig.make(stack=str(stack.folder), output=str(path), **settings))


def speckle_of(stack: SimulatedStack) -> dict[str, dict[int, SceneStatistics]]:
    known = SceneStatistics(4.4, (0.1, 0.2), 1.0)
    return {p: dict.fromkeys(range(len(stack.files)), known) for p in stack.truth}


@pytest.mark.parametrize("multilook_px", [1, 3])
def test_the_target_is_the_mean_of_the_other_dates(
    make_stack: MakeStack, tmp_path: Path, multilook_px: int
) -> None:
    simulated = make_stack(shape=(64, 64), n_dates=5, polarisations=("vv",))
    path = labels_for(simulated, tmp_path, multilook_px=multilook_px)
    stack = index_stack(str(simulated.folder))
    labels = Labels.open(path, stack)
    training, _ = split_places(stack, labels, 16)
    patches = StackPatches(stack, labels, training, 1, 0, speckle_of(simulated))
    cube = np.stack([multilook(read_tif(f), multilook_px) for f in simulated.files])
    polarisation, window = training[0]
    for date in range(5):
        intensity, target, weight, sensor = (
            part[0].squeeze() for part in patches.read(polarisation, window, [date])
        )
        np.testing.assert_allclose(sensor, [4.4, 0.1, 0.2, 1], rtol=1e-6)
        others = np.delete(cube, date, axis=0)[(slice(None), *window.slices)]
        n = np.isfinite(others).sum(0)
        expected = np.nansum(others.astype(np.float64), 0) / np.where(n, n, np.nan)
        np.testing.assert_allclose(target[weight > 0], expected[weight > 0], rtol=1e-4)
        np.testing.assert_array_equal(intensity, read_tif(simulated.files[date])[window.slices])


def test_batches_repeat_and_validation_places_are_not_trained_on(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    simulated = make_stack(shape=(128, 128), n_dates=4)
    stack = index_stack(str(simulated.folder))
    labels = Labels.open(labels_for(simulated, tmp_path), stack)
    training, validation = split_places(stack, labels, 32)
    assert training
    assert validation
    assert not {window for _, window in training} & {window for _, window in validation}
    patches = StackPatches(stack, labels, training, 3, 7, speckle_of(simulated))
    first, again = patches.batch(11), patches.batch(11)
    for name in ("intensity", "target", "weight", "sensor"):
        a, b = getattr(first, name), getattr(again, name)
        np.testing.assert_array_equal(a, b)
        assert a.shape == ((3, 4) if name == "sensor" else (3, 1, 32, 32))
    assert not np.array_equal(first.intensity, patches.batch(12).intensity)


def test_changing_pixels_have_no_weight(make_stack: MakeStack, tmp_path: Path) -> None:
    simulated = make_stack(shape=(64, 64), n_dates=6, polarisations=("vv",))
    stack = index_stack(str(simulated.folder))
    labels = Labels.open(labels_for(simulated, tmp_path), stack)
    training, _ = split_places(stack, labels, 16)
    batch = StackPatches(stack, labels, training, 8, 0, speckle_of(simulated)).batch(0)
    assert 0.8 < batch.weight.mean() <= 1
    assert np.isfinite(batch.target[batch.weight > 0]).all()


def test_training_writes_a_model_with_a_card_and_a_curve(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    simulated = make_stack(shape=(96, 96), n_dates=4)
    labels = labels_for(simulated, tmp_path)
    config = TrainConfig.make(
        stack=str(simulated.folder), labels=str(labels), output=str(tmp_path / "m.safetensors"),
        start=str(save_small_network(tmp_path, "despecknet")), steps=20, batch_size=2, patch_px=32,
    )  # fmt: skip
    adapted = train_on_stack(config)
    card = read_card(adapted.model)
    assert card.variant == "despecknet"
    assert "dB" in adapted.message
    folder = tmp_path / "m.training"
    assert {"curve.csv", "curve.png"} <= {p.name for p in folder.iterdir()}
    if adapted.improved:
        assert card.polarisations == ("vv", "vh")
        assert 3 < card.looks[0] < 6
    else:
        _same_weights(adapted.model, tmp_path / "small.safetensors")
    stamp = adapted.model.stat().st_mtime_ns
    again = train_on_stack(config)
    assert (again.message, again.improved) == (adapted.message, adapted.improved)
    assert again.model.stat().st_mtime_ns == stamp, "finished by the same command: success"
    with pytest.raises(ResumeMismatchError, match="exists already"):
        train_on_stack(config.model_copy(update={"steps": 10}))


def test_a_checkpoint_of_another_stack_is_not_resumed(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_stack(shape=(96, 96), n_dates=4, name=name) for name in ("one", "two"))
    labels = labels_for(first, tmp_path)
    settings = {
        "labels": str(labels), "output": str(tmp_path / "m.safetensors"), "steps": 20,
        "batch_size": 2, "patch_px": 32, "start": str(save_small_network(tmp_path, "despecknet")),
    }  # fmt: skip

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sarstack.workflows.learning.job.save_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_on_stack(TrainConfig.make(stack=str(first.folder), **settings))
    assert (tmp_path / "m.training" / "checkpoint.safetensors").exists()
    other = TrainConfig.make(stack=str(second.folder), **settings)
    with pytest.raises(ResumeMismatchError, match="other images"):
        train_on_stack(other)
    train_on_stack(other, overwrite=True)
    assert not (tmp_path / "m.training" / "checkpoint.safetensors").exists()


def _same_weights(first: Path, second: Path) -> None:
    a, b = (load_model(path)[0].state_dict() for path in (first, second))
    assert all(np.array_equal(a[key].numpy(), b[key].numpy()) for key in b)


@pytest.mark.parametrize(("n_dates", "mode"), [(3, "auto"), (4, "auto"), (4, "paper")])
def test_tuning_keeps_the_initial_weights_unless_a_score_improves(
    make_stack: MakeStack, tmp_path: Path, n_dates: int, mode: str
) -> None:
    simulated = make_stack(shape=(128, 128), n_dates=n_dates)
    start = save_small_network(tmp_path, "despecknet")
    config = FinetuneConfig.make(
        stack=str(simulated.folder), output=str(tmp_path / "t.safetensors"), model=str(start),
        steps=20, batch_size=4, learning_rate=1e-3, mode=mode,
    )  # fmt: skip
    adapted = finetune_on_stack(config)
    noise2noise = (n_dates, mode) == (4, "auto")
    assert ("other dates" in adapted.message) == noise2noise
    score = "spread" if noise2noise else "distance"
    assert score in adapted.history[0]
    if adapted.improved:
        assert adapted.history[0][score] > min(row[score] for row in adapted.history)
        chosen = "noise2noise" if noise2noise else "paper"
        assert read_card(adapted.model).data.startswith(f"tuned ({chosen}) on {n_dates} dates of")
    else:
        _same_weights(adapted.model, start)


def test_dates_of_a_place_are_far_apart(make_stack: MakeStack) -> None:
    simulated = make_stack(shape=(64, 64), n_dates=8, polarisations=("vv",))
    stack = index_stack(str(simulated.folder))
    training, _ = split_places(stack, None, 32)
    patches = StackPatches(stack, None, training, 8, 0, speckle_of(simulated), n_dates=4)
    drawn: list[list[int]] = []
    read = StackPatches.read

    def watch(self: StackPatches, polarisation: str, window: object, dates: list[int]) -> object:
        drawn.append(sorted(dates))
        return read(self, polarisation, window, dates)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StackPatches, "read", watch)
        batch = patches.batch(0)
    assert batch.intensity.shape == (8, 1, 32, 32)
    assert len(drawn) == 2
    assert all(np.diff(dates).min() == 2 for dates in drawn)


@pytest.mark.parametrize(
    ("variant", "n_dates", "mode", "message"),
    [
        ("despecknet", 3, "noise2noise", "3 dates"),
        ("despecknet-paper", 4, "noise2noise", "log intensity"),
        ("despecknet-mt", 4, "auto", "despecknet-lite"),
    ],
)
def test_modes_that_do_not_fit_are_refused(
    make_stack: MakeStack, tmp_path: Path, variant: str, n_dates: int, mode: str, message: str
) -> None:
    simulated = make_stack(shape=(64, 64), n_dates=n_dates, polarisations=("vv",))
    config = FinetuneConfig.make(
        stack=str(simulated.folder), output=str(tmp_path / "t.safetensors"), mode=mode,
        model=str(save_small_network(tmp_path, variant)),
    )  # fmt: skip
    with pytest.raises(UsageError, match=message):
        finetune_on_stack(config)
    assert not (tmp_path / "t.safetensors").exists()


def test_a_network_with_other_dates_as_input_is_not_trained_on_a_stack(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    simulated = make_stack(shape=(64, 64), n_dates=4, polarisations=("vv",))
    config = TrainConfig.make(
        stack=str(simulated.folder), labels=str(labels_for(simulated, tmp_path)),
        output=str(tmp_path / "m.safetensors"),
        start=str(save_small_network(tmp_path, "despecknet-mt")),
    )  # fmt: skip
    with pytest.raises(UsageError, match="input contains the other dates") as refused:
        train_on_stack(config)
    assert refused.value.where == [config.start]
    assert not (tmp_path / "m.training").exists()


def test_labels_of_another_stack_are_refused(make_stack: MakeStack, tmp_path: Path) -> None:
    labels = labels_for(make_stack(shape=(64, 64), name="one"), tmp_path)
    other = index_stack(str(make_stack(shape=(64, 70), name="two").folder))
    with pytest.raises(StackError, match="64 x 64"):
        Labels.open(labels, other)
    with pytest.raises(UsageError, match="build-labels"):
        Labels.open(tmp_path / "none.zarr", other)
    few = index_stack(str(make_stack(shape=(64, 64), n_dates=2, name="few").folder))
    with pytest.raises(UsageError, match="2 dates"):
        split_places(few, Labels.open(labels, few), 16)
