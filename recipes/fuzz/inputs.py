"""Odd inputs of each kind: files that are damaged or strange, and calls with impossible values.

Each function draws one input, hands it to sarstack and compares the result with the truth. It
raises the error of sarstack if there is one.
"""

import contextlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from outcomes import WrongResultError, linear_intensity, require, require_equal
from rasterio.errors import RasterioIOError
from scipy.ndimage import uniform_filter

from sarstack.cli.commands import run
from sarstack.errors import EXIT_CODES, UsageError
from sarstack.networks.card import CARD_KEY, make_card
from sarstack.networks.model_file import load_model, read_header, save_model
from sarstack.networks.stored_weights import check_weights
from sarstack.networks.variants import build_network
from sarstack.readers import index_stack
from sarstack.tiles import Window
from sarstack.workflows.settings import DespeckleConfig

Generator = np.random.Generator
MAX_PIXELS = 2_000_000
# Reads of a damaged file until a difference counts.
N_READS = 20
NUMBERS = (0, -1, 1, 2, 3, 7, 1.5, -5, 1e9, 1e308, 2**31, 2**70, float("nan"), float("inf"),
           float("-inf"), None, True, "", "x", "4", "nan", "\0", [], [3], {},
           "a" * 5000)  # fmt: skip


def pick(rng: Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def speckle(
    rng: Generator, shape: tuple[int, ...],
    holes: tuple[float, ...] = (np.nan, 0, -9999, -0.01, 1e-30, 1e30, np.inf),
) -> Any:  # fmt: skip
    """Speckle on a flat scene, sometimes constant, with holes or single odd numbers."""
    pixels = 0.1 * rng.gamma(4.4, 1 / 4.4, shape)
    if rng.random() < 0.2:
        pixels[...] = 0.1
    if rng.random() < 0.4:
        pixels[rng.random(shape) < 0.2] = pick(rng, holes)
    return pixels


def damage(rng: Generator, content: bytes) -> bytes:
    """Change, cut, repeat or drop bytes."""
    data, how = bytearray(content), rng.integers(6)
    if how == 0 or not data:
        return bytes(data)
    if how == 1:
        return bytes(data[: int(rng.integers(len(data)))])
    first = int(rng.integers(min(len(data), 400) if how < 4 else len(data)))
    if how in (2, 4):
        for place in rng.integers(0, len(data) if how == 4 else min(len(data), 400), 1 + how):
            data[place] = int(rng.integers(256))
    elif how == 3:
        data[first : first + 4] = int(rng.integers(2**32)).to_bytes(4, "little")
    else:
        data[first : first + int(rng.integers(1, 200))] = bytes(int(rng.integers(200)))
    return bytes(data)


def write_tif(rng: Generator, path: Path, shape: tuple[int, int]) -> None:
    dtype = pick(rng, ("float32", "float32", "float64", "int16", "uint8", "uint16", "int32"))
    pixels = speckle(rng, shape)
    if np.dtype(dtype).kind != "f":
        limits = np.iinfo(dtype)
        pixels = np.clip(np.nan_to_num(pixels * 200, posinf=0), limits.min, limits.max)
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": dtype,
        "compress": pick(rng, (None, "deflate", "lzw", "zstd")),
        "crs": pick(rng, (None, "EPSG:32632", "EPSG:4326", "EPSG:3031")),
        "transform": pick(rng, (Affine(10, 0, 5e5, 0, -10, 5e6), Affine(1e-4, 0, 9, 0, 1e-4, 48),
                                Affine(7, 3, 1e5, 3, -7, 1e6), Affine.identity())),
    }  # fmt: skip
    if rng.random() < 0.5:
        profile |= {"tiled": True, "blockxsize": 16, "blockysize": 32}
    nodata = pick(rng, (None, 0, 255, 1, -9999, -1e-7, np.nan, -3.4028234663852886e38))
    with contextlib.suppress(ValueError, OverflowError):
        if nodata is not None and (
            np.dtype(dtype).kind == "f" or np.dtype(dtype).type(nodata) == nodata
        ):
            profile["nodata"] = nodata
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels.astype(dtype), 1)
        if rng.random() < 0.2:
            file.scales, file.offsets = (float(rng.uniform(0.1, 3)),), (float(rng.uniform(-1, 1)),)


def check_raster(path: Path, raster: Any, grid: Any) -> None:
    """Compare grid and pixels of a raster with those that rasterio reads.

    Where a damaged block ends early, GDAL can leave the memory of its last pixels as it was: then
    two reads of one file differ. So both are read again before a difference counts.
    """
    for _ in range(N_READS - 1):
        try:
            _compare_raster(path, raster, grid)
        except WrongResultError:
            continue
        return
    _compare_raster(path, raster, grid)


def _compare_raster(path: Path, raster: Any, grid: Any) -> None:
    try:
        with rasterio.open(path) as file:
            require(tuple(grid.shape) == file.shape, "the size differs")
            require(grid.gcps or grid.transform == tuple(file.transform)[:6], "transform differs")
            require(file.crs is None or file.crs == grid.crs, "the CRS differs")
            rows, columns = file.shape
            if rows * columns > MAX_PIXELS:
                rows, columns = min(rows, 32), min(columns, 32)
            stored = file.read(1, window=((0, rows), (0, columns)))
            truth = true_intensity(raster, stored, file)
    except RasterioIOError:
        # The pixels of the window are damaged: sarstack must find that, too.
        raster.read(Window(0, min(grid.shape.y, 32), 0, min(grid.shape.x, 32)))
        rows, columns = grid.shape
        raster.read(Window(0, rows, 0, columns))
        require(condition=False, reason="sarstack reads what rasterio cannot")
    found = raster.read(Window(0, rows, 0, columns))
    require_equal(found, truth, "pixels", raster.offset)


def true_intensity(raster: Any, stored: Any, file: Any) -> Any:
    """Return linear power from numbers, tag, gain and offset as rasterio reads them."""
    return linear_intensity(
        stored, file.nodatavals, file.scales[0] or 1.0, file.offsets[0] or 0.0,
        raster.undeclared, raster.lowest,
    )  # fmt: skip


def damaged_tif(rng: Generator, folder: Path) -> None:
    path = folder / "a_20210104_vv.tif"
    write_tif(rng, path, (int(rng.integers(1, 70)), int(rng.integers(1, 70))))
    path.write_bytes(damage(rng, path.read_bytes()))
    stack = index_stack(path, scale="linear")
    check_raster(path, stack.rasters["vv"][0], stack.grid)


def odd_folder(rng: Generator, folder: Path) -> None:
    """Images of several grids, types and names in one folder."""
    names = ("a_20210104_vv.tif", "b_20210116_vh.tif", "vv.tif", "ä 20210128T101010_VV.TIFF",
             "20210230_vv.tif", "x" * 200 + "_20210301_vv.tif", "S1A_20210404_hh.tif",
             "no date.tif", "a_20210104_vv_2.tif", "'; rm -rf x_20210505_vv.tif",
             "b\udcff_20210606_vv.tif", "a_vv_1.tif", "a_vv_2.tif",
             "{0}_20210708_vv.tif")  # fmt: skip
    shape = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    same = rng.integers(2**32)
    for name in rng.choice(len(names), size=int(rng.integers(1, 4)), replace=False):
        own = np.random.default_rng(same) if rng.random() < 0.7 else rng
        write_tif(own, folder / "t.tif", shape)
        os.replace(folder / "t.tif", os.fsencode(folder) + b"/" + os.fsencode(names[name]))  # noqa: PTH105
    stack = index_stack(folder, scale="linear")
    times = [date.time for date in stack.dates]
    require(times == sorted(times), "dates are not in order")
    paths = []
    for own_rasters in stack.rasters.values():
        for raster in own_rasters:
            if raster is not None:
                paths.append(raster.path)
                found = raster.read(Window(0, stack.grid.shape.y, 0, stack.grid.shape.x))
                require(found.shape == tuple(stack.grid.shape), "the size differs")
                with rasterio.open(raster.path) as file:
                    require(file.shape == tuple(stack.grid.shape), "grids of two sizes")
                    truth = true_intensity(raster, file.read(1), file)
                require_equal(found, truth, "pixels", raster.offset)
    require(len(paths) == len(set(paths)), "one file is read twice")


def write_store(rng: Generator, path: Path) -> None:
    n_dates, y, x = (int(rng.integers(1, n)) for n in (4, 30, 30))
    times = np.datetime64("2021-01-04", "ns") + 12 * np.arange(n_dates) * np.timedelta64(1, "D")
    pixels = speckle(rng, (n_dates, y, x)).astype(np.float32)
    axes = {"time": times, "y": 5e6 - 10.0 * np.arange(y), "x": 5e5 + 10.0 * np.arange(x)}
    ds = xr.Dataset({"vv": (("time", "y", "x"), pixels)}, axes)
    ds["vv"].attrs = {"units": pick(rng, ("1", "1", "", 3.5)), "crs": "EPSG:32632"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".zarr":
            ds.chunk(y=16, x=16).to_zarr(path, zarr_format=pick(rng, (2, 3)))
        else:
            ds.to_netcdf(path, engine=pick(rng, ("h5netcdf", "scipy")))


def odd_json(rng: Generator, value: Any) -> Any:
    """Replace one value somewhere in a JSON document."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = pick(rng, sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: odd_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = int(rng.integers(len(value)))
        return [*value[:place], odd_json(rng, value[place]), *value[place + 1 :]]
    return pick(rng, (*NUMBERS[:-1], [[[[]]]], {"a": 1}, "NaN", -1, 10**6))


def damaged_store(rng: Generator, folder: Path) -> None:
    path = folder / pick(rng, ("a.zarr", "a.zarr", "a.nc"))
    write_store(rng, path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    file = pick(rng, files)
    if file.suffix == ".json" and rng.random() < 0.7:
        file.write_text(json.dumps(odd_json(rng, json.loads(file.read_text()))))
    elif path.is_dir() and rng.random() < 0.2:
        file.unlink()
    else:
        file.write_bytes(damage(rng, file.read_bytes()))
    stack = index_stack(path, scale="linear")
    shape = stack.grid.shape
    if shape.y * shape.x > MAX_PIXELS:
        return
    rasters = [r for own in stack.rasters.values() for r in own if r is not None]
    found = [r.read(Window(0, shape.y, 0, shape.x)) for r in rasters]
    opened = (
        xr.open_zarr(path, chunks=None, consolidated=False, mask_and_scale=False)
        if path.is_dir()
        else xr.open_dataset(path, mask_and_scale=False)
    )
    with opened:
        for raster, pixels in zip(rasters, found, strict=True):
            stored = opened[raster.variable].values
            stored = stored if raster.index is None else stored[raster.index]
            truth = linear_intensity(stored, raster.declared_nodata, raster.gain, raster.offset,
                                     raster.undeclared, raster.lowest)  # fmt: skip
            require_equal(pixels, truth, "pixels", raster.offset)


def damaged_model(rng: Generator, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "m.safetensors"
    torch.manual_seed(int(rng.integers(2**31)))
    sizes = {"width": 8, "deep_width": 8, "head": 1, "body": 1, "tail": 1, "dilation": 1}
    network = build_network("despecknet", **sizes)
    save_model(path, network, make_card(network, licence="Apache-2.0"))
    expected = {name: value.clone() for name, value in load_file(str(path)).items()}
    if rng.random() < 0.5:
        path.write_bytes(damage(rng, path.read_bytes()))
    else:
        card = odd_json(rng, json.loads(read_header(path)["__metadata__"][CARD_KEY]))
        weights = dict(expected)
        if rng.random() < 0.4:
            name = pick(rng, sorted(weights))
            weights[name] = pick(rng, (weights[name] * float("nan"), weights[name][:1].clone(),
                                       weights[name].double(), torch.zeros(3)))  # fmt: skip
        save_file(weights, str(path), metadata={CARD_KEY: json.dumps(card)})
    found, card = load_model(path)
    check_weights(path)
    for name, value in found.state_dict().items():
        require(bool(torch.isfinite(value).all()), f"{name} is not finite")
        require(torch.equal(value, expected[name].to(value.dtype)), f"{name} changed")
    bias = card.calibration.interpolate(4.4, (0.3, 0.3))
    require(0.1 <= bias <= 10, f"bias {bias}")


def odd_settings(rng: Generator, folder: Path) -> None:
    """Settings with one odd value, or damaged text; they must come back from run.yaml."""
    config = DespeckleConfig.make(stack="stack", output="out", method="boxcar", looks=4.4,
                                  bbox=(0, 0, 1, 1), polarisations=("vv",))  # fmt: skip
    path, text = folder / "run.yaml", config.to_yaml()
    if rng.random() < 0.5:
        path.write_bytes(damage(rng, text.encode()))
    else:
        name = pick(rng, (*DespeckleConfig.model_fields, "unknown", "seed"))
        value = json.dumps(pick(rng, (*NUMBERS, [1, 2], {"a": {"b": []}}, -1e400)), default=str)
        lines = [line for line in text.splitlines() if not line.startswith(f"{name}:")]
        path.write_text("\n".join([*lines, f"{name}: {value}"]))
    found = DespeckleConfig.read(path)
    again = folder / "again.yaml"
    again.write_text(found.to_yaml(), encoding="utf-8")
    require(DespeckleConfig.read(again) == found, "run.yaml does not give the same settings")


def odd_call(rng: Generator, _folder: Path) -> None:
    """The accessor with odd arrays and odd parameters; boxcar is compared with SciPy."""
    shape = tuple(int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, (4, 40, 40)))
    pixels = speckle(rng, shape, holes=(np.nan, 0, -9999, np.inf))
    dtype = pick(rng, (*["f4"] * 12, "f8", "f2", ">f4", "i4", "U5", "O", "c8", "?", "M8[s]"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stored = pixels.astype(dtype)
        except (ValueError, TypeError):
            stored = np.zeros(shape, dtype)
    times = np.datetime64("2024-01-01", "ns") + np.arange(shape[0]) * np.timedelta64(12, "D")
    if rng.random() < 0.3:
        times = pick(rng, (times[::-1], np.full(shape[0], np.datetime64("NaT", "ns"))))
    array = xr.DataArray(stored, {"time": times}, ("time", "y", "x"), name="vv")
    array = array.transpose(*rng.permutation(["time", "y", "x"]))
    if rng.random() < 0.2:
        array.attrs[pick(rng, ("units", "crs", "_FillValue", "scale", "nodata"))] = pick(
            rng, NUMBERS
        )
    obj: Any = pick(rng, (array, array.to_dataset(), array.chunk(y=16, x=16)))
    window = pick(rng, (3, 5, 7, 7, 7, *NUMBERS)) if rng.random() < 0.5 else 5
    looks = pick(rng, (4.4, None, *NUMBERS)) if rng.random() < 0.3 else 4.4
    if rng.random() < 0.2:
        job = pick(rng, ("labels", "looks"))
        if job == "looks":
            obj.despeck.looks()
        else:
            obj.despeck.labels(pick(rng, ("cv", "paper", 5)), threshold=pick(rng, (0.1, *NUMBERS)),
                               multilook_px=window, looks=looks).compute()  # fmt: skip
        return
    method = pick(rng, ("boxcar", "lee", "quegan-yu")) if rng.random() < 0.9 else pick(rng, NUMBERS)
    result = obj.despeck.apply(method, looks=looks, window_px=window)
    found = result["vv"] if isinstance(result, xr.Dataset) else result
    require(found.dims == array.dims, "the order of the dimensions changed")
    found = found.transpose("time", "y", "x").values
    if {"units", "scale", "_FillValue", "nodata"} & set(array.attrs):
        return  # what such an attribute should mean is not tested here
    truth = linear_intensity(stored)
    require(np.array_equal(np.isnan(found), np.isnan(truth)), "nodata differs")
    if method == "boxcar":
        expected = np.stack([box_mean(date, int(window)) for date in truth])
        magnitude = np.nanmax(np.abs(truth), initial=0)
        valid = ~np.isnan(truth)
        close = np.isclose(found[valid], expected[valid], rtol=1e-4, atol=1e-6 * magnitude)
        require(close.all(), "the boxcar mean differs from that of SciPy")


def box_mean(date: Any, width: int) -> Any:
    valid = np.isfinite(date)
    total = uniform_filter(np.where(valid, date, 0.0), width, mode="constant")
    share = uniform_filter(valid.astype(float), width, mode="constant")
    return np.where(valid, total / np.maximum(share, 1e-12), np.nan)


def odd_command(rng: Generator, folder: Path) -> None:
    """The command line with an odd option; the result must lie on the grid of the input."""
    stack, out = folder / "stack", folder / "out"
    stack.mkdir()
    write_tif(rng, stack / "a_20210104_vv.tif", (int(rng.integers(1, 50)), 40))
    texts = [str(n) for n in NUMBERS if n != "\0"]  # the system passes no null character
    bounds = [*texts, "500000,4999700,500200,4999900", "inf,0,1,1", "1,1,0,0"]
    options = {
        "--bbox": bounds, "--tile-px": texts, "--looks": texts, "--method": texts,
        "--set": [f"window_px={text}" for text in texts], "--pol": [*texts, "vv"],
        "--dates": [*texts, "2021", "2021-01/2021-02"], "--bands": [*texts, "vv"],
        "--config": texts, "-o": texts,
    }  # fmt: skip
    name = pick(rng, sorted(options))
    words = [
        "--scale",
        "linear",
        "--method",
        "boxcar",
        "-o",
        str(out),
        name,
        pick(rng, options[name]),
    ]
    errors, printed = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed):
            code = run(["despeckle", str(stack), *words])
    finally:
        os.chdir(before)
    require(code in EXIT_CODES and code != 1, f"exit code {code}: {errors.getvalue()[-300:]}")
    if code:
        text = errors.getvalue()
        require("do this" in text or "Usage" in text, f"an unclear error: {text[-300:]}")
        raise UsageError(text.splitlines()[0], do="as printed")
    for line in printed.getvalue().splitlines():
        with (
            rasterio.open(folder / line) as made,
            rasterio.open(stack / "a_20210104_vv.tif") as given,
        ):
            require(made.crs == given.crs, "the CRS changed")
            column, row = ~given.transform @ (made.transform @ (0, 0))
            y, x = round(row), round(column)
            stored = given.read(1)[y : y + made.height, x : x + made.width]
            own = index_stack(stack, scale="linear").rasters["vv"][0]
            require(
                np.array_equal(
                    np.isnan(made.read(1)), np.isnan(true_intensity(own, stored, given))
                ),
                "nodata differs",
            )


# How often each kind is drawn: a command takes a hundred times as long as a file.
KINDS = {
    "damaged GeoTIFF": (damaged_tif, 30),
    "folder of odd images": (odd_folder, 10),
    "damaged Zarr or netCDF": (damaged_store, 20),
    "damaged model": (damaged_model, 10),
    "odd settings": (odd_settings, 10),
    "odd accessor call": (odd_call, 17),
    "odd command": (odd_command, 3),
}
