"""A scene that does not look like unfiltered radar is reported; one that does is not."""

import numpy as np
import pytest
from simulated_stack import write_tif

from sarstack.despecklers import make_despeckler
from sarstack.errors import SarstackWarning
from sarstack.readers import index_stack
from sarstack.speckle.plausibility import find_doubt
from sarstack.speckle.samples import sample_speckle
from sarstack.speckle.sensor import SpeckleSimulator, simulate_stack
from sarstack.speckle.statistics import measure_scene
from sarstack.tiles import Shape, sample_windows
from sarstack.workflows.info import describe_stack

SIDE_PX = 200
SENSORS = [(1.0, 0.0), (1.0, 0.4), (4.4, 0.7), (4.5, 0.0), (8.0, 0.2), (16.0, 0.7)]


def doubt(image):
    windows = sample_windows(Shape(*image.shape))
    return find_doubt([sample_speckle([image[w.slices] for w in windows])])


def observe(looks, correlation, kind=None):
    simulator = SpeckleSimulator(looks, (correlation, correlation))
    rng = np.random.default_rng([int(10 * looks), int(10 * correlation)])
    return simulate_stack(1, (SIDE_PX, SIDE_PX), rng, simulator, kind=kind).intensity[0]


def pattern(kind):
    y, x = np.indices((SIDE_PX, SIDE_PX))
    patterns = {
        "constant": np.full(x.shape, 0.1),
        "checkerboard": np.where((y + x) % 2, 0.1, 0.3),
        "ramp": 0.1 + 0.001 * x,
    }
    return patterns[kind].astype(np.float32)


@pytest.mark.parametrize(("looks", "correlation"), SENSORS)
def test_speckle_of_sentinel_1_raises_no_doubt(looks, correlation):
    assert doubt(observe(looks, correlation)) == ""


@pytest.mark.parametrize("method", ["boxcar", "lee"])
@pytest.mark.parametrize(("looks", "correlation"), [(1.0, 0.4), (4.4, 0.7), (8.0, 0.2)])
def test_filtered_images_are_doubted(looks, correlation, method):
    image = observe(looks, correlation)
    filtered = make_despeckler(method).despeckle(image, measure_scene(image[np.newaxis])[0])
    assert "images have" in doubt(filtered)


@pytest.mark.parametrize("kind", ["constant", "checkerboard", "ramp"])
def test_images_without_speckle_are_doubted(kind):
    assert "images have" in doubt(pattern(kind))


def test_few_pixels_are_not_judged():
    assert doubt(np.full((40, 40), 0.1, np.float32)) == ""
    assert doubt(np.full((SIDE_PX, SIDE_PX), np.nan, np.float32)) == ""


def test_info_warns_of_filtered_images_and_not_of_others(tmp_path, recwarn):
    speckled = write_tif(tmp_path / "S1A_20210101T051234_vv.tif", observe(4.4, 0.7))
    describe_stack(index_stack(str(speckled)))
    assert not [w for w in recwarn if issubclass(w.category, SarstackWarning)]
    constant = write_tif(tmp_path / "S1A_20210113T051234_vv.tif", pattern("constant"))
    with pytest.warns(SarstackWarning, match="does not look like an unfiltered radar image"):
        describe_stack(index_stack(str(constant)))
