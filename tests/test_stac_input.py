"""STAC items open to the pixels of their files, with times and orbits of the items."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from served_folder import serve_folder
from written_images import read_whole, speckle, write_tif
from written_stac import collect, make_asset, make_item, write_json, write_scenes

from sarstack.errors import SarstackWarning, StackError, StackReadError
from sarstack.readers import index_stack, open_stack
from sarstack.readers.formats import stac
from sarstack.readers.image import Image
from sarstack.readers.stac import documents
from sarstack.readers.stac.assets import choose_assets
from sarstack.readers.stac.documents import Item
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.fingerprint import identity
from sarstack.workflows.settings import DespeckleConfig

Scenes = tuple[Path, list[dict[str, Any]], dict[tuple[str, int], np.ndarray]]


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    items, truth = write_scenes(tmp_path)
    return tmp_path, items, truth


def assert_is_whole(stack: Any, truth: dict[tuple[str, int], np.ndarray]) -> None:
    assert stack.n_dates == 3
    for (polarisation, date), pixels in truth.items():
        np.testing.assert_array_equal(read_whole(stack, polarisation, date), pixels)


def test_an_item_collection_opens_with_the_times_and_orbits_of_its_items(scenes: Scenes) -> None:
    folder, items, truth = scenes
    stack = index_stack(write_json(folder / "items.json", collect(items)))
    assert_is_whole(stack, truth)
    assert [date.timestamp for date in stack.dates] == [
        "2021-01-04T05:34:12Z", "2021-01-16T05:34:12Z", "2021-01-28T05:34:12Z",
    ]  # fmt: skip
    for date in stack.dates:
        assert (date.platform, date.orbit_direction) == ("sentinel-1a", "descending")
        assert date.relative_orbit == 66
    assert stack.grid.crs_name == "EPSG:32632"
    cube = open_stack(folder / "items.json")
    np.testing.assert_array_equal(cube["vv"].values[1], truth["vv", 1])


def test_one_item_a_collection_and_nested_catalogues_open(scenes: Scenes) -> None:
    folder, items, truth = scenes
    for item in items:
        write_json(folder / f"{item['id']}.json", item)
    assert_is_whole(index_stack(str(folder / "farm-*.json")), truth)
    stack = index_stack(folder / "farm-1.json")
    np.testing.assert_array_equal(read_whole(stack, "vh"), truth["vh", 1])
    links = [{"rel": "item", "href": f"./farm-{date}.json"} for date in range(3)]
    links += [{"rel": "self", "href": "https://nowhere.invalid/x"}, {"rel": "root", "href": "c"}]
    collection = {"type": "Collection", "stac_version": "1.0.0", "id": "farm", "links": links}
    assert_is_whole(index_stack(write_json(folder / "collection.json", collection)), truth)
    child = {"rel": "child", "href": "../collection.json"}
    itself = {"rel": "child", "href": "catalog.json"}
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "all", "links": [child, itself]}
    path = write_json(folder / "sub folder" / "catalog.json", catalogue)
    assert_is_whole(index_stack(path), truth)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.json", True), ("A.GeoJSON", True), ("https://h/a.json?sig=1", True),
        ("s3://b/collection.json", True), ("https://h/v1/collections/x/items?limit=9", True),
        ("https://h/v1/collections/x/items/OPERA_L2_v1.0", True), ("https://h/v1/search", True),
        ("https://h/v1/collections/x/items/a.tif", False), ("https://h/a.tif", False),
        ("a.tif", False), ("https://h/collections/a.zarr", False), ("stack/items", False),
    ],
)  # fmt: skip
def test_documents_are_recognised_by_their_names(path: str, expected: bool) -> None:
    assert stac.matches(path) is expected


def test_references_relative_to_a_url_open_from_a_web_server(scenes: Scenes) -> None:
    folder, items, truth = scenes
    write_json(folder / "items" / "first.json", collect(
        [items[0] | {"assets": {k: a | {"href": f"../{a['href']}"}
                                for k, a in items[0]["assets"].items()}}],
        links=[{"rel": "next", "href": "../second.json"}],
    ))  # fmt: skip
    write_json(folder / "second.json", collect(items[1:]))
    with serve_folder(folder) as url:
        assert_is_whole(index_stack(f"{url}/items/first.json"), truth)
        with pytest.raises(StackReadError, match=r"third\.json cannot be read \(HTTP Error 404"):
            index_stack(f"{url}/third.json")


def test_results_are_named_after_items_if_their_files_have_equal_names(
    scenes: Scenes, tmp_path: Path
) -> None:
    folder, items, _ = scenes
    items[1]["id"] = "farm/1: \1b"
    path = write_json(folder / "items.json", collect(items))
    config = DespeckleConfig.make(
        stack=str(path), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    outcome = despeckle(config)
    assert [output.name for output in outcome.outputs] == [
        f"farm{middle}_{polarisation}_boxcar.tif"
        for middle in ("-0", "-2", "_1__b") for polarisation in ("vh", "vv")
    ]  # fmt: skip
    with rasterio.open(tmp_path / "out" / "farm-2_vh_boxcar.tif") as image:
        tags = image.tags()
    assert tags["ACQUISITION_DATETIME"] == "2021-01-28T05:34:12Z"
    assert tags["RELATIVE_ORBIT"] == "66"
    assert tags["INPUT_FILE"] == "farm-2/vh.tif"
    again = index_stack(tmp_path / "out" / "stac" / "collection.json")
    assert [date.timestamp for date in again.dates] == [
        date.timestamp for date in index_stack(path).dates
    ]


def test_scale_offset_nodata_and_unit_of_an_item_are_used(tmp_path: Path) -> None:
    truth = speckle(3)
    packed = np.round((10 * np.log10(truth) + 40) / 0.01).astype(np.int16)
    packed[:5] = 7
    write_tif(tmp_path / "a_vv.tif", packed)
    facts = {"nodata": 7, "unit": "dB"}
    old = {"raster:bands": [{**facts, "scale": 0.01, "offset": -40}]}
    new = {"bands": [{"name": "vv", "raster:scale": 0.01}], "raster:offset": -40, **facts}
    for fields in (old, new):
        item = make_item("a", "2021-01-04T05:00:00Z", {"x": make_asset("a_vv.tif", **fields)})
        stack = index_stack(write_json(tmp_path / "a.json", item))
        pixels = read_whole(stack)
        assert np.isnan(pixels[:5]).all()
        np.testing.assert_allclose(pixels[5:], truth[5:], rtol=2e-3)


def test_a_changed_item_is_another_input(scenes: Scenes) -> None:
    folder, _, _ = scenes

    def identify(asset: dict[str, Any]) -> str:
        item = make_item("a", "2021-01-04T05:00:00Z", {"vv": asset})
        stack = index_stack(write_json(folder / "a.json", item))
        return json.dumps(identity(stack.rasters["vv"][0]), default=str)

    plain = make_asset("scene0/vv.tif")
    changed = [
        {"raster:bands": [{"nodata": 0.5}]},
        {"raster:bands": [{"scale": 0.5}]},
        {"raster:bands": [{"offset": 0.5}]},
        {"href": "scene0/../scene0/vv.tif"},
    ]
    found = [identify(plain), *(identify(plain | change) for change in changed)]
    assert len(set(found)) == len(found)
    assert identify(plain) == found[0]


def test_a_token_in_a_url_is_no_part_of_the_identity_or_of_a_message(tmp_path: Path) -> None:
    href = "https://x.blob.core.windows.net/a/vv.tif?sig=s3cret"
    item = make_item("a", "2021-01-04T05:00:00Z", {"vv": make_asset(href)})
    assert choose_assets(Item("a", "", {}, item["assets"]))[0].href == href
    write_json(tmp_path / "a.json", item | {"assets": {"vv": {"href": "gopher://h/?sig=s3cret"}}})
    with pytest.raises(StackReadError, match="not opened") as refusal:
        index_stack(tmp_path / "a.json")
    assert "s3cret" not in str(refusal.value)


def test_an_unsigned_url_of_the_planetary_computer_is_refused_with_the_way_to_sign_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage itself cannot be asked here: its refusal is raised in its place."""

    def refuse(path: str, bands: Any) -> None:
        del bands
        raise StackReadError(f"{path}: access is denied", do="check the credentials")

    monkeypatch.setattr(stac, "list_file", refuse)
    for host, advice in (("sentinel1euwestrtc.blob.core.windows.net", r"2 files[\s\S]*\.sign\("),
                         ("h.org", "credentials")):  # fmt: skip
        assets = {p: make_asset(f"https://{host}/a/{p}.tif") for p in ("vv", "vh")}
        path = write_json(tmp_path / "a.json", make_item("a", None, assets))
        with pytest.raises(StackReadError, match=advice):
            index_stack(path, skip_unreadable=True)


def test_the_images_of_known_catalogues_are_chosen_among_their_assets() -> None:
    """Keys, roles and types as the catalogues write them."""

    def choose(assets: dict[str, Any]) -> dict[str, str]:
        return {a.key: a.polarisation for a in choose_assets(Item("x", "", {}, assets))}

    png = {"href": "a/rendered_preview.png", "type": "image/png", "roles": ["overview"]}
    metadata = {"href": "vv.xml", "type": "application/xml", "roles": ["metadata"]}
    planetary = {
        "vh": make_asset("https://h/iw-vh.rtc.tiff"), "vv": make_asset("https://h/iw-vv.rtc.tiff"),
        "tilejson": {"href": "https://h/tilejson.json?item=x", "type": "application/json",
                     "roles": ["tiles"]}, "rendered_preview": png,
    }  # fmt: skip
    assert choose(planetary) == {"vh": "vh", "vv": "vv"}
    earth_search = {
        "vv": make_asset("s3://sentinel-s1-l1c/GRD/measurement/iw-vv.tiff"),
        "schema-product-vv": metadata, "schema-noise-vv": metadata, "thumbnail": png,
    }  # fmt: skip
    assert choose(earth_search) == {"vv": "vv"}
    indigo = {
        "gamma0_vv": make_asset("https://h/Gamma0_VV.tif", roles=["data", "gamma0"]),
        "incidence": make_asset(
            "local_incident_angle.tif", roles=["data", "local-incidence-angle"]
        ),
    }
    assert choose(indigo) == {"gamma0_vv": "vv"}
    opera = "OPERA_L2_RTC-S1_T047-100908-IW3_20200702T012349Z_20230320T070034Z_S1A_30_v1.0"
    listed = {
        f"{number}": {"href": f"{start}/{opera}{end}", "roles": ["data"]}
        for number, (start, end) in enumerate(
            (start, end) for start in ("s3://bucket", "https://h")
            for end in ("_VV.tif", "_VH.tif", "_mask.tif", ".h5", "_BROWSE.png", ".iso.xml")
        )
    }  # fmt: skip
    assert choose(listed) == {"6": "vv", "7": "vh"}
    copernicus = {
        "VV": make_asset("s3://eodata/a-vv-1.tiff", **{"sar:polarizations": ["VV"]}),
        "VH": make_asset("s3://eodata/a-vh-1.tiff", **{"sar:polarizations": ["VH"]}),
        "Product": {"href": "https://h/odata/Products(1)/$value", "type": "application/zip"},
        "product_metadata": metadata,
    }
    assert choose(copernicus) == {"VV": "vv", "VH": "vh"}
    bands = [{"name": "VV"}, {"name": "VH"}, {"name": "x"}]
    one_file = {
        "data": make_asset("a.tif", **{"eo:bands": bands}), "dataMask": make_asset("m.tif"),
        "number_of_looks": make_asset("a_vv_n.tif"),
    }  # fmt: skip
    assert choose(one_file) == {"data": ""}
    assert choose_assets(Item("x", "", {}, one_file))[0].band_names == ["VV", "VH", "-"]


def test_a_file_with_several_bands_gets_their_names_from_the_item(tmp_path: Path) -> None:
    bands = np.stack([speckle(1), speckle(2, 0.02), speckle(3, 40)])
    write_tif(tmp_path / "a.tif", bands)
    names = [{"name": "VV", "nodata": float(bands[0, 0, 0])}, {"name": "VH"}, {"name": "angle"}]
    item = make_item("a", "2021-01-04T05:00:00Z", {"data": make_asset("a.tif", bands=names)})
    stack = index_stack(write_json(tmp_path / "a.json", item))
    assert stack.polarisations == ("vv", "vh")
    np.testing.assert_array_equal(read_whole(stack, "vh"), bands[1])
    assert np.isnan(read_whole(stack, "vv")[0, 0])


def test_the_name_of_an_item_tells_scale_calibration_and_orbit(tmp_path: Path) -> None:
    """The files of all scenes of the Planetary Computer are called iw-vv.rtc.tiff."""
    folder = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13"
    file = tmp_path / f"{folder}_6FF8" / "measurement" / "iw-vv.rtc.tiff"
    file.parent.mkdir(parents=True)
    write_tif(file, speckle(mean=5))  # brighter than what is recognised as intensity by itself
    href = str(file.relative_to(tmp_path))
    item = make_item(f"{folder}_rtc", "2021-08-09T17:40:05Z", {"vv": make_asset(href)})
    stack = index_stack(write_json(tmp_path / "a.json", item))
    assert stack.calibration == "gamma0"
    assert (stack.dates[0].platform, stack.dates[0].relative_orbit) == ("sentinel-1a", 59)
    assert stack.rasters["vv"][0].stem == f"{folder}_rtc_iw-vv.rtc"


def test_an_unreadable_file_is_left_out_and_the_others_are_used(scenes: Scenes) -> None:
    folder, items, _ = scenes
    (folder / "scene1" / "vv.tif").write_bytes(b"II*\0" + bytes(40))
    path = write_json(folder / "items.json", collect(items))
    with pytest.raises(StackReadError, match=r"scene1.vv\.tif cannot be read"):
        index_stack(path)
    with pytest.warns(SarstackWarning, match=r"1 files cannot be read"):
        stack = index_stack(path, skip_unreadable=True)
    assert stack.rasters["vv"][1] is None
    assert stack.rasters["vh"][1] is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"type": "Feature", "geometry": null, "properties": {}}', "no STAC"),
        ('{"images": []}', "no STAC"),
        ("[1, 2]", "no STAC"),
        ("{", "cannot be read"),
        ("[" * 100_000, "nested too deep"),
        ('{"type": "Feature", "id": "\\ud800", "properties": {}, "assets": {}}', "surrogates"),
        ('{"type": "FeatureCollection", "features": []}', "no item"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "no STAC"),
        ('{"type": "Catalog", "id": "a", "links": [{"rel": "items", "href": "b"}]}', "client"),
    ],
)  # fmt: skip
def test_json_without_items_is_refused_in_words(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises((StackReadError, StackError), match=reason):
        index_stack(tmp_path / "a.json")


def test_documents_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = collect([make_item("a", None, {})], links=[{"rel": "next", "href": "b.json"}])
    monkeypatch.setattr(documents, "MAX_DOCUMENTS", 1)
    write_json(tmp_path / "a.json", endless)
    with pytest.raises(StackError, match="documents"):
        index_stack(tmp_path / "a.json")
    monkeypatch.setattr(documents, "MAX_BYTES", 50)
    with pytest.raises(StackReadError, match="more than 50 bytes"):
        index_stack(tmp_path / "a.json")


@pytest.mark.parametrize(
    "href",
    ["/vsicurl/http://127.0.0.1:1/x.tif", "<VRTDataset/>", "ftp://h/x.tif", "", "a\0b.tif",
     "x" * 9000, "GTIFF_DIR:1:x.tif", "x.vrt", "b.json", "y" * 300 + ".tif"],
)  # fmt: skip
def test_a_hostile_reference_is_refused_in_words(tmp_path: Path, href: str) -> None:
    item = make_item("a", "2021-01-04T05:00:00Z", {"vv": {"href": href}})
    path = write_json(tmp_path / "a.json", item)
    with pytest.raises((StackReadError, StackError)):
        index_stack(path)


def test_a_document_from_the_web_opens_no_local_file(scenes: Scenes) -> None:
    folder, _, _ = scenes
    local = (folder / "scene0" / "vv.tif").as_uri()
    item = make_item("a", "2021-01-04T05:00:00Z", {"vv": make_asset(local)})
    write_json(folder / "a.json", item)
    assert index_stack(folder / "a.json").n_dates == 1
    with serve_folder(folder) as url, pytest.raises(StackReadError, match="not opened"):
        index_stack(f"{url}/a.json")


def test_fields_of_any_type_give_an_image_or_an_error_in_words(scenes: Scenes) -> None:
    folder, items, _ = scenes
    odd = [None, 1, -1.5, True, "x", [], {}, [None], [{}], {"a": []}, "nan", 10**400]
    names = ["datetime", "start_datetime", "platform", "sat:orbit_state", "sat:relative_orbit",
             "sar:polarizations"]  # fmt: skip
    of_assets = ["title", "roles", "type", "eo:bands", "raster:bands", "bands", "nodata", "unit",
                 "raster:scale", "sar:polarizations"]  # fmt: skip
    changed = []
    for value in odd:
        for name in [*names, *of_assets]:
            item = make_item(f"{len(changed)}", None, {"vv": dict(items[0]["assets"]["vv"])})
            (item["properties"] if name in names else item["assets"]["vv"])[name] = value
            changed.append(item)
    found = stac.list_images(str(write_json(folder / "odd.json", collect(changed))), None)
    images = [image for image in found if isinstance(image, Image)]
    assert len(found) == len(changed)
    assert len(images) > len(changed) * 0.8
    assert all(isinstance(image, Image | StackError) for image in found)
    assert all(image.metadata.polarisation == "vv" for image in images)


def test_an_item_and_a_file_that_contradict_each_other_are_refused(scenes: Scenes) -> None:
    folder, _, _ = scenes
    write_tif(folder / "x_vh.tif", speckle())
    item = make_item("a", "2021-01-04T05:00:00Z", {"vv": make_asset("x_vh.tif")})
    with pytest.raises(StackError, match="is VV by the item, and VH by its file"):
        index_stack(write_json(folder / "a.json", item))
    with rasterio.open(folder / "x_vh.tif", "r+") as file:
        file.scales = (2.0,)
    bands = [{"scale": 3}]
    item = make_item("a", None, {"vh": make_asset("x_vh.tif", **{"raster:bands": bands})})
    with pytest.raises(StackError, match="scale and offset"):
        index_stack(write_json(folder / "a.json", item))


def test_a_page_that_continues_by_post_is_used_with_a_warning(scenes: Scenes) -> None:
    folder, items, truth = scenes
    link = {"rel": "next", "href": "https://nowhere.invalid/search", "method": "POST"}
    path = write_json(folder / "items.json", collect(items, links=[link]))
    with pytest.warns(SarstackWarning, match="by POST"):
        assert_is_whole(index_stack(path), truth)
