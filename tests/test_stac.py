"""STAC items: read back by pystac, on the right place and date, with the files they name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely.geometry
from pyproj import Transformer
from rasterio.crs import CRS
from simulated_stack import SimulatedStack
from written_images import speckle, write_tif

from sarstack.output.footprint import footprint, has_longitudes, pixel_size_m
from sarstack.output.stac import Product, write_catalogue
from sarstack.readers.grid import Grid, GroundControlPoint
from sarstack.readers.stack import Date
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
    assert item.properties["sar:instrument_mode"] == "IW"
    assert item.properties["gsd"] == 10
    assert item.properties["proj:wkt2"].startswith("PROJCRS[")
    to_lonlat = Transformer.from_crs(32631, 4326, always_xy=True)
    west, north = to_lonlat.transform(500_000.0, 4_800_000.0)
    assert item.bbox[0] == pytest.approx(west, abs=1e-6)
    assert item.bbox[3] == pytest.approx(north, abs=1e-4)
    assert item.properties["renders"]["vh"]["assets"] == ["vh"]
    assert item.properties["renders"]["vh"]["rescale"] == [[0.0, 0.1]]
    files = {name: asset.roles for name, asset in collection.assets.items()}
    assert files["quicklook"] == ["overview"]
    for file in (tmp_path / "out" / "stac").iterdir():
        assert str(tmp_path) not in file.read_text(), "links are relative: the folder can be moved"


def find_schema_errors(file: Path) -> list[str]:
    """Compare a file with the schemas of core STAC that are part of pystac; needs no network."""
    from jsonschema import Draft7Validator
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource

    schemas, content = get_local_schema_cache(), json.loads(file.read_text())
    kind = {"Feature": "item", "Collection": "collection"}[content["type"]]
    [schema] = [schemas[uri] for uri in schemas if uri.endswith(f"/{kind}.json")]
    registry = Registry().with_resources(
        (uri, Resource.from_contents(text)) for uri, text in schemas.items()
    )
    errors = Draft7Validator(schema, registry=registry).iter_errors(content)
    return [f"{file.name}: {error.message}" for error in errors]


def test_items_and_collection_keep_the_schemas_of_stac(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack(n_dates=2)
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    despeckle(config)
    files = list((tmp_path / "out" / "stac").glob("*.json"))
    assert len(files) == 3
    assert [error for file in files for error in find_schema_errors(file)] == []
    wrong = json.loads(files[0].read_text()) | {"stac_version": 5}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    assert find_schema_errors(tmp_path / "wrong.json")


ENGINEERING_CRS = 'LOCAL_CS["site grid",UNIT["metre",1]]'


def grid(crs: str, x: float, y: float, step: float) -> Grid:
    wkt = CRS.from_user_input(crs).to_wkt() if crs else ""
    return Grid(Shape(96, 128), wkt, (step, 0, x, 0, -step, y))


def with_gcps(scene: Grid) -> Grid:
    """The same places told by ground control points, all within -180 to 180 degrees."""
    to_lonlat = Transformer.from_crs(scene.crs_wkt, 4326, always_xy=True)
    a, _, c, _, e, f = scene.transform
    points = []
    for row in np.linspace(0, scene.shape.y, 5):
        for column in np.linspace(0, scene.shape.x, 6):
            lon, lat = to_lonlat.transform(a * column + c, e * row + f)
            points.append(GroundControlPoint(row, column, (lon + 180) % 360 - 180, lat))
    return Grid(scene.shape, CRS.from_epsg(4326).to_wkt(), gcps=tuple(points))


FIJI = grid("EPSG:32760", 818_000, 8_200_000, 100)  # the last UTM zone


@pytest.mark.parametrize(
    "scene",
    [
        FIJI,
        replace(FIJI, transform=(100, 0, 818_000, 0, 100, 8_190_400)),  # rows from south to north
        grid("EPSG:4326", 179.995, -16, 0.0001),  # longitudes beyond 180 degrees
        with_gcps(FIJI),
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


@pytest.mark.parametrize("epsg", [3413, 3031])
@pytest.mark.parametrize("step_y", [-1000, 1000])
def test_the_outline_of_a_scene_with_a_pole_holds_the_pole(epsg: int, step_y: int) -> None:
    scene = grid(f"EPSG:{epsg}", -50_000, 40_000, 1000)
    if step_y > 0:
        scene = replace(scene, transform=(1000, 0, -50_000, 0, 1000, -56_000))
    box, outline = footprint(scene)
    pole = 90 if epsg == 3413 else -90
    shape = shapely.geometry.shape(outline)
    assert shape.contains(shapely.Point(10, pole * 0.9999))
    assert not shape.contains(shapely.Point(10, pole * 0.95))
    assert pole in box


def test_the_outline_of_ground_control_points_is_that_of_the_map_they_come_from() -> None:
    scene = grid("EPSG:32633", 400_000, 5_000_000, 100)
    _, of_map = footprint(scene)
    _, of_points = footprint(with_gcps(scene))
    first, second = (np.array(outline["coordinates"][0]) for outline in (of_map, of_points))
    np.testing.assert_allclose(first, second, atol=1e-5)  # about a metre
    assert pixel_size_m(with_gcps(scene)) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("scene", "expected_m"),
    [
        (grid("EPSG:32633", 400_000, 5_000_000, 10), 10.0),
        (grid("EPSG:2263", 980_000, 200_000, 30), 30 * 0.3048006),  # feet
        (grid("EPSG:4326", 10, 60, 0.001), 111.4),  # the height of a pixel; its width is 55.8 m
        (grid("EPSG:3857", 1_000_000, 8_400_000, 10), 5.0),  # Mercator at 60 degrees
    ],
)
def test_the_sampling_distance_is_in_metres_on_the_ground(scene: Grid, expected_m: float) -> None:
    assert pixel_size_m(scene) == pytest.approx(expected_m, rel=0.005)


@pytest.mark.parametrize(
    ("platform", "band", "constellation"),
    [
        ("sentinel-1c", "C", "sentinel-1"), ("alos-2", "L", None), ("iceye-x7", "X", "iceye"),
        ("radarsat-2", "C", None), ("nisar", None, None), ("", None, None),
    ],
)  # fmt: skip
def test_an_item_says_only_what_is_known_of_its_sensor(
    tmp_path: Path, platform: str, band: str | None, constellation: str | None
) -> None:
    date = Date(np.datetime64("2021-01-04T05:34:12", "ns"), platform)
    scene = with_gcps(grid("EPSG:32633", 400_000, 5_000_000, 100))
    product = Product(date, scene, {"hh": tmp_path / "a_hh.tif"}, 4.4)
    settings = {"method": "boxcar", "version": "1"}
    path = write_catalogue(tmp_path / "stac", "farm", [product], settings)
    [item] = pystac.Collection.from_file(str(path)).get_items()
    assert item.properties.get("sar:frequency_band") == band
    assert item.properties.get("constellation") == constellation
    assert "sar:instrument_mode" not in item.properties
    assert item.properties["proj:code"] is None
    assert "proj:transform" not in item.properties
    declared = {url.split("/")[3] for url in item.stac_extensions}
    used = {"proj": "projection"}
    named = {key.split(":")[0] for key in item.properties if ":" in key}
    assert declared == {used.get(prefix, prefix) for prefix in named} | {"render"}
    assert "sat" not in declared


def test_images_with_ground_control_points_get_items(tmp_path: Path) -> None:
    scene = with_gcps(grid("EPSG:32633", 400_000, 5_000_000, 100))
    points = [rasterio.control.GroundControlPoint(p.row, p.column, p.x, p.y) for p in scene.gcps]
    (tmp_path / "in").mkdir()
    path = write_tif(tmp_path / "in" / "ALOS2_20210104T053412_hh.tif", speckle(shape=scene.shape),
                     crs=None, transform=None, tags={"PLATFORM": "ALOS-2"})  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(4326))
    config = DespeckleConfig.make(
        stack=str(tmp_path / "in"), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    despeckle(config)
    [item] = pystac.Collection.from_file(str(tmp_path / "out/stac/collection.json")).get_items()
    assert item.properties["sar:frequency_band"] == "L"
    assert item.bbox == pytest.approx(footprint(scene)[0], abs=1e-6)


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


def test_a_collection_keeps_the_items_whose_images_still_exist(tmp_path: Path) -> None:
    def product(day: int) -> Product:
        path = tmp_path / f"{day}.tif"
        path.write_bytes(b"")
        time = np.datetime64(f"2021-01-{day:02d}T05:12:34")
        return Product(Date(time), grid("EPSG:32631", 5e5, 48e5, 10), {"vv": path}, 4.4)

    def days() -> list[int]:
        collection = pystac.Collection.from_file(str(path))
        return [item.datetime.day for item in collection.get_items()]

    settings = {"method": "lee", "version": "1"}
    path = write_catalogue(tmp_path / "stac", "name", [product(1), product(3)], settings)
    path = write_catalogue(tmp_path / "stac", "name", [product(2), product(3)], settings)
    assert days() == [1, 2, 3]
    for item in pystac.Collection.from_file(str(path)).get_items():
        assert Path(item.assets["vv"].get_absolute_href()).exists()
        assert item.get_parent().id == "name"
    (tmp_path / "1.tif").unlink()
    write_catalogue(tmp_path / "stac", "name", [product(4)], settings)
    assert days() == [2, 3, 4]
    path.write_text("{damaged")
    write_catalogue(tmp_path / "stac", "name", [product(5)], settings)
    assert days() == [5]


def test_the_collections_of_two_methods_stay_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "1.tif"
    path.write_bytes(b"")
    date = Date(np.datetime64("2021-01-01T05:12:34"))
    products = [Product(date, grid("EPSG:32631", 5e5, 48e5, 10), {"vv": path}, 4.4)]

    def write(name: str) -> Path:
        return write_catalogue(tmp_path / "stac", name, products, {"method": name, "version": "1"})

    first, second = write("site-lee"), write("site-boxcar")
    assert first.name == "collection.json"
    assert second.name == "collection-site-boxcar.json"
    assert (write("site-lee"), write("site-boxcar")) == (first, second)
    for file, name in ((first, "site-lee"), (second, "site-boxcar")):
        collection = pystac.Collection.from_file(str(file))
        (item,) = collection.get_items()
        assert collection.id == item.get_parent().id == name
    assert len([*(tmp_path / "stac").iterdir()]) == 4
