"""Pictures in notebooks: the pixels of the whole result, one stretch, and a true ratio."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import gamma

import sarstack  # noqa: F401 - registers the accessor
from sarstack.errors import StackError, UsageError
from sarstack.networks.model_file import shipped_model
from sarstack.speckle.laws import moment_looks

SHAPE = (150, 170)
WINDOW = (30, 120, 50, 133)


def simulate(n_dates: int = 4, looks: float = 4.4) -> tuple[xr.Dataset, xr.Dataset]:
    """Return speckled images, and the same without speckle."""
    rng = np.random.default_rng(3)
    truth = np.full((n_dates, *SHAPE), 0.03, np.float32)
    truth[:, :, SHAPE[1] // 2 :] = 0.15
    noisy = truth * rng.gamma(looks, 1 / looks, truth.shape).astype(np.float32)
    times = np.datetime64("2024-01-01", "ns") + np.arange(n_dates) * np.timedelta64(12, "D")
    coords = {"time": times, "y": -10.0 * np.arange(SHAPE[0]), "x": 10.0 * np.arange(SHAPE[1])}

    def dataset(pixels: np.ndarray) -> xr.Dataset:
        pixels = pixels.copy()
        pixels[:, 40:44, 60:66] = np.nan
        both = {"vv": pixels, "vh": (pixels / 5).astype(np.float32)}
        return xr.Dataset({n: (("time", "y", "x"), p) for n, p in both.items()}, coords)

    return dataset(noisy), dataset(truth)


@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 64, "x": 50}, {"time": 3}])
@pytest.mark.parametrize("method", ["boxcar", "lee-sigma", "quegan-yu", "despecknet-lite"])
def test_a_preview_has_the_pixels_of_the_whole_result(method: str, chunks: dict | None) -> None:
    cube = simulate()[0] if chunks is None else simulate()[0].chunk(chunks)
    preview = cube.despeck.preview([method], WINDOW, date=1, polarisation="vh")
    part = {"y": slice(*WINDOW[:2]), "x": slice(*WINDOW[2:])}
    whole = cube.despeck.apply(method)["vh"].isel(time=1, **part)
    np.testing.assert_allclose(preview.images.sel(image=method), whole, rtol=1e-5)
    np.testing.assert_array_equal(
        preview.images.sel(image="input"), cube["vh"].isel(time=1, **part)
    )
    xr.testing.assert_equal(preview.images["x"], whole["x"].drop_vars("time"))


def test_all_images_of_a_preview_have_one_stretch_and_their_names() -> None:
    methods = ["lee", "lee", str(shipped_model("despecknet-lite"))]
    preview = simulate()[0].despeck.preview(methods)
    shown = [axes for axes in preview.figure.axes if axes.images]
    names = ["input", "lee", "lee (2)", "despecknet-lite.safetensors"]
    assert [axes.get_title() for axes in shown] == names
    assert {axes.images[0].get_clim() for axes in shown} == {(-22.0, 0.0)}
    assert preview._repr_png_().startswith(b"\x89PNG")
    assert "2024-01-25" in repr(preview)


def test_the_ratio_of_a_perfect_result_is_speckle_of_the_looks_of_the_scene(tmp_path) -> None:
    noisy, truth = simulate(looks=7.0)
    picture = noisy.despeck.plot(truth, looks=7.0)
    panels = [axes for axes in picture.figure.axes if axes.images]
    curves = picture.figure.axes[-1].lines
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()
    ratio = np.ma.filled(panels[2].images[0].get_array(), np.nan)
    assert moment_looks(ratio) == pytest.approx(7.0, rel=0.05)
    measured, density = (curve.get_ydata() for curve in curves)
    centres = curves[1].get_xdata()
    np.testing.assert_allclose(density, gamma.pdf(centres, 7.0, scale=1 / 7.0))
    np.testing.assert_allclose(measured, density, atol=0.15)
    assert picture.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="nowhere does not exist"):
        picture.save(tmp_path / "nowhere" / "a.png")


def test_a_lazy_result_is_plotted_without_computing_other_dates() -> None:
    noisy = simulate()[0].chunk(time=1)
    computed: list[int] = []

    def note(block: np.ndarray) -> np.ndarray:
        computed.extend([1] if block.size else [])  # Dask tries it with an empty block
        return block

    result = noisy.map(lambda v: v.copy(data=v.data.map_blocks(note, dtype=v.dtype)))
    noisy.despeck.plot(result, date=2)
    assert len(computed) == 1


def test_a_window_is_the_centre_or_where_most_texture_is() -> None:
    rng = np.random.default_rng(0)
    image = rng.gamma(4.4, 0.1 / 4.4, (1600, 1500)).astype(np.float32)
    image[1300:1500, 1250:1450] *= np.geomspace(0.01, 10, 200)[:, None]
    array = xr.DataArray(image, dims=("y", "x"))
    centre = array.despeck.preview("boxcar")
    assert "rows 544 to 1056, columns 494 to 1006" in centre.description
    textured = array.despeck.preview("boxcar", "textured").description
    assert "rows 1088 to 1600, columns 988 to 1500" in textured
    image[500:1100, 400:1100] = np.nan
    assert array.despeck.preview("boxcar").description == textured


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"window": (0, 10, 0, 999)}, r"inside 150 rows and 170 columns"),
        ({"window": (5, 5, 0, 9)}, r"\(y0, y1, x0, x1\)"),
        ({"window": "centre"}, "textured"),
        ({"window": 3}, "window = 3"),
        ({"date": 4}, "an index from 0 to 3"),
        ({"date": "yesterday"}, "a time such as"),
        ({"date": "NaT"}, "a time such as"),
        ({"date": "2023-12-31"}, "'2024-01-01', not before it and not after 2024-02-06"),
        ({"date": "2035"}, "not after 2024-02-06"),
        ({"polarisation": "hh"}, "one of vv, vh"),
        ({"methods": []}, "one method or more"),
        ({"methods": ["leee"]}, "leee"),
        ({"looks": 0}, "looks = 0"),
    ],
)
def test_what_is_not_there_is_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        simulate()[0].despeck.preview(**arguments)


def test_a_date_is_an_index_or_the_nearest_time() -> None:
    cube = simulate()[0]
    for date, expected in (("2024-01-14", "01-13"), (-1, "02-06"), ("2024-02", "02-06")):
        assert f"2024-{expected}" in cube.despeck.preview("boxcar", date=date).description
    with pytest.raises(UsageError, match="dates have times"):
        cube["vv"].isel(time=0, drop=True).despeck.preview("boxcar", date="2024-01-01")


def test_a_result_of_another_size_is_refused() -> None:
    cube = simulate()[0]
    with pytest.raises(UsageError, match="result has") as caught:
        cube.despeck.plot(cube.isel(y=slice(9)))
    assert "evaluate" not in caught.value.do
    with pytest.raises(StackError, match="result: an object of type str"):
        cube.despeck.plot("lee")
