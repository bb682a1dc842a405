"""Output to URLs: refused where it cannot be written."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sarstack.cli.commands import run
from sarstack.errors import UsageError


@pytest.mark.parametrize(
    "command",
    [
        ["despeckle", "stack", "-o", "gs://bucket/out", "--method", "lee"],
        ["despeckle", "stack", "-o", "/vsis3/bucket/out", "--dry-run"],
        ["despeckle", "stack", "-o", "https://user:word@host/out?key=1", "--finetune"],
        ["build-labels", "stack", "-o", "gs://bucket/labels.zarr"],
        ["train", "stack", "--labels", "labels.zarr", "-o", "s3://bucket/model.safetensors"],
        ["finetune", "stack", "-o", "s3://bucket/model.safetensors"],
        ["bench", "quality", "-o", "s3://bucket/quality"],
        ["bench", "cases", "-o", "s3://bucket/cases"],
        ["check", "s3://bucket/out"],
    ],
    ids=" ".join,
)
def test_outputs_at_urls_are_refused_before_anything_is_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    message = capsys.readouterr().err
    parts = [line.split(":")[0].strip() for line in message.splitlines()]
    assert parts == ["error", "expected", "where", "do this"]
    assert "word" not in message
    assert not list(tmp_path.iterdir())


def test_the_accessor_refuses_to_write_a_model_to_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    images = xr.DataArray(np.ones((2, 9, 9), np.float32), dims=("time", "y", "x"), name="vv")
    with pytest.raises(UsageError, match="cannot be written to a URL"):
        images.despeck.finetune("s3://bucket/model.safetensors")
    assert not list(tmp_path.iterdir())
