"""Odd values of users: an error in four parts, or the right result; never a traceback."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from written_images import speckle, write_tif

import sarstack
from sarstack.cli.commands import run
from sarstack.errors import ConfigError, SarstackError, ScaleError, StackError, UsageError
from sarstack.readers import index_stack
from sarstack.workflows.settings import DespeckleConfig, FinetuneConfig

DIMS = ("time", "y", "x")


def cube(n_dates: int = 3) -> xr.Dataset:
    times = np.datetime64("2024-01-01", "ns") + np.arange(n_dates) * np.timedelta64(12, "D")
    pixels = np.stack([speckle(i, shape=(24, 30)) for i in range(n_dates)])
    return xr.Dataset({"vv": (DIMS, pixels)}, {"time": times})


def assert_four_parts(error: SarstackError) -> None:
    assert error.what
    assert error.expected
    assert error.do


def of_dtype(dtype: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign(vv=ds.vv.astype(dtype))


def with_unknown_chunks(ds: xr.Dataset) -> xr.DataArray:
    pixels = da.from_array(ds.vv.values[0], chunks=16)
    return xr.DataArray(pixels[pixels[:, 0] > -1], dims=("y", "x"))


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(time=slice(0, 0)),
        lambda ds: ds.isel(y=slice(0, 0)),
        lambda ds: ds.isel(x=slice(0, 0)).chunk(),
        of_dtype(str),
        of_dtype(object),
        of_dtype(bool),
        of_dtype(complex),
        of_dtype("M8[ns]"),
        of_dtype([("a", "f4")]),
        with_unknown_chunks,
        lambda ds: ds.assign(vh=ds.vv.isel(time=0, drop=True)),
        lambda ds: ds.assign(vh=(("time", "lat", "lon"), np.ones((3, 4, 5)))),
        lambda ds: ds.assign(VV=ds.vv),
        lambda ds: ds.assign(vv=ds.vv.assign_attrs(crs="garbage")),
        lambda ds: ds.vv[0, 0],
        lambda ds: ds.vv.expand_dims(a=2),
        lambda _ds: xr.Dataset(),
    ],
)
def test_an_object_that_is_no_cube_is_refused_when_the_accessor_is_called(change: Any) -> None:
    for job in (lambda obj: obj.despeck.apply("boxcar"), lambda obj: obj.despeck.labels()):
        with pytest.raises((StackError, ScaleError)) as caught:
            job(change(cube()))
        assert_four_parts(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        of_dtype("f2"),
        of_dtype("f8"),
        of_dtype(">f4"),
        lambda ds: ds.transpose("x", "time", "y"),
        lambda ds: ds.assign_coords(time=np.array(["NaT"] * 3, "M8[ns]")),
        lambda ds: ds.assign_coords(time=ds.time.values[[2, 0, 0]]),
        lambda ds: ds.assign_coords(time=["a", "b", "c"]),
        lambda ds: ds.assign_coords(x=np.full(30, np.nan)),
        lambda ds: ds.chunk(time=2, y=7, x=11),
        lambda ds: ds.vv,
    ],
)
@pytest.mark.parametrize("method", ["boxcar", "quegan-yu"])
def test_odd_but_usable_objects_give_the_same_pixels(change: Any, method: str) -> None:
    given = change(cube())
    expected = cube().despeck.apply(method, looks=4)["vv"]
    found = given.despeck.apply(method, looks=4)
    found = found["vv"] if isinstance(found, xr.Dataset) else found
    tolerance = 2e-3 if "float16" in str(given) else 1e-5
    np.testing.assert_allclose(found.transpose(*DIMS), expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        *(("lee", {"looks": value}) for value in (-1, 0, np.nan, np.inf, "4", True, [4])),
        *(("boxcar", {"window_px": v}) for v in (-1, 0, 1, 4, 3.0, "7", None, 2**70 + 1)),
        ("boxcar", {"window_px": 10**9 + 1}),
        *(("lee-sigma", {"sigma": value}) for value in (0, 1, -1, np.nan, "a", None, [0.9])),
        *((value, {}) for value in ("", "nope", 5, [], b"lee", dict, "lee\0", "a\0.safetensors")),
        ("lee", {"colour": 1}),
        *(("despecknet-lite", {"device": value}) for value in ("gpu", 5, "meta", "cuda:x")),
        ("despecknet-lite", {"precision": [5]}),
        ("despecknet-lite", {"model": 5}),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused_at_the_call_also_if_nothing_is_computed(
    method: Any, parameters: dict[str, Any]
) -> None:
    with pytest.raises(SarstackError) as caught:
        cube().chunk().despeck.apply(method, **parameters)
    assert_four_parts(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        *({"rule": value} for value in ("x", 5, [])),
        *({"threshold": value} for value in (-1, 0, np.nan, "a")),
        *({"quantile": value} for value in (0, 1, np.nan, "a")),
        *({"multilook_px": value} for value in (0, 2, -3, "a", 10**9 + 1)),
        {"looks": -1},
    ],
)
def test_impossible_parameters_of_labels_are_refused_at_the_call(parameters: Any) -> None:
    with pytest.raises(UsageError) as caught:
        cube().chunk().despeck.labels(**parameters)
    assert_four_parts(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        *({"seed": value} for value in (-1, 2**70, 1.5)),
        *({"batch_size": value} for value in (0, 10**7)),
        *({"steps": value} for value in (0, -1, 10**12)),
        *({"patch_px": value} for value in (0, 10**6)),
        *({"learning_rate": value} for value in (0, np.nan, np.inf)),
        *({"looks": value} for value in (np.nan, np.inf, 0)),
        *({"bbox": value} for value in ((np.inf, 0, 1, 1), (0, 1, 2), (np.nan,) * 4)),
        {"output": "a\0b"},
        {"output": "a" * 300},
    ],
)
def test_impossible_settings_are_refused(entries: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        FinetuneConfig.make(stack="s", **entries)
    assert_four_parts(caught.value)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "stack: " + "[" * 100_000, "stack: " + "{a: " * 1000, "[1, 2]", "1: 2", "stack: [",
     "stack: !!python/object/apply:os.getcwd []", "stack: 2021-99-99", 'stack: "a\\0b"',
     "stack: x\n<<: 5", "stack: " + "x" * 2**21],
)  # fmt: skip
def test_settings_that_somebody_made_to_do_harm_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        DespeckleConfig.read(path)
    assert_four_parts(caught.value)


def test_settings_that_are_not_utf8_or_not_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"stack: \xff\xfe")
    for source in (path, tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigError) as caught:
            DespeckleConfig.read(source)
        assert_four_parts(caught.value)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    folder = tmp_path / "stack"
    folder.mkdir()
    write_tif(folder / "a_20210104_vv.tif", speckle())
    return folder


@pytest.mark.parametrize(
    "options",
    [
        *(("--bbox", v) for v in ("inf,0,1,1", "nan,0,1,1", "1,2,3", "a,b,c,d", "1,1,0,0",
                                  "-inf,-inf,inf,inf", "0,0,1,1")),
        *(("--tile-px", v) for v in ("0", "-5", "1000000000", "1.5")),
        *(("--looks", v) for v in ("nan", "inf", "-1", "0")),
        *(("--dates", v) for v in ("x", "2020-01-01/2020-02-01", "2021-02-01/2021-01-01", "NaT",
                                   "2021-13", "99999999999999", "a/b/c")),
        *(("--pol", v) for v in ("xx", "vh")),
        *(("--set", v) for v in ("window_px=0", "window_px=[", "window_px", "window_px=*a", "=3")),
        ("-o", "a\0b"),
        ("-o", "a" * 300),
    ],
)  # fmt: skip
def test_odd_options_end_with_a_clear_error(
    options: tuple[str, str], stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["-q", "despeckle", str(stack), "--method", "boxcar", *options])
    printed = capsys.readouterr().err
    assert code in (2, 3, 4, 5)
    assert "unexpected" not in printed
    assert ("do this" in printed and "expected" in printed) or "Usage" in printed


@pytest.mark.parametrize("path", ["", "\0", "a" * 300, "[", "/dev/null"])
def test_odd_paths_end_with_a_clear_error(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", path]) in (2, 3)
    assert "unexpected" not in capsys.readouterr().err


def test_a_file_name_that_is_not_utf8_is_refused_with_the_reason(stack: Path) -> None:
    renamed = os.fsencode(stack) + b"/b_20210116_\xffvv.tif"
    os.replace(stack / "a_20210104_vv.tif", renamed)  # noqa: PTH105 (Path takes no bytes)
    with pytest.raises(SarstackError, match="not UTF-8"):
        index_stack(stack)


def test_a_zarr_store_is_read_and_labels_are_made_without_a_warning(tmp_path: Path) -> None:
    """Users cannot do anything about the warnings of zarr."""
    store = tmp_path / "a.zarr"
    ds = cube().assign_coords(platform=("time", ["S1A", "S1B", "S1A"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_zarr(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = sarstack.open_stack(store)
        np.testing.assert_array_equal(opened["vv"].values, ds["vv"].values)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_usual_nodata_number_is_found_at_the_precision_of_the_array(dtype: str) -> None:
    """In float16, -9999 is stored as -10000."""
    ds = cube()
    holes = np.zeros(ds.vv.shape, bool)
    holes[:, 12, 15] = True
    filled = ds.assign(vv=ds.vv.where(~holes, -9999).astype(dtype))
    found = filled.despeck.apply("boxcar", looks=4)["vv"]
    np.testing.assert_array_equal(np.isnan(found), holes)
