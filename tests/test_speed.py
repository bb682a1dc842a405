"""The speed benchmark counts work and compares rates correctly; no test depends on the time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peaks, speed, stages
from benchmarks.report import SpeedTable, render_text
from benchmarks.simulated_stacks import write_stack, write_uncompressed
from benchmarks.timing import (
    BYTES,
    FLOP,
    PX,
    PX_PER_WORKER,
    Cost,
    Reference,
    Row,
    Stage,
    compare,
    measure,
    run_command,
    time_in_threads,
)
from sarstack.cli.commands import run
from sarstack.errors import SarstackError, UsageError
from sarstack.networks.card import DESPECKLING_VARIANTS
from sarstack.networks.model_file import load_model, read_card, shipped_model
from sarstack.networks.two_scale import TwoScaleShape
from sarstack.readers import open_stack


def cost(seconds):
    return Cost(seconds, 2 * seconds, int(1e6 * seconds))


def stage(name, **fields):
    return Stage(name, lambda: cost(1.0), **fields)


@pytest.fixture
def short_peaks(monkeypatch):
    """Peak rates of so little work that they are measured at once and mean nothing."""
    monkeypatch.setattr(peaks, "_MIN_FLOP", {"cpu": 1.0, "cuda": 1.0})
    monkeypatch.setattr(peaks, "COPY_BYTES", 2**16)
    monkeypatch.setattr(peaks, "CONVOLUTIONS", ((4, 16), (8, 8)))
    monkeypatch.setattr(peaks, "MATRIX_SIDE", 16)
    peaks.fastest_convolution.cache_clear()
    yield
    peaks.fastest_convolution.cache_clear()


def test_share_is_the_median_over_rounds_of_the_ratio_of_two_rates():
    peak = stage("peak", work={FLOP: 10.0})
    network = stage("network", work={FLOP: 5.0, PX: 2.0}, references=[Reference("peak", FLOP)])
    # The machine is three times slower in the second round; shares do not change.
    costs = {
        "peak": [cost(1.0), cost(3.0), cost(1.0)],
        "network": [cost(2.0), cost(6.0), cost(4.0)],
    }
    rows = {row.name: row for row in compare([peak, network], costs)}
    assert rows["peak"].rates[FLOP] == 10
    assert rows["network"].shares == {"peak (FLOP/s)": pytest.approx(0.25)}
    assert rows["network"].rates[PX] == pytest.approx(0.5)
    assert rows["network"].seconds == 4
    assert rows["network"].cpu_seconds == 8
    assert rows["network"].range == pytest.approx(1)
    assert rows["network"].rounds == 3
    assert rows["network"].peak_bytes == 6e6


def test_startup_does_not_count_in_rates():
    start = stage("start", work={})
    one = stage("one", work={PX: 8.0, PX_PER_WORKER: 8.0}, startup="start")
    references = [Reference("one", PX_PER_WORKER), Reference("one", PX)]
    two = stage("two", work={PX: 8.0, PX_PER_WORKER: 4.0}, references=references, startup="start")
    costs = {"start": [cost(1.0)], "one": [cost(5.0)], "two": [cost(3.5)]}
    rows = compare([start, one, two], costs)
    assert rows[1].rates[PX] == 2
    assert rows[2].seconds == 3.5
    assert rows[2].shares == {"one (px/worker/s)": pytest.approx(0.8), "one (px/s)": 1.6}
    assert np.isnan(rows[2].range)
    # There is no rate where the startup took longer than the whole stage.
    costs["two"] = [cost(0.5)]
    assert np.isnan(compare([start, one, two], costs)[2].shares["one (px/s)"])


def test_stages_run_in_turn():
    order = []
    made = [Stage(n, lambda n=n: order.append(n) or cost(1.0), {}) for n in "ab"]
    measure(made, 3)
    assert order == list("ababab")


def test_stage_that_fails_is_noted_and_the_others_go_on():
    def fail():
        raise SarstackError("no memory", where="here")

    references = [Reference("bad", PX), Reference("good", PX)]
    good, bad = stage("good", work={PX: 1.0}), Stage("bad", fail, {PX: 1.0})
    both = stage("both", work={PX: 2.0}, references=references)
    rows = measure([good, bad, both, stage("after", work={}, startup="bad")], 2)
    assert [row.rounds for row in rows] == [2, 0, 2, 0]
    assert rows[1].note == "no memory, here"
    assert rows[2].shares == {"good (px/s)": 2.0}


def test_threads_run_once_before_the_first_measurement():
    calls = []
    timed = time_in_threads(calls.append, 2)
    timed()
    assert sorted(calls) == [0, 0, 1, 1]
    timed()
    assert sorted(calls) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("variant", DESPECKLING_VARIANTS)
def test_operations_per_px_agree_with_the_model(variant):
    card = read_card(shipped_model(variant))
    found = stages.operations_per_px(variant)
    if variant in ("despecknet-paper", "sar-cnn"):
        network, _ = load_model(shipped_model(variant))
        expected = 2 * sum(layer.weight.numel() for layer in network.clean.layers)
    elif variant == "speckle2void":
        branch = load_model(shipped_model(variant))[0].clean
        expected = 2 * sum(w.numel() for w in branch.join.parameters() if w.ndim == 4)
        for name, weights in branch.along_y.named_parameters():  # four directions
            if weights.ndim == 4:  # fine grid: pairs of pixels; coarse grid: 4x4 pixels
                cell_px = 16 if name.split(".")[0] in ("down", "body", "up") else 2
                expected += 4 * 2 * weights.numel() / cell_px
    else:
        sizes = dict(card.architecture)
        # n_operations counts two images; each further one is four channels of 2x2 pixels.
        more = 4 * sizes.pop("sums", 1) if variant == "despecknet-mt" else 0
        shape = TwoScaleShape(**sizes)
        expected = 2 * (shape.n_operations + more * 9 * 4 * shape.width // 4)
    assert found == pytest.approx(expected, rel=1e-3)


def test_work_of_networks_includes_operations():
    assert stages.count_work("boxcar", 100) == {PX: 100, BYTES: 400}
    flop = stages.count_work("despecknet", 100)[FLOP]
    assert flop == 100 * stages.operations_per_px("despecknet")


def test_the_simulated_stack_is_readable_and_written_once(tmp_path):
    stack = write_stack(tmp_path, 96, 5)
    cube = open_stack(str(stack))
    assert cube["vv"].shape == (5, 96, 96)
    first = cube["vv"].values
    assert not np.array_equal(first[0], first[1], equal_nan=True)
    np.testing.assert_array_equal(first[0], first[2])
    assert 0 < np.isnan(first).mean() < 0.1
    before = [path.stat().st_mtime_ns for path in sorted(stack.iterdir())]
    assert write_stack(tmp_path, 96, 5) == stack
    assert before == [path.stat().st_mtime_ns for path in sorted(stack.iterdir())]
    reading = peaks.pixel_read_stage(stack, 2, tile_px=64)
    assert reading.work == {BYTES: 4 * 5 * 96**2}
    assert reading.run().seconds > 0


def test_uncompressed_files_have_the_same_pixels(tmp_path):
    cogs = write_stack(tmp_path, 96, 3)
    plain = write_uncompressed(cogs)
    assert write_uncompressed(cogs) == plain
    np.testing.assert_array_equal(open_stack(str(plain))["vv"], open_stack(str(cogs))["vv"])
    assert all(path.stat().st_size > 4 * 96**2 for path in plain.iterdir())


def test_peak_memory_of_a_command_excludes_this_process():
    """The system reports for a child at least the memory of the process that forked it."""
    held = np.ones(600 * 2**20, np.uint8)
    found = run_command("methods")
    assert 20e6 < found.peak_bytes < 500e6 < held.nbytes
    assert found.cpu_seconds > 0


def test_command_that_fails_raises_with_its_output(tmp_path):
    with pytest.raises(SarstackError, match="code 3") as failure:
        run_command("build-labels", str(tmp_path / "none"), "-o", str(tmp_path / "labels.zarr"))
    assert "none" in str(failure.value)


def test_references_are_in_the_table_and_have_the_unit(short_peaks, tmp_path):
    sizes = stages.Sizes(tmp_path, scene_px=256, n_dates=4, n_workers=3, n_steps=3)
    for experiment in speed.EXPERIMENTS.values():
        built = {stage.name: stage for stage in experiment.stages(sizes)}
        for one in built.values():
            assert not one.startup or one.startup in built
            for other, unit in one.references:
                assert one.work[unit] > 0
                assert built[other].work[unit] > 0


def test_command_writes_text_json_and_picture(short_peaks, tmp_path, capsys):
    arguments = f"bench speed -o {tmp_path} --quick --scene-px 96 --workers 2"
    assert run([*arguments.split(), "--stage", "peaks", "--stage", "methods"]) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["settings"]["scene_px"] == 96
    assert [table["name"] for table in found["tables"]] == ["peaks", "methods"]
    rows = {row["name"]: row for row in found["tables"][1]["rows"]}
    (peak,) = rows["despecknet"]["shares"]
    assert peak.startswith("convolution")
    assert rows["despecknet"]["rounds"] == 3
    assert rows["deSpeckNet on a CPU"]["seconds"] is None
    assert 1 / rows["deSpeckNet on a CPU"]["rates"][PX] == pytest.approx(2.69e-5)
    text = (tmp_path / "speed.txt").read_text()
    shown = capsys.readouterr().out
    for line in ("Peak rates of this machine", "matrix product", "published"):
        assert line in text
        assert line in shown
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.txt", "speed.png"}


def test_installed_package_says_where_the_benchmark_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sarstack.cli.bench.CHECKOUT", tmp_path)
    assert run(["bench", "speed", "-o", str(tmp_path), "--quick"]) == 2
    message = capsys.readouterr().err
    for part in ("not part of the installed package", "expected: ",
                 f"where: there is no {tmp_path}", "do this: ",
                 "python -m benchmarks.speed"):  # fmt: skip
        assert part in message
    assert not list(tmp_path.iterdir())


def test_module_and_command_have_the_same_help(capsys):
    assert run(["bench", "speed", "--help"]) == 0
    expected = capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--help"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == expected
    assert "--scene-px" in expected


@pytest.mark.slow
def test_commands_are_measured_in_processes_of_their_own(short_peaks, tmp_path):
    chosen = ["labels", "finetune"]
    tables = speed.bench_speed(tmp_path, names=chosen, quick=True, scene_px=128, n_dates=4,
                               n_workers=2)  # fmt: skip
    rows = {row.name: row for table in tables for row in table.rows}
    for name in ("labels of 4 dates", "finetune, 5 steps"):
        assert rows[name].peak_bytes > 50e6
        assert rows[name].shares


def test_peer_that_is_not_installed_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.peers.find_spec", lambda name: None)
    (table,) = speed.bench_speed(tmp_path, names=["peers"], quick=True)
    assert "not installed" in render_text(table)


def test_unknown_stage_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="labels"):
        speed.bench_speed(tmp_path / "none", names=["label"])
    assert not (tmp_path / "none").exists()


def test_missing_values_are_dashes():
    text = render_text(SpeedTable("t", "T", [Row("a", rates={PX: 2.0}, note="told")]))
    assert text.splitlines()[2].split() == ["a", "-", "-", "-", "5.00e-01", "-", "-", "told"]
