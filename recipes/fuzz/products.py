"""Damaged products: SAFE, EOPF, NISAR, OPERA, zipped HyP3, STAC; one damaged file in each.

The products are those of the tests, which have the structure of real ones. Undamaged, each must be
read. With damage, a result counts as right if it has the right type and no infinite pixels: damaged
tables of calibration may change its values.
"""

import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from inputs import Generator, damage, odd_json, pick
from outcomes import require
from written_eopf import LAYOUTS, write_eopf
from written_images import speckle, write_tif
from written_nisar import write_gcov
from written_safe import write_safe, zip_safe
from written_stac import collect, write_json, write_scenes

from sarstack.readers import index_stack
from sarstack.readers.stack import Stack
from sarstack.tiles import Window

SHAPE = (64, 90)
_ODD_WORDS = ("", "nan", "-1", "1e308", "0", "x", "2021-13-41T99:99:99", "\u0661", "9" * 400, "VV")
_OPERA = "OPERA_L2_RTC-S1_T047-100908-IW2_202303{day:02d}T012349Z_20230420T070034Z_S1C_30_v1.0"
_HYP3 = "S1A_IW_202103{day:02d}T050000_DVP_RTC10_G_gpuned_AB12"


def draw_numbers(rng: Generator) -> dict[str, np.ndarray]:
    """Draw the digital numbers of two polarisations, with a border of zeros."""
    numbers = {}
    for polarisation in ("vv", "vh"):
        pixels = rng.integers(20, 400, SHAPE).astype(np.uint16)
        pixels[:, :7] = 0
        numbers[polarisation] = pixels
    return numbers


def make_grd(rng: Generator, folder: Path) -> Path:
    old = rng.random() < 0.3
    written = write_safe(folder, draw_numbers(rng), old_noise=bool(old),
                         version="002.36" if old else "003.40")  # fmt: skip
    return written.path


def make_slc(rng: Generator, folder: Path) -> Path:
    numbers = rng.integers(-200, 200, (2, *SHAPE)).astype(np.int16)
    pixels = (numbers[0] + 1j * numbers[1]).astype(np.complex64)
    name = pick(rng, ("s3-hh", "iw1-vv"))
    return write_safe(folder, {name: pixels}, product_type="SLC",
                      mode=name[:2].upper().replace("S3", "SM")).path  # fmt: skip


def make_zip(rng: Generator, folder: Path) -> Path:
    return zip_safe(make_grd(rng, folder))


def make_eopf(rng: Generator, folder: Path) -> Path:
    written = write_safe(folder / "safe", draw_numbers(rng), one_axis=True)
    return write_eopf(folder, written, layout=pick(rng, LAYOUTS))


def make_nisar(rng: Generator, folder: Path) -> Path:
    pixels = (0.1 * rng.gamma(5, 0.2, SHAPE)).astype(np.float32)
    return write_gcov(folder / "nisar", {"HHHH": pixels, "HVHV": 0.2 * pixels}, chunk=32)


def make_opera(rng: Generator, folder: Path) -> Path:
    out = folder / "opera"
    out.mkdir()
    for day in (1, 13):
        stem = _OPERA.format(day=day)
        for polarisation in ("VV", "VH"):
            write_tif(out / f"{stem}_{polarisation}.tif", speckle(day), nodata=np.nan)
        mask = rng.integers(0, 4, speckle(day).shape).astype(np.uint8)
        write_tif(out / f"{stem}_mask.tif", mask, nodata=255)
    return out


def make_hyp3(_rng: Generator, folder: Path) -> Path:
    out = folder / "zips"
    out.mkdir()
    for day in (1, 13):
        name = _HYP3.format(day=day)
        files = folder / name
        files.mkdir()
        for layer in ("VV", "VH"):
            write_tif(files / f"{name}_{layer}.tif", speckle(day), compress="deflate")
        with zipfile.ZipFile(out / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files.iterdir():
                archive.write(file, f"{name}/{file.name}")
        shutil.rmtree(files)
    return out


def make_stac(_rng: Generator, folder: Path) -> Path:
    items, _ = write_scenes(folder)
    return write_json(folder / "items.json", collect(items))


def damage_text(rng: Generator, content: bytes) -> bytes:
    """Replace one value of an XML file, or drop one element."""
    text = content.decode("utf-8", "replace")
    values = [*re.finditer(r">([^<>]+)<", text)]
    if not values:
        return damage(rng, content)
    found = pick(rng, values)
    if rng.random() < 0.2:
        return (text[: found.start(1)] + "<x>" + text[found.end(1) :]).encode()
    words = found.group(1).split()
    place = int(rng.integers(max(len(words), 1)))
    words[place : place + 1] = [pick(rng, _ODD_WORDS)]
    return (text[: found.start(1)] + " ".join(words) + text[found.end(1) :]).encode()


def damage_file(rng: Generator, path: Path) -> None:
    """Damage one file of a product: its bytes, a value in it, or its existence."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    # Metadata decide more than chunks of pixels, which are many.
    texts = [p for p in files if p.suffix in (".xml", ".safe", ".json") or p.name.startswith(".z")]
    file = pick(rng, texts if texts and rng.random() < 0.7 else files)
    if path.is_dir() and rng.random() < 0.1:
        file.unlink()
    elif file.suffix == ".json" or file.name.startswith(".z"):
        file.write_text(json.dumps(odd_json(rng, json.loads(file.read_text()))))
    elif file.suffix in (".xml", ".safe") and rng.random() < 0.8:
        file.write_bytes(damage_text(rng, file.read_bytes()))
    else:
        file.write_bytes(damage(rng, file.read_bytes()))


def read_all(stack: Stack) -> list[np.ndarray]:
    """Read all pixels of small images."""
    pixels = []
    for own in stack.rasters.values():
        for raster in own:
            if raster is not None and raster.shape.y * raster.shape.x < 10**6:
                pixels.append(raster.read(Window(0, raster.shape.y, 0, raster.shape.x)))
    return pixels


def damaged(make: Callable[[Generator, Path], Path]) -> Callable[[Generator, Path], None]:
    """Return a case: write a product, damage one of its files, read it."""

    def case(rng: Generator, folder: Path) -> None:
        path = make(rng, folder)
        for image in read_all(index_stack(path)):
            require(np.isfinite(image).any(), "the undamaged product has no pixels")
        damage_file(rng, path)
        stack = index_stack(path)
        for image in read_all(stack):
            require(image.dtype == np.float32 and image.ndim == 2, "type or shape differ")
            require(not np.isinf(image).any(), "infinite pixels")

    return case


PRODUCTS = {
    "SAFE GRD": (damaged(make_grd), 1),
    "SAFE SLC": (damaged(make_slc), 1),
    "zipped SAFE": (damaged(make_zip), 1),
    "EOPF": (damaged(make_eopf), 1),
    "NISAR GCOV": (damaged(make_nisar), 1),
    "OPERA RTC": (damaged(make_opera), 1),
    "zipped HyP3": (damaged(make_hyp3), 1),
    "STAC": (damaged(make_stac), 1),
}
