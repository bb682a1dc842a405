"""The uncertainty that a method tells, compared with its errors on simulated scenes."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import polygamma

from sarstack.despecklers import Despeckler, make_despeckler
from sarstack.errors import UsageError
from sarstack.evaluation.calibration import measure_coverage
from sarstack.evaluation.suites import SUITES, Suite
from sarstack.speckle.sensor import SpeckleSimulator

LOOKS = 20.0
RECIPE = Path(__file__).parents[1] / "recipes/uncertainty/run.py"


class Unchanged(Despeckler):
    """Return the input, and a multiple of the standard deviation of speckle in dB."""

    name = "unchanged"
    halo = 0
    has_uncertainty = True

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def despeckle(self, intensity, statistics, summary=None):
        return intensity

    def despeckle_with_uncertainty(self, intensity, statistics, summary=None, inside=None):
        told = self.factor * 10 / np.log(10) * np.sqrt(polygamma(1, LOOKS))
        return intensity, np.full_like(intensity, told)


def test_shares_of_speckle_itself_are_those_of_a_gaussian():
    suite = Suite("many", "20 looks, white", SpeckleSimulator(LOOKS))
    coverage = measure_coverage(Unchanged(), suite, size_px=96, n_scenes=0)
    assert coverage.at(0.8) == (pytest.approx(0.8, abs=0.02), pytest.approx(0.8, abs=0.04))
    np.testing.assert_allclose(coverage.observed, coverage.nominal, atol=0.02)
    assert coverage.uncertainty_db == pytest.approx(coverage.rmse_db, rel=0.03)
    wide = measure_coverage(Unchanged(2.0), suite, size_px=96, n_scenes=0, looks_given=True)
    assert wide.at(0.5)[0] == pytest.approx(0.823, abs=0.02)  # 2 * 0.674 standard deviations


def test_a_method_without_uncertainty_is_refused():
    with pytest.raises(UsageError, match="lee does not know"):
        measure_coverage(make_despeckler("lee"), SUITES["grd"], size_px=96, n_scenes=0)


@pytest.mark.parametrize("suite", ["grd", "single-look"])
def test_the_shipped_weights_know_their_errors(suite: str):
    """Small scenes: the shares on larger ones are in docs/quality.md."""
    method = make_despeckler("despecknet-lite")
    coverage = measure_coverage(method, SUITES[suite], size_px=96, n_scenes=3)
    for share in (0.5, 0.8, 0.95):
        assert coverage.at(share)[0] == pytest.approx(share, abs=0.1)
    assert coverage.uncertainty_db == pytest.approx(coverage.rmse_db, rel=0.4)


def test_the_recipe_draws_a_picture_and_a_table(tmp_path: Path, monkeypatch, capsys):
    picture = tmp_path / "shares.png"
    arguments = [str(picture), "despecknet-lite", "--suites", "grd", "rtc", "--size-px", "96",
                 "--n-scenes", "0"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    runpy.run_path(str(RECIPE), run_name="__main__")
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["grd", "rtc"]
