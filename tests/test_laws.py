"""Every despeckler keeps the laws of `sarstack.evaluation.laws`, and the laws find a broken one."""

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.despecklers.methods.boxcar import Boxcar
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.despecklers.registry import builtin_classes
from sarstack.evaluation.law_images import draw_landscape, multiply_power
from sarstack.evaluation.laws import (
    LAWS,
    SEED,
    Law,
    border_gradient_ratio,
    choose_arguments,
    despeckle_tiled,
    find_violation,
)
from sarstack.speckle.statistics import measure_scene

# A new file in despecklers/methods is under test without a change here.
METHODS = builtin_classes()
WINDOWED = [name for name, cls in METHODS.items() if issubclass(cls, MovingWindowMethod)]
NETWORKS = [name for name, cls in METHODS.items() if issubclass(cls, NetworkMethod)]
# With these the law of the mean tries only each second or fifth pair of looks and correlation.
# Each fifth has 1, 2 and 20 looks, and every correlation once; `test_inference` tries six more
# with most networks.
SLOWEST = {"mulog": 2, "mulog-bm3d": 5, "sar-bm3d": 5} | dict.fromkeys(NETWORKS, 5)
# The same code with fewer iterations: the halo and the time are a part of those of the default.
SETTINGS = {"mulog-bm3d": {"n_iterations": 1}, "mulog-cnn": {"n_iterations": 2},
            "mulog-cnn-sar": {"n_iterations": 2}}  # fmt: skip
BY_NAME = {law.name: law for law in LAWS}


def make_exact(name: str, precision: str = "float32") -> Despeckler:
    """Build a method that rounds to float32 on any processor."""
    settings = SETTINGS.get(name, {}) | ({"precision": precision} if name in NETWORKS else {})
    return make_despeckler(name, **settings)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_every_method_keeps_every_law(law: Law, name: str) -> None:
    despeckler = make_exact(name)
    if law.has_few_combinations:
        step = SLOWEST.get(name, 1) if law.name == "mean" else 1
        for arguments in list(choose_arguments(law, 0))[::step]:
            law.check(despeckler, **arguments)
        return
    n_examples = 3 if name in SLOWEST else 15

    @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
    @given(**{argument: st.integers(*limits) for argument, limits in law.ranges.items()})
    def run(**arguments: int) -> None:
        law.check(despeckler, **arguments)

    run()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", METHODS)
def test_no_method_warns_of_read_only_or_flipped_arrays(name: str) -> None:
    for arguments in choose_arguments(BY_NAME["memory_layout"], 0):
        BY_NAME["memory_layout"].check(make_exact(name), **arguments)


# ---- the laws find a broken method -----------------------------------------------------------


class _Broken(Boxcar):
    """A boxcar whose result is changed."""

    name: ClassVar[str] = "broken"

    def despeckle(self, intensity, statistics, summary=None):
        return self.change(super().despeckle(intensity, statistics), intensity)


class _MeanOfTheTile(_Broken):
    broken: ClassVar[str] = "tiling"

    def change(self, result, intensity):
        return result + np.float32(0.01) * np.nanmean(intensity)


class _AddsAConstant(_Broken):
    broken: ClassVar[str] = "scale"

    def change(self, result, intensity):
        return result + np.float32(0.001)


class _TooDark(_Broken):
    broken: ClassVar[str] = "mean"

    def change(self, result, intensity):
        return result * np.float32(0.98)


class _FillsHoles(_Broken):
    broken: ClassVar[str] = "nodata"

    def change(self, result, intensity):
        return np.nan_to_num(result, nan=np.float32(0.5))


class _ChangesItsInput(_Broken):
    broken: ClassVar[str] = "nodata"

    def change(self, result, intensity):
        intensity *= 2
        return result


class _HolesAreDark(Boxcar):
    name: ClassVar[str] = "broken"
    broken: ClassVar[str] = "nodata_acts_as_edge"

    def despeckle(self, intensity, statistics, summary=None):
        result = super().despeckle(np.nan_to_num(intensity), statistics)
        return np.where(np.isfinite(intensity), result, np.nan).astype(np.float32)


class _SmallHalo(Boxcar):
    name: ClassVar[str] = "broken"
    broken: ClassVar[str] = "halo"

    def __init__(self) -> None:
        super().__init__(window_px=7)
        self.halo = 2


class _TakesLogarithms(_Broken):
    broken: ClassVar[str] = "negative"

    def change(self, result, intensity):
        with np.errstate(invalid="ignore"):
            return np.exp(np.log(result - np.float32(0.02)))


class _NeedsThreeRows(_Broken):
    broken: ClassVar[str] = "size"

    def change(self, result, intensity):
        return result if len(intensity) > 2 else np.full_like(result, np.nan)


class _ReadsMemoryInOrder(_Broken):
    broken: ClassVar[str] = "memory_layout"

    def change(self, result, intensity):
        return result + 0 * result if intensity.flags.c_contiguous else 2 * result


@pytest.mark.parametrize("cls", [*_Broken.__subclasses__(), _HolesAreDark, _SmallHalo])
def test_the_laws_find_a_broken_method(cls: type[Despeckler]) -> None:
    assert find_violation(Boxcar(), BY_NAME[cls.broken]) == ""
    assert find_violation(cls(), BY_NAME[cls.broken])


def test_a_crash_inside_a_method_breaks_the_law() -> None:
    class Crash(_Broken):
        def change(self, result, intensity):
            raise ZeroDivisionError("division by zero in line 3")

    assert "line 3" in find_violation(Crash(), BY_NAME["size"])


# ---- stricter invariants of the methods of this package --------------------------------------


@pytest.mark.parametrize("name", WINDOWED)
def test_a_halo_that_is_one_pixel_too_small_breaks_the_law_of_tiles(name: str) -> None:
    despeckler = make_despeckler(name)
    block = draw_landscape(1, (80, 90), holes=False, despeckler=despeckler)
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    despeckler.halo -= 1
    with pytest.raises(AssertionError):
        assert_allclose(despeckle_tiled(despeckler, block, statistics, 16), whole, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_in_bfloat16_differ_by_rounding_only(name: str) -> None:
    """Tiles computed in bfloat16 show no seam."""
    despeckler, reference = (make_exact(name, precision) for precision in ("bfloat16", "float32"))
    shape = (60, 90 + 2 * despeckler.halo)
    block = draw_landscape(4, shape, holes=True, despeckler=despeckler)
    statistics = measure_scene(block)
    whole = despeckler.apply(block, statistics)
    tiled = despeckle_tiled(despeckler, block, statistics, 50)
    expected = reference.apply(block, statistics)
    for found in (whole, tiled):
        assert_array_equal(np.isnan(found), np.isnan(block))
        off_db = 10 * np.log10(found / expected)
        assert np.sqrt(np.nanmean(off_db**2)) < 0.03
        assert abs(np.nanmean(off_db)) < 0.005
        assert np.nanmax(np.abs(off_db)) < 0.5
    columns = {"columns": range(0, block.shape[2], 50)}
    found, expected = (border_gradient_ratio(image[0], **columns) for image in (tiled, whole))
    assert_allclose(found, expected, rtol=5e-3)


@pytest.mark.parametrize("name", METHODS)
def test_powers_of_two_scale_exactly(name: str) -> None:
    """A method adds no constant to pixels and compares them with no constant."""
    despeckler = make_exact(name)
    n_examples = 3 if name in SLOWEST else 15

    @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(*SEED), exponent=st.integers(-13, 13))
    def run(seed: int, exponent: int) -> None:
        block = draw_landscape(seed, (80, 77), holes=True, despeckler=despeckler)
        factor = np.float32(2.0**exponent)
        scaled = despeckler.apply(multiply_power(block, factor))
        expected = factor * despeckler.apply(block)
        if name not in WINDOWED:  # logarithms round: 2.8e-5 seen
            assert_allclose(scaled, expected, rtol=1e-4)
        else:
            assert_array_equal(scaled, expected)

    run()


@pytest.mark.parametrize("name", WINDOWED)
def test_a_constant_image_is_returned(name: str) -> None:
    block = np.full((2, 60, 50), 0.0123, np.float32)
    assert_allclose(make_despeckler(name).apply(block), block, rtol=1e-6)
