"""Folders of OPERA RTC-S1: masks, looks of the static product, and files that are no input."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from written_images import read_whole, speckle, write_tif

from sarstack import open_stack
from sarstack.cli.commands import run as run_cli
from sarstack.errors import SarstackWarning, StackError, StackReadError, UsageError
from sarstack.readers import index_stack
from sarstack.readers.product_layers import parse_mask
from sarstack.readers.sentinel1.looks import equivalent_looks
from sarstack.workflows.info import describe_stack

SHAPE = (96, 80)
BURST = "T047-100908-IW2"
NAME = "OPERA_L2_RTC-S1_{burst}_202303{day:02d}T012349Z_20230420T070034Z_S1C_30_v1.0"
STATIC = f"OPERA_L2_RTC-S1-STATIC_{BURST}_20140403_S1A_30_v1.0"
PLACE = rasterio.Affine(30, 0, 500010, 0, -30, 4000020)


def write(path, pixels, **profile):
    return write_tif(path, pixels, transform=PLACE, compress="deflate", **profile)


def codes(shadow=True):
    """Rows 0 to 3 are shadow, 4 to 7 layover, 8 and 9 both, 90 on fill."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:4], mask[4:8], mask[8:10], mask[90:] = 1, 2, 3, 255
    return mask if shadow else np.where(mask == 255, mask, 0).astype(np.uint8)


@pytest.fixture
def opera(tmp_path):
    folder = tmp_path / "opera"
    folder.mkdir()
    for day in (1, 13):
        stem = NAME.format(burst=BURST, day=day)
        for polarisation in ("VV", "VH"):
            write(folder / f"{stem}_{polarisation}.tif", speckle(day), nodata=np.nan)
        write(folder / f"{stem}_mask.tif", codes(), nodata=255)
        write(folder / f"{stem}_VV_tv.tif", speckle(99), nodata=np.nan)
        (folder / f"{stem}_BROWSE.png").write_bytes(b"\x89PNG")
        (folder / f"{stem}.iso.xml").write_text("<x/>")
        with h5py.File(folder / f"{stem}.h5", "w") as file:
            file["identification/missionId"] = "S1C"
    return folder


def read_pixels(path):
    with rasterio.open(path) as image:
        return image.read(1)


def test_only_the_images_of_a_folder_are_input(opera):
    stack = index_stack(opera)
    assert [d.platform for d in stack.dates] == ["sentinel-1c"] * 2
    assert stack.dates[0].relative_orbit == 47
    assert stack.polarisations == ("vv", "vh")
    names = {Path(r.path).name for own in stack.rasters.values() for r in own}
    assert names == {p.name for p in opera.glob("*_V[VH].tif")}


@pytest.mark.parametrize(
    ("mask", "rows"),
    [(None, []), ("shadow", [*range(4), 8, 9]), ("layover", range(4, 10)),
     (("layover", "shadow"), range(10))],
)  # fmt: skip
def test_the_mask_makes_nodata_what_the_user_names_and_always_its_fill(opera, mask, rows):
    stem = NAME.format(burst=BURST, day=1)
    expected = read_pixels(opera / f"{stem}_VV.tif")
    expected[[*rows, *range(90, 96)]] = np.nan
    np.testing.assert_array_equal(read_whole(index_stack(opera, mask=mask)), expected)
    cube = open_stack(opera, mask=mask)
    np.testing.assert_array_equal(cube.vv[0].values, expected)


def test_a_mask_that_is_missing_is_told_before_any_work(opera):
    removed = opera / f"{NAME.format(burst=BURST, day=13)}_mask.tif"
    removed.unlink()
    assert np.isfinite(read_whole(index_stack(opera), date=1)).all()
    with pytest.raises(UsageError, match="has no mask beside it"):
        index_stack(opera, mask="shadow")
    write(opera / f"{STATIC}_mask.tif", codes(), nodata=255)
    assert np.isnan(read_whole(index_stack(opera, mask="shadow"), date=1)[:4]).all()


def test_words_of_the_mask_are_checked():
    assert parse_mask(" Layover,shadow") == ("shadow", "layover")
    assert parse_mask(None) == ()
    with pytest.raises(UsageError, match="mask = 'water' is not known"):
        parse_mask("water")


def test_a_mask_on_another_grid_or_damaged_is_refused(opera):
    path = opera / f"{NAME.format(burst=BURST, day=1)}_mask.tif"
    write_tif(path, codes(), transform=PLACE @ rasterio.Affine.translation(1, 0))
    with pytest.raises(StackError, match=r"on another grid than its image \(origin x off by 30"):
        index_stack(opera)
    path.write_bytes(b"no tif")
    with pytest.raises(StackReadError, match=r"_mask\.tif cannot be read"):
        index_stack(opera)


def test_a_result_is_computed_again_if_its_mask_changed(opera, tmp_path):
    def despeckle(*options):
        arguments = [
            "despeckle",
            opera,
            "-o",
            tmp_path / "out",
            "--method",
            "boxcar",
            "--pol",
            "vv",
            *options,
        ]
        return run_cli([str(a) for a in ("-q", *arguments)])

    assert despeckle("--mask", "shadow,layover") == 0
    [result] = (tmp_path / "out").glob("*20230301*_VV_boxcar.tif")
    with rasterio.open(result) as image:
        assert image.tags()["MASKED"] == "shadow, layover"
        assert np.isnan(image.read(1)[:10]).all()
        assert np.isfinite(image.read(1)[10:90]).all()
    assert despeckle("--mask", "shadow,layover") == 0
    assert despeckle("--mask", "shadow") == 5  # finished results of another mask
    write(opera / f"{NAME.format(burst=BURST, day=1)}_mask.tif", codes(shadow=False), nodata=255)
    assert despeckle("--mask", "shadow,layover") == 5
    assert despeckle("--mask", "shadow,layover", "--overwrite") == 0
    assert np.isfinite(read_pixels(result)[:90]).all()


def test_looks_come_from_the_static_product_of_the_burst(opera):
    assert index_stack(opera).rasters["vv"][0].looks is None
    counts = np.full(SHAPE, 17.4, np.float32)
    counts[:20] = np.nan
    write(opera / f"{STATIC}_number_of_looks.tif", counts, nodata=np.nan)
    other = STATIC.replace("IW2", "IW3")
    write(opera / f"{other}_number_of_looks.tif", 2 * counts, nodata=np.nan)
    stack = index_stack(opera)
    assert stack.rasters["vh"][1].looks == pytest.approx(7.7, abs=0.05)
    described = describe_stack(stack)
    assert all(row.source.startswith("product (from pixels: ") for row in described.speckle)
    assert {row.looks for row in described.speckle} == {stack.rasters["vv"][0].looks}
    assert open_stack(opera).vv.attrs["product_looks"] == pytest.approx(7.7, abs=0.05)
    assert "fill value" in described.facts["mask of product"]
    write_tif(opera / f"{STATIC}_number_of_looks.tif", counts[:-1], transform=PLACE)
    with pytest.raises(StackError, match=r"number_of_looks\.tif is on another grid"):
        index_stack(opera)


@pytest.mark.parametrize(("beam", "bandwidths"), [("IW1", (0.878, 0.672)), ("IW3", (0.665, 0.645))])
def test_equivalent_looks_are_those_of_a_mean_of_simulated_single_looks(beam, bandwidths):
    """White noise with the spectrum of the beam, averaged over 8.6 x 2.15 = 18.5 pixels."""
    n_range, n_azimuth = 9, 2
    shape = (400, 1800)
    rng = np.random.default_rng(3)
    spectrum = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    windows = {"IW1": (0.70, 0.70), "IW3": (0.75, 0.75)}[beam]
    for axis, share, window in ((1, bandwidths[0], windows[0]), (0, bandwidths[1], windows[1])):
        frequency = np.fft.fftfreq(shape[axis])
        weight = np.where(
            np.abs(frequency) < share / 2,
            window + (1 - window) * np.cos(2 * np.pi * frequency / share),
            0,
        )
        spectrum = spectrum * (weight if axis else weight[:, None])
    intensity = np.abs(np.fft.ifft2(spectrum)) ** 2
    means = intensity.reshape(200, n_azimuth, 200, n_range).mean((1, 3))
    measured = means.mean() ** 2 / means.var()
    computed = equivalent_looks(n_range * n_azimuth, n_azimuth * 13.95, f"T001-000001-{beam}")
    assert computed == pytest.approx(measured, rel=0.04)
    assert equivalent_looks(18, 30, "T001-000001-EW1") is None


def test_several_bursts_in_a_folder_are_refused_with_a_command_for_each(opera):
    other = NAME.format(burst="T047-100909-IW2", day=2).replace("012349", "012352")
    write_tif(opera / f"{other}_VV.tif", speckle(5), transform=PLACE.translation(999, 0) @ PLACE)
    with pytest.raises(StackError, match=f"sarstack despeckle '{opera}/\\*{BURST}\\*'"):
        index_stack(opera)
    assert index_stack(f"{opera}/*{BURST}*").n_dates == 2


def test_the_mask_option_needs_a_product_with_a_mask(tmp_path):
    write_tif(tmp_path / "20230301_gamma0_vv.tif", speckle())
    with pytest.raises(UsageError, match="has no mask beside it"):
        index_stack(tmp_path, mask="layover")
    assert run_cli(["info", str(tmp_path), "--mask", "layover"]) == 2


def test_earth_engine_exports_with_a_mask_band_ignore_it(tmp_path):
    bands = np.stack([speckle(1), speckle(2), codes().astype(np.float32)])
    write_tif(tmp_path / "opera_20230301.tif", bands, names=("VV", "VH", "mask"))
    with pytest.warns(SarstackWarning, match="bands are no backscatter"):
        stack = index_stack(tmp_path)
    assert stack.polarisations == ("vv", "vh")
    assert np.isfinite(read_whole(stack)).all()
