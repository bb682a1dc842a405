"""Methods that need complex numbers get them everywhere: runs, accessor, memory, laws."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from test_decorrelate import draw_field
from test_slc import LINES, SHAPE, find_valid, make_bursts, simulate_slc
from written_images import write_tif
from written_safe import write_safe

import sarstack
from sarstack.cluster.layout import Layout
from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.despecklers.catalogue import measure_speed
from sarstack.despecklers.methods.boxcar import Boxcar
from sarstack.errors import UsageError
from sarstack.evaluation.law_images import draw_landscape
from sarstack.evaluation.laws import LAWS, Law, find_violation
from sarstack.evaluation.quality import bench_suite
from sarstack.evaluation.suites import SUITES
from sarstack.readers import index_stack
from sarstack.readers.decorrelated import find_decorrelator
from sarstack.readers.sentinel1.doppler import read_doppler_ramp
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.speckle.complex_fields import to_power
from sarstack.speckle.decorrelate import fit_decorrelator
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape, Window
from sarstack.workflows.despeckle.memory import worker_memory_bytes
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

HALO = 2
SOURCE = f'''
import numpy as np

from sarstack.despecklers import Despeckler
from sarstack.speckle.moving_window import box_mean


class RealPart(Despeckler):
    """Twice the mean power of the real part: intensity alone does not suffice for it."""

    name, halo, needs_complex = "real-part", {HALO}, True

    def despeckle(self, numbers, statistics, summary=None):
        assert numbers.dtype == np.complex64
        valid = np.isfinite(numbers)
        assert not np.isnan(numbers.real[valid]).any()
        assert np.isnan(numbers.real[~valid]).all() and np.isnan(numbers.imag[~valid]).all()
        mean = box_mean(2 * numbers.real**2, valid, 2 * self.halo + 1)
        return np.where(valid, np.maximum(mean, 1e-30), np.nan).astype(np.float32)
'''


class BothParts(Despeckler):
    """Mean of the estimates from the real and from the imaginary part."""

    name: ClassVar[str] = "both-parts"
    needs_complex: ClassVar[bool] = True
    halo = HALO

    def despeckle(self, intensity: Any, statistics: Any, summary: Any = None) -> NDArray[Any]:
        boxcar = Boxcar(2 * HALO + 1)
        estimates = [boxcar.despeckle(2 * part**2, statistics)
                     for part in (intensity.real, intensity.imag)]  # fmt: skip
        return np.asarray(np.maximum(sum(estimates) / 2, np.float32(1e-30)))


@pytest.fixture
def method(tmp_path: Path) -> str:
    path = tmp_path / "real_part.py"
    path.write_text(SOURCE, encoding="utf-8")
    return f"{path}:RealPart"


def mean_of_real_part(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Oracle: SciPy's mean of valid pixels; outside of the image there are none."""
    valid = np.isfinite(numbers)
    power = np.where(valid, 2 * numbers.real.astype(float) ** 2, 0)
    total, count = (
        uniform_filter(a.astype(float), 2 * HALO + 1, mode="constant") for a in (power, valid)
    )
    return np.where(valid, total / np.maximum(count, 1e-9), np.nan)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_laws_run_on_a_method_of_complex_numbers(law: Law) -> None:
    assert find_violation(BothParts(), law) == ""


def test_the_laws_find_a_method_whose_complex_halo_is_too_small() -> None:
    small = BothParts()
    small.halo = HALO - 1
    found = {law.name: find_violation(small, law) for law in LAWS}
    assert {name for name, text in found.items() if text} == {"halo", "tiling"}


@pytest.mark.parametrize("cluster", [None, "local"])
def test_a_run_gives_the_complex_numbers_of_each_burst(
    tmp_path: Path, method: str, cluster: str | None
) -> None:
    """Threads and worker processes; tiles are smaller than the image."""
    bursts = make_bursts(top=0, bottom=0)
    numbers = {key: simulate_slc(i) for i, key in enumerate(("iw1-vv", "iw2-vv"))}
    written = write_safe(tmp_path / "slc", numbers, product_type="SLC", bursts=bursts)
    outcome = despeckle(
        DespeckleConfig.make(
            stack=str(written.path), output=str(tmp_path / "out"), method=method, workers=2,
            calibration="dn", tile_px=256, keep_bits=23, cluster=cluster,
        )
    )  # fmt: skip
    assert len(outcome.outputs) == 2
    rasters = index_stack(written.path, calibration="dn").rasters["vv"]
    for path in outcome.outputs:
        stored = numbers[f"{path.stem[4:7]}-vv"]
        marked = np.where(find_valid(bursts) & (stored != 0), stored, complex(np.nan, np.nan))
        # Without the Doppler ramp: the real part depends on it.
        annotation = f"annotation/{path.stem.removesuffix('_real-part')}.xml"
        ramp = read_doppler_ramp(SafeProduct(str(written.path)), annotation)
        whole = Window(0, SHAPE[0], 0, SHAPE[1])
        marked = marked * np.exp(-1j * ramp.phase(whole))
        [raster] = [r for r in rasters if r.stem == path.stem.removesuffix("_real-part")]
        marked = find_decorrelator(raster).centre(marked.astype(np.complex64))
        parts = marked.reshape(-1, LINES, SHAPE[1])
        expected = np.concatenate([mean_of_real_part(burst) for burst in parts])
        found = sarstack.open_stack(path).vv.values[0]
        assert found.dtype == np.float32
        assert_allclose(found, expected, rtol=1e-5)


def test_a_stack_of_intensity_is_refused_before_work_starts(tmp_path: Path, method: str) -> None:
    write_tif(tmp_path / "a_20210304_vv.tif", simulate_slc(1))
    write_tif(tmp_path / "b_20210316_vv.tif", np.abs(simulate_slc(2)) ** 2 / 1e5)
    config = DespeckleConfig.make(
        stack=str(tmp_path), output=str(tmp_path / "out"), method=method, scale="linear"
    )
    with pytest.raises(UsageError, match="real-part needs single look complex images") as caught:
        plan_despeckle(config)
    error = caught.value
    assert error.expected
    assert error.do
    assert [*error.where] == ["b_20210316_vv.tif"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("chunks", [None, 23])
@pytest.mark.parametrize("as_dataset", [True, False])
def test_the_accessor_takes_complex_cubes(
    method: str, chunks: int | None, as_dataset: bool
) -> None:
    numbers = simulate_slc(4, (50, 61))
    numbers[3, 4:9] = complex(np.nan, 1)
    array = xr.DataArray(numbers, dims=("y", "x"), name="vh", attrs={"orbit": 3})
    given: Any = array.to_dataset() if as_dataset else array
    given = given if chunks is None else given.chunk(y=chunks, x=chunks)
    before = given.copy(deep=True)
    found = given.despeck.apply(method)
    found = found.vh if as_dataset else found
    assert isinstance(found.data, np.ndarray if chunks is None else da.Array)
    assert found.dtype == np.float32
    marked = np.where((numbers == 0) | np.isnan(numbers), complex(np.nan, np.nan), numbers)
    centred = fit_decorrelator([marked.astype(np.complex64)]).centre(marked.astype(np.complex64))
    assert_allclose(found.values, mean_of_real_part(centred), rtol=1e-4)
    assert found.attrs["scale"] == "linear"
    assert found.attrs["orbit"] == 3
    xr.testing.assert_identical(given.compute(), before.compute())


def test_the_accessor_gives_the_pixels_of_a_run(tmp_path: Path, method: str) -> None:
    """Also the middle of the spectrum is that of a run."""
    dates = [draw_field(i, (150, 190), centre=(0.2, -0.1)) for i in range(2)]
    for day, numbers in zip(("04", "16"), dates, strict=True):
        write_tif(tmp_path / f"a_202103{day}_vv.tif", numbers)
    config = DespeckleConfig.make(
        stack=str(tmp_path), output=str(tmp_path / "out"), method=method, keep_bits=23, workers=1
    )
    outcome = despeckle(config)
    array = xr.DataArray(np.stack(dates), dims=("time", "y", "x"), name="vv")
    for lazy in (array, array.chunk(y=70, x=100)):
        found = lazy.despeck.apply(method).values
        for date, path in zip(found, outcome.outputs, strict=True):
            assert_allclose(date, sarstack.open_stack(path).vv.values[0], rtol=1e-4, atol=1e-6)


def test_real_arrays_are_refused_by_accessor_and_apply(method: str) -> None:
    real = draw_landscape(3, (40, 50), holes=False)
    despeckler = make_despeckler(method)
    for job in (
        lambda: despeckler.apply(real),
        lambda: xr.DataArray(real, dims=("time", "y", "x"), name="vv").despeck.apply(method),
        lambda: make_despeckler("rabasar", ratio_method=method),
    ):
        with pytest.raises(UsageError, match="complex"):
            job()


def test_statistics_of_complex_numbers_are_those_of_their_intensity() -> None:
    despeckler = pickle.loads(pickle.dumps(BothParts()))
    block = draw_landscape(1, (300, 290), holes=True, despeckler=despeckler)
    assert measure_scene(block) == measure_scene(to_power(block))
    # A method for intensity takes complex numbers as their power.
    assert_array_equal(Boxcar(5).apply(block), Boxcar(5).apply(to_power(block)))


def test_memory_and_reading_count_eight_bytes_a_pixel(tmp_path: Path, method: str) -> None:
    write_tif(tmp_path / "a_20210304_vv.tif", simulate_slc(1))
    settings = {"stack": str(tmp_path), "output": str(tmp_path / "out"), "tile_px": 1024}
    needs_complex = make_despeckler(method)
    boxcar = make_despeckler("boxcar", window_px=2 * HALO + 1)
    config = DespeckleConfig.make(**settings)
    layout = Layout(n_processes=1, n_threads=3, gpus=(), n_cores=3, in_processes=False)
    more, less = (
        worker_memory_bytes(m, config, Shape(5000, 5000), [], layout)
        for m in (needs_complex, boxcar)
    )
    assert more - less == 3 * 4 * (1024 + 2 * HALO) ** 2
    of_power = {"method": "boxcar", "parameters": {"window_px": 2 * HALO + 1}}
    plans = [
        plan_despeckle(DespeckleConfig.make(**settings, **chosen))
        for chosen in ({"method": method}, of_power)
    ]
    assert plans[0].bytes_to_read == pytest.approx(2 * plans[1].bytes_to_read, abs=1)
    assert "real-part" in plans[0].render()


def test_the_benchmark_scores_complex_fields_where_there_are_some(tmp_path: Path) -> None:
    methods = {"both": BothParts(), "boxcar": Boxcar(2 * HALO + 1)}
    table, _ = bench_suite(SUITES["single-look"], methods, 96, 0)
    # The same mean of the same field.
    assert table.rows["both"]["rmse_db"] == pytest.approx(table.rows["boxcar"]["rmse_db"], rel=1e-4)
    table, _ = bench_suite(SUITES["rtc"], methods, 96, 0)
    assert list(table.rows) == ["boxcar"]
    assert measure_speed(BothParts(), 64) > 0
