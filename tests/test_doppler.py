"""The Doppler ramp of TOPS bursts: removed, the spectrum is the same everywhere in a burst."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from written_safe import (
    CENTROID,
    FM_RATE,
    RADAR_HZ,
    RANGE_ORIGIN_S,
    SAMPLING_HZ,
    SPEED_M_S,
    STEERING_DEG_S,
    write_safe,
)

from sarstack.errors import StackReadError
from sarstack.readers import index_stack
from sarstack.readers.complex_numbers import read_complex
from sarstack.readers.sentinel1.doppler import read_doppler_ramp
from sarstack.readers.sentinel1.product import SafeProduct
from sarstack.tiles import Window

AZORES = Path(__file__).parents[2] / "shared" / "data" / "slc" / "s1-crop-azores"
N_BURSTS, LINES, SAMPLES, INTERVAL_S, NEAR_S = 2, 512, 160, 2e-3, 5.35e-3
SHAPE = (N_BURSTS * LINES, SAMPLES)
WHOLE = Window(0, SHAPE[0], 0, SHAPE[1])


def phase_of_pixels(y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """The formulas of ESA's note."""
    light = 299792458.0

    def along_range(coefficients: tuple[float, ...], column: Any) -> Any:
        tau = NEAR_S + column / SAMPLING_HZ - RANGE_ORIGIN_S
        return sum(c * tau**i for i, c in enumerate(coefficients))

    k_s = 2 * SPEED_M_S / light * RADAR_HZ * np.deg2rad(STEERING_DEG_S)
    k_a, f_dc = along_range(FM_RATE, x), along_range(CENTROID, x)
    k_t = k_s / (1 - k_s / k_a)
    middle = along_range(CENTROID, SAMPLES / 2) / along_range(FM_RATE, SAMPLES / 2)
    eta = (y % LINES - LINES / 2) * INTERVAL_S - (-f_dc / k_a + middle)
    return np.asarray(np.pi * k_t * eta**2 + 2 * np.pi * f_dc * eta)


def draw_band(rng: np.random.Generator, shape: tuple[int, int], width: float) -> NDArray[Any]:
    """Noise whose azimuth spectrum is a Hamming window of a part of the sampling rate."""
    frequency = np.fft.fftfreq(shape[0])
    window = 0.75 + 0.25 * np.cos(2 * np.pi * frequency / width)
    window[np.abs(frequency) > width / 2] = 0
    parts = rng.normal(size=(2, *shape))
    return np.fft.ifft((parts[0] + 1j * parts[1]) * window[:, None], axis=0)


def write_tops(folder: Path, **settings: Any) -> tuple[Any, NDArray[Any]]:
    """A product of bursts with a ramp, and the numbers without it."""
    rng = np.random.default_rng(2)
    flat = np.concatenate([draw_band(rng, (LINES, SAMPLES), 0.65) for _ in range(N_BURSTS)])
    flat *= 3000 / np.abs(flat).mean()
    numbers = flat * np.exp(1j * phase_of_pixels(*np.ogrid[: SHAPE[0], :SAMPLES]))
    numbers = (numbers.real.round() + 1j * numbers.imag.round()).astype(np.complex64)
    bursts = np.zeros((N_BURSTS, LINES), int), np.full((N_BURSTS, LINES), SAMPLES - 1)
    written = write_safe(
        folder, {"iw1-vv": numbers}, product_type="SLC", bursts=bursts, interval_s=INTERVAL_S,
        near_range=NEAR_S, **settings,
    )  # fmt: skip
    return written, flat


def azimuth_profile(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Mean power spectrum along the rows, from -0.5 to 0.5 of the sampling rate, sum 1."""
    power = (np.abs(np.fft.fft(numbers, axis=0)) ** 2).mean(axis=1)
    power = np.fft.fftshift(power).reshape(16, -1).mean(axis=1)
    return np.asarray(power / power.sum())


def find_centre(numbers: NDArray[Any]) -> float:
    """Centre of the azimuth spectrum, as a part of the sampling rate."""
    unit = numbers / np.maximum(np.abs(numbers), 1e-9)  # bright points count as other pixels
    return float(np.angle((unit[1:] * unit[:-1].conj()).mean()) / (2 * np.pi))


@pytest.mark.parametrize("old", [False, True])
def test_baseband_undoes_the_ramp_of_a_simulated_product(tmp_path: Path, old: bool) -> None:
    written, flat = write_tops(tmp_path, old_doppler=old)
    [raster] = index_stack(written.path, calibration="dn").rasters["vv"]
    found = read_complex(raster, WHOLE, baseband=True)
    assert_allclose(found, flat, atol=3)  # whole numbers were written
    stored = read_complex(raster, WHOLE)
    assert_allclose(np.abs(found), np.abs(stored), rtol=1e-6)
    part = Window(400, 700, 30, 51)  # a tile across two bursts
    assert_array_equal(read_complex(raster, part, baseband=True), found[part.slices])


def test_the_spectrum_is_the_same_in_all_parts_of_a_burst_and_centred(tmp_path: Path) -> None:
    written, _ = write_tops(tmp_path)
    [raster] = index_stack(written.path).rasters["vv"]
    parts = [Window(y0, y0 + 64, 0, SAMPLES) for y0 in range(0, SHAPE[0], 64)]
    before, after = (
        np.array([azimuth_profile(read_complex(raster, p, baseband=b)) for p in parts])
        for b in (False, True)
    )
    assert np.abs(before - before.mean(axis=0)).max() > 0.04
    assert np.abs(after - after.mean(axis=0)).max() < 0.02
    for part in parts:
        assert abs(find_centre(read_complex(raster, part, baseband=True))) < 0.01


def test_a_product_without_doppler_tables_is_refused(tmp_path: Path) -> None:
    written, _ = write_tops(tmp_path, has_doppler=False)
    [raster] = index_stack(written.path).rasters["vv"]
    with pytest.raises(StackReadError, match="Doppler"):
        raster.check_baseband()


def test_a_real_burst_over_land_is_in_baseband() -> None:
    """Measured: centre within 0.011 of the sampling rate; 0.5 before, with the ramp."""
    if not AZORES.exists():
        pytest.skip(f"needs {AZORES}")
    [annotation], [image] = AZORES.glob("*.xml"), AZORES.glob("*.tiff")
    with rasterio.open(image) as file:
        numbers = file.read(1).astype(np.complex64)
    ramp = read_doppler_ramp(SafeProduct(str(AZORES)), annotation.name)
    place = Window(9799, 9799 + len(numbers), 10999, 10999 + numbers.shape[1])
    flat = numbers * np.exp(-1j * ramp.phase(place))
    # The sea in the lower part is darker than the ambiguities of the land.
    strips = [slice(y0, y0 + 48) for y0 in range(0, 240, 48)]
    assert max(abs(find_centre(flat[rows])) for rows in strips) < 0.02
    assert max(abs(find_centre(numbers[rows])) for rows in strips) > 0.1
    profiles = [azimuth_profile(flat[rows]) for rows in strips]
    assert np.abs(np.array(profiles) - np.mean(profiles, axis=0)).max() < 0.02
