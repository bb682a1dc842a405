"""Progress bars: in notebooks and terminals, and nothing elsewhere."""

import sys
from types import SimpleNamespace

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import sarstack  # noqa: F401 - registers the accessor
from sarstack.workflows import notebook_bar
from sarstack.workflows.progress import show_progress


class FakeNotebook:
    """What IPython does in the kernel of a notebook: notes all that is displayed."""

    def __init__(self, kernel: object) -> None:
        self.shown: list[dict[str, str]] = []
        self.get_ipython = lambda: SimpleNamespace(kernel=kernel)

    def display(self, forms: dict[str, str], **_: object) -> "FakeNotebook":
        self.shown.append(forms)
        return self

    update = display


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> FakeNotebook:
    fake = FakeNotebook(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setattr(notebook_bar, "FIRST_S", 0.0)
    monkeypatch.setattr(notebook_bar, "STEP_S", 0.0)
    return fake


def lazy_cube() -> xr.Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.gamma(4.4, 0.1 / 4.4, (2, 80, 90)).astype(np.float32)
    return xr.Dataset({"vv": (("time", "y", "x"), pixels)}).chunk(time=1, y=40)


def test_a_notebook_shows_a_bar_and_removes_it(notebook: FakeNotebook) -> None:
    with show_progress("<despeckling>", 4) as progress:
        for _ in range(4):
            progress.advance(1)
    texts = [forms["text/plain"] for forms in notebook.shown]
    assert [text.split(",")[0] for text in texts[:4]] == [
        f"<despeckling>: {percent} %" for percent in (25, 50, 75, 100)
    ]
    assert "&lt;despeckling&gt;" in notebook.shown[0]["text/html"]
    assert notebook.shown[-1] == {"text/plain": "", "text/html": ""}


def test_a_bar_is_removed_when_the_work_fails(notebook: FakeNotebook) -> None:
    def fail() -> None:
        with show_progress("work", 2) as progress:
            progress.advance(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert notebook.shown[-1]["text/html"] == ""


def test_short_work_shows_no_bar(notebook: FakeNotebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_bar, "FIRST_S", 60.0)
    with show_progress("work", 1) as progress:
        progress.advance(1)
    assert not notebook.shown


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", FakeNotebook(kernel=None))
    assert not notebook_bar.in_notebook()


def test_computing_shows_its_progress_and_gives_the_same_pixels(notebook: FakeNotebook) -> None:
    result = lazy_cube().despeck.apply("lee")
    xr.testing.assert_identical(result.despeck.compute(), result.compute())
    shown = [forms["text/plain"] for forms in notebook.shown]
    assert shown[-2].startswith("despeckling: 100 %")
    assert shown[-1] == ""
    notebook.shown.clear()
    lazy_cube().compute().despeck.apply("lee")  # in memory: it computes at once
    assert notebook.shown


def test_nothing_is_printed_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    lazy_cube().despeck.apply("lee").despeck.compute()
    lazy_cube().compute().despeck.apply("lee")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_cluster_shows_its_progress_too(notebook: FakeNotebook) -> None:
    result = lazy_cube().despeck.apply("lee")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        computed = result.despeck.compute()
        n_shown = len(notebook.shown)
        with dask.config.set(scheduler="synchronous"):  # the user prefers another scheduler
            lazy_cube().despeck.apply("lee").despeck.compute()
        assert "tasks/s" in notebook.shown[n_shown]["text/plain"]
    xr.testing.assert_identical(computed, result.compute())
    assert any("100 %" in forms["text/plain"] for forms in notebook.shown)
