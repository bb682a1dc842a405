"""A folder of SAFE products: one run, in which each product is despeckled alone on its own grid."""

import json

import numpy as np
import pytest
import rasterio
from test_safe import simulate_numbers
from written_images import speckle, write_tif
from written_safe import write_safe, zip_safe

import sarstack
from sarstack.errors import GridMismatchError, SarstackWarning, StackError, UsageError
from sarstack.readers import index_stack
from sarstack.workflows.build_labels import build_labels
from sarstack.workflows.check import check_results
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.fingerprint import fingerprint
from sarstack.workflows.info import describe_stack
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.settings import DespeckleConfig, FinetuneConfig, LabelsConfig

SHAPES = {3: (64, 90), 14: (70, 84), 26: (61, 95)}


@pytest.fixture
def folder(tmp_path):
    """Three products of March 2021 with different sizes: two folders, and a zip file."""
    place = tmp_path / "products"
    for day, shape in SHAPES.items():
        numbers = {"vv": simulate_numbers(day, shape), "vh": simulate_numbers(-day % 99, shape)}
        written = write_safe(place, numbers, start=f"2021-03-{day:02}T05:11:22.594441")
        if day == 14:
            zip_safe(written.path)
            written.path.rename(tmp_path / written.path.name)
    return place


def run(stack, output, **settings):
    settings = {"method": "lee", "workers": 1, **settings}
    return despeckle(DespeckleConfig.make(stack=str(stack), output=str(output), **settings))


def read_all(outcome):
    found = {}
    for path in outcome.outputs:
        with rasterio.open(path) as file:
            found[path.name] = (file.read(1), file.gcps[0], file.tags())
    return found


def test_each_product_keeps_its_own_grid(folder):
    stack = index_stack(folder)
    assert [grid.shape for grid in stack.grids] == [*SHAPES.values()]
    assert stack.polarisations == ("vv", "vh")
    text = describe_stack(stack).render()
    assert "not co-registered" in text
    assert "61 x 95" in text


def test_the_pixels_are_those_of_one_product_at_a_time(folder, tmp_path):
    together = read_all(run(folder, tmp_path / "out"))
    assert len(together) == 6
    for product in folder.iterdir():
        alone = read_all(run(product, tmp_path / product.stem))
        for name, (pixels, points, tags) in alone.items():
            own_pixels, own_points, own_tags = together.pop(name)
            np.testing.assert_array_equal(own_pixels, pixels)
            assert [(p.row, p.col, p.x, p.y) for p in own_points] == [
                (p.row, p.col, p.x, p.y) for p in points
            ]
            for tag in ("ENL_BEFORE", "ACQUISITION_DATETIME", "SARSTACK_FINGERPRINT"):
                assert own_tags[tag] == tags[tag]
    assert not together


@pytest.mark.slow
def test_workers_of_a_cluster_make_the_same_pixels(folder, tmp_path):
    here = read_all(run(folder, tmp_path / "here"))
    there = read_all(run(folder, tmp_path / "there", cluster="local"))
    assert here.keys() == there.keys()
    for name in here:
        np.testing.assert_array_equal(there[name][0], here[name][0])


def test_one_record_has_all_products_and_a_later_run_adds_the_new_one(folder, tmp_path, caplog):
    caplog.set_level("INFO", logger="sarstack")
    first = run(folder, tmp_path / "out", dates="2021-03-01/2021-03-20", polarisations=["vv"])
    assert len(first.outputs) == 2
    assert caplog.text.count("despeckled alone") == 1
    second = run(folder, tmp_path / "out", polarisations=["vv"])
    assert len(second.outputs) == 3
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(record["images"]) == 3
    assert len(record["finished_before"]) == 2
    assert check_results(tmp_path / "out").n_ok == 3
    assert (tmp_path / "out" / "quicklook.png").exists()


def test_other_products_do_not_change_what_identifies_a_result(tmp_path):
    for day in range(1, 8):
        numbers = {"vv": simulate_numbers(day, (200, 210), mean=40 * day)}
        write_safe(tmp_path, numbers, start=f"2021-03-0{day}T05:11:22.594441")
    together = index_stack(tmp_path, calibration="dn").rasters["vv"]
    for raster in together:
        [alone] = index_stack(raster.product.path, calibration="dn").rasters["vv"]
        assert fingerprint(raster.identity()) == fingerprint(alone.identity())


def test_the_plan_counts_the_tiles_of_each_product(folder, tmp_path):
    config = DespeckleConfig.make(stack=str(folder), output=str(tmp_path / "out"), method="boxcar")
    plan = plan_despeckle(config)
    assert plan.total_px == 2 * sum(y * x for y, x in SHAPES.values())
    assert "61 x 95 to 70 x 84 px" in plan.render()
    assert not (tmp_path / "out").exists()


def test_many_products_are_not_a_time_series(folder, tmp_path):
    for day in (1, 5, 9):
        write_safe(folder, {"vv": simulate_numbers(), "vh": simulate_numbers()},
                   start=f"2021-04-{day:02}T05:11:22.594441")  # fmt: skip
    config = DespeckleConfig.make(stack=str(folder), output=str(tmp_path / "out"))
    assert plan_despeckle(config).despeckler.name == "despecknet"


@pytest.mark.parametrize("method", ["quegan-yu", "despecknet-mt"])
def test_methods_of_several_dates_are_refused(folder, tmp_path, method):
    with pytest.raises(StackError, match=method) as caught:
        run(folder, tmp_path / "out", method=method)
    assert "--method despecknet" in caught.value.message()
    assert not (tmp_path / "out").exists()


def test_jobs_that_need_a_common_grid_are_refused_before_work(folder, tmp_path):
    labels = LabelsConfig.make(stack=str(folder), output=str(tmp_path / "labels.zarr"))
    with pytest.raises(StackError, match="build-labels needs dates on a common grid"):
        build_labels(labels)
    tuning = FinetuneConfig.make(stack=str(folder), output=str(tmp_path / "m.safetensors"))
    with pytest.raises(StackError, match="finetune needs dates on a common grid"):
        finetune_on_stack(tuning)
    with pytest.raises(StackError, match="open one GRD product"):
        sarstack.open_stack(folder)
    with pytest.raises(StackError, match="leave out the bbox"):
        run(folder, tmp_path / "out", bbox=(15, 42, 16, 43))
    with pytest.raises(UsageError, match="only ground control points"):
        run(next(folder.iterdir()), tmp_path / "out", bbox=(15, 42, 16, 43))


def test_products_beside_other_images_are_refused(folder):
    write_tif(folder / "a_20210304_vv.tif", speckle(0))
    with pytest.warns(SarstackWarning, match="lack VH"), pytest.raises(GridMismatchError):
        index_stack(folder)


def test_one_acquisition_that_was_processed_twice_is_told(folder):
    write_safe(folder, {"vv": simulate_numbers()}, start="2021-03-26T05:11:22.594441", crc="0A1B")
    with pytest.raises(StackError, match="more than once"):
        index_stack(folder)


def test_stac_items_have_the_outlines_of_the_products(folder, tmp_path):
    pystac = pytest.importorskip("pystac")
    run(folder, tmp_path / "out", stac=True, method="boxcar")
    collection = pystac.Collection.from_file(str(tmp_path / "out" / "stac" / "collection.json"))
    items = {item.datetime.day: item for item in collection.get_items()}
    assert items.keys() == SHAPES.keys()
    for day, item in items.items():
        height, width = SHAPES[day]
        assert item.properties["proj:shape"] == [height, width]
        # By the formula of the points that written_safe makes.
        east, south = 15.3 + height * 2e-5, 42.4 - height * 9e-5 - width * 1e-5
        west = 15.3 - width * 1e-4
        np.testing.assert_allclose(item.bbox, [west, south, east, 42.4], atol=2e-7)
    np.testing.assert_allclose(
        collection.extent.spatial.bboxes[0],
        [min(i.bbox[0] for i in items.values()), min(i.bbox[1] for i in items.values()),
         max(i.bbox[2] for i in items.values()), max(i.bbox[3] for i in items.values())],
    )  # fmt: skip
