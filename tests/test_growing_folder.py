"""A folder to which dates are added: finished results stay valid, and only new dates are made."""

from pathlib import Path

import numpy as np
import pytest
from written_images import speckle, write_tif

from sarstack.cli.commands import run
from sarstack.readers import index_stack
from sarstack.workflows.fingerprint import identity

SHAPE = (200, 260)


def add_date(folder: Path, day: int) -> None:
    """Write a date that is brighter in the north, so its sample windows differ from each other."""
    north_to_south = np.geomspace(10, 0.1, SHAPE[0])[:, None]
    for polarisation in ("vv", "vh"):
        pixels = (speckle(day, shape=SHAPE) * north_to_south).astype(np.float32)
        write_tif(folder / f"farm_202103{day:02d}_{polarisation}.tif", pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "farm"
    made.mkdir()
    return made


def test_more_dates_do_not_change_what_identifies_an_image(folder: Path) -> None:
    known: dict[str, object] = {}
    for day in (2, 9, 16, 23, 30, 5, 12):  # at the end, then between the others
        add_date(folder, day)
        rasters = [r for own in index_stack(folder).rasters.values() for r in own]
        now = {Path(raster.path).name: identity(raster) for raster in rasters}
        assert {name: now[name] for name in known} == known
        known = now


def test_the_same_command_makes_the_new_dates_only(folder: Path, tmp_path: Path) -> None:
    command = ["-q", "despeckle", str(folder), "-o", str(tmp_path / "out"), "--method", "lee"]
    for day in (2, 9, 16):
        add_date(folder, day)
    assert run(command) == 0
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tif")}
    for day in (23, 30):
        add_date(folder, day)
    assert run(command) == 0
    second = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tif")}
    assert (len(first), len(second)) == (6, 10)
    assert {p: second[p] for p in first} == first
