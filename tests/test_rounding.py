"""Rounding of results to few bits of mantissa, and their compression."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_array_equal

from sarstack.cli.commands import run
from sarstack.errors import UsageError
from sarstack.output.cog import check_compression
from sarstack.output.rounding import ALL_BITS, round_mantissa


def any_bits(n: int) -> np.ndarray:
    """Draw float32 numbers of any bits: huge, tiny, infinite, all kinds of NaN; and round ones."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 2**32, n, np.uint64).astype(np.uint32).view(np.float32)
    ties = (1 + (2 * np.arange(512) + 1) / 1024).astype(np.float32)
    return np.concatenate([drawn, ties, np.float32([0, 1, np.inf, 3.4028235e38])])


@pytest.mark.parametrize("keep_bits", [7, 9, 12, 22])
def test_numbers_are_rounded_to_the_nearest_with_ties_to_even(keep_bits: int):
    numbers = any_bits(100_000)
    rounded = round_mantissa(numbers, keep_bits)
    with np.errstate(invalid="ignore"):
        mantissa, exponent = np.frexp(numbers.astype(np.float64))
        # np.rint rounds ties to even. The first bit of a mantissa is not stored.
        steps = np.rint(np.ldexp(mantissa, keep_bits + 1))
        expected = np.ldexp(steps, exponent - keep_bits - 1)
    usual = np.isfinite(numbers) & (np.abs(numbers) > 1e-37) & (np.abs(expected) < 3.4e38)
    assert_array_equal(rounded[usual], expected[usual])
    assert np.abs(rounded[usual] / numbers[usual].astype(float) - 1).max() <= 2.0 ** -(
        keep_bits + 1
    )
    assert_array_equal(np.isnan(rounded), np.isnan(numbers))
    assert_array_equal(np.isinf(rounded), np.isinf(numbers))


@pytest.mark.parametrize("keep_bits", [7, 12, 22])
def test_bits_are_those_of_numcodecs_in_any_shape(keep_bits: int):
    from numcodecs.bitround import BitRound

    numbers = any_bits(90_000)[: 300 * 300].reshape(300, 300)
    expected = BitRound(keep_bits).encode(numbers).view(np.float32).reshape(300, 300)
    for image, wanted in ((numbers, expected), (numbers[:, ::-3], expected[:, ::-3])):
        rounded = round_mantissa(image, keep_bits)
        assert rounded.shape == image.shape
        mask = np.isfinite(image) & np.isfinite(wanted)
        assert_array_equal(rounded[mask].view("u4"), wanted[mask].view("u4"))
        assert_array_equal(rounded[~mask].view("u4"), image[~mask].view("u4"))


def test_all_bits_are_kept_on_request():
    numbers = any_bits(1000)
    assert_array_equal(round_mantissa(numbers, ALL_BITS).view("u4"), numbers.view("u4"))


def read_levels(path: Path) -> list[np.ndarray]:
    with rasterio.open(path) as image:
        n_overviews = len(image.overviews(1))
    levels = []
    for level in (None, *range(n_overviews)):
        with rasterio.open(path, overview_level=level) as image:
            levels.append(image.read(1))
    return levels


def test_results_are_rounded_by_default_and_have_all_bits_on_request(make_stack, tmp_path: Path):
    stack = make_stack(shape=(600, 520), n_dates=1, polarisations=("vv",))
    folders = {bits: tmp_path / str(bits) for bits in (12, 23)}
    command = ["despeckle", str(stack.folder), "--method", "lee", "-o"]
    assert run([*command, str(folders[12])]) == 0
    options = ["--keep-bits", "23", "--compress", "deflate"]
    assert run([*command, str(folders[23]), *options]) == 0
    paths = {bits: next(folder.glob("*.tif")) for bits, folder in folders.items()}
    rounded, exact = (read_levels(paths[bits]) for bits in (12, 23))
    assert len(rounded) == len(exact) == 2
    assert_array_equal(rounded[0], round_mantissa(exact[0], 12))
    for level in rounded:
        assert not (level[np.isfinite(level)].view("u4") & (2**11 - 1)).any()
    for bits, compression in ((12, "zstd"), (23, "deflate")):
        with rasterio.open(paths[bits]) as image:
            assert image.tags()["MANTISSA_BITS"] == str(bits)
            assert image.compression.name == compression
    assert paths[12].stat().st_size < 0.65 * paths[23].stat().st_size


def test_results_with_other_bits_are_not_mixed(make_stack, tmp_path: Path, capsys):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    command = ["despeckle", str(stack.folder), "--method", "boxcar", "-o", str(tmp_path / "out")]
    assert run(command) == 0
    assert run([*command, "--keep-bits", "9"]) == 5
    assert "other settings" in capsys.readouterr().err
    assert run([*command, "--compress", "deflate"]) == 0  # the pixels are the same


def test_a_compression_that_gdal_lacks_is_named_before_work():
    check_compression("zstd")
    with pytest.raises(UsageError, match="cannot compress with no-such"):
        check_compression("no-such")


@pytest.mark.parametrize("bits", ["6", "24", "x"])
def test_impossible_bits_are_refused(bits: str, make_stack, tmp_path: Path):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    assert run(
        ["despeckle", str(stack.folder), "--keep-bits", bits, "-o", str(tmp_path / "o")]
    ) in {
        2,
        5,
    }
    assert not (tmp_path / "o").exists()
