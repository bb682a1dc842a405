"""Fixtures of all tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import written_images
from numpy.typing import NDArray
from simulated_stack import LOOKS, SimulatedStack, reflectivity, write_tif


@pytest.fixture
def make_stack(tmp_path: Path) -> Callable[..., SimulatedStack]:
    """Write a stack of gamma speckle with a corner of nodata that differs between dates."""

    def make(
        shape: tuple[int, int] = (90, 120),
        n_dates: int = 3,
        polarisations: tuple[str, ...] = ("vv", "vh"),
        name: str = "stack",
    ) -> SimulatedStack:
        rng = np.random.default_rng(3)
        folder = tmp_path / name
        folder.mkdir()
        truth = {p: reflectivity(shape) * (1.0 if p == "vv" else 0.2) for p in polarisations}
        files = []
        for date in range(n_dates):
            for polarisation in polarisations:
                speckle = rng.gamma(LOOKS, 1 / LOOKS, shape)
                pixels = (truth[polarisation] * speckle).astype(np.float32)
                pixels[: 10 + date, :20] = np.nan
                day = np.datetime64("2021-01-01") + np.timedelta64(12 * date, "D")
                stamp = str(day).replace("-", "")
                file = folder / f"S1A_IW_{stamp}T051234_{polarisation}.tif"
                files.append(write_tif(file, pixels))
        return SimulatedStack(folder, truth, files)

    return make


@pytest.fixture
def three_dates(tmp_path: Path) -> tuple[Path, dict[tuple[str, int], NDArray[np.float32]]]:
    """Write three dates in VV and VH; return the folder and the pixels of each image."""
    truth: dict[tuple[str, int], NDArray[np.float32]] = {}
    for date, day in enumerate(("20210104", "20210116", "20210128")):
        for polarisation, mean in (("vv", 0.1), ("vh", 0.02)):
            scene = written_images.speckle(10 * date + len(truth), mean)
            path = tmp_path / f"farm_{day}T053412_{polarisation}.tif"
            written_images.write_tif(path, scene)
            truth[polarisation, date] = scene
    return tmp_path, truth
