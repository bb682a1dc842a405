"""Self-ensemble of networks: symmetries, laws, the mean, and settings."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_networks import save_small_network

from sarstack.cli.commands import run
from sarstack.despecklers import make_despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.law_images import draw_landscape
from sarstack.evaluation.laws import LAWS, Law, choose_arguments
from sarstack.networks.ensemble import list_symmetries, run_ensemble
from sarstack.speckle.statistics import SceneStatistics, measure_scene


def test_symmetries_are_undone_and_move_places():
    image = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
    place = (slice(1, 4), slice(5, 11))
    turned = [symmetry.apply(image) for symmetry in list_symmetries(8)]
    assert len({t.tobytes() for t in turned}) == 8
    for symmetry, mirror in zip(list_symmetries(8), turned, strict=True):
        assert_array_equal(symmetry.undo(mirror), image)
        moved = symmetry.move(place, image.shape)
        assert_array_equal(np.sort(mirror[moved].ravel()), np.sort(image[place].ravel()))
    assert [len([*list_symmetries(n)]) for n in (1, 4, 8)] == [1, 4, 8]


def test_cells_of_mirror_images_are_those_of_the_image():
    """A stand-in for a network gives each cell of 4 x 4 pixels its largest valid pixel."""

    def largest_of_cell(image, *, sensor, others, inside):
        rows, columns = (size // 4 for size in image.shape)
        cells = np.nan_to_num(image, nan=-1).reshape(rows, 4, columns, 4).max(axis=(1, 3))
        assert (sensor, others) == ((2.0, 0.1, 0.1), None)
        return cells.repeat(4, axis=0).repeat(4, axis=1)[inside]

    image = np.random.default_rng(0).random((18, 23)).astype(np.float32)
    inside = (slice(0, 18), slice(3, 23))
    expected = largest_of_cell(np.pad(image, [(0, 2), (0, 1)], constant_values=np.nan),
                               sensor=(2.0, 0.1, 0.1), others=None, inside=inside)  # fmt: skip
    found = run_ensemble(largest_of_cell, image, (2.0, 0.1, 0.1), None, inside, 8)
    assert_allclose(found, expected, rtol=1e-6)


# The others do not depend on what an ensemble adds.
@pytest.mark.parametrize(
    "law",
    [law for law in LAWS if law.name in ("tiling", "scale", "nodata", "halo", "size")],
    ids=lambda law: law.name,
)
def test_an_ensemble_keeps_the_laws(law: Law, tmp_path: Path):
    model = str(save_small_network(tmp_path, "despecknet-mt"))
    law.check(make_despeckler(model, precision="float32", ensemble=8),
              **next(iter(choose_arguments(law, 0))))  # fmt: skip


def test_a_mirror_image_gives_the_mirror_image(tmp_path: Path):
    """The ensemble is symmetric where the network is not."""
    model = str(save_small_network(tmp_path, "despecknet-lite"))
    block = draw_landscape(2, (48, 64), holes=False)[:1]
    statistics = [SceneStatistics(4, (0.3, 0.1), 1.0)]
    turned = [SceneStatistics(4, (0.1, 0.3), 1.0)]

    def asymmetry(ensemble: int) -> float:
        method = make_despeckler(model, precision="float32", ensemble=ensemble)
        image = method.apply(block, statistics)[0]
        mirror = method.apply(np.ascontiguousarray(block[:, ::-1].swapaxes(1, 2)), turned)[0]
        return float(np.abs(np.log(mirror / image[::-1].T)).max())

    assert asymmetry(8) < 1e-4 < asymmetry(1)


def test_the_mean_of_the_image_is_that_of_the_single_predictions():
    block = np.minimum(draw_landscape(5, (90, 80), holes=True), 5)
    statistics = measure_scene(block)
    one, eight = (make_despeckler("despecknet-lite", ensemble=n).apply(block, statistics)
                  for n in (1, 8))  # fmt: skip
    assert_allclose(np.nansum(eight), np.nansum(one), rtol=5e-3)
    assert_array_equal(np.isnan(eight), np.isnan(one))


def test_results_of_ensembles_have_another_mark(make_stack, tmp_path: Path, capsys):
    stack = make_stack(n_dates=1, polarisations=("vv",))
    command = ["-q", "despeckle", str(stack.folder), "--method", "despecknet-lite",
               "-o", str(tmp_path / "out")]  # fmt: skip
    assert run([*command, "--ensemble", "4"]) == 0
    assert run(command) == 5
    message = capsys.readouterr().err
    assert "other settings" in message
    assert "expected: the settings of the last run: ensemble 4 (now not set)" in message
    assert run([*command, "--ensemble", "3"]) == 5
    with pytest.raises(UsageError, match="ensemble = 2"):
        make_despeckler("despecknet", ensemble=2)
