"""NISAR GCOV granules open at their place on the map; other HDF5 files are refused."""

import pickle
import warnings
from collections import Counter

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from written_images import read_whole, speckle, write_tif
from written_nisar import EPSG, LEFT, NAME, PIXEL_M, TIME, TOP, write_gcov

from sarstack.errors import GridMismatchError, SarstackWarning, StackError, StackReadError
from sarstack.readers import block_cache, index_stack, open_stack
from sarstack.readers.block_cache import BlockCache
from sarstack.tiles import Shape, Window, order_in_row_pairs, tile_grid
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.info import describe_stack
from sarstack.workflows.settings import DespeckleConfig

SHAPE = (300, 260)


def simulate(seed=0, mean=0.1, shape=SHAPE):
    """Gamma0 of speckle with 4.4 looks; NaN outside of the swath."""
    image = speckle(seed, mean, shape)
    image[:, :9] = np.nan
    return image


@pytest.fixture(scope="module")
def images():
    return {"HHHH": simulate(1), "HVHV": simulate(2, 0.02)}


@pytest.fixture(scope="module")
def granule(images, tmp_path_factory):
    """A granule, not to be changed."""
    return write_gcov(tmp_path_factory.mktemp("gcov"), images)


def test_terms_are_polarisations_and_pixels_are_those_that_were_written(granule, images):
    stack = index_stack(granule)
    assert stack.polarisations == ("hh", "hv")
    assert (stack.calibration, stack.rasters["hh"][0].scale) == ("gamma0", "linear")
    for term, pol in (("HHHH", "hh"), ("HVHV", "hv")):
        raster = pickle.loads(pickle.dumps(stack.rasters[pol][0]))
        np.testing.assert_array_equal(raster.read(Window(0, *SHAPE[:1], 0, SHAPE[1])), images[term])
        part = Window(100, 231, 5, 140)
        np.testing.assert_array_equal(raster.read(part), images[term][part.slices])


def test_all_four_linear_terms_open(tmp_path):
    own = {term: simulate(i) for i, term in enumerate(("HHHH", "HVHV", "VHVH", "VVVV"))}
    stack = index_stack(write_gcov(tmp_path, own))
    for term, values in own.items():
        np.testing.assert_array_equal(read_whole(stack, term[:2].lower()), values)


def test_the_affine_is_exact_and_time_orbit_and_platform_are_known(granule):
    stack = index_stack(granule)
    assert stack.grid.transform == (PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP)
    assert stack.grid.crs_name == f"EPSG:{EPSG}"
    [date] = stack.dates
    assert date.timestamp == "2026-08-23T03:04:58Z"
    assert (date.platform, date.orbit_direction, date.relative_orbit) == (
        "nisar",
        "descending",
        143,
    )
    assert "143 descending" in describe_stack(stack).render()


def test_xarray_and_gdal_read_the_same_numbers(granule, images):
    group = "science/LSAR/GCOV/grids/frequencyA"
    drop = ["listOfPolarizations", "listOfCovarianceTerms"]
    with xr.open_dataset(granule, engine="h5netcdf", group=group, drop_variables=drop,
                         phony_dims="sort") as other:  # fmt: skip
        np.testing.assert_array_equal(other["HHHH"].values, images["HHHH"])
        y, x = open_stack(granule)["hh"].y.values, open_stack(granule)["hh"].x.values
        np.testing.assert_array_equal(y, other["yCoordinates"])
        np.testing.assert_array_equal(x, other["xCoordinates"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(f'HDF5:"{granule}"://{group}/HVHV') as other:
            np.testing.assert_array_equal(other.read(1), images["HVHV"])


def test_a_folder_of_granules_is_a_stack_and_reports_beside_them_are_no_images(tmp_path, images):
    for day in ("20260823", "20260904"):
        path = write_gcov(tmp_path, images, time=f"{day}T030458")
        report = path.with_name(path.stem + "_QA_STATS.h5")
        with h5py.File(report, "w") as file:
            file["science/LSAR/QA/data/x"] = 1
        path.with_suffix(".iso.xml").write_text("<a/>")
    with h5py.File(tmp_path / "OPERA_L2_RTC-S1_T047-100908-IW3_v1.0.h5", "w") as file:
        file["data/x"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = index_stack(tmp_path)
    assert [date.timestamp[:10] for date in stack.dates] == ["2026-08-23", "2026-09-04"]
    write_gcov(tmp_path, {"HHHH": simulate(shape=(300, 200))}, time="20260916T030458")
    with pytest.raises(GridMismatchError):
        index_stack(tmp_path)


def test_the_granule_that_was_processed_last_is_used(tmp_path, images):
    first = write_gcov(tmp_path, images, name=NAME.format(cycle="028", time=TIME))
    other = first.name.replace("P05023", "P05030")
    write_gcov(tmp_path, images, name=other, processingDateTime="2026-10-01T00:00:00")
    with pytest.warns(SarstackWarning, match="processed 2 times"):
        assert index_stack(tmp_path).rasters["hh"][0].path.endswith(other)


def test_a_renamed_granule_has_time_and_orbit_by_its_identification(tmp_path, images):
    [date] = index_stack(write_gcov(tmp_path, images, name="site.h5")).dates
    assert date.timestamp == "2026-08-23T03:04:58Z"
    assert (date.platform, date.orbit_direction, date.relative_orbit) == (
        "nisar",
        "descending",
        143,
    )


def test_frequency_b_is_chosen_with_bands_and_its_existence_is_told_once(tmp_path, images):
    other = {"VVVV": simulate(7, shape=(150, 130))}
    for day in ("20260823", "20260904"):
        write_gcov(tmp_path, images, others=other, time=f"{day}T030458")
    with pytest.warns(SarstackWarning, match="--bands frequencyB") as caught:
        assert index_stack(tmp_path).polarisations == ("hh", "hv")
    assert len(caught) == 1
    for name in ("frequencyB", "b"):
        stack = index_stack(tmp_path, bands=[name])
        np.testing.assert_array_equal(read_whole(stack, "vv"), other["VVVV"])
    with pytest.raises(StackError, match="names its polarisations itself"):
        index_stack(tmp_path, bands=["vv"])


def test_the_s_band_opens(tmp_path, images):
    name = NAME.format(cycle="029", time=TIME).replace("_L2_", "_S2_").replace("_D_", "_A_")
    stack = index_stack(write_gcov(tmp_path, images, instrument="SSAR", name=name))
    assert stack.dates[0].orbit_direction == "ascending"
    assert stack.rasters["hh"][0].read_metadata().tags["FREQUENCY_BAND"] == "S"


def test_terms_of_compact_polarimetry_are_left_out_with_a_notice(tmp_path):
    own = {"RHRH": simulate(), "RVRV": simulate(1)}
    with pytest.raises(StackError, match="compact polarimetry"):
        index_stack(write_gcov(tmp_path / "only", own))
    with pytest.warns(SarstackWarning, match="RHRH, RRRR, RVRV"):
        stack = index_stack(
            write_gcov(tmp_path / "both", own | {"RRRR": simulate(3), "HHHH": simulate(2)})
        )
    assert stack.polarisations == ("hh",)


def test_masked_pixels_are_nodata_unless_the_mask_contradicts_the_data(tmp_path):
    image = simulate()
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :9] = 255
    mask[40:50, 60:90] = 0
    stack = index_stack(write_gcov(tmp_path / "a", {"HHHH": image}, mask=mask))
    expected = np.where(mask == 1, image, np.nan)
    np.testing.assert_array_equal(read_whole(stack, "hh"), expected)
    assert "1 of 1 images have a mask" in describe_stack(stack).facts["nodata"]
    stack = index_stack(write_gcov(tmp_path / "b", {"HHHH": image}, mask=np.zeros_like(mask)))
    np.testing.assert_array_equal(read_whole(stack, "hh"), image)


def test_looks_are_the_samples_of_a_pixel_that_are_independent(tmp_path, images):
    path = write_gcov(tmp_path, images, looks=7.2)
    for raster in (index_stack(path).rasters[pol][0] for pol in ("hh", "hv")):
        assert raster.looks == pytest.approx(7.2 / 1.2**2, rel=1e-3)
    assert "product" in describe_stack(index_stack(path)).render()
    with h5py.File(path, "r+") as file:
        del file["science/LSAR/GCOV/metadata/sourceData/swaths/frequencyA/rangeBandwidth"]
    assert index_stack(path).rasters["hh"][0].looks is None


@pytest.mark.parametrize("product", ["GSLC", "RSLC", "GUNW", "SME2"])
def test_other_products_are_refused_with_the_reason_and_a_way(tmp_path, images, product):
    name = NAME.format(cycle="028", time=TIME).replace("GCOV", product)
    path = write_gcov(tmp_path, images, product=product, name=name)
    for place in (path, tmp_path):
        with pytest.raises(StackError, match=f"a NISAR {product} granule") as caught:
            index_stack(place)
        assert "download the GCOV granule" in caught.value.message()


def test_other_hdf5_files_are_refused_with_what_was_expected(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/VV"] = np.ones((4, 4))
    with pytest.raises(StackError, match="no NISAR granule") as caught:
        index_stack(tmp_path / "a.h5")
    assert "science/LSAR/GCOV/grids" in caught.value.message()
    write_tif(tmp_path / "a_20210304_vv.tif", speckle())
    assert index_stack(tmp_path).polarisations == ("vv",)
    (tmp_path / "b.h5").write_bytes(b"not HDF5")
    with pytest.raises(StackReadError, match="cannot be read"):
        index_stack(tmp_path / "b.h5")


def damage_projection(group):
    group["projection"].attrs["epsg_code"] = 1


def damage_axis(group):
    group["xCoordinates"][5] += 7


def damage_size(group):
    del group["yCoordinates"]
    group["yCoordinates"] = np.arange(17.0)


def damage_link(group):
    shape = group["HHHH"].shape
    del group["HHHH"]
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", shape)
    group.create_virtual_dataset("HHHH", layout)


@pytest.mark.parametrize("damage", [damage_projection, damage_axis, damage_size, damage_link])
def test_damaged_granules_are_refused(tmp_path, images, damage):
    path = write_gcov(tmp_path, images)
    with h5py.File(path, "r+") as file:
        damage(file["science/LSAR/GCOV/grids/frequencyA"])
    with pytest.raises((StackError, StackReadError), match=r"cannot be read|not evenly spaced"):
        index_stack(path)


def test_a_truncated_granule_is_unreadable(tmp_path, images):
    path = write_gcov(tmp_path, images)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(StackReadError, match="cannot be read"):
        index_stack(path)


def test_chunks_are_decoded_about_once(tmp_path, monkeypatch):
    scene, tile_px, halo, chunk = Shape(800, 900), 256, 20, 128
    image = simulate(3, shape=scene)
    raster = index_stack(write_gcov(tmp_path, {"HHHH": image}, chunk=chunk)).rasters["hh"][0]
    cache, decoded = BlockCache(max_bytes=40 * 4 * chunk**2), Counter()
    monkeypatch.setattr(block_cache, "CACHE", cache)
    read_direct = h5py.Dataset.read_direct

    def count(self, pixels, source_sel):
        decoded[self.name, source_sel[0].start, source_sel[1].start] += 1
        return read_direct(self, pixels, source_sel=source_sel)

    monkeypatch.setattr(h5py.Dataset, "read_direct", count)
    for tile in order_in_row_pairs(tile_grid(scene, tile_px)):
        window = tile.window.expand(halo, scene)
        np.testing.assert_array_equal(raster.read(window), image[window.slices])
    assert len(decoded) == 2 * 7 * 8  # data and mask
    assert decoded.total() <= 1.6 * len(decoded)


def test_results_have_the_grid_the_nodata_and_the_provenance_of_the_granule(granule, tmp_path):
    config = DespeckleConfig.make(
        stack=str(granule), output=str(tmp_path / "out"), method="boxcar", workers=1, stac=True
    )
    result = next(path for path in despeckle(config).outputs if "_hh_" in path.name)
    with rasterio.open(result) as file:
        assert file.transform == rasterio.Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP)
        assert file.crs.to_epsg() == EPSG
        pixels, tags = file.read(1), file.tags()
    np.testing.assert_array_equal(np.isnan(pixels), np.isnan(simulate(1)))
    assert tags["PLATFORM"] == "nisar"
    assert tags["FREQUENCY_BAND"] == "L"
    assert (tags["frameNumber"], tags["compositeReleaseId"]) == ("70", "P05023")
    assert "boundingPolygon" not in tags  # too long
