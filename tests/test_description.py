"""What ``cube.despeck`` says of itself."""

import numpy as np
import pytest
import xarray as xr
from written_html import read_html as read

import sarstack  # noqa: F401 - registers the accessor
from sarstack.errors import ScaleError


@pytest.mark.parametrize("lazy", [False, True])
def test_the_accessor_says_what_it_holds_without_reading_pixels(*, lazy: bool) -> None:
    pixels = np.full((5, 30, 40), 0.1, np.float32)
    times = np.datetime64("2024-01-01", "ns") + np.arange(5) * np.timedelta64(12, "D")
    array = xr.DataArray(pixels, {"time": times}, ("time", "y", "x"), "VV")
    if lazy:
        array = array.chunk().copy(data=array.chunk().data.map_blocks(refuse, dtype=np.float32))
    text = read(array.despeck._repr_html_())
    for fact in ("5, 2024-01-01 to 2024-02-18", "30 x 40 px", "despecknet-mt", "preview()"):
        assert fact in text
    assert ("lazy: results" in text) == lazy
    assert "default method: despecknet-mt" in repr(array.despeck)


def refuse(block: np.ndarray) -> np.ndarray:
    if block.size:
        raise AssertionError("a pixel was computed")
    return block


def test_the_accessor_of_something_else_says_why_it_cannot_be_used() -> None:
    text = read(xr.Dataset({"temperature": ("y", [1.0])}).despeck._repr_html_())
    assert "no backscatter variable" in text
    assert "apply()" not in text


def test_complex_numbers_can_be_despeckled_as_the_accessor_says() -> None:
    numbers = xr.DataArray(np.ones((30, 40), np.complex64), dims=("y", "x"))
    text = repr(numbers.despeck)
    assert "numbers: complex" in text
    assert "apply('merlin')" in text
    assert "cannot be despeckled" not in text
    assert "default method" not in text
    with pytest.raises(ScaleError, match="complex numbers") as caught:
        numbers.despeck.apply("lee")
    assert "apply('merlin')" in caught.value.do
