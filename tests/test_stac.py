"""STAC items: read back by pystac, on the right place and date, with the files they name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
from pyproj import Transformer
from rasterio.crs import CRS
from simulated_stack import SimulatedStack

from sarstack.output.stac import footprint, has_longitudes
from sarstack.readers.grid import Grid
from sarstack.tiles import Shape
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

pystac = pytest.importorskip("pystac")


def test_items_describe_the_images(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack()
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    outcome = despeckle(config)
    collection = pystac.Collection.from_file(str(tmp_path / "out" / "stac" / "collection.json"))
    items = sorted(collection.get_items(), key=lambda item: item.datetime)
    assert [item.datetime.isoformat() for item in items] == [
        f"2021-01-{day}T05:12:34+00:00" for day in ("01", "13", "25")
    ]
    found = {Path(a.get_absolute_href()) for item in items for a in item.assets.values()}
    assert found == set(outcome.outputs)
    item = items[0]
    assert set(item.assets) == {"vv", "vh"}
    assert item.properties["proj:shape"] == [90, 120]
    assert item.properties["proj:code"] == "EPSG:32631"
    assert 3 < item.properties["sar:looks_equivalent_number"] < 6
    assert item.properties["platform"] == "sentinel-1a"
    to_lonlat = Transformer.from_crs(32631, 4326, always_xy=True)
    west, north = to_lonlat.transform(500_000.0, 4_800_000.0)
    assert item.bbox[0] == pytest.approx(west, abs=1e-6)
    assert item.bbox[3] == pytest.approx(north, abs=1e-4)
    for file in (tmp_path / "out" / "stac").iterdir():
        assert str(tmp_path) not in file.read_text(), "links are relative: the folder can be moved"


ENGINEERING_CRS = 'LOCAL_CS["site grid",UNIT["metre",1]]'


def grid(crs: str, x: float, y: float, step: float) -> Grid:
    wkt = CRS.from_user_input(crs).to_wkt() if crs else ""
    return Grid(Shape(96, 128), wkt, (step, 0, x, 0, -step, y))


@pytest.mark.parametrize(
    "scene",
    [
        grid("EPSG:32760", 818_000, 8_200_000, 100),  # Fiji, the last UTM zone
        grid("EPSG:4326", 179.995, -16, 0.0001),  # longitudes beyond 180 degrees
    ],
)
def test_a_scene_across_the_antimeridian_has_a_small_outline_in_two_parts(scene: Grid) -> None:
    (west, south, east, north), outline = footprint(scene)
    assert 179 < west < 180
    assert -180 < east < -179
    assert -17 < south < north < -15
    assert outline["type"] == "MultiPolygon"
    for polygon in outline["coordinates"]:
        longitudes = [point[0] for ring in polygon for point in ring]
        assert max(longitudes) - min(longitudes) < 1
        assert max(map(abs, longitudes)) <= 180


def test_the_outline_follows_the_curved_edges_of_a_map() -> None:
    """Oracle: the latitude of the middle of the northern edge, by pyproj."""
    scene = grid("EPSG:32633", 200_000, 8_000_000, 3_000)
    box, outline = footprint(scene)
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(200_000 + 64 * 3_000, 8_000_000)
    latitudes = {round(x, 5): y for x, y in outline["coordinates"][0]}
    assert latitudes[round(lon, 5)] == pytest.approx(lat, abs=1e-6)
    assert box[3] > to_lonlat.transform(200_000, 8_000_000)[1]


@pytest.mark.parametrize(
    ("crs", "expected"), [("", False), (ENGINEERING_CRS, False), ("EPSG:4326", True)]
)
def test_a_grid_without_longitudes_is_recognised(crs: str, expected: bool) -> None:
    assert has_longitudes(grid(crs, 10, 50, 0.001)) is expected


def test_images_without_a_usable_crs_are_finished_without_items(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = make_stack(n_dates=1)
    for file in stack.files:
        with rasterio.open(file, "r+") as image:
            image.crs = CRS.from_wkt(ENGINEERING_CRS)
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    assert len(despeckle(config).outputs) == len(stack.files)
    assert "no STAC items" in caplog.text
    assert not (tmp_path / "out" / "stac").exists()
