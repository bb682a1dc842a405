"""MERLIN on complex images: each part despeckled alone, the mean of both intensities."""

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from written_images import write_tif

import sarstack
from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.laws import border_gradient_ratio, despeckle_tiled
from sarstack.evaluation.metrics import rmse_db
from sarstack.networks.inference import despeckle_image, load_network
from sarstack.networks.model_file import model_sha256, shipped_model
from sarstack.readers import index_stack
from sarstack.readers.decorrelated import read_centred
from sarstack.speckle.complex_parts import describe_part, split_parts
from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import SpeckleSimulator
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Window
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

SENSORS = {
    "white": SpeckleSimulator(1.0),
    "sentinel-1": SpeckleSimulator(1.0, (0.25, 0.36)),
    "oversampled": SpeckleSimulator(1.0, (0.45, 0.5), taper=1.0),
}


@pytest.fixture(scope="module")
def merlin():
    return make_despeckler("merlin", precision="float32")


def draw_flat(sensor, shape=(330, 330), seed=0):
    flat = Reflectivity(np.ones(shape, np.float32), np.zeros(shape, np.complex64))
    return sensor.observe_field(flat, np.random.default_rng(seed))


def draw_scene(kind="fields", shape=(150, 170), seed=1, sensor=SENSORS["sentinel-1"]):
    scene = simulate_reflectivity(shape, np.random.default_rng(seed), kind)
    return sensor.observe_field(scene, np.random.default_rng(seed + 100)), sensor.expect(scene)


@pytest.mark.parametrize("name", SENSORS)
def test_the_mean_of_flat_areas_is_kept_and_speckle_removed(merlin, name):
    field = draw_flat(SENSORS[name])
    inside = (slice(merlin.halo // 2, -merlin.halo // 2),) * 2
    found = merlin.apply(field[None])[0][inside]
    assert found.mean() == pytest.approx(np.mean(np.abs(field[inside]) ** 2), rel=0.015)
    assert found.mean() ** 2 / found.var() > 30


def test_the_result_is_the_mean_of_the_intensities_that_both_parts_give(merlin):
    field, _ = draw_scene(shape=(60, 64))
    statistics = measure_scene(field[None])[0]
    path = str(shipped_model("merlin"))
    network = load_network(path, model_sha256(path), "cpu", "float32")
    both = [despeckle_image(network, merlin.card, part, describe_part(statistics))
            for part in split_parts(field)]  # fmt: skip
    found = merlin.despeckle(field, statistics)
    assert_allclose(found, (both[0] + both[1]) / 2, rtol=1e-6)
    # The mean of the logarithms would be darker.
    assert np.log(found).mean() > np.log(both).mean()


@pytest.mark.parametrize("kind", ["fields", "coast", "town"])
def test_it_is_closer_to_the_truth_than_a_filter_of_intensity(merlin, kind):
    field, truth = draw_scene(kind)
    found = merlin.apply(field[None])[0]
    lee = make_despeckler("lee").apply(np.abs(field[None]) ** 2)[0]
    assert rmse_db(found, truth) < 0.9 * rmse_db(lee, truth)


def test_a_turn_of_all_phases_changes_little(merlin):
    """The parts are others, the image is the same."""
    field, truth = draw_scene()
    found, turned = (merlin.apply(z[None])[0] for z in (field, (1j**0.5 * field).astype("c8")))
    assert rmse_db(turned, found) < 0.8 * rmse_db(found, truth)
    assert turned.mean() == pytest.approx(found.mean(), rel=0.02)
    exchanged = merlin.apply(1j * field[None].conj())[0]
    assert_allclose(exchanged, found, rtol=1e-5)


def test_strong_scatterers_keep_their_power(merlin):
    field, _ = draw_scene("calm")
    field[70, 80] = 300 * np.abs(field).mean() * np.exp(0.8j)
    found = merlin.apply(field[None])[0]
    assert found[70, 80] == pytest.approx(abs(field[70, 80]) ** 2, rel=0.01)


def test_tiles_show_no_seam(merlin):
    field = draw_scene(shape=(150, 130))[0][None]
    statistics = measure_scene(field)
    whole, tiled = merlin.apply(field, statistics), despeckle_tiled(merlin, field, statistics, 48)
    assert_allclose(tiled, whole, rtol=1e-5)
    borders = {"rows": range(0, 150, 48), "columns": range(0, 130, 48)}
    assert border_gradient_ratio(tiled[0], **borders) == pytest.approx(
        border_gradient_ratio(whole[0], **borders), rel=1e-4
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (40, 40)])
def test_small_images_work_also_where_a_part_is_zero(merlin, shape):
    field = draw_scene(shape=(40, 40))[0][: shape[0], : shape[1]]
    for image in (field, field.real.astype("c8"), 1j * field.imag, np.zeros(shape, "c8")):
        found = merlin.apply(image.astype("c8")[None])[0]
        assert found.shape == shape
        assert (np.isfinite(found) & (found > 0)).all()


def test_nodata_is_kept_and_a_factor_on_the_scene_is_one_on_the_result(merlin):
    field = draw_scene(shape=(80, 90))[0]
    field[10:30, 40:] = complex(np.nan, np.nan)
    field[50, 5] = complex(np.nan, 1)
    found = merlin.apply(field[None])
    assert_array_equal(np.isnan(found[0]), ~np.isfinite(field))
    assert_allclose(merlin.apply(1e3 * field[None]), 1e6 * found, rtol=1e-3)


def test_intensity_is_refused(merlin):
    intensity = np.ones((1, 8, 8), np.float32)
    for job in (
        lambda: merlin.apply(intensity),
        lambda: merlin.despeckle(intensity[0], measure_scene(intensity)[0]),
        lambda: xr.DataArray(intensity[0], dims=("y", "x"), name="vv").despeck.apply("merlin"),
    ):
        with pytest.raises(UsageError, match="single look complex") as caught:
            job()
        assert "intensity" in caught.value.do
    with pytest.raises(UsageError, match="speckle"):
        merlin.estimate_noise()


def test_a_run_over_files_gives_the_pixels_of_the_whole_centred_image(tmp_path, merlin):
    shape = (270, 80)
    field = draw_scene(shape=shape)[0]
    shifted = (field * np.exp(2j * np.pi * 0.2 * np.arange(shape[0])[:, None])).astype("c8")
    path = write_tif(tmp_path / "slc_vv_20200101T000000.tif", shifted)
    config = DespeckleConfig.make(
        stack=str(path), output=str(tmp_path / "out"), method=str(shipped_model("merlin")),
        parameters={"precision": "float32"}, tile_px=256, keep_bits=23,
    )  # fmt: skip
    [result] = despeckle(config).outputs
    found = sarstack.open_stack(result).vv.values[0]
    raster = index_stack(str(path)).rasters["vv"][0]
    centred = read_centred(raster, Window(0, shape[0], 0, shape[1]))[None]
    assert_allclose(found, merlin.apply(centred, measure_scene(shifted[None]))[0], rtol=1e-4)
    # The spectrum was moved back: the result is nearly that of the field itself.
    assert rmse_db(found, merlin.apply(field[None])[0]) < 0.5


def test_a_run_warns_of_a_doppler_ramp_that_was_not_removed(tmp_path, caplog):
    """The middle of the spectrum changes along y, as in bursts of a product without its tables."""
    field = draw_flat(SENSORS["sentinel-1"], shape=(300, 270)) * np.float32(10)
    ramp = np.exp(1j * np.pi * 0.007 * np.arange(300)[:, None] ** 2)
    for name, image in (("plain", field), ("ramp", field * ramp)):
        (tmp_path / name).mkdir()
        path = write_tif(tmp_path / name / "slc_vv_20200101T000000.tif", image.astype("c8"))
        caplog.clear()
        plan_despeckle(
            DespeckleConfig.make(stack=str(path), output=str(tmp_path / "out"), method="merlin")
        )
        assert ("real and imaginary part are correlated" in caplog.text) == (name == "ramp")


def test_it_runs_with_bfloat16_as_with_float32(merlin):
    field = draw_scene(shape=(90, 90))[0][None]
    with torch.inference_mode():
        fast = make_despeckler("merlin", precision="bfloat16").apply(field)
    assert rmse_db(fast[0], merlin.apply(field)[0]) < 0.05
