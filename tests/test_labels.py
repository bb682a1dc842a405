"""Labels against numpy on the whole cube, and the stable mask against known change."""

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from rasterio.transform import from_origin
from simulated_stack import SimulatedStack, read_tif

from sarstack.cube.labels import label_arrays
from sarstack.errors import ResumeMismatchError, StackReadError, UsageError
from sarstack.labels.statistics import (
    LABELS,
    add_dates,
    finish_labels,
    mean_without,
    multilook,
    statistics,
)
from sarstack.speckle.statistics import measure_scene
from sarstack.workflows import build_labels as module
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.settings import LabelsConfig


def cube_of(stack: SimulatedStack, polarisation: str) -> np.ndarray:
    return np.stack([read_tif(f) for f in stack.files if f.stem.endswith(polarisation)])


def open_labels(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False, decode_coords="all")


def test_moments_equal_numpy_and_survive_bright_targets() -> None:
    rng = np.random.default_rng(0)
    cube = (1e4 + rng.normal(0, 1, (24, 30, 31))).astype(np.float32)
    cube[3:, 4, 5] = np.nan
    cube[1:, 6, 7] = np.nan
    cube[:, 8, 9] = np.nan
    moments = np.zeros((3, 30, 31))
    for date in cube:
        add_dates(moments, [date])
    labels = finish_labels(moments, looks=4.4)
    exact = cube.astype(np.float64)
    n = np.isfinite(exact).sum(0)
    mean = np.nansum(exact, 0) / np.where(n, n, np.nan)
    spread = np.nansum((exact - mean) ** 2, 0) / np.where(n > 1, n - 1, np.nan)
    np.testing.assert_array_equal(labels["count"], n)
    np.testing.assert_allclose(labels["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(labels["std"], np.sqrt(spread), rtol=1e-3)
    assert labels["count"].dtype == np.uint16
    assert np.isnan(labels["std"][6, 7])
    assert np.isfinite(labels["mean"][6, 7])
    assert labels["stable"][6, 7] == labels["stable"][8, 9] == 0


def test_the_default_rule_sees_change_whatever_the_brightness() -> None:
    """A dark field that changes by 5 dB is masked, a bright stable town is not."""
    rng = np.random.default_rng(1)
    reflectivity = np.full((20, 40, 80), 0.003)
    reflectivity[10:, :, :40] *= 10**0.5
    reflectivity[:, :, 40:] = 3.0
    cube = reflectivity * rng.gamma(4.4, 1 / 4.4, reflectivity.shape)
    moments = np.zeros((3, 40, 80))
    for date in cube.astype(np.float32):
        add_dates(moments, [date])
    stable = finish_labels(moments, looks=4.4)["stable"]
    assert stable[:, :40].mean() < 0.35, "changing dark field"
    assert 0.975 < stable[:, 40:].mean() < 0.999, "0.99 of pure speckle is kept"
    paper = finish_labels(moments, looks=4.4, rule="paper", threshold=0.1)["stable"]
    assert paper[:, :40].all()
    assert not paper[:, 40:].any(), "the paper's rule gets both the wrong way round"


def test_a_mean_without_its_own_date_is_the_mean_of_the_others() -> None:
    cube = np.random.default_rng(2).gamma(4, 0.25, (6, 9, 9)).astype(np.float32)
    cube[2, :3] = np.nan
    cube[:, 8, 8] = np.nan
    cube[1:, 0, 0] = np.nan
    moments = np.zeros((3, 9, 9))
    for date in cube:
        add_dates(moments, [date])
    labels = finish_labels(moments, looks=4)
    for i, date in enumerate(cube):
        others = np.delete(cube, i, axis=0)
        n = np.isfinite(others).sum(0)
        expected = np.nansum(others, 0) / np.where(n, n, np.nan)
        found = mean_without(labels["mean"], labels["count"], date)
        np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("chunks", [(1, 90, 120), (2, 31, 50), (3, 90, 120)])
def test_lazy_labels_equal_the_stored_ones(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    stack = make_stack()
    path = build_labels(LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "l.zarr")))
    stored = open_labels(path)
    lazy = label_arrays(da.from_array(cube_of(stack, "vh"), chunks=chunks))
    for name, array in lazy.items():
        np.testing.assert_allclose(array.compute(), stored[name].sel(polarisation="vh"), rtol=1e-5)


def test_the_store_has_the_stacks_grid_and_the_right_attributes(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack(shape=(300, 280))
    path = build_labels(
        LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "l.zarr"), tile_px=256)
    )
    labels = open_labels(path)
    assert labels["mean"].dims == ("polarisation", "y", "x")
    assert list(labels.polarisation.values) == ["vv", "vh"]
    assert labels.rio.crs.to_epsg() == 32631
    assert labels.rio.transform()[:6] == (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_800_000.0)
    assert labels["std"].attrs["cell_methods"] == "time: standard_deviation"
    assert labels["mean"].attrs["units"] == "1"
    expected = cube_of(stack, "vv").astype(np.float64)
    n = np.isfinite(expected).sum(0)
    mean = np.nansum(expected, 0) / np.where(n, n, np.nan)
    np.testing.assert_allclose(labels["mean"].sel(polarisation="vv"), mean, rtol=1e-6)
    assert 3.5 < labels.attrs["looks"]["vv"] < 5.5


def test_dates_in_the_bands_of_one_file_are_measured_each_for_itself(tmp_path: Path) -> None:
    """Images of one file have the same path: they are distinguished by band or index, too."""
    rng = np.random.default_rng(5)
    shape = (300, 300)
    bands = 0.1 * rng.gamma(4.4, 1 / 4.4, (3, *shape)).astype(np.float32)
    with rasterio.open(
        tmp_path / "series_vv.tif", "w", driver="GTiff", height=300, width=300, count=3,
        dtype="float32", crs="EPSG:32631", nodata=np.nan,
        transform=from_origin(500_000, 4_800_000, 10, 10),
    ) as raster:  # fmt: skip
        raster.write(bands)
        for number, day in enumerate(("20210101", "20210113", "20210125"), 1):
            raster.set_band_description(number, f"vv_{day}")
    config = LabelsConfig.make(
        stack=str(tmp_path / "series_vv.tif"), output=str(tmp_path / "l.zarr")
    )
    looks = open_labels(build_labels(config)).attrs["looks"]["vv"]
    assert looks == pytest.approx(measure_scene(bands)[0].looks, rel=1e-6)
    assert looks == pytest.approx(4.4, rel=0.15)


def test_multilooked_labels_are_statistics_of_multilooked_dates(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack(shape=(260, 270))
    config = LabelsConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "l.zarr"), multilook_px=3, tile_px=256
    )
    labels = open_labels(build_labels(config))
    dates = [multilook(date, 3) for date in cube_of(stack, "vv")]
    n = np.isfinite(dates).sum(0)
    expected = np.nansum(np.asarray(dates, np.float64), 0) / np.where(n, n, np.nan)
    np.testing.assert_allclose(labels["mean"].sel(polarisation="vv"), expected, rtol=1e-5)


def test_an_interrupted_run_continues_and_computes_only_what_is_missing(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(shape=(300, 520))
    settings = {"stack": str(stack.folder), "tile_px": 256, "workers": 1}
    whole = build_labels(LabelsConfig.make(**settings, output=str(tmp_path / "whole.zarr")))
    config = LabelsConfig.make(**settings, output=str(tmp_path / "cut.zarr"))
    real, computed = module.label_tasks.label_tile, []

    def interrupted(*arguments: object) -> object:
        if len(computed) == 3:
            raise KeyboardInterrupt
        result = real(*arguments)
        computed.append(arguments[2:4])
        return result

    monkeypatch.setattr(module.label_tasks, "label_tile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_labels(config)
    assert not (tmp_path / "cut.zarr").exists(), "a finished-looking store is finished"
    before = list(computed)
    computed.clear()

    def counted(*arguments: object) -> object:
        computed.append(arguments[2:4])
        return real(*arguments)

    monkeypatch.setattr(module.label_tasks, "label_tile", counted)
    resumed = build_labels(config)
    assert not set(before) & set(computed), "finished tiles are not computed again"
    assert len(before) + len(computed) == 2 * 6
    assert_same_labels(resumed, whole)


@pytest.mark.parametrize("multilook_px", [1, 3])
def test_the_size_of_a_tile_changes_no_bit(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, multilook_px: int
) -> None:
    """Sample windows of a scene this large lie across the borders of tiles."""
    stack = make_stack(shape=(1610, 300))
    whole, *others = (
        build_labels(
            LabelsConfig.make(
                stack=str(stack.folder), output=str(tmp_path / f"{tile_px}.zarr"),
                tile_px=tile_px, multilook_px=multilook_px, polarisations=["vv"],
            )
        )
        for tile_px in (2048, 512, 256)
    )  # fmt: skip
    for other in others:
        assert_same_labels(other, whole)


def assert_same_labels(found: Path, expected: Path) -> None:
    labels, others = open_labels(found), open_labels(expected)
    assert labels.attrs["looks"] == others.attrs["looks"]
    for name in LABELS:
        np.testing.assert_array_equal(labels[name], others[name])


@pytest.mark.parametrize("n_dates", [2, 7, 24])
def test_a_constant_pixel_has_no_spread(n_dates: int) -> None:
    constant = np.geomspace(1e-4, 1e4, 300, dtype=np.float32).reshape(15, 20)
    moments = np.zeros((3, 15, 20))
    add_dates(moments, [constant] * n_dates)
    found = statistics(moments)
    np.testing.assert_array_equal(found["mean"], constant)
    np.testing.assert_array_equal(found["std"], 0)


def test_a_hole_changes_no_bit_of_its_neighbours() -> None:
    cube = np.random.default_rng(3).gamma(4, 0.25, (5, 40, 40)).astype(np.float32)
    whole, holed = np.zeros((2, 3, 40, 40))
    add_dates(whole, list(cube))
    cube[1:4, 7, 7] = np.nan
    cube[2, 8, 8] = np.inf
    add_dates(holed, list(cube))
    known = np.ones((40, 40), bool)
    known[7, 7] = known[8, 8] = False
    np.testing.assert_array_equal(holed[:, known], whole[:, known])
    assert holed[0, 7, 7] == 2
    assert holed[0, 8, 8] == 4


def test_complete_labels_are_success_and_other_settings_are_refused(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack()
    config = LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "l.zarr"))
    chunk = build_labels(config) / "mean" / "c" / "0" / "0" / "0"
    stamp = chunk.stat().st_mtime_ns
    build_labels(config)
    assert chunk.stat().st_mtime_ns == stamp
    chunk.unlink()
    build_labels(config)
    assert chunk.exists(), "labels that lack a chunk are made again"
    with pytest.raises(ResumeMismatchError, match="exist already"):
        build_labels(config.model_copy(update={"quantile": 0.9}))
    before = open_labels(tmp_path / "l.zarr")["mean"].values
    build_labels(config, overwrite=True)
    np.testing.assert_array_equal(before, open_labels(tmp_path / "l.zarr")["mean"].values)


def test_an_interrupted_overwrite_of_labels_continues_and_leaves_nothing_behind(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack()
    output = tmp_path / "out" / "l.zarr"
    config = LabelsConfig.make(stack=str(stack.folder), output=str(output))
    build_labels(config.model_copy(update={"quantile": 0.9}))
    real = Path.replace

    def kill(path: Path, target: Path) -> Path:
        if target == output:
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            build_labels(config, overwrite=True)
    assert not output.exists(), "old labels were moved away, new ones did not get their name"
    monkeypatch.setattr(module.label_tasks, "label_tile", None)
    build_labels(config, overwrite=True)
    assert open_labels(output).attrs["settings"] == config.model_dump_json()
    assert [path.name for path in output.parent.iterdir()] == ["l.zarr"]


def test_one_date_has_no_labels(make_stack: Callable[..., SimulatedStack], tmp_path: Path) -> None:
    stack = make_stack(n_dates=1)
    with pytest.raises(UsageError, match="one date of VV, VH"):
        build_labels(LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "l.zarr")))


def test_a_date_that_cannot_be_read_stops_labels_with_its_name(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack()
    broken = stack.files[2]
    broken.write_bytes(broken.read_bytes()[:6000])
    with pytest.raises(StackReadError, match=broken.stem):
        build_labels(LabelsConfig.make(stack=str(stack.folder), output=str(tmp_path / "l.zarr")))
    assert not (tmp_path / "l.zarr").exists()
