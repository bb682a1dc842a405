"""Dates are added to an archive of a multi-temporal method: finished images stay as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from object_storage import serve_storage
from simulated_stack import SimulatedStack, read_tif, write_tif
from small_networks import save_small_network

from sarstack.cli.commands import run as run_command
from sarstack.despecklers import make_despeckler
from sarstack.despecklers.registry import despeckler_names
from sarstack.errors import ResumeMismatchError, StackReadError
from sarstack.readers.raster import Raster
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import despeckle, tasks
from sarstack.workflows.despeckle.state import Outcome
from sarstack.workflows.settings import DespeckleConfig

MakeStack = Callable[..., SimulatedStack]
MULTI_TEMPORAL = [name for name in despeckler_names() if make_despeckler(name).n_summary]


class Archive:
    """A folder whose dates come one after the other, and the results."""

    def __init__(self, stack: SimulatedStack, tmp_path: Path) -> None:
        self.files, self.folder, self.aside = stack.files, stack.folder, tmp_path / "aside"
        self.output = tmp_path / "out"
        self.aside.mkdir()

    def hide(self, *dates: int) -> None:
        for date in dates:
            self.files[date].rename(self.aside / self.files[date].name)

    def show(self, *dates: int) -> None:
        for date in dates:
            (self.aside / self.files[date].name).rename(self.files[date])

    def config(self, output: Path | None = None, **settings: Any) -> DespeckleConfig:
        given = {"method": "quegan-yu", "workers": 1, "keep_dates": True, "no_report": True}
        return DespeckleConfig.make(
            stack=str(self.folder), output=str(output or self.output), **given | settings
        )

    def run(self, output: Path | None = None, **settings: Any) -> Outcome:
        return despeckle(self.config(output, **settings))

    def result(self, date: int, folder: Path | None = None) -> Path:
        [path] = (folder or self.output).glob(f"{self.files[date].stem}_*[!w].tif")
        return path

    def contents(self, *dates: int) -> list[bytes]:
        return [self.result(date).read_bytes() for date in dates]

    def tags(self, date: int) -> dict[str, str]:
        with rasterio.open(self.result(date)) as raster:
            return dict(raster.tags())


@pytest.fixture
def archive(make_stack: MakeStack, tmp_path: Path) -> Archive:
    stack = make_stack(shape=(60, 70), n_dates=5, polarisations=("vv",))
    return Archive(stack, tmp_path)


def assert_kept_and_new(archive: Archive, tmp_path: Path, kept: list[int], new: list[int],
                        **settings: Any) -> None:  # fmt: skip
    """Run twice: kept images have their bytes, new ones the pixels of a run over all dates."""
    archive.hide(*new)
    archive.run(**settings)
    before = archive.contents(*kept)
    archive.show(*new)
    outcome = archive.run(**settings)
    assert not outcome.failures
    assert archive.contents(*kept) == before
    archive.run(tmp_path / "whole", **settings | {"keep_dates": False})
    for date in new:
        found, whole = archive.result(date), archive.result(date, tmp_path / "whole")
        np.testing.assert_array_equal(read_tif(found), read_tif(whole))
    old = read_tif(archive.result(kept[0], tmp_path / "whole"))
    assert not np.array_equal(read_tif(archive.result(kept[0])), old, equal_nan=True)


@pytest.mark.parametrize("method", MULTI_TEMPORAL)
def test_finished_images_stay_and_new_ones_are_those_of_a_whole_run(
    archive: Archive, tmp_path: Path, method: str
) -> None:
    assert_kept_and_new(archive, tmp_path, [0, 1, 3], [2, 4], method=method)  # between and after


def test_two_passes_see_all_dates_for_a_new_one(archive: Archive, tmp_path: Path) -> None:
    model = str(save_small_network(tmp_path, "despecknet-mt"))
    parameters = {"passes": 2, "precision": "float32"}
    settings = {"method": model, "parameters": parameters, "output_support": True,
                "output_noise": True}  # fmt: skip
    archive.result = lambda date, folder=None: (  # type: ignore[method-assign]
        (folder or archive.output) / f"{archive.files[date].stem}_despecknet-mt.tif"
    )
    assert_kept_and_new(archive, tmp_path, [0, 1, 3], [2, 4], **settings)


@pytest.mark.slow
def test_worker_processes_keep_images_too(archive: Archive, tmp_path: Path) -> None:
    assert_kept_and_new(archive, tmp_path, [0, 1, 2, 3], [4], cluster="local", workers=2)


def test_tags_and_record_tell_the_dates_that_each_image_has_seen(archive: Archive) -> None:
    archive.hide(4)
    archive.run()
    archive.show(4)
    record = archive.run(stac=True).record
    seen = [archive.tags(date) for date in range(5)]
    assert [tags["DATES_SEEN"] for tags in seen] == ["4", "4", "4", "4", "5"]
    assert {tags["DATES_SEEN_FIRST"] for tags in seen} == {"2021-01-01T05:12:34Z"}
    assert seen[0]["DATES_SEEN_LAST"] == "2021-02-06T05:12:34Z"
    assert seen[4]["DATES_SEEN_LAST"] == "2021-02-18T05:12:34Z"
    names = [entry.split("=")[0] for entry in seen[4]["SARSTACK_DATES"].split()]
    assert names == [tags["ACQUISITION_DATETIME"] for tags in seen]
    assert seen[0]["SARSTACK_DATES"].split() == seen[4]["SARSTACK_DATES"].split()[:4]
    assert seen[0]["SARSTACK_SETTINGS"] == seen[4]["SARSTACK_SETTINGS"]
    assert record["kept"] == [archive.result(date).name for date in range(4)]
    told = {image["output"]: image["seen_dates"] for image in record["images"]}
    assert told[archive.result(0).name].startswith("4 dates, 2021-01-01T05:12:34Z to 2021-02-06")
    items = [json.loads(p.read_text()) for p in sorted(archive.output.glob("stac/*2021*.json"))]
    lineages = [item["properties"]["processing:lineage"] for item in items]
    assert ["which has seen 4 dates" in text for text in lineages] == [True] * 4 + [False]
    assert "which has seen 5 dates, 2021-01-01" in lineages[4]


def test_a_method_of_single_dates_has_no_such_tags(archive: Archive) -> None:
    archive.hide(4)
    archive.run(method="lee")
    archive.show(4)
    assert archive.run(method="lee").record["kept"] == []
    assert not {"DATES_SEEN", "SARSTACK_DATES", "SARSTACK_SETTINGS"} & archive.tags(0).keys()


def test_the_plan_tells_what_is_kept(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.hide(4)
    archive.run()
    archive.show(4)
    facts = plan_despeckle(archive.config()).facts()
    assert facts["dates to do"] == (
        "1 (vv), 1 image; 4 finished before, 4 of them kept: they have seen other dates"
    )
    again = ["-q", "despeckle", str(archive.folder), "-o", str(archive.output),
             "--method", "quegan-yu"]  # fmt: skip
    assert run_command([*again, "--keep-dates", "--no-report"]) == 0
    assert capsys.readouterr().out == f"5 images in {archive.output}, 1 of this run\n"


def test_without_the_option_results_of_other_dates_are_refused_and_then_made_again(
    archive: Archive, tmp_path: Path
) -> None:
    archive.hide(4)
    archive.run()
    archive.show(4)
    with pytest.raises(ResumeMismatchError, match="--keep-dates to keep them"):
        archive.run(keep_dates=False)
    archive.run()
    with pytest.raises(ResumeMismatchError, match="other settings or inputs"):
        archive.run(keep_dates=False)
    # --overwrite makes all images again, also if keep_dates is in the settings.
    despeckle(archive.config(), overwrite=True)
    assert {archive.tags(date)["DATES_SEEN"] for date in range(5)} == {"5"}
    assert archive.run(keep_dates=False).record["kept"] == []
    archive.run(tmp_path / "whole")
    for date in range(5):
        whole = archive.result(date, tmp_path / "whole")
        np.testing.assert_array_equal(read_tif(archive.result(date)), read_tif(whole))


@pytest.mark.parametrize(
    "settings",
    [{"parameters": {"window_px": 5}}, {"looks": 3.0}, {"keep_bits": 23},
     {"bbox": (500_000.0, 4_799_700.0, 500_300.0, 4_800_000.0)}],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_results_of_other_settings_are_refused(archive: Archive, settings: dict[str, Any]) -> None:
    archive.hide(4)
    archive.run()
    before = archive.contents(0, 1, 2, 3)
    archive.show(4)
    with pytest.raises(ResumeMismatchError, match="4 results") as refused:
        archive.run(**settings)
    assert refused.value.where[0].endswith(": other settings")
    assert "--keep-dates" not in refused.value.do
    assert archive.contents(0, 1, 2, 3) == before


def test_results_of_other_weights_are_refused(archive: Archive, tmp_path: Path) -> None:
    models = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(models):
        folder.mkdir()
        save_small_network(folder, "despecknet-mt", seed=seed)
    first, second = (str(next(folder.glob("*.safetensors"))) for folder in models)
    archive.hide(4)
    archive.run(method=first)
    archive.show(4)
    with pytest.raises(ResumeMismatchError, match="4 results"):
        archive.run(method=second)


def test_a_changed_input_of_a_kept_image_is_refused(archive: Archive) -> None:
    archive.hide(4)
    archive.run()
    archive.show(4)
    write_tif(archive.files[1], read_tif(archive.files[1]) * 2)
    with pytest.raises(ResumeMismatchError) as refused:
        archive.run()
    reasons = [text.partition(": ")[2] for text in refused.value.where]
    other = "a date that it has seen changed: 2021-01-13T05:12:34Z"
    assert reasons == [other, "its input changed", other, other]
    # Also if its own result is gone: the others have still seen the old pixels.
    archive.result(1).unlink()
    with pytest.raises(ResumeMismatchError, match="3 results"):
        archive.run()


@pytest.mark.parametrize("damage", ["truncated", "pixels"])
@pytest.mark.filterwarnings("ignore:.*cannot be read and are left out")
def test_a_date_that_could_not_be_read_is_new_when_it_is_repaired(
    archive: Archive, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, real = archive.files[2], tasks.measure_image
    whole = bad.read_bytes()

    def fail(raster: Raster, *given: Any) -> Any:
        if raster.path == str(bad):
            raise StackReadError("a block cannot be decoded", where=raster.path)
        return real(raster, *given)

    if damage == "truncated":  # found when the stack is indexed
        bad.write_bytes(whole[: len(whole) // 2])
    else:  # found when its pixels are read
        monkeypatch.setattr(tasks, "measure_image", fail)
    assert len(archive.run().failures) == 1
    monkeypatch.undo()
    before = archive.contents(0, 1, 3, 4)
    assert archive.tags(0)["DATES_SEEN"] == "4"
    bad.write_bytes(whole)
    assert not archive.run().failures
    assert archive.contents(0, 1, 3, 4) == before
    assert archive.tags(2)["DATES_SEEN"] == "5"


def test_a_damaged_result_is_made_again_with_the_dates_of_now(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.hide(4)
    archive.run()
    archive.show(4)
    archive.run()
    before = archive.contents(0, 2, 3, 4)
    bad = archive.result(1)
    bad.write_bytes(bad.read_bytes()[:-100])
    check = ["-q", "check", str(archive.output)]
    assert run_command(check) == 6
    again = ["-q", "despeckle", "--config", str(archive.output / "run.yaml"), "--verify"]
    assert run_command(again) == 0
    assert "is made again" in caplog.text
    assert archive.contents(0, 2, 3, 4) == before
    assert archive.tags(1)["DATES_SEEN"] == "5"
    assert run_command(check) == 0


def test_one_warning_names_dates_that_are_gone(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.hide(4)
    archive.run()
    before = archive.contents(0, 2, 3)
    archive.show(4)
    archive.hide(1)
    record = archive.run().record
    warnings = [m for m in caplog.messages if "not in the stack any more" in m]
    assert warnings == [
        "kept images have seen dates that are not in the stack any more (1): 2021-01-13T05:12:34Z"
    ]
    assert len(record["kept"]) == 3
    assert archive.contents(0, 2, 3) == before
    assert archive.tags(4)["DATES_SEEN"] == "4"


def test_image_and_speckle_have_seen_the_same_dates(archive: Archive, tmp_path: Path) -> None:
    settings = {"method": str(save_small_network(tmp_path, "despecknet-mt"))}
    archive.hide(4)
    archive.run(**settings)
    archive.show(4)
    made = archive.run(**settings, output_noise=True)
    seen = set()
    for path in made.outputs:
        with rasterio.open(path) as raster:
            seen.add(raster.tags()["DATES_SEEN"])
    assert (len(made.outputs), seen, made.record["kept"]) == (10, {"5"}, [])


@pytest.mark.filterwarnings("ignore:.*have no date")
def test_dates_without_a_time_are_known_by_their_name(make_stack: MakeStack, tmp_path: Path):
    stack = make_stack(shape=(40, 50), n_dates=3, polarisations=("vv",))
    for k, file in enumerate(stack.files):
        stack.files[k] = file.rename(stack.folder / f"my field {k}_vv.tif")
    archive = Archive(stack, tmp_path)
    archive.hide(0)
    archive.run()
    before = archive.contents(1, 2)
    archive.show(0)
    archive.run()
    assert archive.contents(1, 2) == before
    names = [entry.split("=")[0] for entry in archive.tags(0)["SARSTACK_DATES"].split()]
    assert names == [f"my%20field%20{k}_vv" for k in range(3)]
    assert "DATES_SEEN_FIRST" not in archive.tags(0)


def test_an_interrupted_run_ends_with_the_dates_that_came_since(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    archive.hide(3, 4)
    real, done = tasks.finish_image, []

    def interrupted(*given: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given)

    monkeypatch.setattr(tasks, "finish_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive.run()
    monkeypatch.undo()
    finished = [date for date in range(3) if list(archive.output.glob(
        f"{archive.files[date].stem}_*.tif"))]  # fmt: skip
    before = archive.contents(*finished)
    assert 0 < len(finished) < 3
    archive.show(3, 4)
    archive.run()
    assert "unfinished work starts again" in caplog.text
    assert archive.contents(*finished) == before
    counts = [archive.tags(date)["DATES_SEEN"] for date in range(5)]
    assert counts == ["3" if date in finished else "5" for date in range(5)]
    archive.run(tmp_path / "whole")
    whole = archive.result(4, tmp_path / "whole")
    np.testing.assert_array_equal(read_tif(archive.result(4)), read_tif(whole))


@pytest.mark.slow
def test_uploaded_images_are_kept_by_another_machine(archive: Archive, tmp_path: Path) -> None:
    with serve_storage(str(tmp_path / "requests.txt")):
        archive.hide(4)
        url, made = "s3://archive/kept", []
        for machine in ("first", "second"):
            settings = {"output": url, "work_folder": str(tmp_path / machine)}
            config = archive.config().model_copy(update=settings)
            made.append(despeckle(config).record)
            if machine == "first":
                archive.show(4)
        assert made[1]["kept"] == [image["output"] for image in made[0]["images"]]
        assert made[1]["images"][:4] == made[0]["images"]
