"""The notebooks: stored without outputs, short, and they run from the first cell to the last."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from notebook_pages import (
    NOTEBOOKS,
    Output,
    is_slow,
    read_cells,
    render_output,
    run_cell,
    run_notebook,
)
from simulated_stack import SimulatedStack

import sarstack
from sarstack.workflows.settings import DespeckleConfig

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
# https://developers.google.com/earth-engine/reference/rest/v1/ImageManifest
MANIFEST_FIELDS = {
    "name", "properties", "uriPrefix", "tilesets", "bands", "maskBands", "footprint",
    "missingData", "pyramidingPolicy", "startTime", "endTime", "skipMetadataRead", "memo",
}  # fmt: skip
BAND_FIELDS = {"id", "tilesetId", "tilesetBandIndex", "missingData", "pyramidingPolicy"}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_notebook_is_short_and_stored_without_outputs(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    cells = document["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) <= 16
    assert cells[0]["source"][0].startswith("# ")
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path) -> None:
    n_code = sum(kind == "code" for kind, _ in read_cells(path))
    assert len(list(run_notebook(path))) == n_code


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PATHS if not is_slow(p)], ids=lambda p: p.stem)
def test_a_notebook_runs_in_a_kernel(path: Path, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()


def test_a_cell_shows_what_it_prints_and_its_last_expression(tmp_path: Path) -> None:
    names: dict = {}
    assert run_cell("a = 2\nprint(a)", names) == Output("2\n", None)
    assert run_cell("a\na + 1", names) == Output("", 3)
    assert "3" in render_output(Output("", 3), tmp_path / "a.png")
    assert run_cell("", names) == Output("", None)


def test_a_manifest_has_the_fields_that_earth_engine_documents(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(NOTEBOOKS)
    from earth_engine_manifest import make_manifests

    stack = make_stack(shape=(60, 70), n_dates=2).folder
    out = tmp_path / "out"
    sarstack.despeckle(DespeckleConfig.make(stack=str(stack), output=str(out), method="lee"))
    manifests = make_manifests(out, "gs://bucket/x/", "projects/p/assets/c")
    names = [manifest["name"] for manifest in manifests]
    assert names == [f"projects/p/assets/c/{day}T051234_lee" for day in ("20210101", "20210113")]
    for manifest in manifests:
        assert set(manifest) <= MANIFEST_FIELDS
        assert manifest["startTime"].endswith("T05:12:34Z")
        tilesets = {one["id"]: one["sources"][0]["uris"][0] for one in manifest["tilesets"]}
        for band in manifest["bands"]:
            assert set(band) <= BAND_FIELDS
            file = tilesets[band["tilesetId"]]
            assert (out / file).exists()
            assert band["id"].lower() in file
        assert manifest["uriPrefix"] == "gs://bucket/x/"
        assert len(tilesets) == 2
    assert json.loads(json.dumps(manifests)) == manifests
    assert "earth_engine_manifest" in sys.modules
