"""Runs with --decorrelate: bursts apart, statistics and tags of the result, the same in tiles."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from test_decorrelate import BAND, correlation, draw_field
from written_images import write_tif
from written_safe import write_safe

from sarstack.cli.commands import run
from sarstack.errors import ConfigError, UsageError
from sarstack.readers import index_stack
from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.decorrelated import (
    DecorrelatedRaster,
    decorrelate_stack,
    find_decorrelator,
    read_centred,
)
from sarstack.readers.raster import Raster
from sarstack.readers.sentinel1.doppler import read_doppler_ramp
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.speckle.complex_fields import to_power
from sarstack.tiles import Window
from sarstack.workflows.settings import DespeckleConfig

N_BURSTS, LINES, SAMPLES = 3, 110, 230
SHAPE = (N_BURSTS * LINES, SAMPLES)
WHOLE = Window(0, SHAPE[0], 0, SHAPE[1])


def to_whole(numbers: Any) -> Any:
    return (numbers.real.round() + 1j * numbers.imag.round()).astype(np.complex64)


def write_product(folder: Path) -> Any:
    """Bursts with a Doppler ramp, of which the second is brighter, and black lines between."""
    bursts = np.full((2, N_BURSTS, LINES), -1)
    bursts[0, :, 4:-5], bursts[1, :, 4:-5] = 3, SAMPLES - 5
    flat = np.concatenate([draw_field(i, (LINES, SAMPLES), centre=(0, 0)) for i in range(N_BURSTS)])
    flat[LINES : 2 * LINES] *= 5
    # The annotation exists after the first writing only.
    start = write_safe(folder / "first", {"iw1-vv": flat}, product_type="SLC", bursts=bursts)
    [annotation] = (start.path / "annotation").glob("*.xml")
    ramp = read_doppler_ramp(SafeProduct(str(start.path)), f"annotation/{annotation.name}")
    numbers = to_whole(2000 * flat * np.exp(1j * ramp.phase(WHOLE)))
    return write_safe(folder / "slc", {"iw1-vv": numbers}, product_type="SLC", bursts=bursts)


@pytest.fixture
def product(tmp_path: Path) -> Any:
    return write_product(tmp_path)


def open_raster(product: Any) -> tuple[Raster, Raster]:
    stack = decorrelate_stack(index_stack(product.path, calibration="dn"))
    [found] = stack.rasters["vv"]
    assert isinstance(found, DecorrelatedRaster)
    return pickle.loads(pickle.dumps(found)), found.stored


def test_each_burst_is_decorrelated_alone(product: Any) -> None:
    raster, stored = open_raster(product)
    decorrelator = find_decorrelator(stored)
    assert abs(decorrelator.y.centre) < 0.01
    assert decorrelator.y.bandwidth == pytest.approx(BAND[0], abs=0.03)
    before, after = (read_complex(r, WHOLE, baseband=True) for r in (stored, raster))
    assert_array_equal(np.isnan(before), np.isnan(after))
    for first in range(0, SHAPE[0], LINES):
        rows = slice(first, first + LINES)
        expected = decorrelator.centre(decorrelator.apply(before[rows], (first, 0)), (first, 0))
        assert_allclose(after[rows], expected, rtol=0, atol=0.05)
        assert correlation(after[rows], 0) == pytest.approx(np.sinc(BAND[0]), abs=0.05)


def test_numbers_keep_the_phase_of_the_file_and_intensity_is_their_power(product: Any) -> None:
    raster, stored = open_raster(product)
    found, original = (read_complex(r, WHOLE) for r in (raster, stored))
    valid = np.isfinite(found)
    product_of_both = found[valid] * original[valid].conj()
    coherence = abs(product_of_both.sum()) / np.sqrt(
        (np.abs(found[valid]) ** 2).sum() * (np.abs(original[valid]) ** 2).sum()
    )
    assert coherence > 0.95
    assert_allclose(raster.read(WHOLE), to_power(found), rtol=1e-5)
    part = Window(60, 171, 20, 200)  # a tile across bursts
    assert_allclose(raster.read(part), raster.read(WHOLE)[part.slices], rtol=1e-4, atol=1)


def despeckle(product: Any, output: Path, *options: str) -> Path:
    arguments = ["despeckle", str(product.path), "-o", str(output), "--method", "boxcar",
                 "--calibration", "dn", "--workers", "2", *options]  # fmt: skip
    assert run(["-q", *arguments]) == 0
    [path] = output.glob("*_boxcar.tif")
    return path


def read_result(path: Path) -> tuple[Any, dict[str, str]]:
    with rasterio.open(path) as file:
        return file.read(1), file.tags()


@pytest.mark.parametrize("cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_decorrelates_first_and_says_so(product: Any, tmp_path: Path, cluster: bool) -> None:
    on = ["--cluster"] if cluster else []
    plain, plain_tags = read_result(despeckle(product, tmp_path / "plain"))
    path = despeckle(product, tmp_path / "white", "--decorrelate", *on)
    white, tags = read_result(path)
    assert tags["DECORRELATED"] == "yes"
    assert "DECORRELATED" not in plain_tags
    assert tags["SARSTACK_FINGERPRINT"] != plain_tags["SARSTACK_FINGERPRINT"]
    # Statistics are those of the speckle that the method gets.
    before, after = (float(t["SPECKLE_CORRELATION"].split()[0]) for t in (plain_tags, tags))
    assert after < before - 0.1
    assert_array_equal(np.isnan(white), np.isnan(plain))
    assert np.nanmean(white) == pytest.approx(np.nanmean(plain), rel=0.01)
    # Less correlated speckle is averaged better.
    burst = np.s_[2 * LINES + 12 : -12, 20:-20]
    assert white[burst].std() < 0.93 * plain[burst].std()


def test_intensity_images_are_refused(tmp_path: Path) -> None:
    write_tif(tmp_path / "a_20210304_vv.tif", np.abs(draw_field(2, (90, 80))) ** 2)
    with pytest.raises(UsageError, match="single look complex") as caught:
        decorrelate_stack(index_stack(tmp_path))
    assert "a_20210304_vv.tif" in caught.value.where
    assert "give the SLC" in caught.value.do
    assert run(["-q", "despeckle", str(tmp_path), "--decorrelate"]) == 2


def test_finetuning_on_correlated_speckle_is_refused() -> None:
    with pytest.raises(ConfigError, match="--decorrelate"):
        DespeckleConfig.make(stack="slc", decorrelate=True, finetune=True)


def test_methods_of_complex_numbers_get_a_centred_spectrum(tmp_path: Path) -> None:
    numbers = to_whole(1000 * draw_field(3, (200, 260), centre=(0.2, -0.1)))
    write_tif(tmp_path / "a_20210304_vv.tif", numbers)
    [raster] = index_stack(tmp_path).rasters["vv"]
    window = Window(0, 200, 0, 260)

    def dependence(z: Any) -> float:
        """Correlation of the power of the real and the imaginary part at neighbours."""
        a, b = z.real[:, 1:] ** 2, z.imag[:, :-1] ** 2
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    assert dependence(read_complex(raster, window)) > 0.05
    centred = read_centred(raster, window)
    assert abs(dependence(centred)) < 0.02
    part = Window(50, 120, 30, 99)
    assert_allclose(read_centred(raster, part), centred[part.slices], rtol=0, atol=0.01)


def decorrelate(product: Any, output: Path, *options: str) -> tuple[Any, Any]:
    """Run the command; return the numbers and the open file's profile, tags and points."""
    source = getattr(product, "path", product)
    assert run(["-q", "decorrelate", str(source), "-o", str(output), "--workers", "2",
                *options]) == 0  # fmt: skip
    [path] = output.glob("*.tif")
    with rasterio.open(path) as file:
        return file.read(1), (file.transform, file.tags(), file.gcps[0], file.nodata)


def test_the_command_writes_complex_images(product: Any, tmp_path: Path) -> None:
    raster, _ = open_raster(product)
    found, (_, tags, points, nodata) = decorrelate(product, tmp_path / "out", "--calibration", "dn")
    assert found.dtype == np.complex64
    assert_allclose(found, read_complex(raster, WHOLE), rtol=0, atol=0.1)
    assert np.isnan(nodata)
    assert len(points) == 9
    assert tags["DECORRELATED"] == "yes"
    assert float(tags["BANDWIDTH"].split()[1]) == pytest.approx(BAND[1], abs=0.03)
    # Again with the same settings: nothing to do. With others: refused.
    command = ["-q", "decorrelate", str(product.path), "-o", str(tmp_path / "out")]
    [path] = (tmp_path / "out").glob("*.tif")
    before = path.stat().st_mtime_ns
    assert run([*command, "--calibration", "dn"]) == 0
    assert path.stat().st_mtime_ns == before
    assert run([*command, "--calibration", "beta0"]) == 5
    # It is checked without a dB view, which complex numbers do not have.
    assert run(["-q", "check", str(tmp_path / "out")]) == 0
    # The result is input of the other commands.
    assert index_stack(path).rasters["vv"][0].complex_as == "intensity"


def test_an_image_without_data_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "a_20210304_vv.tif", np.zeros((90, 80), np.complex64))
    write_tif(tmp_path / "a_20210316_vv.tif", draw_field(3, (90, 80)))
    assert run(["-q", "decorrelate", str(tmp_path), "-o", str(tmp_path / "out")]) == 6
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_20210316_vv_decorrelated.tif"]
    text = capsys.readouterr().err
    assert "a_20210304_vv.tif: the image has no valid pixel" in text
    assert run(["-q", "decorrelate", str(tmp_path / "a_20210316_vv.tif"), "-o", str(tmp_path)]) == 2
    assert "has images of the stack" in capsys.readouterr().err


def test_a_doppler_ramp_that_stays_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a GeoTIFF that was cut from a burst nobody knows the ramp."""
    chirp = np.exp(1j * np.pi * 2e-3 * np.arange(300) ** 2)[:, np.newaxis]
    write_tif(tmp_path / "ramp_vv.tif", (draw_field(3, (300, 200)) * chirp).astype(np.complex64))
    _, (_, tags, _, _) = decorrelate(tmp_path / "ramp_vv.tif", tmp_path / "out", "--resample")
    assert "BASEBAND" not in tags
    text = capsys.readouterr().err
    assert "the spectrum is not symmetric around zero" in text
    assert "not resampled along y, where" in text
    command = ["despeckle", str(tmp_path / "ramp_vv.tif"), "-o", str(tmp_path / "lee"), "--method",
               "lee", "--decorrelate", "--dry-run"]  # fmt: skip
    assert run(command) == 0
    assert "the spectrum is not symmetric around zero" in capsys.readouterr().err


def test_the_command_resamples_bursts_and_points(product: Any, tmp_path: Path) -> None:
    found, (_, tags, points, _) = decorrelate(
        product, tmp_path / "out", "--resample", "--calibration", "dn"
    )
    assert_allclose(found.shape, np.multiply(SHAPE, BAND), rtol=0.05)
    assert tags["BASEBAND"] == "yes"
    factor = found.shape[0] / SHAPE[0]
    assert max(p.row for p in points) == pytest.approx((SHAPE[0] - 1) * factor, abs=0.5)
    # The bright burst in the middle does not leak into its neighbours.
    means = [np.nanmean(to_power(found[int(y * factor) : int((y + 60) * factor)]))
             for y in (25, 135, 245)]  # fmt: skip
    assert_allclose(means, np.array([1, 25, 1]) * means[0], rtol=0.1)
    burst = found[int(120 * factor) : int(210 * factor), 8:-8]
    assert max(correlation(burst, axis) for axis in (0, 1)) < 0.06


def test_a_resampled_image_keeps_its_place(tmp_path: Path) -> None:
    numbers = to_whole(1000 * draw_field(3, (200, 260)))
    place = rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)
    with rasterio.open(
        tmp_path / "a_20210304_vv.tif", "w", driver="GTiff", height=200, width=260, count=1,
        dtype="complex64", crs="EPSG:32633", transform=place,
    ) as file:  # fmt: skip
        file.write(numbers, 1)
    path = tmp_path / "a_20210304_vv.tif"
    found, (transform, _, _, _) = decorrelate(path, tmp_path / "out", "--resample")
    corner = transform * (found.shape[1], found.shape[0])
    assert_allclose(corner, place * (260, 200), atol=15)
    assert_allclose(transform * (0, 0), place * (0, 0))
